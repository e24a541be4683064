"""
Every public method of `datasets`' classes on lazy datasets: what it gives, and what it costs.

What a method gives is compared with what the same method gives on the same rows in memory, which
is `datasets`' own code throughout. What it costs is counted where arrays are read from trees.
"""

import sqlite3

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pytest

import astropile
from astropile.hf.dataset import LazyDataset
from digest import digest
from hfmethods import LIGHT, MAKERS, SAID, reads  # noqa: F401
from hftrees import N_LEFT, quiet, trees  # noqa: F401

pytestmark = pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")


@pytest.fixture(scope="module")
def lazy(trees):  # noqa: F811
    """A tree, a match and a concatenation, none of them read."""
    left, right = (astropile.load_dataset(tree) for tree in (trees.left, trees.right))
    outer = astropile.cross_match_datasets(trees.left, trees.right, join="outer").dataset
    stack = astropile.concatenate_datasets([left, right.remove_columns(["z", "spectrum"])])
    # Consecutive rows stay a source of their own kind: few, of both sides and with either absent.
    outer = outer.select(range(N_LEFT - 10, N_LEFT + 5))
    present = {(row["toy"] is None, row["other"] is None) for row in outer}
    assert present == {(False, False), (False, True), (True, False)}
    return {
        "tree": left,
        "match": astropile.cross_match_datasets(trees.left, trees.right).dataset,
        "outer": outer,
        "stack": stack.select(range(N_LEFT - 8, N_LEFT + 8)),
        "rows": left.select([5, 3, 50, 4, 9, 9, 30]),
    }


@pytest.fixture(scope="module")
def eager(lazy):
    """The same rows in memory, as `datasets` alone has them."""
    return {
        kind: datasets.Dataset(
            found.with_format("arrow")[:], info=found.info, split=found.split, fingerprint=kind
        )
        for kind, found in lazy.items()
    }


KINDS = ("tree", "outer", "stack", "rows")


# --------------------------------------------------------------------------------------
# datasets.Dataset

NOTHING, ARRAYS = "reads no array", "reads arrays"


def _csv(data, path):
    data.select_columns(LIGHT).to_csv(path)
    return path.read_text()


def _sql(data, path):
    with sqlite3.connect(path) as base:
        data.select_columns(LIGHT).to_sql("sky", base)
        return base.execute("select * from sky").fetchall()


def _json(data, path):
    data.select_columns(LIGHT).to_json(path)
    return path.read_text()


def _parquet(data, path):
    data.to_parquet(path)
    return datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))


def _saved(data, path):
    data.save_to_disk(path)
    return datasets.load_from_disk(path)


def _formatted(data, _path):
    with data.formatted_as("numpy", columns=["healpix"]):
        return data[:]["healpix"].tolist()


def _changed(method, *args, **kwargs):
    """Call a method that changes the dataset itself, on a copy."""

    def call(data, _path):
        own = data.select(range(len(data)))
        getattr(own, method)(*args, **kwargs)
        return own

    return call


def _on_light(data, _path):
    return data.map(lambda row: {"twice": 2 * row["ra"], "dec": row["dec"] + 1})


METHODS = {
    "add_column": (NOTHING, lambda d, _: d.add_column("mine", np.arange(len(d)) / 7)),
    "add_item": (NOTHING, lambda d, _: d.select_columns(LIGHT).add_item(dict.fromkeys(LIGHT, 1))),
    "align_labels_with_mapping": (
        NOTHING,
        lambda d, _: (
            d.cast_column("healpix", datasets.ClassLabel(num_classes=48))
            .map(lambda h: {"healpix": 0}, input_columns="healpix")
            .align_labels_with_mapping({"0": 1, "1": 0}, "healpix")
        ),
    ),
    "batch": (ARRAYS, lambda d, _: d.batch(4)),
    "cast": (
        NOTHING,
        lambda d, _: d.cast(datasets.Features({**d.features, "healpix": datasets.Value("string")})),
    ),
    "cast_column": (NOTHING, lambda d, _: d.cast_column("ra", datasets.Value("float32"))),
    "class_encode_column": (NOTHING, lambda d, _: d.class_encode_column("healpix")),
    "cleanup_cache_files": (NOTHING, lambda d, _: d.cleanup_cache_files() >= 0),
    "filter": (NOTHING, lambda d, _: d.filter(lambda row: row["dec"] > 10)),
    "flatten": (NOTHING, lambda d, _: d.flatten()),
    "flatten_indices": (NOTHING, lambda d, _: d.shuffle(seed=3).flatten_indices()),
    "formatted_as": (NOTHING, _formatted),
    "iter": (ARRAYS, lambda d, _: [batch["healpix"] for batch in d.iter(7)]),
    "map": (NOTHING, _on_light),
    "remove_columns": (NOTHING, lambda d, _: d.remove_columns(["ra"])),
    "rename_column": (NOTHING, lambda d, _: d.rename_column("ra", "alpha")),
    "rename_columns": (NOTHING, lambda d, _: d.rename_columns({"ra": "a", "dec": "d"})),
    "repeat": (NOTHING, lambda d, _: d.repeat(2)),
    "reset_format": (NOTHING, _changed("reset_format")),
    "save_to_disk": (ARRAYS, _saved),
    "select": (NOTHING, lambda d, _: d.select([3, 1, 1])),
    "select_columns": (NOTHING, lambda d, _: d.select_columns(LIGHT)),
    "set_format": (NOTHING, _changed("set_format", "pandas", columns=["ra"])),
    "set_transform": (NOTHING, _changed("set_transform", lambda batch: {"ra": batch["ra"]})),
    "shard": (NOTHING, lambda d, _: d.shard(3, 1)),
    "shuffle": (NOTHING, lambda d, _: d.shuffle(seed=1)),
    "skip": (NOTHING, lambda d, _: d.skip(2)),
    "sort": (NOTHING, lambda d, _: d.sort(["healpix", "dec"], reverse=[True, False])),
    "take": (NOTHING, lambda d, _: d.take(2)),
    "to_csv": (NOTHING, _csv),
    "to_dict": (ARRAYS, lambda d, _: d.to_dict()),
    "to_iterable_dataset": (NOTHING, lambda d, _: d.to_iterable_dataset(2)),
    "to_json": (NOTHING, _json),
    "to_list": (ARRAYS, lambda d, _: d.to_list()),
    "to_pandas": (ARRAYS, lambda d, _: d.to_pandas()),
    "to_parquet": (ARRAYS, _parquet),
    "to_polars": (NOTHING, lambda d, _: d.select_columns(LIGHT).to_polars()),
    "to_sql": (NOTHING, _sql),
    "train_test_split": (
        NOTHING,
        lambda d, _: d.train_test_split(0.3, seed=0),
    ),
    "unique": (NOTHING, lambda d, _: d.unique("healpix")),
    "with_format": (NOTHING, lambda d, _: d.with_format("arrow")),
    "with_transform": (NOTHING, lambda d, _: d.with_transform(lambda batch: {"ra": batch["ra"]})),
}

WITH_PACKAGE = {
    "add_elasticsearch_index": lambda d: d.add_elasticsearch_index("NAME"),
    "add_faiss_index": lambda d: d.add_faiss_index("ra"),
    "add_faiss_index_from_external_arrays": lambda d: d.add_faiss_index_from_external_arrays(
        np.zeros((3, 2), "f4"), "own"
    ),
    "load_elasticsearch_index": lambda d: d.load_elasticsearch_index("NAME", "own"),
    "load_faiss_index": lambda d: d.load_faiss_index("own", "file"),
    "to_tf_dataset": lambda d: d.to_tf_dataset(2),
}
"""They need FAISS, Elasticsearch or TensorFlow, none of which is among our packages."""

OF_AN_INDEX = {
    *("drop_index", "get_index", "get_nearest_examples", "get_nearest_examples_batch"),
    *("is_index_initialized", "list_indexes", "save_faiss_index", "search", "search_batch"),
}
"""They ask an index that one of those made, and no row."""

ELSEWHERE = {"push_to_hub"}
"""Tested against a stand-in of the Hub."""


def _public(kind):
    return {name for name in dir(kind) if not name.startswith("_")}


def test_every_method_of_a_dataset_has_its_line():
    """A method that a later version of datasets adds is to be looked at."""
    listed = set(METHODS) | SAID | MAKERS | set(WITH_PACKAGE) | OF_AN_INDEX | ELSEWHERE
    assert _public(datasets.Dataset) == listed


def _content(value):
    """Make what a method gave comparable."""
    match value:
        case datasets.DatasetDict():
            return {name: _content(one) for name, one in value.items()}
        case datasets.Dataset():
            names = value.column_names
            plain = value.with_format("arrow")
            return value.features, len(value), names, digest(plain[:]), _plain_format(value)
        case datasets.IterableDataset():
            return repr((value.features, list(value)))
        case pl.DataFrame():
            return value.to_dict(as_series=False)
        case pd.DataFrame():
            return repr({name: [_listed(one) for one in value[name]] for name in value})
    # So NaN is NaN.
    return repr(value)


def _listed(value):
    """Turn arrays in a value to lists."""
    match value:
        case np.ndarray():
            return [_listed(inner) for inner in value.tolist()]
        case dict():
            return {name: _listed(inner) for name, inner in value.items()}
        case list():
            return [_listed(inner) for inner in value]
    return value


def _plain_format(value):
    return {**value.format, "format_kwargs": None, "columns": sorted(value.format["columns"])}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_method_gives_what_datasets_gives(lazy, eager, reads, method, kind, tmp_path):  # noqa: F811
    """The same values, types and formats as from memory; arrays are read only where it says so."""
    cost, call = METHODS[method]
    found = call(lazy[kind], tmp_path / "lazy")
    assert bool(reads) == (cost is ARRAYS), reads
    expected = call(eager[kind], tmp_path / "eager")
    assert _content(found) == _content(expected)


@pytest.mark.parametrize("method", WITH_PACKAGE)
def test_what_needs_another_package_says_so(lazy, reads, method):  # noqa: F811
    """An ImportError that names the package, before anything is read."""
    with pytest.raises(ImportError, match=r"(?i)faiss|elasticsearch|tensorflow"):
        WITH_PACKAGE[method](lazy["tree"])
    assert reads == []


@pytest.mark.parametrize("kind", KINDS)
def test_facts_cost_nothing(lazy, reads, kind):  # noqa: F811
    """What a dataset says of itself is said without reading."""
    found = lazy[kind]
    for name in SAID:
        getattr(found, name)
    assert found.num_rows == len(found)
    assert found.cache_files == []
    assert "num_rows" in repr(found)
    assert reads == []


# --------------------------------------------------------------------------------------
# Module functions, dicts of datasets

JOINED = {
    "concatenate_datasets": lambda d: datasets.concatenate_datasets([d, d.select([1, 0])]),
    "concatenate_datasets beside": lambda d: datasets.concatenate_datasets(
        [d.select_columns(["ra"]), d.remove_columns(["ra"])], axis=1
    ),
    "interleave_datasets": lambda d: datasets.interleave_datasets([d, d.skip(1)]),
    "interleave_datasets by weight": lambda d: datasets.interleave_datasets(
        [d, d.skip(1)], probabilities=[0.3, 0.7], seed=4, stopping_strategy="all_exhausted"
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", JOINED)
def test_joining_gives_what_datasets_gives(lazy, eager, reads, name, kind):  # noqa: F811
    """Below, beside and between one another, without reading."""
    found = JOINED[name](lazy[kind])
    assert isinstance(found, LazyDataset)
    assert reads == []
    assert _content(found)[:4] == _content(JOINED[name](eager[kind]))[:4]


ON_EACH = {
    *("batch", "cast_column", "class_encode_column", "filter", "flatten", "flatten_indices"),
    *("map", "remove_columns", "rename_column", "rename_columns", "select_columns", "sort"),
    *("with_format", "with_transform"),
}
"""Methods of a DatasetDict that do to each what the same method of a Dataset does."""

OF_THE_DICT = {
    *("align_labels_with_mapping", "cast", "cleanup_cache_files", "formatted_as", "reset_format"),
    *("save_to_disk", "set_format", "set_transform", "shuffle", "unique"),
}
"""Those that take or give one thing for each, or change all in place."""


def test_every_method_of_a_dict_has_its_line():
    """A method that a later version of datasets adds is to be looked at."""
    listed = ON_EACH | OF_THE_DICT | _public(dict) | MAKERS | SAID | ELSEWHERE
    assert _public(datasets.DatasetDict) <= listed | {"batch"}


@pytest.mark.parametrize("method", sorted(ON_EACH & _public(datasets.DatasetDict)))
def test_a_dict_does_to_each_what_a_dataset_does(lazy, reads, method):  # noqa: F811
    """The same cost and the same content."""
    cost, call = METHODS[method]
    found = call(datasets.DatasetDict({"a": lazy["rows"], "b": lazy["tree"]}), None)
    assert bool(reads) == (cost is ARRAYS)
    assert _content(found["a"]) == _content(call(lazy["rows"], None))
    assert len(found["b"]) == len(call(lazy["tree"], None))


def test_a_dict_as_a_whole(lazy, reads, tmp_path):  # noqa: F811
    """Methods for all at once: nothing is read before it is saved."""
    both = datasets.DatasetDict({"a": lazy["rows"], "b": lazy["match"].select_columns(LIGHT)})
    assert both.unique("healpix")["a"] == lazy["rows"].unique("healpix")
    shuffled = both.shuffle(seed=1)
    assert shuffled["a"]["ra"][:] == lazy["rows"].shuffle(seed=1)["ra"][:]
    both.set_format("numpy", columns=["ra"])
    assert list(both["b"][0]) == ["ra"]
    both.reset_format()
    with both.formatted_as("numpy", columns=["ra"]):
        assert list(both["a"][0]) == ["ra"]
    both.set_transform(lambda batch: {"n": [1] * len(batch["ra"])}, columns=["ra"])
    assert both["a"][0] == {"n": 1}
    both.reset_format()
    both.cleanup_cache_files()
    assert reads == []
    both.save_to_disk(tmp_path / "both")
    back = datasets.load_from_disk(tmp_path / "both")
    assert _content(back["a"]) == _content(lazy["rows"])
