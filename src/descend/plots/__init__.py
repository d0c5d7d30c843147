"""Pictures: a loss falling, a path over its contours, a range test, a fit, a comparison's curves, profiles.

Every function returns a `plotly.graph_objects.Figure` and shows nothing: ``figure.show()`` opens it,
``figure.write_html`` keeps it.

>>> import descend
>>> falling = descend.minimize(lambda x: (x - 3) ** 2, 0.0, method=descend.GD(lr=0.1), max_steps=20)
>>> figure = descend.plots.loss(falling)
>>> len(figure.data[0].y), figure.layout.yaxis.type
(20, 'log')
"""

from descend.plots.bands import Band, What, bands
from descend.plots.comparisons import above_minimum, curves, profiles, sensitivity
from descend.plots.descents import loss, path, range_test
from descend.plots.fits import fitted
from descend.plots.styles import Style, style

__all__ = [
    "Band",
    "Style",
    "What",
    "above_minimum",
    "bands",
    "curves",
    "fitted",
    "loss",
    "path",
    "profiles",
    "range_test",
    "sensitivity",
    "style",
]
