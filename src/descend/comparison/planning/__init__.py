"""Everything that decides the outcome of a comparison, set before its first run."""
