"""Trees as Hugging Face datasets: a real Dataset, no copy, values as the survey has them."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest

import astropile
import toy
from astropile.errors import FormatError, TreeNotFoundError, UnknownColumnError
from astropile.hf.lazy import LazyTable
from digest import digest
from hftrees import N_LEFT, N_RIGHT, build, environment, quiet, trees  # noqa: F401

FORMAT = "astropile"
CODE = """
import sys
{imports}
found = datasets.load_dataset("astropile", data_dir=sys.argv[1], name="main", split="train")
assert isinstance(found, datasets.Dataset) and len(found) == {n}
builder = datasets.load_dataset_builder("astropile", data_dir=sys.argv[1])
assert builder.config.name == "main", builder.config
stream = datasets.load_dataset("astropile", data_dir=sys.argv[1], streaming=True)["train"]
assert next(iter(stream.with_format("astropile")))["object_id"].dtype == "int64"
print(sum(p.stat().st_size for p in __import__("pathlib").Path(sys.argv[2]).rglob("*")
          if p.is_file()))
"""


@pytest.fixture
def left(trees):  # noqa: F811
    return astropile.load_dataset(trees.left)


def _native(batch, object_id):
    return int(np.flatnonzero(batch["ID"] == object_id)[0])


def _whole(dataset):
    return digest(dataset.with_format("arrow")[:])


def _check_row(record, batch):
    """Every field of a record equals the native values it comes from, dtype included."""
    row = _native(batch, record["object_id"])
    assert record["provenance"] == {"project": "Toys", "survey": "TOY", "release": "DR1"}
    assert record["observation_id"] == record["object_id"]
    for name, native in (("ra", "RA"), ("dec", "DEC"), ("z", "Z"), ("FLUX_R", "FLUX_R")):
        assert record[name] == batch[native][row], name
        assert record[name].dtype == batch[native].dtype, name
    assert record["NAME"].encode() == batch["NAME"][row]
    assert record["spectrum"]["extra"]["good"] == batch["GOOD"][row]
    for values, native in (
        (record["spectrum"]["flux"], batch["FLUX"][row]),
        (record["spectrum"]["lambda"], batch["WAVE"]),
        (record["lightcurve"]["time"], batch["LC_TIME"][row]),
        (record["lightcurve"]["flux"], batch["LC_FLUX"][row]),
        (record["IMAGE_MASK"], batch["IMAGE_MASK"][row]),
        (record["STAMP"], batch["STAMP"][row]),
    ):
        assert values.dtype == native.dtype
        np.testing.assert_array_equal(values, native)
    for band, image in enumerate(record["image"]):
        assert image["array"].dtype == np.float32
        np.testing.assert_array_equal(image["array"], batch["IMAGE"][row, band])
        np.testing.assert_array_equal(image["mask"], (batch["IMAGE_MASK"][row, band] & 3) != 0)
        assert image["psf_fwhm"] == batch["PSF"][row, band]
        assert image["filter"] == "gr"[band]
        assert image["extinction"] == batch[("A_G", "A_R")[band]][row]


# --------------------------------------------------------------------------------------
# Opening


def test_builder_is_a_real_one(trees):  # noqa: F811
    """It has a name, a config, an info with the survey's facts, and features."""
    builder = astropile.load_dataset_builder(data_dir=trees.left, config_name="main")
    assert isinstance(builder, datasets.ArrowBasedBuilder)
    assert (builder.name, builder.dataset_name, builder.config.name) == ("astropile", "toy", "main")
    assert builder.info.license == "CC-BY-4.0"
    assert builder.info.citation == toy.SURVEY.citation
    assert builder.info.splits["train"].num_examples == N_LEFT
    assert builder.info.features["ra"] == datasets.Value("float64", id="deg")
    assert builder.info.features["image"].feature["array"] == datasets.Array2D(
        (24, 32), "float32", id="nanomaggy"
    )
    again = pickle.loads(pickle.dumps(builder))
    assert len(again.as_dataset("train")) == N_LEFT


def test_every_row_equals_the_native_values(trees, left):  # noqa: F811
    """Through the format that keeps dtypes."""
    for record in left.with_format(FORMAT):
        _check_row(record, trees.batch_left)


@pytest.mark.parametrize("imports", ["import astropile, datasets", "import datasets, astropile"])
def test_datasets_knows_the_name_in_either_import_order(trees, tmp_path, imports):  # noqa: F811
    """datasets.load_dataset("astropile", ...), and nothing but an empty lock file is written."""
    code = CODE.format(imports=imports, n=N_LEFT)
    cache = tmp_path / "hf_home"
    done = subprocess.run(
        [sys.executable, "-c", code, str(trees.left), str(cache)],
        capture_output=True,
        text=True,
        env={**environment(tmp_path), "PYTHONPATH": str(Path(astropile.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "0"


def test_load_dataset_by_name_is_lazy(trees):  # noqa: F811
    """All splits as a dict, a split, a part of it; the home folder's ~ is understood."""
    found = datasets.load_dataset("astropile", data_dir=str(trees.left), name="main")
    assert list(found) == ["train"]
    assert isinstance(found["train"].data, LazyTable)
    part = datasets.load_dataset(
        "astropile", data_dir=str(trees.left / "main"), split="train[10:20]", columns=["ra"]
    )
    assert len(part) == 10
    assert part["ra"][0] == found["train"]["ra"][10]
    memory = datasets.load_dataset(
        "astropile", data_dir=str(trees.left), split="train", keep_in_memory=True
    )
    assert not isinstance(memory.data, LazyTable)
    assert _whole(memory) == _whole(found["train"])


def test_home_folder(trees, monkeypatch):  # noqa: F811
    """A path may begin with ~."""
    monkeypatch.setenv("HOME", str(trees.left.parent))
    assert len(astropile.load_dataset("~/toy", "main")) == N_LEFT


def test_what_is_not_there_is_named(trees, tmp_path):  # noqa: F811
    """An unknown subset names the known ones; an empty folder is no tree."""
    with pytest.raises(TreeNotFoundError, match="no subset 'mian'; its subsets: main"):
        astropile.load_dataset_builder(trees.left, "mian")
    with pytest.raises(TreeNotFoundError, match="no subset 'mian'; its subsets: main"):
        datasets.load_dataset("astropile", data_dir=str(trees.left), name="mian")
    with pytest.raises(TreeNotFoundError, match=r"astropile.json"):
        astropile.load_dataset(tmp_path)
    with pytest.raises(TypeError, match=r"data_dir="):
        datasets.load_dataset("astropile")
    with pytest.raises(UnknownColumnError, match=r"no column 'imgae'.*did you mean 'image'"):
        astropile.load_dataset(trees.left, columns=["imgae"])
    with pytest.raises(LookupError, match="no object 7 in toy/main"):
        astropile.load_dataset(trees.left, object_ids=[7])


def test_columns_and_rows_are_selected(trees, left):  # noqa: F811
    """Only what is asked for is read; rows by number, mask or identifier."""
    few = astropile.load_dataset(trees.left, columns=["z", "IMAGE"], rows=[5, 2, 5])
    assert few.column_names == ["z", "IMAGE"]
    assert few["z"][:] == left.select([5, 2, 5])["z"][:]
    mask = np.asarray(left["z"][:]) > 0.5
    assert len(astropile.load_dataset(trees.left, rows=mask)) == mask.sum()
    ids = left["object_id"][3:1:-1]
    assert astropile.load_dataset(trees.left, object_ids=ids)["object_id"][:] == ids
    assert next(iter(astropile.load_dataset(trees.left, columns="ra", streaming=True))) == {
        "ra": left[0]["ra"]
    }
    with pytest.raises(TypeError, match="not by both"):
        astropile.load_dataset(trees.left, rows=[1], object_ids=ids)


def test_only_the_columns_asked_for_are_read(trees, monkeypatch):  # noqa: F811
    """Light columns come from the catalogue; a spectrum does not cost an image."""
    from astropile.catalog import Catalog

    asked = []
    take = Catalog.take

    def spy(self, rows, columns=None):
        asked.append(set(columns))
        return take(self, rows, columns)

    monkeypatch.setattr(Catalog, "take", spy)
    found = astropile.load_dataset(trees.left)
    assert found.select_columns(["object_id", "ra", "NAME", "mag", "provenance"])[3]["NAME"]
    assert asked == []
    assert found.select_columns(["spectrum", "z"])[3]["z"]
    assert asked == [{"FLUX", "WAVE"}]


def test_light_columns_may_be_too_many_to_keep(trees, left, monkeypatch):  # noqa: F811
    """Then they come from the shards; the values are the same."""
    monkeypatch.setattr("astropile.hf.rows.LIGHT_NBYTES", 0)
    assert _whole(astropile.load_dataset(trees.left)) == _whole(left)
    assert astropile.load_dataset(trees.left)[7] == left[7]


# --------------------------------------------------------------------------------------
# As a table


def test_rows_by_number_list_slice_and_name(left):
    """ds[i], ds[[...]], ds[a:b], ds["name"] agree; beyond the end is an IndexError."""
    rows = left.with_format(FORMAT)
    ids = np.asarray(left["object_id"][:])
    assert rows[7]["object_id"] == ids[7]
    assert rows[-1]["object_id"] == ids[-1]
    assert rows[np.int64(3)]["object_id"] == ids[3]
    np.testing.assert_array_equal(rows[[9, 0, 9]]["object_id"], ids[[9, 0, 9]])
    np.testing.assert_array_equal(rows[5:50:7]["object_id"], ids[5:50:7])
    assert len(rows[50:200]["image"]) == N_LEFT - 50
    assert len(rows[[]]["image"]) == 0
    assert left["ra"][4] == left[4]["ra"]
    assert left[4]["image"][1]["array"] == rows[4]["image"][1]["array"].tolist()
    with pytest.raises(IndexError):
        left[N_LEFT]
    with pytest.raises(KeyError):
        left.select_columns(["z"]).with_format("arrow")["nope"]


@pytest.mark.filterwarnings("ignore:Specifying null_placement:FutureWarning")
def test_methods_of_datasets_work_on_it(left):
    """Choosing, shuffling, renaming, mapping and filtering, as on any Dataset."""
    ids = left["object_id"][:]
    assert left.select([5, 3])["object_id"][:] == [ids[5], ids[3]]
    assert left.select(range(4, 9))["object_id"][:] == ids[4:9]
    shuffled = left.shuffle(seed=1)
    assert shuffled["object_id"][:] != ids
    assert sorted(shuffled["object_id"][:]) == sorted(ids)
    parts = [left.shard(4, i) for i in range(4)]
    assert [i for part in parts for i in part["object_id"][:]] == ids
    split = left.train_test_split(0.25, seed=0)
    assert {*split["train"]["object_id"][:], *split["test"]["object_id"][:]} == set(ids)
    renamed = left.rename_column("ra", "alpha").remove_columns(["image", "spectrum"])
    assert renamed[3]["alpha"] == left[3]["ra"]
    assert "image" not in renamed.column_names
    assert renamed.features["alpha"].id == "deg"
    assert left.select_columns(["z", "ra"])[1] == {"z": left[1]["z"], "ra": left[1]["ra"]}
    mapped = left.select_columns(["z"]).map(lambda row: {"two_z": 2 * row["z"]})
    assert mapped[9]["two_z"] == 2 * left[9]["z"]
    bright = left.select_columns(["z", "object_id"]).filter(lambda z: z > 0.5, input_columns="z")
    assert all(z > 0.5 for z in bright["z"])
    by_z = left.select_columns(["z"]).sort("z")["z"][:]
    assert by_z == sorted(left["z"][:])
    assert left.unique("healpix") == list(dict.fromkeys(left["healpix"][:]))
    assert left.flatten()[2]["spectrum.flux"] == left[2]["spectrum"]["flux"]
    assert left.select_columns(["z"]).cast_column("z", datasets.Value("float64"))[0]["z"]
    assert left.to_pandas()["ra"].tolist() == left["ra"][:]
    assert left.select([1]).to_list()[0] == left[1]
    assert [b["z"] for b in left.select_columns(["z"]).iter(40)] == [
        left["z"][:40],
        left["z"][40:],
    ]
    assert [row["z"] for row in left.__getitems__([3, 1])] == [left[3]["z"], left[1]["z"]]
    assert copy.deepcopy(left)[0] == left[0]
    assert "num_rows: 60" in repr(left)


def test_datasets_own_ways_of_joining(left):
    """concatenate_datasets, interleave_datasets, repeat and add_item give rows, none read yet."""
    few = left.select_columns(["object_id", "ra", "NAME", "image"])
    ids = left["object_id"][:]
    mixed = few.shuffle(seed=1)
    for joined, expected in (
        (datasets.concatenate_datasets([few, few.select([3, 1])]), [*ids, ids[3], ids[1]]),
        (datasets.concatenate_datasets([mixed, few]), [*mixed["object_id"][:], *ids]),
        (few.repeat(2), ids * 2),
        (few.skip(5).take(3).repeat(2), ids[5:8] * 2),
        (
            datasets.interleave_datasets([few.select([0, 2, 4]), few.select([1, 3, 5])]),
            ids[:6],
        ),
    ):
        assert isinstance(joined.data, LazyTable)
        assert joined.features == few.features
        assert joined["object_id"][:] == expected
        assert joined[-1] == few[ids.index(expected[-1])]
        assert pickle.loads(pickle.dumps(joined))[-1] == joined[-1]
    twice = few.repeat(2)
    assert twice[[N_LEFT + 3, 1, 2 * N_LEFT - 1]]["ra"] == left[[3, 1, N_LEFT - 1]]["ra"]
    assert twice.with_format(FORMAT)[N_LEFT]["image"][0]["array"].dtype == np.float32
    assert _whole(few.repeat(1)) == _whole(few)
    assert twice.repeat(2)["object_id"][:] == ids * 4
    assert len(datasets.concatenate_datasets([few, few]).shuffle(seed=0).select(range(9))[:]) == 4


def test_other_rows_join(left, tmp_path):
    """Rows from memory or from files come after a tree's; a column they lack is null."""
    few = left.select_columns(["object_id", "ra", "NAME"])
    added = few.add_item({"object_id": 7, "ra": 1.5, "NAME": "mine"})
    assert added[N_LEFT] == {"object_id": 7, "ra": 1.5, "NAME": "mine"}
    assert added[3] == few[3]
    assert len(added.select([N_LEFT, 0]).add_item({"object_id": 8, "ra": 2.5, "NAME": "x"})) == 3
    few.select([4, 5]).save_to_disk(tmp_path / "saved")
    saved = datasets.load_from_disk(tmp_path / "saved").remove_columns("ra")
    both = datasets.concatenate_datasets([few, saved])
    assert both[N_LEFT] == {"object_id": few[4]["object_id"], "ra": None, "NAME": few[4]["NAME"]}
    own = datasets.Dataset.from_dict({"a": [1]})
    assert datasets.concatenate_datasets([own, own])["a"][:] == [1, 1]


def test_pickled_dataset_is_small_and_whole(left):
    """It travels to another process without its rows."""
    content = pickle.dumps(left.shuffle(seed=3).select_columns(["z", "image"]))
    assert len(content) < 50_000
    again = pickle.loads(content)
    assert again[11] == left.shuffle(seed=3).select_columns(["z", "image"])[11]


def test_rows_are_read_in_other_processes(left):
    """With num_proc, as a DataLoader's workers do."""
    found = left.select_columns(["z", "spectrum"]).map(
        lambda row: {"n": len(row["spectrum"]["flux"])}, num_proc=2, remove_columns=["spectrum"]
    )
    assert found["n"][:] == [toy.N_WAVE] * N_LEFT


def test_formats_keep_dtype_and_missing_values(trees):  # noqa: F811
    """Numbers stay what they are, null stays None; datasets' own numpy format does not."""
    rows = astropile.load_dataset(trees.left, columns=["ra", "object_id", "IMAGE_MASK", "NAME"])
    batch = rows.with_format(FORMAT)[:]
    assert batch["ra"].dtype == np.float64
    assert batch["object_id"].dtype == np.int64
    assert batch["IMAGE_MASK"][0].dtype == np.int32
    assert isinstance(batch["NAME"][0], str)
    assert rows.with_format(FORMAT)["ra"][:].dtype == np.float64
    both = astropile.concatenate_datasets([rows, rows.remove_columns("ra")]).with_format(FORMAT)
    assert both[N_LEFT]["ra"] is None
    assert both[:]["ra"][0] == batch["ra"][0]
    assert both[:]["ra"][N_LEFT] is None


def test_writing_where_told_to(trees, left, tmp_path):  # noqa: F811
    """A builder prepares nothing by itself, but writes Parquet on request."""
    builder = astropile.load_dataset_builder(trees.left)
    builder.download_and_prepare()
    assert list(tmp_path.rglob("*.arrow")) == []
    builder.download_and_prepare(str(tmp_path / "out"), file_format="parquet")
    files = [str(path) for path in (tmp_path / "out").glob("*.parquet")]
    back = datasets.Dataset.from_parquet(files, cache_dir=str(tmp_path / "cache"))
    assert _whole(back) == _whole(left)


def test_saved_dataset_comes_back(left, tmp_path):
    """save_to_disk and to_parquet stream the rows; the bits stay."""
    chosen = left.shuffle(seed=2).select(range(20))
    chosen.save_to_disk(tmp_path / "saved", max_shard_size="200KB")
    assert len(list((tmp_path / "saved").glob("*.arrow"))) > 1
    back = datasets.load_from_disk(tmp_path / "saved")
    assert back.features == left.features
    assert back.features["ra"].id == "deg"
    assert _whole(back) == _whole(chosen)
    chosen.to_parquet(tmp_path / "rows.parquet")
    back = datasets.Dataset.from_parquet(
        str(tmp_path / "rows.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert _whole(back) == _whole(chosen)


# --------------------------------------------------------------------------------------
# As a stream


def test_stream_gives_the_same_rows(trees, left):  # noqa: F811
    """In the tree's order, by shards that can be shared out."""
    stream = astropile.load_dataset(trees.left, streaming=True, batch_size=7)
    assert stream.num_shards > 4
    for record, expected in zip(stream.with_format(FORMAT), left.with_format(FORMAT), strict=True):
        assert record["object_id"] == expected["object_id"]
        assert record["image"][0]["array"].dtype == np.float32
        np.testing.assert_array_equal(record["STAMP"], expected["STAMP"])


def test_stream_is_shared_out_without_loss(trees, left):  # noqa: F811
    """Shards and nodes: each row once."""
    from datasets.distributed import split_dataset_by_node

    stream = astropile.load_dataset(trees.left, columns=["object_id"], streaming=True)
    ids = left["object_id"][:]
    found = [row["object_id"] for i in range(3) for row in stream.shard(3, i)]
    assert sorted(found) == sorted(ids)
    found = [row["object_id"] for i in range(2) for row in split_dataset_by_node(stream, i, 2)]
    assert sorted(found) == sorted(ids)
    found = [row["object_id"] for row in pickle.loads(pickle.dumps(stream)).shuffle(seed=1)]
    assert sorted(found) == sorted(ids)


def test_stream_resumes_where_it_was(trees, left):  # noqa: F811
    """state_dict after any row, none lost or repeated."""
    ids = left["object_id"][:]
    for stop in (1, 17, 43):
        stream = astropile.load_dataset(trees.left, columns=["object_id"], streaming=True)
        rows = iter(stream)
        found = [next(rows)["object_id"] for _ in range(stop)]
        state = stream.state_dict()
        stream = astropile.load_dataset(trees.left, columns=["object_id"], streaming=True)
        stream.load_state_dict(state)
        assert found + [row["object_id"] for row in stream] == ids


# --------------------------------------------------------------------------------------
# Which tree it is


def test_fingerprint_follows_the_content(trees, left, tmp_path):  # noqa: F811
    """The same content elsewhere has the same fingerprint; another has another."""
    same = build(toy.SURVEY, trees.batch_left, tmp_path / "same")
    assert astropile.load_dataset(same)._fingerprint == left._fingerprint
    assert astropile.load_dataset(trees.left, columns=["z"])._fingerprint != left._fingerprint
    changed = {**trees.batch_left, "Z": trees.batch_left["Z"] + 1}
    other = build(toy.SURVEY, changed, tmp_path / "other")
    assert astropile.load_dataset(other)._fingerprint != left._fingerprint


def test_tree_replaced_under_a_dataset_is_noticed(tmp_path):
    """A dataset that travelled does not mix two trees."""
    tree = build(toy.SURVEY, toy.make_batch(5, seed=1), tmp_path)
    content = pickle.dumps(astropile.load_dataset(tree))
    build(toy.SURVEY, toy.make_batch(5, seed=2), tmp_path, overwrite=True)
    with pytest.raises(FormatError, match="snapshot"):
        pickle.loads(content)[0]


# --------------------------------------------------------------------------------------
# One after another


def test_concatenation_has_all_columns_of_all(trees, left):  # noqa: F811
    """Missing fields are null, provenance tells the rows apart, nothing is read yet."""
    right = astropile.load_dataset(trees.right).remove_columns(["z", "spectrum"])
    both = astropile.concatenate_datasets([left, right])
    assert isinstance(both.data, LazyTable)
    assert len(both) == N_LEFT + N_RIGHT
    assert both.features == left.features
    assert both[0] == left[0]
    last = both[N_LEFT + N_RIGHT - 1]
    assert last["provenance"]["survey"] == "OTHER"
    assert last["z"] is None
    assert last["spectrum"] is None or last["spectrum"]["flux"] is None
    assert last["image"] == right[N_RIGHT - 1]["image"]
    mixed = both[[N_LEFT + 1, 3, N_LEFT]]
    assert [p["survey"] for p in mixed["provenance"]] == ["OTHER", "TOY", "OTHER"]
    assert mixed["ra"] == [right[1]["ra"], left[3]["ra"], right[0]["ra"]]
    assert both["ra"][:] == left["ra"][:] + right["ra"][:]


def test_concatenation_unites_types(tmp_path):
    """Identifiers of differing dtype become text, images of differing size lists."""
    one = datasets.Dataset.from_dict(
        {"object_id": [2**60 + 1], "image": [np.zeros((2, 3), "f4")], "z": [0.5]},
        features=datasets.Features(
            {
                "object_id": datasets.Value("int64"),
                "image": datasets.Array2D((2, 3), "float32"),
                "z": datasets.Value("float32"),
            }
        ),
    )
    two = datasets.Dataset.from_dict(
        {"object_id": ["8485-1901"], "image": [np.ones((4, 5), "f4")], "z": [0.25], "tag": [1]},
        features=datasets.Features(
            {
                "object_id": datasets.Value("string"),
                "image": datasets.Array2D((4, 5), "float32"),
                "z": datasets.Value("float64"),
                "tag": datasets.Value("int8"),
            }
        ),
    )
    both = astropile.concatenate_datasets([one, two])
    assert both.features["image"] == datasets.List(datasets.List(datasets.Value("float32")))
    assert both["object_id"][:] == [str(2**60 + 1), "8485-1901"]
    assert both["tag"][:] == [None, 1]
    assert both.features["z"].dtype == "float64"
    rows = both.with_format(FORMAT)
    assert [row["image"].shape for row in rows] == [(2, 3), (4, 5)]
    both.save_to_disk(tmp_path / "both")
    assert _whole(datasets.load_from_disk(tmp_path / "both")) == _whole(both)


def test_columns_that_cannot_be_united_are_kept_apart(trees, left):  # noqa: F811
    """A number here, an array there: each under its survey's name."""
    right = astropile.load_dataset(trees.right).remove_columns("z")
    right = right.rename_column("spectrum", "z")
    both = astropile.concatenate_datasets([left, right])
    assert "z" not in both.column_names
    assert both[0]["z_toy"] == left[0]["z"]
    assert both[0]["z_other"] is None or both[0]["z_other"]["flux"] is None
    assert both[N_LEFT]["z_other"] == right[0]["z"]
    assert both[N_LEFT]["z_toy"] is None
    with pytest.raises(astropile.SchemaError, match="'z'"):
        astropile.concatenate_datasets(
            [left, left.remove_columns("z").rename_column("spectrum", "z")]
        )


def test_only_map_style_datasets_are_concatenated():
    """Nothing, and what is no dataset, is refused."""
    with pytest.raises(TypeError, match="at least one"):
        astropile.concatenate_datasets([])
    with pytest.raises(TypeError, match="not str"):
        astropile.concatenate_datasets(["a"])
