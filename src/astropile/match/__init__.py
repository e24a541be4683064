"""Match positions, partitions and whole surveys on the sky."""

from __future__ import annotations

from astropile.match.chance import (
    MatchSummary,
    chance_probability,
    local_density,
    match_probability,
    shift_positions,
    summarize_match,
)
from astropile.match.join import cross_match
from astropile.match.motion import MovingPairs, MovingPositions, epoch_of_jd, match_moving
from astropile.match.positions import Pairs, match_positions

__all__ = [
    "MatchSummary",
    "MovingPairs",
    "MovingPositions",
    "Pairs",
    "chance_probability",
    "cross_match",
    "epoch_of_jd",
    "local_density",
    "match_moving",
    "match_positions",
    "match_probability",
    "shift_positions",
    "summarize_match",
]
