"""Functions over lazy datasets: what they read, what is written, what `datasets` would give."""

import gc
import os
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest

import astropile
import toy
from digest import digest
from hfmethods import reads  # noqa: F401
from hftrees import N_LEFT, build, quiet, trees  # noqa: F401


@pytest.fixture
def left(trees):  # noqa: F811
    return astropile.load_dataset(trees.left)


@pytest.fixture
def matched(trees):  # noqa: F811
    return astropile.cross_match_datasets(trees.left, trees.right, join="outer").dataset


def _in_memory(dataset):
    table = dataset.with_format("arrow")[:]
    return datasets.Dataset(table, info=dataset.info, split=dataset.split, fingerprint="memory")


def _whole(dataset):
    return dataset.features, digest(dataset.with_format("arrow")[:])


# --------------------------------------------------------------------------------------
# What is read


def test_a_function_of_a_survey_of_a_match_reads_its_field_only(matched, reads):  # noqa: F811
    """row["toy"]["z"] costs no image, and a missing counterpart is None."""
    near = matched.filter(lambda row: row["toy"] is not None and row["toy"]["z"] > 0.5)
    both = matched.map(lambda row: {"n": sum(row[name] is not None for name in ("toy", "other"))})
    by_batch = matched.filter(
        lambda batch: [one is not None and one["z"] > 0.5 for one in batch["toy"]], batched=True
    )
    flat = matched.flatten().filter(lambda z: z is not None and z > 0.5, input_columns="toy.z")
    assert reads == []
    records = matched["toy"][:]
    expected = [i for i, one in enumerate(records) if one is not None and one["z"] > 0.5]
    assert 0 < len(expected) < len(matched)
    for found in (near, by_batch):
        assert found["ra"][:] == matched.select(expected)["ra"][:]
    assert flat["ra"][:] == near["ra"][:]
    assert sorted(set(both["n"][:])) == [1, 2]


def test_arrays_are_read_of_the_rows_that_need_them(left, reads):  # noqa: F811
    """One look at an image reads one; looks at all read them in blocks, once each."""
    left.map(lambda row, i: {"peak": np.max(row["STAMP"]) if i == 7 else 0}, with_indices=True)
    assert reads == [(1, {"STAMP"})]
    reads.clear()
    means = left.map(lambda row: {"mean": float(np.mean(row["spectrum"]["flux"]))})
    assert sum(n for n, _ in reads) == N_LEFT
    assert len(reads) < 10
    reads.clear()
    assert means["mean"][3] == pytest.approx(np.mean(left[3]["spectrum"]["flux"]))
    assert means.features["mean"] == datasets.Value("float64")


def test_only_what_a_function_gives_is_written(left, matched):
    """A row that was looked at and returned with a new column costs that column, no image."""

    def add(row):
        row["peak"] = max(map(max, row["image"][0]["array"]))
        return row

    found = left.map(add)
    [file] = found.cache_files
    assert Path(file["filename"]).stat().st_size < 20_000 < left.data.nbytes / 10
    assert found["peak"][:] == _in_memory(left).map(add)["peak"][:]
    spread = matched.map(lambda row: {**row, "two": 2})
    assert Path(spread.cache_files[0]["filename"]).stat().st_size < 50_000


# --------------------------------------------------------------------------------------
# The same as datasets gives


def _is_far(row):
    return row["z"] > 0.5


def _nested(row):
    row["spectrum"]["flux"] = [2 * value for value in row["spectrum"]["flux"]]
    return row


def _aside(row):
    row["z"] = 0.25
    return {"other": row["mag"]}


def _sometimes(row, i):
    if i >= 20:
        row["spectrum"] = {**row["spectrum"], "flux": [1.0]}
    return row


def _gone(row):
    del row["image"]
    row.pop("STAMP")
    return row


def _batch(batch):
    batch["z"] = [None if z is None else z / 3 for z in batch["z"]]
    batch["long"] = [[i] * (i % 3) for i in range(len(batch["ra"]))]
    return batch


async def _later(row):
    return {"twice": 2 * row["ra"]}


FUNCTIONS = {
    "nothing": (lambda row: None, {}),
    "an empty dict": (lambda row: {}, {}),
    "the row": (lambda row: row, {}),
    "no function": (None, {}),
    "a new column": (lambda row: {"twice": 2 * row["ra"]}, {}),
    "a column in place of one": (lambda row: {"ra": row["ra"] + 1}, {}),
    "a column of its own type": (lambda row: {"z": 0.1}, {}),
    "within a record": (_nested, {}),
    "aside": (_aside, {}),
    "in some rows": (_sometimes, {"with_indices": True}),
    "in some rows, by two": (_sometimes, {"with_indices": True, "num_proc": 2}),
    "columns taken out": (_gone, {}),
    "columns removed": (lambda row: {"n": len(row["NAME"])}, {"remove_columns": ["image", "NAME"]}),
    "all columns removed": (
        lambda row, remove: {"n": row["mag"]},
        {"fn_kwargs": {"remove": 1}, "remove_columns": "all"},
    ),
    "batches": (_batch, {"batched": True, "batch_size": 7}),
    "whole batches": (_batch, {"batched": True, "batch_size": 7, "drop_last_batch": True}),
    "all at once": (_batch, {"batched": True, "batch_size": None}),
    "longer batches": (
        lambda batch: {"ra": np.repeat(batch["ra"], 2)},
        {"batched": True, "remove_columns": "all"},
    ),
    "some columns": (lambda ra, z: {"sum": ra + z}, {"input_columns": ["ra", "z"]}),
    "row and rank": (
        lambda row, i, rank: {"i": i, "rank": rank or 0},
        {"with_indices": True, "with_rank": True},
    ),
    "by two": (lambda row, i: {"i": i, "z": 0.1}, {"with_indices": True, "num_proc": 2}),
    "types given": (lambda row: {"healpix": str(row["healpix"])}, {"features": "healpix"}),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_map_gives_what_datasets_gives(left, name):
    """The same columns, types and values, whatever a function does with its row."""
    function, options = FUNCTIONS[name]
    options = dict(options)
    chosen = left.shuffle(seed=5)
    if options.get("remove_columns") == "all":
        options["remove_columns"] = left.column_names
    if "features" in options:
        options["features"] = datasets.Features(
            {**left.features, "healpix": datasets.Value("string")}
        )
    found = chosen.map(function, **options)
    expected = _in_memory(chosen).map(function, **options)
    assert found.column_names == expected.column_names
    assert _whole(found) == _whole(expected)
    assert _whole(found.select([4, 2])) == _whole(expected.select([4, 2]))
    assert (
        found.filter(lambda row: row["ra"] > 9)["ra"][:]
        == [ra for ra in expected["ra"][:] if ra > 9]
        if "ra" in found.column_names
        else True
    )


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_asynchronous_functions(left):
    """They may be mapped and filter, as with datasets, which leaves its event loop open."""

    async def is_far(row):
        return row["z"] > 0.5

    found = left.map(_later)
    assert found["twice"][:] == [2 * ra for ra in left["ra"]]
    assert left.filter(is_far)["ra"][:] == left.filter(_is_far)["ra"][:]
    gc.collect()


FORMATS = ("numpy", "pandas", "arrow", "polars", "astropile")


@pytest.mark.parametrize("form", FORMATS)
def test_functions_get_rows_in_the_format(left, form):
    """A data frame, a table or arrays; the format stays."""
    chosen = left.select_columns(["ra", "z", "healpix", "NAME"]).with_format(form)
    by_batch = {
        "numpy": lambda batch: {"two": 2 * batch["z"]},
        "pandas": lambda frame: frame.assign(two=2 * frame["z"]),
        "arrow": lambda table: table.append_column("two", table["z"]),
        "polars": lambda frame: frame.with_columns(two=frame["z"] * 2),
        "astropile": lambda batch: {"two": 2 * batch["z"]},
    }[form]
    found = chosen.map(by_batch, batched=True, batch_size=9)
    assert found.format["type"] == form
    expected = _in_memory(left.select_columns(chosen.column_names)).with_format(form)
    expected = expected.map(by_batch, batched=True, batch_size=9)
    assert found.features == expected.features
    assert found.to_dict() == expected.to_dict()
    bright = chosen.filter(lambda z: z > 0.5, input_columns="z") if form != "arrow" else None
    assert bright is None or len(bright) == sum(z > 0.5 for z in left["z"])


def test_a_filter_that_keeps_nothing(left):
    """No row is left, all columns are: by rows, by batches, by a column and in processes."""
    for found in (
        left.filter(lambda row: row["ra"] < -1),
        left.filter(lambda batch: [False] * len(batch["ra"]), batched=True),
        left.shuffle(seed=1).filter(lambda ra: ra < -1, input_columns="ra"),
        left.select_columns(["ra", "z"]).filter(lambda row: row["z"] < -1, num_proc=2),
    ):
        assert len(found) == 0
        assert found.column_names[-1] in left.column_names
        assert list(found) == []
    assert found.column_names == ["ra", "z"]


def test_own_format_keeps_dtypes_through_a_function(left):
    """What the format "astropile" gave comes back with the bits it had."""
    found = left.with_format("astropile").map(
        lambda row: {"spectrum": {**row["spectrum"], "flux": row["spectrum"]["flux"] * 2}, **row}
    )
    assert _whole(found) == _whole(left)
    doubled = left.with_format("astropile").map(
        lambda row: {"STAMP": row["STAMP"], "IMAGE_MASK": row["IMAGE_MASK"] + 1}
    )
    assert doubled.features == left.features
    one = doubled[5]
    assert one["IMAGE_MASK"].dtype == np.int32
    np.testing.assert_array_equal(
        one["IMAGE_MASK"], left.with_format("astropile")[5]["IMAGE_MASK"] + 1
    )


def test_what_does_not_fit_is_refused(left):
    """A longer batch beside columns that stay; a column that is not there."""
    with pytest.raises(ValueError, match=r"gave 14 values of 'x' for 7 rows while 15 columns stay"):
        left.map(lambda batch: {"x": [0] * 14}, batched=True, batch_size=7)
    with pytest.raises(ValueError, match=r"Input column \['nope'\] not in the dataset"):
        left.map(lambda nope: None, input_columns="nope")
    with pytest.raises(ValueError, match=r"Column to remove \['nope'\] not in the dataset"):
        left.map(lambda row: row, remove_columns=["nope"])
    with pytest.raises(ValueError, match=r"of one length, not of \[3, 60\] rows"):
        left.add_column("short", [1, 2, 3])
    with pytest.raises(TypeError, match=r"(?i)cast"):
        left.cast_column("NAME", datasets.List(datasets.Value("int32")))


# --------------------------------------------------------------------------------------
# What is kept


def test_results_are_found_again_for_the_same_content_elsewhere(left, trees, tmp_path):  # noqa: F811
    """A copy of the tree has the same fingerprint: its function need not run again."""
    calls = tmp_path / "calls"

    def count(row, path=str(calls)):
        with Path(path).open("a") as file:
            file.write(".")
        return {"twice": 2 * row["ra"]}

    found = left.map(count)
    assert len(calls.read_text()) == N_LEFT
    shutil.copytree(trees.left, tmp_path / "copy")
    copied = astropile.load_dataset(tmp_path / "copy")
    assert copied._fingerprint == left._fingerprint
    again = copied.map(count)
    assert len(calls.read_text()) == N_LEFT
    assert again.cache_files == found.cache_files
    assert again._fingerprint == found._fingerprint
    assert again["twice"][:] == found["twice"][:]
    left.map(count, load_from_cache_file=False)
    assert len(calls.read_text()) == 2 * N_LEFT
    kept = [found.filter(_is_far)._fingerprint for found in (left, copied)]
    assert kept[0] == kept[1]
    assert left.map(count, keep_in_memory=True).cache_files == []


def test_changed_content_of_the_same_age_is_another(trees, tmp_path):  # noqa: F811
    """File times say nothing: a rebuilt tree whose files look as old has another fingerprint."""
    tree = build(toy.SURVEY, trees.batch_left, tmp_path)
    times = {path.relative_to(tree): path.stat().st_mtime_ns for path in tree.rglob("*")}
    before = astropile.load_dataset(tree)
    first = before.map(lambda row: {"twice": 2 * row["z"]})["twice"][:]
    changed = {**trees.batch_left, "Z": trees.batch_left["Z"] + 1}
    toy.write_native(tmp_path / "native" / "a.npz", changed)
    build(toy.SURVEY, changed, tmp_path, overwrite=True)
    for path in tree.rglob("*"):
        if path.relative_to(tree) in times:
            age = times[path.relative_to(tree)]
            os.utime(path, ns=(age, age))
    after = astropile.load_dataset(tree)
    assert after._fingerprint != before._fingerprint
    second = after.map(lambda row: {"twice": 2 * row["z"]})["twice"][:]
    np.testing.assert_allclose(np.array(second) - np.array(first), 2, rtol=1e-5)


def test_results_are_cleaned_up(left):
    """All but those in use are removed."""
    used = left.map(lambda row: {"a": 1})
    left.map(lambda row: {"a": 2})
    assert used.cleanup_cache_files() >= 1
    assert Path(used.cache_files[0]["filename"]).exists()
    assert used["a"][:3] == [1, 1, 1]
