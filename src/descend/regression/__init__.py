"""Least squares and curve fits: a descent on half a sum of squares, from residuals or from a model and data."""
