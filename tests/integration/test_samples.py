"""Samples of trees and matches become batches that a loader can hand out."""

import functools
import pickle

import numpy as np
import pytest

import astropile
from astropile.errors import SampleError
from astropile.samples import Padded, collate, draw_dropped, drop_modalities, pick, uncollate
from hftrees import N_BOTH, N_LEFT, quiet, trees  # noqa: F401

FIELDS = {
    "id": "toy.object_id",
    "image": "toy.image",
    "spectrum": "other.spectrum",
    "lightcurve": "other.lightcurve",
    "separation": "separation",
}


@pytest.fixture(scope="module")
def left(trees):  # noqa: F811
    return astropile.load_dataset(trees.left).with_format("astropile")


@pytest.fixture(scope="module")
def outer(trees):  # noqa: F811
    """An outer match: pairs, left objects alone and right objects alone."""
    found = astropile.cross_match_datasets(trees.left, trees.right, match_radius=1, join="outer")
    return found.dataset.with_format("astropile")


def same(found, wanted):
    match wanted:
        case dict():
            assert set(found) == set(wanted)
            for name in wanted:
                same(found[name], wanted[name])
        case list() | tuple():
            assert len(found) == len(wanted)
            for one, other in zip(found, wanted, strict=True):
                same(one, other)
        case np.ndarray() | np.generic():
            assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            assert found.tobytes() == wanted.tobytes()
        case _:
            assert found == wanted


def test_rows_of_a_tree_come_back_bit_for_bit(left):
    """Whole samples of a tree with every kind of column go into a batch and out of it."""
    samples = [left[row] for row in range(8)]
    batch = collate(samples, empty_is_absent=False)
    assert batch["object_id"].dtype == np.int64
    assert batch["ra"].dtype == np.float64
    assert batch["image"]["array"].shape == (8, 2, 24, 32)
    assert batch["image"]["filter"] == [["g", "r"]] * 8
    assert isinstance(batch["STAMP"], Padded)
    assert isinstance(batch["lightcurve"]["flux"], Padded)
    assert batch["present"]["image[]"].all()
    same(uncollate(batch, samples[0]), samples)


def test_the_objects_of_an_outer_match_have_flags(outer):
    """Who lacks a survey has zeros and False; who has it its values."""
    samples = [pick(outer[row], FIELDS) for row in range(len(outer))]
    batch = collate(samples)
    present = batch["present"]
    assert len(samples) > N_LEFT
    np.testing.assert_array_equal(present["image"], [s["image"] is not None for s in samples])
    assert present["image"].sum() == N_LEFT
    assert (present["image"] & present["spectrum"]).sum() >= N_BOTH
    np.testing.assert_array_equal(present["id"], present["image"])
    assert np.isfinite(batch["image"]["array"]).all()
    assert np.isfinite(batch["spectrum"]["flux"]).all()
    # The match itself says that a pair of one has no separation; what is stored stays.
    both = present["image"] & present["spectrum"]
    np.testing.assert_array_equal(np.isfinite(batch["separation"]), both)
    gone = np.flatnonzero(~present["spectrum"])
    assert len(gone)
    assert not batch["spectrum"]["flux"][gone].any()
    row = int(np.flatnonzero(present["spectrum"] & present["image"])[0])
    same(batch["spectrum"]["flux"][row], samples[row]["spectrum"]["flux"])
    curve = batch["lightcurve"]["time"]
    wanted = [0 if s["lightcurve"] is None else len(s["lightcurve"]["time"]) for s in samples]
    np.testing.assert_array_equal((~curve.mask).sum(axis=1), wanted)
    assert not curve.values[curve.mask].any()


def test_batches_of_a_tree_need_not_be_samples(trees, left):  # noqa: F811
    """What `Catalog.take` and a slice of a dataset give is put together as its rows are."""
    catalog = astropile.open_catalog(trees.left)
    rows = [5, 2, 11]
    taken = catalog.take(rows, ["ID", "IMAGE", "LC_FLUX", "STAMP", "NAME"])
    batch = collate(taken)
    same(batch["IMAGE"], taken["IMAGE"])
    assert batch["NAME"] == [name.decode() for name in taken["NAME"]]
    for k in range(3):
        mask = batch["LC_FLUX"].mask[k]
        same(batch["LC_FLUX"].values[k][~mask], taken["LC_FLUX"][k])
        height, width = taken["STAMP"][k].shape[1:]
        same(batch["STAMP"].values[k, :, :height, :width], taken["STAMP"][k])
    columns = left.select_columns(["ra", "lightcurve", "image"])
    same(collate(columns[0:4]), collate([columns[row] for row in range(4)]))


def test_batches_of_a_stream_are_padded(trees):  # noqa: F811
    """Ragged columns of a stream get masks, and can be dropped by their name."""
    from astropile.streams import Stream

    names = ["object_id", "lightcurve.time", "STAMP"]
    batch = next(iter(Stream(trees.left, names, batch_size=20, shuffle=None)))
    made = collate(batch)
    lengths = [len(batch["lightcurve.time"][row]) for row in range(20)]
    assert (~made["lightcurve"]["time"].mask).sum(axis=1).tolist() == lengths
    gone = drop_modalities(made, {"lightcurve": 1.0}, 0, keep_one=False)
    assert not gone["present"]["lightcurve"].any()
    assert gone["lightcurve"]["time"].mask.all()
    assert gone["present"]["STAMP"].all()


def test_a_loader_of_torch_takes_it(left):
    """A pickled copy as collate_fn of a DataLoader: tensors of the stored dtypes."""
    torch = pytest.importorskip("torch")
    put = functools.partial(collate, to="torch", pad={"lightcurve": (8,)})
    small = left.select_columns(["object_id", "ra", "lightcurve", "image", "NAME"])
    loader = torch.utils.data.DataLoader(
        small, batch_size=16, collate_fn=pickle.loads(pickle.dumps(put))
    )
    batches = list(loader)
    assert [len(batch["ra"]) for batch in batches] == [16, 16, 16, 12]
    assert batches[0]["object_id"].dtype == torch.int64
    assert batches[0]["ra"].dtype == torch.float64
    assert batches[0]["lightcurve"]["flux"].values.shape == (16, 8)
    assert batches[0]["lightcurve"]["flux"].mask.dtype == torch.bool
    found = torch.cat([batch["object_id"] for batch in batches])
    assert found.tolist() == [small[row]["object_id"] for row in range(N_LEFT)]
    dropped = drop_modalities(batches[0], {"image": 1.0, "lightcurve": 0.0}, 0, keep_one=False)
    assert not dropped["image"]["array"].any()
    assert not dropped["present"]["image"].any()
    assert batches[0]["image"]["array"].any()


def test_numbers_go_to_jax(left):
    """Arrays of a batch are taken by JAX, of the dtype that they have."""
    jax = pytest.importorskip("jax")
    batch = collate([left[row] for row in range(4)])
    flux = jax.numpy.asarray(batch["spectrum"]["flux"])
    assert flux.dtype == np.float32
    np.testing.assert_array_equal(flux, batch["spectrum"]["flux"])


def test_lengths_are_rounded_up_to_those_let_in():
    """The first that is enough; one that is too long is named; none given: to the longest."""
    samples = [{"curve": {"flux": np.ones(n, "f4")}} for n in (3, 5)]
    assert collate(samples, pad={"curve": (4, 8, 16)})["curve"]["flux"].values.shape == (2, 8)
    assert collate(samples[:1], pad={"curve": (4, 8)})["curve"]["flux"].values.shape == (1, 4)
    assert isinstance(collate(samples[:1], pad={"curve": ()})["curve"]["flux"], Padded)
    assert not isinstance(collate(samples[:1])["curve"]["flux"], Padded)
    with pytest.raises(SampleError, match=r"field 'curve.flux': expected at most 4 as padded to"):
        collate(samples, pad={"curve": (4,)})
    entries = [{"spaxels": [{"flux": np.ones(2, "f4")}] * n} for n in (1, 3)]
    batch = collate(entries, pad={"spaxels": (4,)})
    assert batch["spaxels"]["flux"].values.shape == (2, 4, 2)
    assert batch["spaxels"]["flux"].mask[:, :, 0].sum(axis=1).tolist() == [3, 1]
    assert batch["present"]["spaxels[]"].sum(axis=1).tolist() == [1, 3]


def test_a_modality_that_a_whole_batch_lacks_keeps_its_place():
    """With a sample to go by, it has arrays of zeros; without, it is None."""
    like = {"image": np.ones((2, 2), "f4"), "spectrum": {"flux": np.ones(3, "f4")}}
    samples = [{"image": np.ones((2, 2), "f4"), "spectrum": None}] * 2
    assert collate(samples)["spectrum"] is None
    batch = collate(samples, like=like)
    assert batch["spectrum"]["flux"].tolist() == [[0, 0, 0]] * 2
    assert batch["present"]["spectrum"].tolist() == [False, False]


def test_an_empty_light_curve_is_absent_unless_it_is_said_to_count():
    """By default nothing of length 0 is flagged as there."""
    samples = [{"time": np.empty(0)}, {"time": np.ones(2)}]
    assert collate(samples)["present"]["time"].tolist() == [False, True]
    kept = collate(samples, empty_is_absent=False)
    assert kept["present"]["time"].tolist() == [True, True]
    assert kept["time"].mask.tolist() == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("samples", "sentence"),
    [
        ([], "samples: expected at least 1, found none"),
        ([{"a": 1}, {"b": 1}], "sample 1: expected the fields a, found b"),
        ([{"a": np.float32(1)}, {"a": np.float64(1)}], "float32 of 0 axes as before, found float"),
        ([{"a": np.ones(1)}, {"a": np.ones((1, 1))}], "float64 of 1 axes as before"),
        ([{"a": {"b": 1}}, {"a": 1}], "field 'a': expected a record as before, found int"),
        ([{"a": object()}], "field 'a': expected numbers or text, found object"),
        ([{"present": 1}], "expected no field called 'present'"),
        ({"a": [1, 2], "b": [1]}, "as many values in each field, at least 1, found a: 2, b: 1"),
    ],
)
def test_samples_that_do_not_go_together_are_named(samples, sentence):
    """The sentence has the field, what was expected and what came."""
    with pytest.raises(SampleError, match=sentence):
        collate(samples)


def test_a_path_that_no_sample_has_is_refused():
    """Missing is None, unknown an error."""
    sample = {"hsc": {"image": [{"band": "g"}, {"band": "r"}]}, "desi": None}
    assert pick(sample, {"b": "hsc.image.band", "d": "desi.z"}) == {"b": ["g", "r"], "d": None}
    assert pick({"manga": {"drpall.z": 0.1}}, {"z": "manga.drpall.z"}) == {"z": 0.1}
    with pytest.raises(SampleError, match=r"path 'hsc.img': expected one of image, found 'img'"):
        pick(sample, {"x": "hsc.img"})
    with pytest.raises(SampleError, match="expected a record above 'x', found str"):
        pick(sample, {"x": "hsc.image.band.x"})


def test_modalities_are_dropped_as_often_as_stated():
    """Within five standard deviations of p_i - P w_i; without keep_one of p_i."""
    n = 40_000
    chances = {"a": 0.9, "b": 0.5, "c": 0.2}
    there = {"a": np.ones(n, bool), "b": np.ones(n, bool), "c": np.arange(n) % 2 == 0, "d": []}
    free = draw_dropped(there, chances, 5, keep_one=False)
    kept = draw_dropped(there, chances, np.random.default_rng(5))
    all_three = np.arange(n) % 2 == 0
    for has_c, names in ((True, "abc"), (False, "ab")):
        here = all_three == has_c
        p = np.array([chances[name] for name in names])
        weights = (1 - p) / (1 - p).sum()
        for k, name in enumerate(names):
            for found, wanted in ((free, p[k]), (kept, p[k] - p.prod() * weights[k])):
                sigma = np.sqrt(wanted * (1 - wanted) / here.sum())
                assert abs(found[name][here].mean() - wanted) < 5 * sigma, (name, has_c)
        assert not np.all([kept[name][here] for name in names], axis=0).any()
    assert free["a"][~all_three & free["b"]].any()
    assert not kept["c"][~all_three].any()
    again = draw_dropped(there, chances, 5)
    assert all(np.array_equal(kept[name], again[name]) for name in chances)


def test_one_of_all_that_would_go_stays():
    """With probability 1 each, every object keeps exactly one of what it has, each as often."""
    n = 3000
    there = {"a": np.ones(n, bool), "b": np.arange(n) % 2 == 0, "c": np.zeros(n, bool)}
    dropped = draw_dropped(there, dict.fromkeys("abc", 1.0), 1)
    left = sum((there[name] & ~dropped[name]).astype(int) for name in "abc")
    assert (left == 1).all()
    both = there["b"]
    assert 0.4 < dropped["a"][both].mean() < 0.6
    assert not dropped["a"][~both].any()
    for chances, sentence in (({"a": 1.5}, "0 to 1, found 1.5"), ({"x": 0.5}, "one of a, b, c")):
        with pytest.raises(SampleError, match=sentence):
            draw_dropped(there, chances, 0)
    with pytest.raises(SampleError, match="flags under 'present'"):
        drop_modalities({"a": np.ones(2)}, {"a": 0.5}, 0)
