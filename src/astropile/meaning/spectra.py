"""Wavelength grids and line spread, of spectra and cubes: rules G1 to G8."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.meaning.records import Entry
from astropile.meaning.tally import Tally
from astropile.meaning.units import factor_to

JITTER: Final = 0.01
"""Rule G4: the steps of a grid may jitter by so much of a step."""


def check_grid(entry: Entry, row: int, tally: Tally) -> None:
    """
    Check the wavelengths and the line spread of one object.

    Parameters
    ----------
    entry : Entry
        A spectrum or cube.
    row : int
        Row of the object in its file.
    tally : Tally
        Takes what is found.
    """
    wave = entry.get("lambda")
    if wave is None or not wave.size or wave.dtype.kind != "f":
        return
    of, name = entry.records.name, f"{entry.records.name}.lambda"
    said = _order(wave)
    tally.object("G1", name, said, said, row)
    scale = factor_to(entry.records.typed("lambda").unit, "Angstrom")
    if said or scale is None:
        return
    low, high = float(wave.min()) * scale, float(wave.max()) * scale
    span = f"wavelengths from {low:.6g} to {high:.6g} Angstrom"
    tally.object("G2", name, not 1 <= low <= high <= 1e8, span, row)
    # Shorter than 912 Angstrom there is hardly light from afar.
    tally.object("G3", name, high < 1500, f"{span}: are they nm or um?", row)
    jitter = grid_jitter(wave)
    message = f"the steps of the grid jitter by {jitter:.1%} of a step"
    tally.object("G4", name, jitter > JITTER, message, row)
    sigma = entry.get("lsf_sigma")
    if sigma is None or not sigma.size:
        return
    known = np.isfinite(sigma) & (sigma > 0)
    tally.number("sigma", f"{of}.lsf_sigma", _extent(sigma[known]))
    unit = factor_to(entry.records.typed("lsf_sigma").unit, "Angstrom")
    if known.any() and unit is not None:
        power = np.broadcast_to(wave * scale, sigma.shape)[known] / (
            2.354820045 * sigma[known] * unit
        )
        middle = float(np.median(power))
        message = f"a median resolving power of {middle:.3g}"
        tally.object("G8", f"{of}.lsf_sigma", not 5 <= middle <= 1e6, message, row)


def _order(wave: NDArray[Any]) -> str:
    if not np.isfinite(wave).all():
        return f"{np.count_nonzero(~np.isfinite(wave))} wavelengths are no number"
    if not (wave > 0).all():
        return f"{np.count_nonzero(wave <= 0)} wavelengths are not above 0, as {wave.min():.6g}"
    falls = np.diff(wave, axis=-1) <= 0
    if falls.any():
        at = int(np.argmax(falls.reshape(-1, falls.shape[-1]).any(axis=0)))
        return f"wavelengths do not increase after pixel {at}"
    return ""


def _extent(values: NDArray[Any]) -> tuple[float, float]:
    if not values.size:
        return np.nan, np.nan
    return float(values.min()), float(values.max())


def grid_jitter(wave: NDArray[Any]) -> float:
    """
    Measure how uneven the steps of a grid are from one to the next.

    Parameters
    ----------
    wave : ndarray, shape (..., n)
        Increasing wavelengths.

    Returns
    -------
    float
        Median of the steps' third difference, in steps; 0 for fewer than 16 wavelengths. A grid
        that is uniform in any smooth function of wavelength has none but that of rounding.
    """
    line = np.asarray(wave, np.float64).reshape(-1, wave.shape[-1])[0]
    if line.size < 16:
        return 0.0
    steps = np.diff(line)
    # A gap between arms is one step among many: the median does not see it.
    return float(np.median(np.abs(np.diff(steps, 2))) / np.median(steps) / 2)


def judge_grids(tally: Tally) -> None:
    """
    Judge the line spread of all objects together.

    Parameters
    ----------
    tally : Tally
        Has the numbers, takes what is found.
    """
    for name, values in tally.each("sigma"):
        known = values[np.isfinite(values[:, 0])]
        if len(known) > 1:
            low, high = known[:, 0].min(), known[:, 1].max()
            message = f"it is {low:.6g} at every pixel of {len(known)} objects"
            tally.whole("G6", name, low == high, message)
