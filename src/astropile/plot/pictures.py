"""Panels that show images: bands, colours, the maps of a cube."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.plot.panels import Panel
from astropile.plot.stretch import asinh_grey, asinh_rgb, band_of, colour_bands, white_weights
from astropile.plot.words import Example, Side, number_of, plain, pretty_unit, unit_of

_MASK_TINT: Final = (0.84, 0.37, 0.0, 0.45)

# --------------------------------------------------------------------------------------
# Images


def images_of(example: Example) -> list[Mapping[str, Any]]:
    """
    List the images of an object.

    Parameters
    ----------
    example : mapping
        The object.

    Returns
    -------
    list of mapping
        One record per band.
    """
    return [band for band in example.get("image") or () if _is_picture(band.get("array"))]


def _is_picture(values: Any) -> bool:
    return values is not None and np.ndim(values) == 2 and np.size(values) > 0


def image_reach(example: Example) -> float:
    """
    Measure an object's image.

    Parameters
    ----------
    example : mapping
        The object, with an image.

    Returns
    -------
    float
        Half its shorter side [arcsec].
    """
    band = images_of(example)[0]
    return float(min(np.shape(band["array"])) * _pixel_size(band) / 2)


def image_panels(side: Side) -> list[Panel]:
    """
    Show the colours and every band of an object.

    Parameters
    ----------
    side : Side
        The object.

    Returns
    -------
    list of Panel
        At most seven; none where there is no image.
    """
    bands = images_of(side.example)
    colour = _colour_panel(side, 0.0, "")
    return ([colour] if colour else []) + [_band_panel(band, 0.0, "") for band in bands[:6]]


def portrait(side: Side, reach: float) -> Panel | None:
    """
    Show an object's image in one panel: its colours, or its one band.

    Parameters
    ----------
    side : Side
        The object.
    reach : float
        How far to show from the centre [arcsec].

    Returns
    -------
    Panel or None
        None where there is no image.
    """
    bands = images_of(side.example)
    if not bands:
        return None
    title = side.label + "\n"
    return _colour_panel(side, reach, title) or _band_panel(bands[0], reach, title)


def _colour_panel(side: Side, reach: float, title: str) -> Panel | None:
    bands = images_of(side.example)
    chosen = colour_bands([band.get("filter", "") for band in bands])
    if chosen is None or len({np.shape(bands[k]["array"]) for k in chosen}) > 1:
        return None
    three = [bands[k] for k in chosen]

    def draw(axes: Any) -> None:
        red, green, blue = (_inside(band) for band in three)
        weights = white_weights([band.get("filter", "") for band in three])
        show(axes, asinh_rgb(red, green, blue, weights=weights), _pixel_size(three[1]), reach)
        filters = " ".join(band_of(band.get("filter", "")) for band in three)
        axes.set_title(f"{title}{plain(filters)}, asinh")
        _scale_bar(axes)

    return Panel(2.2, draw)


def _band_panel(band: Mapping[str, Any], reach: float, title: str) -> Panel:
    def draw(axes: Any) -> None:
        size = _pixel_size(band)
        values = _inside(band)
        show(axes, asinh_grey(values), size, reach, cmap="gray", vmin=0, vmax=1)
        mask = band.get("mask")
        if mask is not None and np.shape(mask) == values.shape and np.any(mask):
            tint = np.zeros((*values.shape, 4))
            tint[np.asarray(mask, bool)] = _MASK_TINT
            show(axes, tint, size, reach)
        facts = [plain(band.get("filter", ""))]
        seeing = number_of(band.get("psf_fwhm"))
        if seeing is not None and seeing > 0:
            facts.append(f"PSF {seeing:.2f}″")
        axes.set_title(title + ", ".join(facts))

    return Panel(2.2, draw)


def _inside(band: Mapping[str, Any]) -> NDArray[Any]:
    """Give a band's pixels, not a number where the survey has none: 0 and masked."""
    values, mask = np.array(band["array"], np.float64), band.get("mask")
    if mask is not None and np.shape(mask) == values.shape:
        values[(values == 0) & np.asarray(mask, bool)] = np.nan
    return values


def _pixel_size(band: Mapping[str, Any]) -> float:
    size = number_of(band.get("pixel_size"))
    return size if size is not None and size > 0 else 1.0


def show(
    axes: Any, picture: NDArray[Any], pixel_size: float, reach: float = 0.0, **how: Any
) -> Any:
    """
    Show an image with its centre at 0 and row 0 at the bottom.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
        Where.
    picture : ndarray, shape (rows, columns) or (rows, columns, 3 or 4)
        What.
    pixel_size : float
        Side of a pixel [arcsec].
    reach : float
        How far to show from the centre [arcsec]; 0 for all.
    **how : object
        For `imshow`.

    Returns
    -------
    matplotlib.image.AxesImage
        What was drawn.
    """
    rows, columns = picture.shape[:2]
    x, y = columns * pixel_size / 2, rows * pixel_size / 2
    how = {"origin": "lower", "extent": (-x, x, -y, y), "interpolation": "nearest", **how}
    shown = axes.imshow(picture, **how)
    if reach > 0:
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach))
    axes.set_facecolor("#dddddd")
    axes.locator_params(nbins=4)
    axes.set_xlabel("columns [arcsec]")
    axes.set_ylabel("rows [arcsec]")
    return shown


def _scale_bar(axes: Any) -> None:
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    length = next((n for n in (60, 30, 10, 5, 2, 1, 0.5) if n < 0.35 * (high - low)), 0.2)
    left, y = low + 0.07 * (high - low), bottom + 0.07 * (top - bottom)
    axes.plot([left, left + length], [y, y], color="white", lw=1.6, solid_capstyle="butt")
    axes.annotate(
        f"{length:g}″",
        (left + length / 2, y),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color="white",
        fontsize=7,
    )


# --------------------------------------------------------------------------------------
# Maps of a cube


@dataclass(frozen=True)
class CubeMap:
    """
    One map of a cube.

    Parameters
    ----------
    label : str
        What it shows.
    values : ndarray, shape (rows, columns), float64
        NaN where there is nothing.
    unit : str
        Unit of the values.
    """

    label: str
    values: NDArray[np.float64]
    unit: str

    @property
    def is_velocity(self) -> bool:
        """Whether zero is the middle."""
        return "vel" in self.label.lower()


_KEYS: Final[tuple[tuple[str, ...], ...]] = (
    ("mflux",),
    ("gflux", "sflux"),
    ("gvel",),
    ("stellar_vel",),
)
"""Parts of the labels of the maps worth a look."""


def maps_of(side: Side) -> list[CubeMap]:
    """
    Choose the maps of a cube that tell most.

    Parameters
    ----------
    side : Side
        The object.

    Returns
    -------
    list of CubeMap
        White light first, from the spaxels where there are any; then the H-alpha line's flux
        and velocity, and the stars' velocity, those that there are.
    """
    entries = {
        plain(entry.get("label", "")): entry
        for entry in side.example.get("images") or ()
        if _is_picture(entry.get("data"))
    }
    chosen: list[CubeMap] = []
    keys = _KEYS
    if side.example.get("spaxels"):
        unit = unit_of(side.survey, "spaxels", "flux")
        chosen.append(CubeMap("white light", _white_light(side.example), unit))
        keys = keys[1:]
    for wanted in keys:
        labels = [label for key in wanted for label in entries if key in label.lower()]
        halpha = [label for label in labels if "_ha" in label.lower() or "6564" in label]
        for label in (halpha or labels)[:1]:
            values = np.array(entries[label]["data"], float)
            mask = entries[label].get("mask")
            if mask is not None and np.shape(mask) == values.shape:
                values[np.asarray(mask, bool)] = np.nan
            if np.isfinite(values).any():
                chosen.append(CubeMap(label, values, str(entries[label].get("units") or "")))
    return chosen


def good_pixels(spectrum: Mapping[str, Any]) -> NDArray[np.bool_]:
    """
    Tell which pixels of a spectrum hold a measurement.

    Parameters
    ----------
    spectrum : mapping
        A record with ``flux`` and, where known, ``mask`` and ``ivar``.

    Returns
    -------
    ndarray, shape (n_wave,), bool
        True where the flux is finite, not masked, and its inverse variance is above 0.
    """
    flux = np.asarray(spectrum["flux"], float)
    good = np.isfinite(flux)
    mask, ivar = spectrum.get("mask"), spectrum.get("ivar")
    if mask is not None and np.shape(mask) == flux.shape:
        good &= np.asarray(mask) == 0
    if ivar is not None and np.shape(ivar) == flux.shape:
        good &= np.asarray(ivar) > 0
    return np.asarray(good)


def _white_light(example: Example) -> NDArray[np.float64]:
    """Mean over the good pixels of each spaxel."""
    spaxels = example["spaxels"]
    pictures = [
        entry["data"] for entry in example.get("images") or () if _is_picture(entry["data"])
    ]
    if pictures:
        rows, columns = np.shape(pictures[0])
    else:
        rows, columns = (1 + max(int(spaxel[axis]) for spaxel in spaxels) for axis in "xy")
    white = np.full((rows, columns), np.nan)
    for spaxel in spaxels:
        good = good_pixels(spaxel)
        if good.any():
            row, column = int(spaxel["x"]), int(spaxel["y"])
            white[row, column] = np.mean(np.asarray(spaxel["flux"], float)[good])
    return white


def brightest_spaxel(spaxels: Sequence[Mapping[str, Any]]) -> int:
    """
    Find the spaxel with the most light.

    Parameters
    ----------
    spaxels : sequence of mapping
        The spaxels of a cube.

    Returns
    -------
    int
        Which one has the highest median flux among its good pixels.
    """
    best, most = 0, -math.inf
    for number, spaxel in enumerate(spaxels):
        good = good_pixels(spaxel)
        if good.any():
            level = float(np.median(np.asarray(spaxel["flux"], float)[good]))
            if level > most:
                best, most = number, level
    return best


def map_panel(side: Side, chosen: CubeMap, *, with_survey: bool = False) -> Panel:
    """
    Show one map, with the brightest spaxel marked.

    Parameters
    ----------
    side : Side
        The object.
    chosen : CubeMap
        The map.
    with_survey : bool
        Name the survey too.

    Returns
    -------
    Panel
        The map and its colour bar.
    """
    size = number_of(side.example.get("spaxel_size")) or 1.0
    colours = "RdBu_r" if chosen.is_velocity else "viridis"
    title = f"{side.label}\n{chosen.label}" if with_survey else chosen.label

    def draw(axes: Any) -> None:
        finite = chosen.values[np.isfinite(chosen.values)]
        low, high = np.percentile(finite, (2, 99.5)) if len(finite) else (0.0, 1.0)
        if chosen.is_velocity:
            high = max(abs(low), abs(high)) or 1.0
            low = -high
        shown = show(axes, chosen.values, size, cmap=colours, vmin=low, vmax=high)
        bar = axes.figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.03)
        bar.ax.tick_params(labelsize=6.5)
        bar.set_label(pretty_unit(chosen.unit), fontsize=7)
        axes.set_title(title)
        if spaxels := side.example.get("spaxels"):
            spaxel = spaxels[brightest_spaxel(spaxels)]
            rows, columns = chosen.values.shape
            x = (int(spaxel["y"]) - columns / 2 + 0.5) * size
            y = (int(spaxel["x"]) - rows / 2 + 0.5) * size
            axes.plot(x, y, "+", color="red" if colours == "viridis" else "black", ms=7, mew=1.2)

    return Panel(2.9, draw)
