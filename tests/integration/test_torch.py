"""The format ``"astropile-torch"``: tensors of the stored dtype, and loaders over them."""

import subprocess
import sys

import datasets
import numpy as np
import pyarrow as pa
import pytest

import astropile
from astropile.errors import MissingExtraError
from hftrees import N_LEFT, quiet, trees  # noqa: F401

torch = pytest.importorskip("torch")

FORMAT = "astropile-torch"
DTYPES = ["bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))]
DTYPES += ["float16", "float32", "float64"]


@pytest.fixture
def left(trees):  # noqa: F811
    return astropile.load_dataset(trees.left)


def plain(value):
    """Tensors back as arrays, to compare."""
    match value:
        case torch.Tensor():
            return value.numpy()
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
    return value


def same(mine, theirs):
    if isinstance(theirs, dict):
        assert list(mine) == list(theirs)
        for name, value in theirs.items():
            same(mine[name], value)
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs)
        for one, other in zip(mine, theirs, strict=True):
            same(one, other)
    else:
        assert getattr(mine, "dtype", None) == getattr(theirs, "dtype", None)
        np.testing.assert_array_equal(mine, theirs)


def test_rows_are_those_of_the_numpy_format(left):
    """Every value and dtype of a row is that of the format "astropile"."""
    for mine, theirs in zip(left.with_format(FORMAT), left.with_format("astropile"), strict=True):
        assert isinstance(mine["ra"], torch.Tensor)
        assert mine["ra"].dtype == torch.float64
        assert isinstance(mine["image"][0]["array"], torch.Tensor)
        same(plain(mine), theirs)


def test_batches_and_columns(left):
    """Of one shape: one tensor; of several: a list of tensors; text is str."""
    rows = left.with_format(FORMAT)
    batch = rows[:5]
    assert batch["ra"].shape == (5,)
    assert batch["object_id"].dtype == torch.int64
    assert batch["IMAGE_MASK"].shape == (5, 2, 24, 32)
    assert batch["IMAGE_MASK"].dtype == torch.int32
    assert [stamp.dtype for stamp in batch["STAMP"]] == [torch.uint8] * 5
    assert len({stamp.shape for stamp in batch["STAMP"]}) > 1
    assert all(isinstance(name, str) for name in batch["NAME"])
    assert rows["ra"][:].dtype == torch.float64
    same(batch["ra"].numpy(), left.with_format("astropile")[:5]["ra"])
    batch["ra"][0] = 0  # Memory of its own, under no warning.


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_is_kept(dtype):
    """Booleans, integers of either sign and width, and floats; None where a value is missing."""
    values = np.array([0, 1, 0], dtype)
    if values.dtype.kind in "iu":
        values[1] = np.iinfo(dtype).max
    kind = pa.from_numpy_dtype(values.dtype)
    table = pa.table(
        {
            "one": pa.array(values),
            "many": pa.ListArray.from_arrays([0, 3, 6, 9], pa.array(np.tile(values, 3))),
            "gap": pa.array([values[0], None, values[1]], kind),
        }
    )
    rows = datasets.Dataset(datasets.table.InMemoryTable(table)).with_format(FORMAT)
    expected = getattr(torch, dtype)
    assert rows[:]["one"].dtype == rows[1]["one"].dtype == expected
    assert rows[1]["many"].dtype == rows[:]["many"].dtype == expected
    assert rows[:]["one"].tolist() == values.tolist()
    assert rows[1]["gap"] is None
    assert rows[:]["gap"][1] is None
    assert rows[:]["gap"][0].dtype == expected


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_loader(left, workers):
    """A DataLoader over a tree gives each row once, with its dtypes, in other processes too."""
    rows = left.select_columns(["object_id", "ra", "z", "IMAGE_MASK"]).with_format(FORMAT)
    loader = torch.utils.data.DataLoader(rows, batch_size=16, shuffle=True, num_workers=workers)
    found = list(loader)
    assert [len(batch["ra"]) for batch in found] == [16, 16, 16, N_LEFT - 48]
    assert found[0]["ra"].dtype == torch.float64
    assert found[0]["IMAGE_MASK"].dtype == torch.int32
    ids = torch.cat([batch["object_id"] for batch in found]).tolist()
    assert sorted(ids) == sorted(left["object_id"][:])
    ra = dict(zip(ids, torch.cat([batch["ra"] for batch in found]).tolist(), strict=True))
    assert [ra[one] for one in left["object_id"][:]] == left["ra"][:]


def test_stream(trees, left):  # noqa: F811
    """A stream gives the same tensors."""
    stream = astropile.load_dataset(trees.left, streaming=True).with_format(FORMAT)
    first = next(iter(stream))
    same(plain(first), left.with_format("astropile")[0])
    assert isinstance(first["ra"], torch.Tensor)


def test_without_torch(left, monkeypatch):
    """Where PyTorch is not installed, the extra to install is named."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[torch\]"):
        left.with_format(FORMAT)[0]


def test_not_imported_before_it_is_used(trees):  # noqa: F811
    """The other formats do not import PyTorch by themselves."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import astropile\n"
        f"rows = astropile.load_dataset({str(trees.left)!r}).with_format('astropile')\n"
        "assert rows[0]['ra'].dtype == 'float64'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
