"""Match positions, partitions and whole surveys on the sky."""

from __future__ import annotations

from astropile.match.catalogs import cross_match_many
from astropile.match.chance import (
    MatchSummary,
    shift_positions,
    summarize_match,
    summarize_moving,
)
from astropile.match.density import chance_probability, local_density, match_probability
from astropile.match.inputs import SkyTable, as_positions
from astropile.match.join import cross_match, save_pairs
from astropile.match.merged import joint_licence, licence_flags
from astropile.match.motion import MovingPairs, MovingPositions, epoch_of_jd, match_moving
from astropile.match.multi import ManyPairs, best_pairs, join_pairs, match_many, pair_ids
from astropile.match.package import read_sources, save_tree
from astropile.match.partitions import PairsFile, match_files, read_pairs
from astropile.match.positions import Pairs, match_positions
from astropile.match.sample import MatchedSample, match_surveys

__all__ = [
    "ManyPairs",
    "MatchSummary",
    "MatchedSample",
    "MovingPairs",
    "MovingPositions",
    "Pairs",
    "PairsFile",
    "SkyTable",
    "as_positions",
    "best_pairs",
    "chance_probability",
    "cross_match",
    "cross_match_many",
    "epoch_of_jd",
    "join_pairs",
    "joint_licence",
    "licence_flags",
    "local_density",
    "match_files",
    "match_many",
    "match_moving",
    "match_positions",
    "match_probability",
    "match_surveys",
    "pair_ids",
    "read_pairs",
    "read_sources",
    "save_pairs",
    "save_tree",
    "shift_positions",
    "summarize_match",
    "summarize_moving",
]
