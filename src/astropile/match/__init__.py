"""Match positions, partitions and whole surveys on the sky."""

from __future__ import annotations

from astropile.match.join import cross_match
from astropile.match.positions import Pairs, match_positions

__all__ = ["Pairs", "cross_match", "match_positions"]
