"""
Samples of any modalities: choose fields, put samples of differing shapes together, drop some.

`docs/how-to/multimodal.md` shows it at work.
"""

from astropile.samples.collate import PRESENT, Padded, collate, uncollate
from astropile.samples.dropout import draw_dropped, drop_modalities
from astropile.samples.fields import pick

__all__ = [
    "PRESENT",
    "Padded",
    "collate",
    "draw_dropped",
    "drop_modalities",
    "pick",
    "uncollate",
]
