"""`fit`: a descent over mini-batches, alone or many as one program, and the learning rate range test."""
