"""`python -m descend.cli`."""

from descend.cli.app import main

main()
