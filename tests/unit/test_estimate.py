"""What a dry run says of a build before anything is written."""

import numpy as np
import pytest

import toy
from astropile import build_catalog
from astropile.build.estimate import estimate_build, n_partitions
from astropile.build.plan import make_plan


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    for number in range(12):
        ra = np.linspace(30.0 * number + 1, 30.0 * number + 2, 10)
        batch = toy.make_batch(10, seed=number, first_id=100 * number, ra=ra, dec=np.full(10, 20.0))
        toy.write_native(folder / f"{number:02d}.npz", batch)
    return folder


def test_an_estimate_is_near_what_is_built(native, tmp_path):
    """From 5 of 12 files: objects to 1%, partitions to 20%, bytes to 30% of what it becomes."""
    options = {"subset": None, "release": None, "order": 4, "layout": "compact"}
    plan = make_plan(toy.SURVEY, native, tmp_path / "toy", **options, shard_nbytes=2**29)
    guess = estimate_build(plan, 4)
    assert not list(tmp_path.iterdir())
    assert (guess.n_sampled, guess.n_workers) == (5, 4)
    report = build_catalog(toy.SURVEY, native, tmp_path / "toy")
    assert guess.n_objects == pytest.approx(report.n_written, rel=0.01)
    assert guess.n_partitions == pytest.approx(report.n_partitions, rel=0.2)
    assert guess.n_bytes == pytest.approx(report.n_bytes, rel=0.3)
    assert guess.spool_nbytes > guess.n_bytes
    assert guess.seconds > 0


def test_partitions_of_units_that_overlap():
    """Units thrown at random on 500 pixels: 5 of 100 of them tell of about 500, not of 2,000."""
    rng = np.random.default_rng(1)
    units = [np.unique(rng.choice(500, 60, replace=False)) for _ in range(100)]
    truth = len(np.unique(np.concatenate(units)))
    assert truth == 500
    assert n_partitions(units[:5], 100, 3072) == pytest.approx(truth, rel=0.2)
    assert n_partitions(units, 100, 3072) == truth
    # Apart from one another they are as many as there are, but no more than the sky has.
    apart = [np.array([i]) for i in range(5)]
    assert n_partitions(apart, 100, 3072) == 100
    assert n_partitions(apart, 10_000, 3072) == 3072
