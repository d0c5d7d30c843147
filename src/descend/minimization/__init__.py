"""`minimize`: one descent of a whole objective, from its options to its result."""
