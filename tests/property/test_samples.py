"""Samples of any shapes go into a batch and come out of it as they were."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from astropile.samples import collate, drop_modalities, uncollate

LIKE = {
    "object_id": np.int64(1),
    "ra": np.float64(0),
    "name": "a",
    "stamp": np.zeros((2, 3), np.float32),
    "cutout": np.zeros((1, 1), np.uint8),
    "lightcurve": {
        "time": np.zeros(1, np.float64),
        "flux": np.zeros(1, np.float32),
        "band": np.array(["g"]),
    },
    "image": [{"filter": "g", "array": np.zeros((2, 2), np.float32), "psf": np.float64(1)}],
    "spaxels": [{"flux": np.zeros(1, np.float32), "x": np.int16(0), "extra": {"r": np.float32(0)}}],
}
WORDS = st.text(st.characters(codec="utf-8"), max_size=3)


def arrays(dtype, shape):
    return hnp.arrays(dtype, shape)


def maybe(strategy):
    return st.none() | strategy


@st.composite
def lightcurves(draw):
    length = draw(st.integers(1, 4))
    return {
        "time": draw(arrays(np.float64, length)),
        "flux": draw(arrays(np.float32, length)),
        "band": np.array([draw(st.sampled_from("gri")) for _ in range(length)]),
    }


@st.composite
def bands(draw):
    return {
        "filter": draw(WORDS),
        "array": draw(arrays(np.float32, (2, 2))),
        "psf": draw(maybe(arrays(np.float64, ()).map(lambda a: a[()]))),
    }


@st.composite
def spaxels(draw):
    return {
        "flux": draw(maybe(arrays(np.float32, st.integers(1, 3)))),
        "x": draw(arrays(np.int16, ()))[()],
        "extra": {"r": draw(arrays(np.float32, ()))[()]},
    }


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3))
SAMPLES = st.fixed_dictionaries(
    {
        "object_id": maybe(arrays(np.int64, ()).map(lambda a: a[()])),
        "ra": arrays(np.float64, ()).map(lambda a: a[()]),
        "name": maybe(WORDS),
        "stamp": maybe(arrays(np.float32, (2, 3))),
        "cutout": maybe(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape))),
        "lightcurve": maybe(lightcurves()),
        "image": maybe(st.lists(bands(), min_size=1, max_size=3)),
        "spaxels": maybe(st.lists(spaxels(), min_size=1, max_size=3)),
    }
)


def same(found, wanted, where="sample"):
    """Equal in structure, dtype, shape and every bit."""
    match wanted:
        case dict():
            assert set(found) == set(wanted), where
            for name in wanted:
                same(found[name], wanted[name], f"{where}.{name}")
        case list() | tuple():
            assert len(found) == len(wanted), where
            for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
                same(one, other, f"{where}[{number}]")
        case np.ndarray() | np.generic():
            assert found.dtype == wanted.dtype, where
            assert found.shape == wanted.shape, where
            assert found.tobytes() == wanted.tobytes(), where
        case _:
            assert found == wanted, where


@settings(max_examples=40, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_a_batch_taken_apart_is_what_went_in(samples, with_like, padded):
    """Any mixture of absent, ragged and nested values comes back bit for bit."""
    pad = {"lightcurve": (4, 8), "image": (), "spaxels.flux": (8,)} if padded else None
    batch = collate(samples, pad=pad, like=LIKE if with_like else None)
    back = uncollate(batch, LIKE)
    same(back, samples)


@settings(max_examples=40, deadline=None)
@given(st.lists(SAMPLES, min_size=1, max_size=4), st.integers(0, 2**32))
def test_what_is_dropped_is_as_if_it_had_not_been_there(samples, seed):
    """Dropping from a batch gives the batch of samples that lack what was dropped."""
    pad = {"cutout": (3,), "lightcurve": (4,), "image": (3,), "spaxels": (3,), "spaxels.flux": (3,)}
    chances = {"cutout": 0.4, "lightcurve": 0.7, "image": 0.6, "spaxels": 0.5}
    batch = collate(samples, pad=pad, like=LIKE)
    dropped = drop_modalities(batch, chances, seed)
    left = [
        {
            name: None if name in chances and not dropped["present"][name][row] else value
            for name, value in sample.items()
        }
        for row, sample in enumerate(samples)
    ]
    same(uncollate(dropped, LIKE), left)
    wanted = collate(left, pad=pad, like=LIKE)
    for name in chances:
        same(dropped[name], wanted[name])
    for row, sample in enumerate(samples):
        had = any(sample[name] is not None for name in chances)
        assert had == any(dropped["present"][name][row] for name in chances)


@pytest.mark.parametrize("name", ["ra", "stamp"])
def test_absent_values_are_not_nan(name):
    """A batch in which one object lacks a float has no NaN."""
    batch = collate([{name: LIKE[name]}, {name: None}])
    assert np.isfinite(batch[name]).all()
    assert batch["present"][name].tolist() == [True, False]
