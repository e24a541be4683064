"""
Samples of any modalities: choose fields, put samples of differing shapes together, drop some.

`docs/how-to/multimodal.md` shows it at work.
"""

from astropile.samples.collate import Padded, collate, uncollate
from astropile.samples.dropout import draw_dropped, drop_modalities
from astropile.samples.fields import PRESENT, pick, samples_of

__all__ = [
    "PRESENT",
    "Padded",
    "collate",
    "draw_dropped",
    "drop_modalities",
    "pick",
    "samples_of",
    "uncollate",
]
