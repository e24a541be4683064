"""Cutouts: point spread, pixels, filters, extinction: rules I1 to I6."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.meaning.records import Entry
from astropile.meaning.tally import Tally
from astropile.meaning.units import factor_to

RED_ORDER: Final = "ugrizy"
"""Broad bands from blue to red, by the last letter of a filter's name."""


def check_image(entry: Entry, row: int, tally: Tally) -> None:
    """
    Check what is said of the images of one object.

    Parameters
    ----------
    entry : Entry
        A list of images, or one image.
    row : int
        Row of the object in its file.
    tally : Tally
        Takes what is found.
    """
    of = entry.records.name
    pixel = _arcsec(entry, "pixel_size")
    width = _arcsec(entry, "psf_fwhm")
    if pixel is not None:
        wrong = ~((pixel >= 1e-3) & (pixel <= 600))
        message = f"pixels of {_first(pixel, wrong)} arcsec"
        tally.object("I2", f"{of}.pixel_size", wrong.any(), message, row)
        pixel = None if wrong.any() else pixel
    if width is not None:
        wrong = ~np.isnan(width) & ~((width >= 1e-3) & (width <= 600))
        message = f"a point spread of {_first(width, wrong)} arcsec"
        tally.object("I1", f"{of}.psf_fwhm", wrong.any(), message, row)
        if pixel is not None and not wrong.any():
            _check_sampling(width, pixel, of, row, tally)
    names = _names(entry)
    if names is None:
        return
    tally.object("I4", f"{of}.filter", "" in names, f"filters {names}, one without a name", row)
    if len(names) > 1:
        tally.number("filters", f"{of}.filter", ",".join(names))
    _check_extinction(entry, names, row, tally)


def _arcsec(entry: Entry, name: str) -> NDArray[Any] | None:
    values = entry.get(name)
    if values is None or values.dtype.kind != "f" or not values.size:
        return None
    factor = factor_to(entry.records.typed(name).unit, "arcsec")
    return None if factor is None else np.atleast_1d(values).astype(np.float64) * factor


def _first(values: NDArray[Any], wrong: NDArray[np.bool_]) -> str:
    return f"{values[wrong][0]:.4g}" if wrong.any() else ""


def _check_sampling(
    width: NDArray[Any], pixel: NDArray[Any], of: str, row: int, tally: Tally
) -> None:
    with np.errstate(all="ignore"):
        n_pixels = width / pixel
    wrong = ~np.isnan(n_pixels) & ~((n_pixels >= 0.3) & (n_pixels <= 50))
    message = f"a point spread of {_first(n_pixels, wrong)} pixels"
    tally.object("I3", f"{of}.psf_fwhm", wrong.any(), message, row)


def _names(entry: Entry) -> list[str] | None:
    values = entry.get("filter")
    if values is None or values.dtype.kind != "S" or not values.size:
        return None
    return [name.decode("utf-8", "replace").strip() for name in np.atleast_1d(values).tolist()]


def _check_extinction(entry: Entry, names: list[str], row: int, tally: Tally) -> None:
    values = entry.get("extinction")
    if values is None or values.dtype.kind != "f" or values.shape != (len(names),):
        return
    name = f"{entry.records.name}.extinction"
    known = np.isfinite(values)
    wrong = known & ~((values >= -0.5) & (values <= 100))
    tally.object("B2", name, wrong.any(), f"an extinction of {_first(values, wrong)} mag", row)
    places = [RED_ORDER.find(band[-1:].lower()) for band in names]
    if -1 in places or len(set(places)) < 3 or not known.all() or wrong.any():
        return
    in_order = values[np.argsort(places, kind="stable")]
    message = f"extinction {', '.join(f'{v:.3g}' for v in values)} in {', '.join(names)}"
    tally.object("I6", name, in_order[-1] > in_order[0] + 1e-3, message, row)


def judge_images(tally: Tally) -> None:
    """
    Judge the filters of all objects together.

    Parameters
    ----------
    tally : Tally
        Has the numbers, takes what is found.
    """
    for name, values in tally.each("filters"):
        orders = sorted(set(values.tolist()))
        clash = _clash([order.split(",") for order in orders])
        tally.whole("I5", name, clash, clash)


def _clash(orders: list[list[str]]) -> str:
    """Find two filters that come in one order here and in the other there."""
    before: set[tuple[str, str]] = set()
    for order in orders:
        pairs = {
            (one, two)
            for place, one in enumerate(order)
            for two in order[place + 1 :]
            if one != two
        }
        for one, two in sorted(pairs):
            if (two, one) in before:
                return f"{one} comes before {two} in some objects, after it in others"
        # A filter that comes twice in one object has no place in the order.
        before |= {pair for pair in pairs if pair[::-1] not in pairs}
    return ""
