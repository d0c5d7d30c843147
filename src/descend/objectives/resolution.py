"""How finely the values of a loss tell points apart: by the floats it is computed in, and by its noise."""

from __future__ import annotations

__all__ = ["LossResolution"]


class LossResolution:
    """What is known of the errors of a loss: `eps`, relative to its value, and `noise`, whatever its value.

    Parameters
    ----------
    eps
        The spacing of the coarsest floats among the parameters, relative to their size.

    Attributes
    ----------
    eps
        The spacing of the coarsest floats on the way from the parameters to the loss, as far as that is known.
    noise
        The error that was measured of the loss; 0 where none was.
    """

    def __init__(self, eps: float) -> None:
        self.eps = eps
        self.noise = 0.0

    def error(self, loss: float) -> float:
        """The error of one value of the loss."""
        return max(self.eps * abs(loss), self.noise)
