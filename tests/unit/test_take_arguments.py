"""What `take` is given is checked before anything is read, and refused in one clear sentence."""

import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import UnknownColumnError

N = 20


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("take")
    toy.write_native(folder / "native/a.npz", toy.make_batch(N, seed=1))
    build_catalog(toy.SURVEY, folder / "native", folder / "toy", progress=False)
    return open_catalog(folder / "toy")


def read_only():
    room = np.empty(3)
    room.flags.writeable = False
    return room


@pytest.mark.parametrize(
    ("out", "error", "said"),
    [
        ({"ra": read_only()}, ValueError, r"out\['ra'\]: expected a writable array"),
        ({"ra": [0.0, 0.0, 0.0]}, TypeError, r"out\['ra'\]: expected an array, found list"),
        ({"raa": np.empty(3)}, ValueError, "found 'raa'"),
        ({"dec": np.empty(3)}, ValueError, "found 'dec'"),
        ({"ra": np.empty(3, "f4")}, ValueError, "float64"),
        ({"ra": np.empty(4)}, ValueError, r"\(3,\)"),
        ({"ra": np.empty(6)[::2]}, ValueError, "C-contiguous"),
        (np.empty(3), TypeError, "out: expected a mapping"),
    ],
)
def test_room_that_cannot_be_used(catalog, out, error, said):
    """Room that is read-only, no array, of another column or another form is refused."""
    with pytest.raises(error, match=said):
        catalog.take([1, 2, 3], ["ra"], out=out)


@pytest.mark.parametrize("name", ["LC_FLUX", "WAVE"])
def test_room_for_columns_without_one_form(catalog, name):
    """Ragged and shared columns take no room."""
    with pytest.raises(ValueError, match=f"found {name!r}"):
        catalog.take([1], ["ra", name], out={name: np.empty(1)})


def test_room_is_filled(catalog):
    """Room as it must be is filled and given back."""
    room = np.empty(3)
    taken = catalog.take([1, 2, 3], ["ra", "dec"], out={"ra": room})
    assert taken["ra"] is room
    assert room.tolist() == catalog.take([1, 2, 3], ["ra"])["ra"].tolist()


def test_one_name_is_no_sequence(catalog):
    """A string is not taken for a sequence of names of one letter."""
    with pytest.raises(TypeError, match=r"as \['ra'\]"):
        catalog.take([1], "ra")
    with pytest.raises(UnknownColumnError):
        catalog.take([1], ["raa"])


@pytest.mark.parametrize(
    ("rows", "error", "said"),
    [
        ([[0, 1], [2, 3]], ValueError, r"one dimension, found the shape \(2, 2\)"),
        (np.empty((0, 2), int), ValueError, r"found the shape \(0, 2\)"),
        (np.ones((N, 1), bool), ValueError, "one dimension"),
        ([[0], [1, 2]], ValueError, "rows: expected one dimension"),
        ([0.5], TypeError, "integers or booleans, found float64"),
        (["a"], TypeError, "integers or booleans"),
        ([N], IndexError, f"row {N} of {N}"),
        ([True], IndexError, f"1 booleans for {N} rows"),
    ],
)
def test_rows_that_are_none(catalog, rows, error, said):
    """Row numbers in two dimensions, of no integers or beyond the end are refused."""
    with pytest.raises(error, match=said):
        catalog.take(rows, ["ra"])
