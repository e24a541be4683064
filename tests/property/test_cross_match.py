"""A match of trees is the match of their objects, however either tree is divided."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import astropile
from astropile.schema import Survey
from astropile.sky import separation_arcsec
from hftrees import build

SPOTS = np.array(
    [
        (0.0, 0.0),
        (359.99999, 0.0),
        (45.0, 41.8103149),
        (90.0, 0.0),
        (10.0, 89.9999),
        (190.0, 89.9999),
        (77.0, -90.0),
        (180.0, -41.8103149),
    ]
)
"""Where borders of pixels, poles and the seam meet."""

RADIUS_ARCSEC = 2.0


@st.composite
def skies(draw):
    """Positions scattered a few arcseconds around the spots, and how the tree is divided."""
    seed = draw(st.integers(0, 2**32 - 1))
    n = draw(st.integers(1, 14))
    rng = np.random.default_rng(seed)
    ra, dec = SPOTS[rng.integers(0, len(SPOTS), n)].T
    dec = np.clip(dec + rng.normal(0, 1.5 / 3600, n), -90, 90)
    across = np.maximum(np.cos(np.radians(dec)), 1e-6)
    ra = (ra + rng.normal(0, 1.5 / 3600, n) / across) % 360.0
    ra = np.where(ra >= 360.0, 0.0, ra)
    order = draw(st.sampled_from([0, 2, 5, 9]))
    return ra, dec, order, draw(st.sampled_from([60, 10_000]))


def _tree(survey, sky, folder):
    ra, dec, order, shard_nbytes = sky
    batch = {
        "ID": np.arange(len(ra)),
        "RA": ra,
        "DEC": dec,
        "LC_TIME": [],
        "LC_FLUX": [],
        "STAMP": [],
    }
    options = {"order": order, "shard_nbytes": shard_nbytes}
    return build(survey, batch, folder, **options)


def _read(unit):
    with np.load(unit.paths[0], allow_pickle=True) as stored:
        yield {name: stored[name] for name in ("ID", "RA", "DEC")}


def _survey(name) -> Survey:
    import toy

    light = ("ID", "RA", "DEC")
    return dataclasses.replace(
        toy.SURVEY,
        name=name,
        columns=tuple(column for column in toy.SURVEY.columns if column.name in light),
        aliases={"object_id": "ID", "observation_id": "ID", "ra": "RA", "dec": "DEC"},
        read=_read,
    )


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(left=skies(), right=skies())
def test_match_of_trees_equals_brute_force(left, right):
    """The nearest right object of each left one, for any orders, shards, poles and seam."""
    with tempfile.TemporaryDirectory() as folder:
        trees = [
            _tree(_survey(name), sky, Path(folder) / name)
            for name, sky in (("left", left), ("right", right))
        ]
        catalog, dataset = astropile.cross_match_datasets(*trees, RADIUS_ARCSEC)
        rows = [dataset[row] for row in range(len(dataset))]

    apart = separation_arcsec(left[0][:, None], left[1][:, None], right[0], right[1])
    nearest = apart.min(axis=1)
    expected = {row: nearest[row] for row in np.flatnonzero(nearest <= RADIUS_ARCSEC)}
    found = dict(zip(catalog["object_id_left"], catalog["separation"], strict=True))
    assert sorted(found) == sorted(expected)
    np.testing.assert_allclose(
        [found[row] for row in expected], list(expected.values()), rtol=0, atol=1e-6
    )
    for line, row in zip(catalog, rows, strict=True):
        own = apart[row["left"]["object_id"], row["right"]["object_id"]]
        assert abs(own - line["separation"]) < 1e-6
        assert row["left"]["ra"] == left[0][row["left"]["object_id"]]
        assert row["right"]["dec"] == right[1][row["right"]["object_id"]]
