"""Dtypes in every format: what ours keep, and what `datasets`' own do to them."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

import astropile
from hftrees import N_LEFT, environment, quiet, trees  # noqa: F401

BIG = 2**60 + 1
ROWS = {
    "a": ("float64", [1 / 3, 2 / 3]),
    "i": ("int64", [BIG, 7]),
    "u": ("uint8", [255, 1]),
    "half": ("float16", [0.5, 2.0]),
    "flag": ("bool", [True, False]),
}


@pytest.fixture
def rows():
    features = {name: datasets.Value(dtype) for name, (dtype, _) in ROWS.items()}
    data = {name: values for name, (_, values) in ROWS.items()}
    features["missing"] = datasets.Value("int32")
    features["name"] = datasets.Value("string")
    return datasets.Dataset.from_dict(
        {**data, "missing": [None, 3], "name": ["x", "y"]}, features=datasets.Features(features)
    )


@pytest.mark.parametrize("form", ["astropile", "astropile-numpy"])
def test_numpy_keeps_everything(rows, form):
    """Rows, columns and batches have the stored dtypes; what is missing is None."""
    ours = rows.with_format(form)
    for name, (dtype, values) in ROWS.items():
        for found in (ours[:][name], ours[name][:]):
            assert found.dtype == dtype
            assert found.tolist() == values
        assert ours[0][name].dtype == dtype
    assert ours[0]["missing"] is None
    assert ours[1]["missing"] == 3


JAX = """
import json, sys
import datasets, jax, numpy as np
import astropile
datasets.disable_progress_bars()
facts = json.loads(sys.argv[1])
features = datasets.Features({name: datasets.Value(dtype) for name, (dtype, _) in facts.items()})
rows = datasets.Dataset.from_dict({name: v for name, (_, v) in facts.items()}, features=features)
left = astropile.load_dataset(sys.argv[2])
found = {}
for wide in (False, True):
    jax.config.update("jax_enable_x64", wide)
    batch, row = rows.with_format("astropile-jax")[:], rows.with_format("astropile-jax")[0]
    for name, values in batch.items():
        if name != "name":
            assert row[name].dtype == values.dtype
            what = isinstance(values, jax.Array), str(values.dtype), np.asarray(values).tolist()
            found[f"{name} {wide}"] = what
    found[f"name {wide}"] = batch["name"]
jax.config.update("jax_enable_x64", False)
mine, theirs = left.with_format("astropile-jax")[3], left.with_format("astropile")[3]
assert isinstance(mine["image"][0]["array"], jax.Array)
assert mine["image"][0]["array"].dtype == np.float32
np.testing.assert_array_equal(mine["image"][0]["array"], theirs["image"][0]["array"])
assert mine["spectrum"]["flux"].shape == theirs["spectrum"]["flux"].shape
masks = left.with_format("astropile-jax")["IMAGE_MASK"][:5]
found["masks"] = isinstance(masks, jax.Array), str(masks.dtype), list(masks.shape)
stock = rows.with_format("jax")[:]
found["stock"] = {name: str(stock[name].dtype) for name in ("a", "i", "u", "half")}
print(json.dumps(found))
"""
"""In a process of its own: JAX has threads, and others here fork."""


def test_jax_keeps_everything_where_it_can(trees, tmp_path):  # noqa: F811
    """With x64 on all are JAX arrays; off, 64 bits stay numpy arrays, and no bit is lost."""
    if importlib.util.find_spec("jax") is None:
        pytest.skip("JAX is not installed")
    facts = {**ROWS, "name": ("string", ["x", "y"])}
    done = subprocess.run(
        [sys.executable, "-c", JAX, json.dumps(facts), str(trees.left)],
        capture_output=True,
        text=True,
        env={**environment(tmp_path), "PYTHONPATH": str(Path(astropile.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for name, (dtype, values) in ROWS.items():
        is_wide = np.dtype(dtype).itemsize == 8
        assert found[f"{name} False"] == [not is_wide, dtype, values]
        assert found[f"{name} True"] == [True, dtype, values]
    assert found["name True"] == ["x", "y"]
    assert found["masks"] == [True, "int32", [5, 2, 24, 32]]
    assert found["stock"] == {"a": "float32", "i": "int32", "u": "int32", "half": "float32"}


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("numpy", {"a": "float32", "i": "int64", "u": "int64", "half": "float32"}),
        ("torch", {"a": "float32", "i": "int64", "u": "int64", "half": "float32"}),
        ("pandas", {"a": "float64", "i": "int64", "u": "uint8", "half": "float16"}),
        ("polars", {"a": "float64", "i": "int64", "u": "uint8", "half": "float16"}),
    ],
)
def test_what_the_formats_of_datasets_do(rows, form, expected):
    """The table of docs/how-to/datasets.md: batches of these formats have these dtypes."""
    if form in ("torch", "polars"):
        pytest.importorskip(form)
    batch = rows.select_columns(list(expected)).with_format(form)[:]
    found = {name: str(batch[name].dtype).lower().removeprefix("torch.") for name in expected}
    assert found == expected


def test_other_processes(trees, tmp_path):  # noqa: F811
    """num_proc in filter and save_to_disk: the same rows as in one process."""
    left = astropile.load_dataset(trees.left, columns=["object_id", "z", "STAMP"])
    kept = left.filter(lambda row: row["z"] > 0.5, num_proc=2)
    assert kept["object_id"][:] == [row["object_id"] for row in left if row["z"] > 0.5]
    left.save_to_disk(tmp_path / "saved", num_proc=2)
    back = datasets.load_from_disk(tmp_path / "saved")
    assert len(back) == N_LEFT
    assert back.to_dict() == left.to_dict()
