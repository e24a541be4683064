"""Figures of a match: separations and what chance adds to them, completeness, the sky."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.match.chance import MatchSummary
from astropile.plot.figures import _figure, _style, save_figure
from astropile.plot.panels import BLUE, GREY, ORANGE

_ALL_SKY_DEG = 60.0
"""A field wider than this is drawn on a map of the whole sky."""

_MOST_POINTS = 20_000


Sky = tuple[ArrayLike, ArrayLike, ArrayLike]
"""``ra``, ``dec`` [deg, ICRS] of the left rows, and whether each is matched."""


class MatchPanels(NamedTuple):
    """What is drawn of one match."""

    summary: MatchSummary
    """What `summarize_match` gave."""

    sky: Sky | None = None
    """Where the left rows are."""

    names: tuple[str, str] = ("left", "right")
    """What the two sides are called."""


def draw_match(
    summary: MatchSummary, sky: Sky | None = None, names: tuple[str, str] = ("left", "right")
) -> Any:
    """
    Draw what a match found: separations, completeness, and where the matched rows are.

    Parameters
    ----------
    summary : MatchSummary
        What `summarize_match` gave.
    sky : tuple of array_like, optional
        ``ra``, ``dec`` [deg, ICRS] of the left rows, and whether each is matched.
    names : tuple of str
        What the two sides are called.

    Returns
    -------
    matplotlib.figure.Figure
        Two panels, or three with `sky`.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    return draw_summaries([MatchPanels(summary, sky, names)])


def draw_summaries(matches: Sequence[MatchPanels]) -> Any:
    """
    Draw several matches below each other, as `draw_match` does one.

    Parameters
    ----------
    matches : sequence of MatchPanels
        The matches, at least one.

    Returns
    -------
    matplotlib.figure.Figure
        A row of panels for each.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    with _style():
        most = max(2 if match.sky is None else 3 for match in matches)
        figure = _figure(3.7 * most, 3.5 * len(matches))
        for frame, match in zip(
            figure.subfigures(len(matches), 1, squeeze=False)[:, 0], matches, strict=True
        ):
            _draw_row(frame, match)
    return figure


def _draw_row(frame: Any, match: MatchPanels) -> None:
    summary, sky, names = match
    n_panels = 2 if sky is None else 3
    frame.suptitle(f"{names[0]} with {names[1]}\n{summary}", fontsize=8.5)
    _draw_separations(frame.add_subplot(1, n_panels, 1), summary)
    _draw_completeness(frame.add_subplot(1, n_panels, 2), summary)
    if sky is not None:
        ra, dec = (np.asarray(one, dtype=np.float64) for one in sky[:2])
        _draw_sky(frame, n_panels, ra, dec, np.asarray(sky[2], dtype=bool), names[0])


def save_match_figure(path: Path, *matches: MatchPanels) -> None:
    """
    Write the figure of matches as PNG; the name exists only once the file is whole.

    Parameters
    ----------
    path : Path
        The file.
    *matches : MatchPanels
        What is drawn, a row of panels for each.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    OSError
        If it cannot be written.
    """
    save_figure(draw_summaries(matches), path)


def _draw_separations(axes: Any, summary: MatchSummary) -> None:
    edges = np.asarray(summary.edges_arcsec)
    axes.stairs(summary.counts, edges, fill=True, color=BLUE, alpha=0.85, label="pairs")
    axes.stairs(summary.counts_false, edges, color=ORANGE, lw=1.2, label="expected by chance")
    axes.set_xlabel("separation [arcsec]")
    axes.set_ylabel("pairs")
    axes.set_xlim(0, max(summary.radius_arcsec, 1e-6))
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def _draw_completeness(axes: Any, summary: MatchSummary) -> None:
    radii = np.asarray(summary.edges_arcsec)
    complete = np.concatenate([[0.0], summary.completeness])
    axes.plot(radii, complete, color=BLUE, label="counterpart within the radius")
    raw = complete
    if summary.n_left and summary.find != "all":
        raw = np.concatenate([[0.0], np.cumsum(summary.counts) / summary.n_left])
        axes.plot(radii, raw, color=GREY, lw=0.9, ls="--", label="matched, chance included")
    axes.set_xlim(0, max(summary.radius_arcsec, 1e-6))
    most = float(max(complete.max(), raw.max()))
    axes.set_ylim(0, 1.02 if most > 0.5 else max(1.25 * most, 1e-3))
    axes.set_xlabel("radius [arcsec]")
    axes.set_ylabel("share with a counterpart")
    axes.legend(loc="lower right")


def _draw_sky(
    figure: Any,
    n_panels: int,
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    matched: NDArray[np.bool_],
    name: str,
) -> None:
    good = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    if len(good) > _MOST_POINTS:
        good = np.sort(np.random.default_rng(0).choice(good, _MOST_POINTS, replace=False))
    ra, dec, matched = ra[good], dec[good], matched[good]
    # About the middle of the field, so that one astride ra 0 is whole.
    vector = np.exp(1j * np.radians(ra)).sum() if len(ra) else 1.0
    middle = float(np.degrees(np.angle(vector)))
    away = (ra - middle + 180.0) % 360.0 - 180.0
    wide = bool(len(ra)) and (np.ptp(away) > _ALL_SKY_DEG or np.ptp(dec) > _ALL_SKY_DEG)
    axes = figure.add_subplot(1, n_panels, n_panels, projection="mollweide" if wide else None)
    kinds = ((~matched, GREY, "not matched"), (matched, BLUE, "matched"))
    for some, colour, label in kinds:
        if wide:
            # East to the left, ra 180 in the middle.
            x = -np.radians((ra[some] - 180.0 + 180.0) % 360.0 - 180.0)
            y = np.radians(dec[some])
        else:
            x, y = middle + away[some], dec[some]
        axes.scatter(x, y, s=3, color=colour, linewidths=0, label=f"{label} ({some.sum()})")
    if wide:
        meridians = range(-120, 121, 60)
        axes.set_xticks(
            np.radians(meridians), [f"{(180 - degrees) % 360}°" for degrees in meridians]
        )
        axes.grid(lw=0.3)
    else:
        axes.invert_xaxis()
        centre = float(np.mean(dec)) if len(dec) else 0.0
        squeeze = max(0.01, float(np.cos(np.radians(centre))))
        axes.set_aspect(1 / squeeze, adjustable="datalim")
        axes.ticklabel_format(useOffset=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value % 360:g}")
        axes.set_xlabel("right ascension, ICRS [deg]")
        axes.set_ylabel("declination, ICRS [deg]")
    axes.set_title(name)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, markerscale=3)
