"""`fit`, `fit_many` and `find_lr`: descents over mini-batches, alone or as one program, and the range test."""
