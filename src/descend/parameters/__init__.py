"""Parameters in any container, as flat vectors, with bounds, or as the rows of a matrix."""
