"""
Pictures of objects: image bands, spectra, IFU cubes, light curves, matched objects.

Takes examples of the standard view (`astropile.view.standard_records`) and gives figures; opens
no tree. matplotlib is imported on first use and draws without a display.
"""

from astropile.plot.figures import (
    draw_matches,
    draw_object,
    draw_separations,
    draw_sky,
    has_picture,
    save_figure,
)
from astropile.plot.words import Matched, Side

__all__ = [
    "Matched",
    "Side",
    "draw_matches",
    "draw_object",
    "draw_separations",
    "draw_sky",
    "has_picture",
    "save_figure",
]
