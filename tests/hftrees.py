"""Two toy trees of overlapping sky, and what tests of datasets need around them."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np
import pytest

import astropile
import toy

N_LEFT, N_RIGHT, N_BOTH = 60, 40, 25


class Trees(NamedTuple):
    left: Path
    right: Path
    batch_left: dict
    batch_right: dict


def build(survey, batch, folder, **options):
    """Build a tree of a batch; gives the data folder."""
    toy.write_native(folder / "native" / "a.npz", batch)
    facts = {"order": 1, "shard_nbytes": 200_000, "progress": False, **options}
    astropile.build_catalog(survey, folder / "native", folder / survey.name, **facts)
    return folder / survey.name


@pytest.fixture(scope="session")
def trees(tmp_path_factory):
    """A left tree of order 1 in several shards, a right one of order 0 of another survey."""
    return _built(tmp_path_factory.getbasetemp() / "trees")


@functools.cache
def _built(folder):
    # A fixture that is imported is one of each module that imports it: they share what it made.
    rng = np.random.default_rng(5)
    ra = np.concatenate([rng.uniform(0, 360, N_LEFT - 10), [0.0, 359.99999, 10, 190, 77] * 2])
    dec = np.concatenate([rng.uniform(-80, 80, N_LEFT - 10), [0, 0, 89.9999, 89.9999, -90] * 2])
    ra[-5:] = (ra[-5:] + 40.0) % 360.0
    left = toy.make_batch(N_LEFT, seed=1, ra=ra, dec=dec)
    right = toy.make_batch(
        N_RIGHT,
        seed=2,
        first_id=5000,
        ra=np.concatenate([ra[:N_BOTH] + 0.3 / 3600, rng.uniform(0, 360, N_RIGHT - N_BOTH)]),
        dec=np.concatenate([dec[:N_BOTH], rng.uniform(-80, 80, N_RIGHT - N_BOTH)]),
    )
    other = dataclasses.replace(toy.SURVEY, name="other", survey="OTHER")
    return Trees(
        build(toy.SURVEY, left, folder / "a"),
        build(other, right, folder / "b", order=0),
        left,
        right,
    )


@pytest.fixture(autouse=True, scope="session")
def quiet(tmp_path_factory):
    """Keep `datasets` away from the network and from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hf_cache"))
        patch.setattr(datasets.config, "HF_UPDATE_DOWNLOAD_COUNTS", False)
        datasets.disable_progress_bars()
        yield


def environment(folder, **more):
    """Environment of a subprocess: its own cache, no network, no astropile from the source."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {
        **kept,
        "HF_HOME": str(folder / "hf_home"),
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **more,
    }


def reload_elsewhere(folder, *args, **more):
    """Load a dataset in a process where astropile cannot be imported."""
    program = Path(__file__).with_name("digest.py")
    done = subprocess.run(
        [sys.executable, str(program), *map(str, args)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(folder, **more),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
