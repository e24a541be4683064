"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real survey files; the test skips where it is absent."""
    named = os.environ.get("ASTROPILE_TEST_DATA", "")
    if not named or not Path(named).is_dir():
        pytest.skip("ASTROPILE_TEST_DATA does not name a folder of real survey files")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def two_workers():
    """A client of two Dask workers on this machine, each a process of one thread."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            host="127.0.0.1",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
