"""Parameters in any container, as flat vectors."""
