"""Match positions, partitions and whole surveys on the sky."""

from __future__ import annotations

from astropile.match.join import cross_match
from astropile.match.motion import MovingPairs, MovingPositions, epoch_of_jd, match_moving
from astropile.match.positions import Pairs, match_positions

__all__ = [
    "MovingPairs",
    "MovingPositions",
    "Pairs",
    "cross_match",
    "epoch_of_jd",
    "match_moving",
    "match_positions",
]
