"""`minimize`: one descent of a whole objective, or several, from their options to their result."""

import descend.minimization.scipy_method  # noqa: F401 - hands SciPy's adapter to rules and methods
