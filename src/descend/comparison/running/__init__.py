"""Making the runs of a comparison, and keeping them."""
