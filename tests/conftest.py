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
