"""The long run of hostile files, by a kit that is no part of this project."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

VERIFY = [sys.executable, "-m", "astropile.cli.main", "verify"]


@pytest.fixture(scope="module")
def kit():
    named = os.environ.get("ASTROPILE_FAULT_KIT", "")
    if not named or not (Path(named) / "acceptance_files.py").is_file():
        pytest.skip("ASTROPILE_FAULT_KIT does not name a folder with acceptance_files.py")
    return Path(named)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_every_hostile_file(kit, tmp_path):
    """Damaged and hostile files are refused as they should be, good ones let in."""
    for needed in ("hdf5plugin", "healpy_free"):
        pytest.importorskip(needed, reason="the kit makes its files with it")
    corpus = tmp_path / "corpus"
    make = [sys.executable, str(kit / "make_bad_files.py"), str(corpus)]
    subprocess.run(make, check=True, capture_output=True)
    command = " ".join([*VERIFY, "{path}", "--sha256", "{sha256}"])
    done = subprocess.run(
        [sys.executable, str(kit / "acceptance_files.py"), str(corpus), "--cmd", command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_files_that_broke_the_library(kit):
    """Files on which the HDF5 library crashed or ran for ever are refused at once."""
    paths = sorted((kit / "hdf5-fuzz-corpus").glob("*.h*5"))
    assert paths
    for path in paths:
        done = subprocess.run(
            [*VERIFY, str(path)], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode in (3, 4, 8), (path, done)
        assert "Traceback" not in done.stderr
