"""Names of folders and files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from astropile import layout


@given(st.integers(0, 10**15))
def test_partition_names_come_back(ipix):
    """A partition's folder names its pixel, zero-padded or not."""
    assert layout.parse_partition_dir(layout.partition_dir(ipix)) == ipix
    assert layout.parse_partition_dir(f"healpix={ipix:020d}") == ipix


@given(st.integers(1, 5000), st.integers(0, 5000))
def test_shard_names_come_back(index, more):
    """A shard's file names which of how many it is."""
    shard = layout.Shard(index, index + more)
    assert layout.parse_shard_file(layout.shard_file(shard)) == shard


@pytest.mark.parametrize("name", ["003-of-002.hdf5", "000-of-001.hdf5", "1-of-1.fits", ".x.part"])
def test_other_files_are_no_shards(name):
    """A file that is not a shard is not taken for one."""
    assert layout.parse_shard_file(name) is None


def test_seed_names():
    """The names that the design document writes are read."""
    assert layout.parse_partition_dir("healpix=9999") == 9999
    assert layout.parse_shard_file("001-of-002.hdf") == layout.Shard(1, 2)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 101])
def test_subset_names(name):
    """A subset's name cannot lead anywhere else."""
    with pytest.raises(ValueError, match="a subset is named"):
        layout.check_subset(name)
