"""Splits, matches, streams, samples, transforms and statistics: each takes what another gives."""

import functools

import numpy as np
import pytest

import astropile
from astropile.errors import SampleError
from astropile.samples import collate, drop_modalities, samples_of
from astropile.splits import SkySplits, split_match
from astropile.statistics import compute_statistics
from astropile.streams import Mixture, Stream
from astropile.transforms.images import Image, crop, scale_bands
from astropile.transforms.spectra import linear_grid, rebin
from hftrees import trees  # noqa: F401

COLUMNS = {
    "toy": ["object_id", "image.array", "image.mask", "image.filter"],
    "other": ["object_id", "z", "spectrum.flux", "spectrum.lambda", "lightcurve"],
}
PLAN = SkySplits({"train": 0.7, "test": 0.3}, order=10, seed=1)
GRID = linear_grid(4000.0, 8000.0, 200.0)


@pytest.fixture(scope="module")
def train(trees):  # noqa: F811
    """The training part of a left join of two surveys."""
    matched = astropile.cross_match_datasets(
        trees.left,
        trees.right,
        match_radius=1.0,
        join="left",
        left_columns=["object_id", "image", "ra", "dec"],
        right_columns=["object_id", "z", "spectrum", "lightcurve"],
    )
    return split_match(matched, PLAN)["train"]


@pytest.fixture(scope="module")
def ready(train, trees):  # noqa: F811
    """What a model gets: drawn by a stream, put together, on one grid and normalised."""
    toy = astropile.open_catalog(trees.left)
    rows = train.sample.rows["toy"]
    scaling = compute_statistics(toy, ["image.array"], rows=rows).normalizer(
        "image.array", channels=["g", "r"]
    )

    def prepare(batch):
        batch = collate(batch, pad={"other.lightcurve": (8,)})
        images, spectra = batch["toy"]["image"], batch["other"]["spectrum"]
        stamps = Image(images["array"], np.ones_like(images["array"]), images["mask"])
        batch["image"] = scale_bands(
            crop(stamps, 16), location=scaling.center, scale=scaling.scale
        ).flux
        batch["spectrum"] = rebin(
            spectra["flux"], np.ones_like(spectra["flux"]), wave=spectra["lambda"][0], grid=GRID
        ).flux
        return batch

    return scaling, Stream(train, COLUMNS, batch_size=64, seed=1, transform=prepare)


def test_one_batch_from_the_split_to_the_model(train, ready):
    """Each object's image and spectrum are those of its row, cropped, normalised and rebinned."""
    scaling, stream = ready
    (batch,) = list(stream)
    order = {row["toy"]["object_id"]: row for row in train.dataset.with_format("astropile")}
    assert set(batch["toy"]["object_id"].tolist()) == {int(number) for number in order}
    assert 0 < batch["present"]["other"].sum() < len(order)
    for place, number in enumerate(batch["toy"]["object_id"]):
        row = order[number]
        for band, entry in enumerate(row["toy"]["image"]):
            wanted = (entry["array"][4:20, 8:24] - scaling.center[band]) / scaling.scale[band]
            assert np.allclose(batch["image"][place, band], wanted, rtol=1e-5, atol=1e-5)
        other = row["other"]
        assert batch["present"]["other"][place] == (other is not None)
        if other is None:
            assert not batch["spectrum"][place].any()
            assert batch["other"]["lightcurve"]["flux"].mask[place].all()
            continue
        spectrum, curve = other["spectrum"], other["lightcurve"]
        wanted = rebin(
            spectrum["flux"], np.ones_like(spectrum["flux"]), wave=spectrum["lambda"], grid=GRID
        )
        assert np.array_equal(batch["spectrum"][place], wanted.flux)
        times = batch["other"]["lightcurve"]["time"]
        assert np.array_equal(times.values[place][~times.mask[place]], curve["time"])


def test_a_batch_has_the_samples_of_the_dataset(train):
    """What `collate` makes of a stream's batch is what it makes of the dataset's rows."""
    columns = {"toy": ["object_id", "image"], "other": ["object_id", "z", "lightcurve"]}
    batch = next(iter(Stream(train, columns, batch_size=64, shuffle=None)))
    found = collate(batch, pad={"other.lightcurve": ()})
    rows = [
        {side: row[side] and {name: row[side][name] for name in columns[side]} for side in columns}
        for row in train.dataset.with_format("astropile")
    ]
    wanted = collate(rows, pad={"other.lightcurve": ()})
    assert found["present"]["other"].tolist() == wanted["present"]["other"].tolist()
    for name in ("array", "mask", "psf_fwhm", "extinction"):
        assert np.array_equal(found["toy"]["image"][name], wanted["toy"]["image"][name])
    assert found["toy"]["image"]["filter"] == wanted["toy"]["image"]["filter"]
    for side in columns:
        assert np.array_equal(found[side]["object_id"], wanted[side]["object_id"])
    for name in ("time", "flux"):
        ours, theirs = (made["other"]["lightcurve"][name] for made in (found, wanted))
        assert np.array_equal(ours.values, theirs.values)
        assert np.array_equal(ours.mask, theirs.mask)


def test_modalities_of_a_batch_are_dropped(train):
    """A survey of a stream's batch is left out as a modality, with all its fields."""
    stream = Stream(train, COLUMNS, batch_size=64, transform=collate)
    batch = next(iter(stream))
    thinned = drop_modalities(batch, {"other": 1.0}, 0, keep_one=False)
    assert batch["present"]["other"].any()
    assert not thinned["present"]["other"].any()
    assert not thinned["other"]["spectrum"]["flux"].any()


def test_names_with_dots_that_stand_beside_their_record():
    """A column whose name begins with another's is a field of its own, not of a record."""
    samples = samples_of({"A": np.arange(2), "A.B": np.arange(2), "C.D": np.array([b"x", b"y"])})
    assert samples[1] == {"A": 1, "A.B": 1, "C": {"D": "y"}}
    with pytest.raises(SampleError, match="A: 2, B: 3"):
        samples_of({"A": np.arange(2), "B": np.arange(3)})


def test_workers_put_batches_together_too(train):
    """Through worker processes of PyTorch, and onto a device, batches are those of one process."""
    torch = pytest.importorskip("torch")
    from astropile.streams.torch import StreamLoader, to_device

    made = functools.partial(collate, to="torch", pad={"other.lightcurve": (8,)})
    options = {"batch_size": 5, "seed": 2, "transform": made}
    columns = {"toy": ["object_id"], "other": ["lightcurve.flux"]}
    whole = list(Stream(train, columns, copy=True, **options))
    loader = StreamLoader(Stream(train, columns, **options), num_workers=2)
    found = list(to_device(loader, "cpu"))
    assert len(found) == len(whole) > 2
    for ours, theirs in zip(found, whole, strict=True):
        assert torch.equal(ours["toy"]["object_id"], theirs["toy"]["object_id"])
        flux, wanted = (batch["other"]["lightcurve"]["flux"] for batch in (ours, theirs))
        assert torch.equal(flux.values, wanted.values)
        assert torch.equal(flux.mask, wanted.mask)
    mixed = Mixture({"a": Stream(train, columns, **options)})
    name, batch = next(iter(to_device(mixed, "cpu")))
    assert name == "a"
    assert torch.equal(batch["present"]["other"], whole[0]["present"]["other"])
