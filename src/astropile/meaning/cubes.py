"""Cubes: places of the spaxels, against the images made of them: rules C1 to C3."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.meaning.records import Entry
from astropile.meaning.tally import Tally


def check_cube(entry: Entry, images: list[Entry], row: int, tally: Tally) -> None:
    """
    Check the places of the spaxels of one object.

    Parameters
    ----------
    entry : Entry
        The list of spaxels.
    images : list of Entry
        The object's other records of images.
    row : int
        Row of the object in its file.
    tally : Tally
        Takes what is found.
    """
    name = entry.records.name
    x, y, flux = entry.get("x"), entry.get("y"), entry.get("flux")
    if x is None or y is None or flux is None or not x.size:
        return
    pictures = list(_pictures(images))
    shapes = {picture.shape for picture in pictures}
    said = _places(x, y, shapes)
    tally.object("C1", f"{name}.x", said, said, row)
    ivar = entry.like("ivar", flux)
    measured = np.isfinite(flux) & (flux != 0)
    if ivar is not None:
        measured &= ivar > 0
    empty = float(np.mean(~measured.any(axis=-1)))
    message = f"{empty:.0%} of its {len(x)} spaxels have no data: is the cube padded?"
    tally.object("C3", name, empty > 0.5, message, row)
    if not said and tally.wants("C2"):
        _check_axes(x, y, np.where(measured, flux, 0).mean(axis=-1), pictures, name, row, tally)


def _pictures(images: list[Entry]) -> list[NDArray[Any]]:
    """Give the reconstructed images: those of bands."""
    found: list[NDArray[Any]] = []
    for entry in images:
        if "filter" in entry and (data := entry.get(entry.records.value_field)) is not None:
            found.extend(data if data.ndim == 3 else ())
    return [picture for picture in found if picture.size and np.isfinite(picture).any()]


def _places(x: NDArray[Any], y: NDArray[Any], shapes: set[tuple[int, ...]]) -> str:
    if x.min() < 0 or y.min() < 0:
        return f"places from x {x.min()}, y {y.min()} on"
    pairs = np.unique(np.stack([x, y], axis=-1).astype(np.int64), axis=0)
    if len(pairs) != len(x):
        return f"{len(x) - len(pairs)} places are of several spaxels"
    for rows, columns in sorted(shapes):
        if x.max() >= rows or y.max() >= columns:
            return f"x to {x.max()}, y to {y.max()} beside images of shape ({rows}, {columns})"
    return ""


def _check_axes(
    x: NDArray[Any],
    y: NDArray[Any],
    light: NDArray[Any],
    pictures: list[NDArray[Any]],
    name: str,
    row: int,
    tally: Tally,
) -> None:
    """Compare the light of the spaxels with the images, as they are and transposed."""
    straight: list[float] = []
    swapped: list[float] = []
    for picture in pictures:
        if max(x.max(), y.max()) < min(picture.shape):
            straight.append(_likeness(light, picture[x, y]))
            swapped.append(_likeness(light, picture[y, x]))
    if not straight:
        return
    best, other = max(straight), max(swapped)
    message = (
        f"the light of the spaxels goes with the images as {other:.2f} where x is the column, as "
        f"{best:.2f} where it is the row"
    )
    tally.object("C2", f"{name}.x", other > 0.9 and other > best + 0.02, message, row)


def _likeness(one: NDArray[Any], two: NDArray[Any]) -> float:
    good = np.isfinite(one) & np.isfinite(two)
    if np.count_nonzero(good) < 9 or not np.ptp(one[good]) or not np.ptp(two[good]):
        return 0.0
    return float(np.corrcoef(one[good], two[good])[0, 1])
