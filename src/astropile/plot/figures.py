"""Figures: one object, matched objects, a field, separations. matplotlib is met here only."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import MissingExtraError
from astropile.plot.curves import (
    light_curve_panel,
    named_spectrum,
    spaxel_panel,
    spectrum_of,
    spectrum_panel,
)
from astropile.plot.panels import BLUE, GREEN, INK, ORANGE, PURPLE, Panel
from astropile.plot.pictures import (
    brightest_spaxel,
    image_panels,
    image_reach,
    images_of,
    map_panel,
    maps_of,
    portrait,
)
from astropile.plot.words import Matched, Side, heading, match_heading
from astropile.publish import publish_bytes

_RC: Final[Any] = {
    "font.size": 8.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.edgecolor": "#666666",
    "axes.linewidth": 0.7,
    "axes.titlepad": 4.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "figure.facecolor": "white",
}

# --------------------------------------------------------------------------------------
# Figures


def draw_object(side: Side) -> Any:
    """
    Draw everything that can be seen of one object.

    Parameters
    ----------
    side : Side
        The object.

    Returns
    -------
    matplotlib.figure.Figure
        A row for the image bands, one for the spectrum, one for the cube, one for the light
        curve: those that the object has.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    ValueError
        If the object has nothing to draw.
    """
    return _draw(_object_rows(side), heading(side))


def has_picture(side: Side) -> bool:
    """
    Tell whether an object has anything that `draw_object` can draw.

    Parameters
    ----------
    side : Side
        The object.

    Returns
    -------
    bool
        True if it has an image, a spectrum, a cube or a light curve.
    """
    return bool(_object_rows(side))


def _object_rows(side: Side) -> list[tuple[float, list[Panel]]]:
    spectrum = spectrum_of(side.example)
    curve = light_curve_panel(side, 9.0)
    rows = [
        (2.4, image_panels(side)),
        (3.1, [spectrum_panel(side, spectrum, 9.0)] if spectrum else []),
        (2.7, _cube_panels(side)),
        (2.4, [curve] if curve else []),
    ]
    return [row for row in rows if row[1]]


def _cube_panels(side: Side) -> list[Panel]:
    spaxels = side.example.get("spaxels")
    panels = [map_panel(side, chosen) for chosen in maps_of(side)[: 3 if spaxels else 4]]
    if spaxels:
        panels.append(spaxel_panel(side, spaxels[brightest_spaxel(spaxels)], 5.2))
    return panels


def draw_matches(matches: Sequence[Matched], title: str = "") -> Any:
    """
    Draw matched objects, one row each, the surveys side by side.

    Parameters
    ----------
    matches : sequence of Matched
        The objects, at least one.
    title : str
        Heading of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        Images side by side cover the same field.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    ValueError
        If there is nothing to draw.
    """
    rows = [(2.8, _match_panels(match)) for match in matches]
    return _draw(rows, title, [match_heading(match) for match in matches])


def _match_panels(match: Matched) -> list[Panel]:
    reach = min(
        (image_reach(side.example) for side in match.sides if images_of(side.example)),
        default=0.0,
    )
    panels: list[Panel | None] = []
    for side in match.sides:
        panels += [portrait(side, reach), named_spectrum(side, 5.4)]
        panels += [map_panel(side, chosen, with_survey=True) for chosen in maps_of(side)[:1]]
        if spaxels := side.example.get("spaxels"):
            panels.append(spaxel_panel(side, spaxels[brightest_spaxel(spaxels)], 4.6))
    return [panel for panel in panels if panel]


def draw_sky(
    positions: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]], title: str = ""
) -> Any:
    """
    Draw where the objects of several surveys are.

    Parameters
    ----------
    positions : mapping of str to (ra, dec)
        Name of each survey and its positions [deg, ICRS]; all in one small field.
    title : str
        Heading of the figure.

    Returns
    -------
    matplotlib.figure.Figure
        East to the left.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    with _style():
        figure = _figure(5.2, 4.6)
        axes = figure.subplots()
        marks = "osD^v"
        colours = (BLUE, ORANGE, GREEN, PURPLE, INK)
        centre = 0.0
        for number, (name, (ra, dec)) in enumerate(positions.items()):
            centre = float(np.mean(dec)) if len(dec) else centre
            axes.scatter(
                ra,
                dec,
                s=18 + 45 * number,
                marker=marks[number % len(marks)],
                facecolors="none",
                edgecolors=colours[number % len(colours)],
                linewidths=1.0,
                label=f"{name} ({len(ra)})",
            )
        axes.set_aspect(1 / max(0.01, math.cos(math.radians(centre))), adjustable="datalim")
        axes.invert_xaxis()
        axes.ticklabel_format(useOffset=False)
        axes.set_xlabel("right ascension, ICRS [deg]")
        axes.set_ylabel("declination, ICRS [deg]")
        axes.set_title(title)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), labelspacing=0.9)
    return figure


def draw_separations(
    names: tuple[str, str],
    offsets_arcsec: tuple[NDArray[np.float64], NDArray[np.float64]],
    separation_arcsec: NDArray[np.float64],
    radius_arcsec: float,
) -> Any:
    """
    Draw how far apart matched positions are.

    Parameters
    ----------
    names : tuple of str
        Left and right survey.
    offsets_arcsec : tuple of ndarray, shape (n,), float64
        Right minus left position, eastward on the sky and northward [arcsec].
    separation_arcsec : ndarray, shape (n,), float64
        Distances [arcsec].
    radius_arcsec : float
        Largest distance accepted [arcsec].

    Returns
    -------
    matplotlib.figure.Figure
        The offsets, and a histogram of the distances.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    with _style():
        from matplotlib.patches import Circle

        figure = _figure(7.4, 3.4)
        plane, histogram = figure.subplots(1, 2)
        east, north = offsets_arcsec
        plane.scatter(east, north, s=14, color=BLUE, alpha=0.8, linewidths=0)
        plane.add_patch(Circle((0, 0), radius_arcsec, fill=False, color=ORANGE, lw=0.9, ls="--"))
        plane.axhline(0, color="#bbbbbb", lw=0.5, zorder=0)
        plane.axvline(0, color="#bbbbbb", lw=0.5, zorder=0)
        reach = 1.08 * radius_arcsec
        plane.set(xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal")
        plane.set_xlabel("Δα cos δ [arcsec]")
        plane.set_ylabel("Δδ [arcsec]")
        plane.set_title(f"{names[1]} minus {names[0]}, {len(separation_arcsec)} pairs")
        bins = np.linspace(0, radius_arcsec, 41)
        histogram.hist(separation_arcsec, bins=bins, color=BLUE, alpha=0.85)
        histogram.axvline(radius_arcsec, color=ORANGE, lw=0.9, ls="--")
        histogram.annotate(
            "radius",
            (radius_arcsec, 0.97),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="top",
            color=ORANGE,
            fontsize=7.5,
        )
        histogram.set_xlabel("separation [arcsec]")
        histogram.set_ylabel("pairs")
        histogram.yaxis.get_major_locator().set_params(integer=True)
        if len(separation_arcsec):
            histogram.set_title(f"median {np.median(separation_arcsec):.3f}″")
    return figure


def save_figure(figure: Any, path: Path, *, dpi: int = 130) -> None:
    """
    Write a figure as PNG; the name exists only once the file is whole.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure.
    path : Path
        The file.
    dpi : int
        Pixels per inch.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi, metadata={"Software": None})
    publish_bytes(path, image.getvalue())


def _style() -> Any:
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("drawing", "plot") from error
    return mpl.rc_context(_RC)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _draw(
    rows: Sequence[tuple[float, Sequence[Panel]]], title: str, headings: Sequence[str] = ()
) -> Any:
    """Draw rows of panels of given heights, each below its heading if it has one."""
    if not rows or not all(panels for _, panels in rows):
        raise ValueError("there is no image, spectrum, cube or light curve to draw")
    with _style():
        heights = [height for height, _ in rows]
        width = max(sum(panel.width for panel in panels) for _, panels in rows)
        figure = _figure(max(5.2, width), sum(heights) + 0.25 * (1 + title.count("\n")))
        if title:
            figure.suptitle(title, fontsize=10, color=INK)
        frames = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for number, (frame, (_, panels)) in enumerate(zip(frames, rows, strict=True)):
            if headings:
                frame.suptitle(headings[number], fontsize=8.5, color=INK)
            widths = [panel.width for panel in panels]
            axes = frame.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
            shared = ""
            for one, panel in zip(axes, panels, strict=True):
                panel.draw(one)
                # Pictures beside one another share their label.
                label = one.get_ylabel()
                if label == shared and one.images:
                    one.set_ylabel("")
                shared = label
    return figure
