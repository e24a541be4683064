"""Every public method of `datasets.IterableDataset` on the stream of a tree."""

import datasets
import numpy as np
import pytest

import astropile
from hfmethods import LIGHT, MAKERS, SAID, reads  # noqa: F401
from hftrees import N_LEFT, quiet, trees  # noqa: F401

COLUMNS = ["ra", "dec", "healpix", "z", "NAME", "spectrum"]


def _csv(stream, path):
    stream.select_columns(LIGHT).to_csv(path)
    return path.read_text()


def _json(stream, path):
    stream.select_columns(LIGHT).to_json(path)
    return path.read_text()


def _parquet(stream, path):
    stream.to_parquet(path)
    return datasets.Dataset.from_parquet(str(path), cache_dir=str(path.parent / "cache"))


def _resumed(stream, _path):
    rows = iter(stream)
    first = [next(rows) for _ in range(11)]
    state = stream.state_dict()
    stream.load_state_dict(state)
    return [*first, *stream]


def _epochs(stream, _path):
    mixed = stream.shuffle(seed=1, buffer_size=10)
    first = list(mixed)
    mixed.set_epoch(1)
    assert mixed.epoch == 1
    assert [row["ra"] for row in mixed] != [row["ra"] for row in first]
    return sorted(row["ra"] for row in first)


METHODS = {
    "add_column": lambda d, _: d.add_column("mine", list(range(N_LEFT))),
    "batch": lambda d, _: d.batch(4),
    "cast": lambda d, _: d.cast(
        datasets.Features({**d.features, "healpix": datasets.Value("string")})
    ),
    "cast_column": lambda d, _: d.cast_column("ra", datasets.Value("float32")),
    "decode": lambda d, _: d.decode(False),
    "filter": lambda d, _: d.filter(lambda row: row["dec"] > 10),
    "iter": lambda d, _: list(d.iter(7)),
    "map": lambda d, _: d.map(lambda row: {"twice": 2 * row["ra"]}),
    "remove_columns": lambda d, _: d.remove_columns(["ra"]),
    "rename_column": lambda d, _: d.rename_column("ra", "alpha"),
    "rename_columns": lambda d, _: d.rename_columns({"ra": "a", "dec": "d"}),
    "repeat": lambda d, _: d.repeat(2),
    "reshard": lambda d, _: d.reshard(),
    "select_columns": lambda d, _: d.select_columns(LIGHT),
    "set_epoch": _epochs,
    "shard": lambda d, _: [row["ra"] for i in range(3) for row in d.shard(3, i)],
    "shuffle": lambda d, _: sorted(row["ra"] for row in d.shuffle(seed=1)),
    "skip": lambda d, _: d.skip(2),
    "state_dict": _resumed,
    "take": lambda d, _: d.take(2),
    "to_csv": _csv,
    "to_dict": lambda d, _: d.to_dict(),
    "to_json": _json,
    "to_list": lambda d, _: d.to_list(),
    "to_pandas": lambda d, _: d.select_columns(LIGHT).to_pandas().to_dict(),
    "to_parquet": _parquet,
    "to_polars": lambda d, _: d.select_columns(LIGHT).to_polars().to_dict(as_series=False),
    "to_sql": lambda d, p: d.select_columns(LIGHT).to_sql("sky", f"sqlite:///{p}"),
    "with_format": lambda d, _: [row["ra"].dtype.name for row in d.with_format("numpy")],
}

TESTED_WITH_ANOTHER = {"load_state_dict", "epoch", "n_shards", "num_shards", "push_to_hub"}

NEEDS_SQLALCHEMY = {"to_sql"}


@pytest.fixture(scope="module")
def stream(trees):  # noqa: F811
    return astropile.load_dataset(trees.left, columns=COLUMNS, streaming=True)


@pytest.fixture(scope="module")
def memory(trees):  # noqa: F811
    """The same rows as a stream over memory."""
    left = astropile.load_dataset(trees.left, columns=COLUMNS)
    table = left.with_format("arrow")[:]
    return datasets.Dataset(table, info=left.info, fingerprint="m").to_iterable_dataset(5)


def test_every_method_of_a_stream_has_its_line():
    """A method that a later version of datasets adds is to be looked at."""
    public = {name for name in dir(datasets.IterableDataset) if not name.startswith("_")}
    assert public == set(METHODS) | TESTED_WITH_ANOTHER | ((MAKERS | SAID) & public)


@pytest.mark.parametrize("method", sorted(set(METHODS) - NEEDS_SQLALCHEMY))
def test_a_method_of_a_stream_gives_what_datasets_gives(stream, memory, method, tmp_path):
    """The same values as from memory."""
    found = METHODS[method](stream, tmp_path / "lazy")
    expected = METHODS[method](memory, tmp_path / "memory")
    if isinstance(found, datasets.IterableDataset):
        assert found.column_names == expected.column_names
        found, expected = list(found), list(expected)
    elif isinstance(found, datasets.Dataset):
        found, expected = found.to_dict(), expected.to_dict()
    assert found == expected


def test_a_stream_reads_when_rows_are_asked_for(trees, reads):  # noqa: F811
    """Opening reads four rows, to see how large they are, methods none, light columns no array."""
    stream = astropile.load_dataset(trees.left, columns=COLUMNS, streaming=True)
    assert stream.num_shards == stream.n_shards > 1
    assert sum(n for n, _ in reads) == 4
    reads.clear()
    made = stream.map(lambda row: {"x": row["ra"]}).filter(lambda row: row["x"] > 9).shuffle(seed=1)
    made = made.select_columns(["x", "spectrum"])
    light = astropile.load_dataset(trees.left, columns=LIGHT, streaming=True)
    n_rows = len(list(light.filter(lambda row: row["dec"] > 10)))
    known = astropile.load_dataset(trees.left)["dec"][:]
    assert n_rows == sum(dec > 10 for dec in known)
    assert reads == []
    assert next(iter(made))["spectrum"]["flux"]
    assert reads


def test_streams_mix_by_weight(trees):  # noqa: F811
    """interleave_datasets and concatenate_datasets take streams of trees."""
    streams = [
        astropile.load_dataset(tree, columns=["object_id", "provenance"], streaming=True)
        for tree in (trees.left, trees.right)
    ]
    mixed = list(datasets.interleave_datasets(streams, probabilities=[0.5, 0.5], seed=2))
    surveys = {row["provenance"]["survey"] for row in mixed[:20]}
    assert surveys == {"TOY", "OTHER"}
    both = list(datasets.concatenate_datasets(streams))
    assert len(both) == N_LEFT + len(list(streams[1]))


def test_a_lazy_table_as_a_stream_reads_small_batches(trees, monkeypatch):  # noqa: F811
    """to_iterable_dataset holds as many rows as memory is meant to, not a thousand."""
    monkeypatch.setattr("astropile.hf.source.BATCH_NBYTES", 100_000)
    left = astropile.load_dataset(trees.left)
    sizes = []
    take = astropile.catalog.Catalog.take
    monkeypatch.setattr(
        astropile.catalog.Catalog,
        "take",
        lambda self, rows, columns=None: sizes.append(len(rows)) or take(self, rows, columns),
    )
    stream = left.to_iterable_dataset(2)
    assert sizes == []
    assert np.array_equal([row["ra"] for row in stream], left["ra"][:])
    assert 1 <= max(sizes) <= 10
    assert stream.info.license == "CC-BY-4.0"


OF_THE_DICT = {
    *("cast", "cast_column", "filter", "map", "remove_columns", "rename_column"),
    *("rename_columns", "select_columns", "shuffle", "with_format"),
}
"""Methods of an IterableDatasetDict: each does to each what the stream's own does."""


def test_every_method_of_a_dict_of_streams_has_its_line():
    """A method that a later version of datasets adds is to be looked at."""
    public = {name for name in dir(datasets.IterableDatasetDict) if not name.startswith("_")}
    assert public - set(dir(dict)) == OF_THE_DICT | {"column_names", "num_columns", "push_to_hub"}


@pytest.mark.parametrize("method", sorted(OF_THE_DICT))
def test_a_dict_does_to_each_what_a_stream_does(stream, method):
    """The same rows as of the stream alone."""
    both = datasets.IterableDatasetDict({"a": stream, "b": stream.take(3)})
    assert both.column_names["a"] == both.column_names["b"] == COLUMNS
    if method == "shuffle":
        found = sorted(row["ra"] for row in both.shuffle(seed=1)["b"])
        assert found == sorted(row["ra"] for row in stream.take(3))
        return
    if method == "with_format":
        assert next(iter(both.with_format("astropile")["b"]))["ra"].dtype == np.float64
        return
    if method == "cast":
        types = {**stream.features, "healpix": datasets.Value("string")}
        found = both.cast(datasets.Features(types))
    else:
        found = METHODS[method](both, None)
    assert list(found["a"]) == list(METHODS[method](stream, None))
    assert list(found["b"]) == list(METHODS[method](stream.take(3), None))


def test_questions_about_a_tree_that_is_not_loaded(trees):  # noqa: F811
    """`get_dataset_…` of `datasets` name it; columns are native ones of one shape."""
    tree = str(trees.left)
    (name,) = datasets.get_dataset_config_names(tree)
    assert datasets.get_dataset_default_config_name(tree) == name
    assert datasets.get_dataset_split_names(tree) == ["train"]
    assert list(datasets.get_dataset_infos(tree)) == [name]
    found = datasets.get_dataset_config_info(tree)
    survey = astropile.open_catalog(tree).survey
    plain = {c.name for c in survey.columns if not c.shared and not survey.ragged_dims(c)}
    assert set(found.features) >= plain
    assert "provenance" not in found.features
