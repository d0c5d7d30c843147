"""A rule on PyTorch tensors, and what machine code needs to know of them."""
