"""`python -m descend`."""

from descend.cli.app import main

main()
