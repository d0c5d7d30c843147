"""Errors of an answer: covariances, standard errors, correlations and intervals of parameters, by name.

They come from the Jacobian of a least-squares fit or from the Hessian of a negative log-likelihood, and profile
intervals from the objective itself.
"""

from descend.uncertainty.covariance import Covariance, NamedMatrix, from_hessian, from_jacobian

__all__ = ["Covariance", "NamedMatrix", "from_hessian", "from_jacobian"]
