"""Statistics of parts, in any order, are those of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from astropile.statistics import QuantileSketch, Statistic

VALUES = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
    st.integers(0, 60),
    elements={"min_value": 0, "max_value": 100},
) | hnp.arrays(
    np.float64,
    st.integers(1, 60),
    elements=st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]),
)


@st.composite
def divided(draw):
    """Values with masks and weights, and how they come in parts, in which order."""
    values = draw(VALUES)
    n = len(values)
    masked = draw(hnp.arrays(bool, n))
    weights = draw(
        st.none()
        | hnp.arrays(
            np.float64, n, elements=st.sampled_from([0.0, -1.0, np.nan]) | st.floats(0.1, 10)
        )
    )
    cuts = sorted(draw(st.lists(st.integers(0, n), max_size=5)))
    order = draw(st.permutations(range(len(cuts) + 1)))
    return values, masked, weights, cuts, order


def merged(parts, shape):
    """Merge parts one after another, or in pairs as a tree."""
    parts = list(parts)
    while len(parts) > 1:
        if shape == "chain":
            parts[:2] = [parts[0].merge(parts[1])]
        else:
            pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
            parts = [pair[0].merge(pair[1]) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


@settings(max_examples=100, deadline=None)
@given(divided(), st.sampled_from(["chain", "tree"]))
def test_any_split_and_order_gives_what_numpy_gives(case, shape):
    """Counts and extremes exactly, moments to 1e-12, quantiles exactly while all values fit."""
    values, masked, weights, cuts, order = case
    pieces = [np.split(x, cuts) if x is not None else None for x in (values, masked, weights)]
    parts = [
        Statistic.of(
            pieces[0][k],
            masked=pieces[1][k],
            weights=None if weights is None else pieces[2][k],
            k=128,
            seed=k,
        )
        for k in order
    ]
    found = merged(parts, shape)
    is_there = np.isfinite(values)
    good = is_there & ~masked
    if weights is not None:
        good &= weights > 0
    used = values[good]
    assert found.n_values == len(values)
    assert found.n_missing == (~is_there).sum()
    assert found.n_masked == (is_there & ~good).sum()
    assert found.count == good.sum()
    if not len(used):
        assert found.minimum is None
        assert np.isnan([found.mean, found.std, found.quantile(0.5)]).all()
        return
    assert (found.minimum, found.maximum) == (used.min(), used.max())
    x = used.astype(np.float64)
    scale = np.abs(x).max()
    assert found.mean == pytest.approx(x.mean(), rel=1e-12, abs=1e-12 * scale)
    assert found.moments.variance == pytest.approx(x.var(), rel=1e-12, abs=1e-12 * scale**2)
    if weights is not None:
        w = weights[good]
        mean = np.average(x, weights=w)
        variance = np.average((x - mean) ** 2, weights=w)
        assert found.weighted.weight == pytest.approx(w.sum(), rel=1e-12)
        assert found.weighted.mean == pytest.approx(mean, rel=1e-12, abs=1e-12 * scale)
        assert found.weighted.variance == pytest.approx(variance, rel=1e-12, abs=1e-12 * scale**2)
    shares = np.arange(17) / 16
    np.testing.assert_array_equal(
        found.quantile(shares), np.quantile(x, shares, method="inverted_cdf")
    )


def rank_errors(sketch, values):
    """How far the ranks of quantiles are off, as shares."""
    values = np.sort(values)
    shares = np.linspace(0.001, 0.999, 999)
    found = sketch.quantile(shares)
    low = np.searchsorted(values, found, side="left") / len(values)
    high = np.searchsorted(values, found, side="right") / len(values)
    return np.maximum(np.maximum(low - shares, shares - high), 0)


@pytest.mark.parametrize("kind", ["normal", "sorted", "reversed", "few", "heavy"])
@pytest.mark.parametrize("n_parts", [1, 7, 200])
def test_quantiles_are_within_the_stated_error(kind, n_parts):
    """Whatever the order of values and the sizes of parts, in a bounded number of values kept."""
    rng = np.random.default_rng(n_parts)
    values = {
        "normal": lambda: rng.normal(size=100_000),
        "sorted": lambda: np.arange(100_000.0),
        "reversed": lambda: np.arange(100_000.0)[::-1],
        "few": lambda: rng.integers(0, 5, 100_000).astype(float),
        "heavy": lambda: rng.standard_cauchy(100_000),
    }[kind]()
    cuts = np.sort(rng.integers(0, len(values), n_parts - 1))
    parts = []
    for number, piece in enumerate(np.split(values, cuts)):
        sketch = QuantileSketch(256, seed=number)
        for block in np.array_split(piece, 3):
            sketch.update(block)
        parts.append(sketch)
    for shape in ("chain", "tree"):
        found = merged(parts, shape)
        assert found.n == len(values)
        assert found.n_kept <= 3 * 256 + 8 * 20
        assert 0 < found.rank_error < 0.025
        # 999 quantiles share few independent errors; three sigma hold for nearly all of them.
        assert np.quantile(rank_errors(found, values), 0.99) <= found.rank_error


def test_the_stated_error_is_that_of_the_coins():
    """Over many seeds the root mean square error of the median is what a third of it promises."""
    values = np.random.default_rng(0).permutation(20_000).astype(float)
    off, stated = [], []
    for seed in range(60):
        sketch = QuantileSketch(64, seed=seed)
        for block in np.array_split(values, 40):
            sketch.update(block)
        off.append(sketch.quantile(0.5).item() / len(values) - 0.5)
        stated.append(sketch.rank_error / 3)
    assert 0.2 * np.mean(stated) < np.std(off) < 1.3 * np.mean(stated)
    assert abs(np.mean(off)) < 4 * np.mean(stated) / np.sqrt(60)


def test_a_mean_far_from_zero_loses_nothing():
    """Times in days of a part in 1e12 of their size keep their scatter to 1e-6 over 500 parts."""
    rng = np.random.default_rng(3)
    values = 6e4 + 1e-6 * rng.normal(size=50_000)
    found = merged([Statistic.of(part) for part in np.array_split(values, 500)], "chain")
    exact = np.sqrt(np.mean((values - 6e4 - np.mean(values - 6e4)) ** 2))
    assert found.std == pytest.approx(exact, rel=1e-6)
