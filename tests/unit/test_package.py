"""The package as a whole."""

import subprocess
import sys

import astropile


def test_import_is_light():
    """Importing astropile loads neither datasets, dask, torch, h5py nor astropy."""
    code = (
        "import sys, astropile; "
        "print([m for m in ('datasets', 'dask', 'torch', 'h5py', 'astropy', 'numba', 'pyarrow') "
        "if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names():
    """The public names are sorted, at most 25 beside the version, and every one resolves."""
    constants = [n for n in astropile.__all__ if n.isupper()]
    rest = [n for n in astropile.__all__ if not n.isupper()]
    assert rest == sorted(rest)
    assert len(rest) + len(constants) <= 26
    for name in astropile.__all__:
        assert getattr(astropile, name) is not None


def test_unknown_name():
    """A name that is not public is an AttributeError."""
    import pytest

    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = astropile.nope
