"""Pictures of a match show the numbers of its summary."""

import numpy as np
import pytest

from astropile.match import match_positions, summarize_match
from astropile.plot.match import MatchPanels, draw_match, draw_summaries, save_match_figure

RNG = np.random.default_rng


def _match(spread, n=3000):
    rng = RNG(2)
    ra = (359.9 + rng.uniform(0, spread, n)) % 360
    dec = rng.uniform(-0.4, 0.4, n) * spread
    ra_right = (ra[: n // 2] + rng.normal(0, 0.3, n // 2) / 3600) % 360
    right = np.append(ra_right, ra[n // 2 :] + 0.01), dec
    pairs = match_positions(ra, dec, *right, radius_arcsec=2)
    summary = summarize_match(ra, dec, *right, radius_arcsec=2, pairs=pairs)
    return summary, (ra, dec, np.isin(np.arange(n), pairs.left))


def test_three_panels():
    """Histogram, completeness and sky: the bars are the counts, the curve the completeness."""
    summary, sky = _match(0.2)
    figure = draw_match(summary, sky, ("hsc", "desi"))
    separations, completeness, field = figure.axes
    bars, chance = separations.patches
    assert bars.get_data().values.tolist() == list(summary.counts)
    assert chance.get_data().values.tolist() == list(summary.counts_false)
    assert completeness.lines[0].get_ydata()[1:].tolist() == list(summary.completeness)
    assert figure.subfigs[0].get_suptitle() == f"hsc with desi\n{summary}"
    # The field is astride ra 0 and drawn in one piece.
    drawn = np.concatenate([points.get_offsets()[:, 0] for points in field.collections])
    assert len(drawn) == 3000
    assert np.ptp(drawn) < 0.3


def test_whole_sky():
    """A wide field is drawn on a map of the whole sky."""
    summary, sky = _match(200.0)
    assert draw_match(summary, sky).axes[2].name == "mollweide"


@pytest.mark.parametrize("radius", [0.0, 1.0])
def test_nothing_matched(tmp_path, radius):
    """A match without rows has a figure; it is written whole."""
    summary = summarize_match([], [], [], [], radius_arcsec=radius)
    save_match_figure(tmp_path / "match.png", MatchPanels(summary, ([], [], [])))
    assert (tmp_path / "match.png").read_bytes().startswith(b"\x89PNG")


def test_picture_is_written(tmp_path):
    """The figure of a real-sized match is a PNG of more than an empty frame."""
    save_match_figure(tmp_path / "match.png", MatchPanels(*_match(0.2), ("hsc", "desi")))
    assert (tmp_path / "match.png").stat().st_size > 30_000


def test_a_row_for_each_match():
    """Of several matches each has its row of panels, with its own numbers."""
    two = [MatchPanels(*_match(spread), (name, "desi")) for spread, name in ((0.2, "a"), (1, "b"))]
    figure = draw_summaries(two)
    assert len(figure.axes) == 6
    for frame, match in zip(figure.subfigs, two, strict=True):
        bars = frame.axes[0].patches[0]
        assert bars.get_data().values.tolist() == list(match.summary.counts)
        assert frame.get_suptitle().startswith(f"{match.names[0]} with desi")
