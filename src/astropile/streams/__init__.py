"""
Streams of batches for training: any row is one read, so a full shuffle costs nothing.

`docs/how-to/train.md` shows them at work.
"""

from astropile.streams.mixture import Mixture
from astropile.streams.stream import Stream

__all__ = ["Mixture", "Stream"]
