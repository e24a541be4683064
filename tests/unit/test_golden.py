"""Trees of every released format version are read for ever."""

from pathlib import Path

import numpy as np
import pytest

import toy
from astropile import open_catalog, validate_catalog

TREES = sorted((Path(__file__).parents[1] / "golden").glob("*/*/toy"))


@pytest.mark.parametrize("tree", TREES, ids=lambda t: f"{t.parents[1].name}-{t.parent.name}")
def test_golden_tree(tree):
    """A tree written by a released version opens, validates and gives the values it was given."""
    catalog = open_catalog(tree)
    assert len(catalog) == 5
    # The README is made by the code of the day: an old one may say the same in other words.
    assert [p for p in validate_catalog(tree).problems if p.rule != "M5"] == []
    crowd = toy.make_batch(3, seed=7, ra=[10.0, 10.0, 10.0], dec=[5.0, 5.001, 5.002])
    far = toy.make_batch(2, seed=8, first_id=10, ra=[359.99999, 0.00001], dec=[-90.0, 89.9])
    found = catalog.take(np.arange(5))
    for batch in (crowd, far):
        for row, name in enumerate(batch["ID"]):
            at = int(np.flatnonzero(found["ID"] == name)[0])
            for column in toy.SURVEY.columns:
                mine = found[column.name] if column.shared else found[column.name][at]
                theirs = batch[column.name] if column.shared else batch[column.name][row]
                np.testing.assert_array_equal(mine, theirs)
    table = catalog.standard(np.arange(5))
    assert table["spectrum"][0].as_py()["lambda"][0] == 3600.0


def test_there_are_golden_trees():
    """Both layouts of version 1.0 are kept."""
    assert {(t.parents[1].name, t.parent.name) for t in TREES} >= {
        ("1.0", "compact"),
        ("1.0", "fast"),
    }
