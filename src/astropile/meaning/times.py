"""Light curves: times, their zero point, padding, bands: rules E1 to E7."""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.meaning.records import Entry
from astropile.meaning.tally import Tally
from astropile.meaning.units import factor_to

FILLERS: Final = (0.0, -1.0, -9.0, -99.0, -999.0, -9999.0)
"""Times that stand for none."""

FLOAT32_SECONDS: Final = 1.0
"""Rule E2: a time that float32 resolves no better than so many seconds needs float64."""

_ZERO_POINTS: Final = {
    # From 1900 to 2100; the missions' own counts for as long as they may last.
    "MJD": (15000.0, 88100.0),
    "JD": (2415000.0, 2488100.0),
    "BJD": (2415000.0, 2488100.0),
    "HJD": (2415000.0, 2488100.0),
    "BTJD": (1000.0, 20000.0),
    "BKJD": (100.0, 3000.0),
}
"""The range that days of a zero point are in."""


def zero_point_range(time_scale: str) -> tuple[float, float] | None:
    """
    Give the range that times of a stated zero point are in.

    Parameters
    ----------
    time_scale : str
        What the survey states: ``MJD, TDB``; an offset is written ``JD - 2457000``.

    Returns
    -------
    tuple of float or None
        First and last day that can be; None where nothing that is known is stated.

    Examples
    --------
    >>> zero_point_range("MJD (UTC)")
    (15000.0, 88100.0)
    >>> zero_point_range("BJD - 2457000, TDB")
    (-42000.0, 31100.0)
    """
    found = re.match(r"\s*(MJD|BTJD|BKJD|BJD|HJD|JD)\b(?:\s*[-\u2212]\s*([0-9.]+))?", time_scale)
    if found is None:
        return None
    low, high = _ZERO_POINTS[found[1]]
    offset = float(found[2].rstrip(".")) if found[2] else 0.0
    return low - offset, high - offset


def check_times(entry: Entry, row: int, tally: Tally) -> None:
    """
    Check the times and bands of one object's light curve.

    Parameters
    ----------
    entry : Entry
        The light curve, or one for each band.
    row : int
        Row of the object in its file.
    tally : Tally
        Takes what is found.
    """
    records = entry.records
    name = f"{records.name}.time"
    times = entry.get("time")
    if times is None or not times.size or times.dtype.kind not in "fiu":
        return
    values = np.asarray(times, np.float64)
    n_wrong = np.count_nonzero(~np.isfinite(values))
    tally.object("E1", name, n_wrong, f"{n_wrong} of {values.size} times are no number", row)
    padding = _padding(values)
    tally.object("E5", name, padding, padding, row)
    sound = values[np.isfinite(values) & ~np.isin(values, FILLERS)]
    _check_zero_point(sound, entry, name, row, tally)
    scale = factor_to(records.typed("time").unit or "day", "s")
    if times.dtype.kind == "f" and sound.size and scale is not None:
        step = float(np.spacing(np.float32(np.abs(sound).max()))) * scale
        # Times that are a hundred steps apart or more lose nothing that matters.
        rough = step > FLOAT32_SECONDS and (
            times.dtype == np.float32
            or (sound.size >= 8 and bool((sound == sound.astype(np.float32)).all()))
        )
        whole = bool((sound == np.round(sound)).all())
        message = f"times in float32, which are known to {step:.3g} s"
        tally.object("E2", name, rough and not whole, message, row)
    _check_errors(entry, row, tally)
    flux = entry.get(records.value_field) if records.value_field else None
    if records.is_list and flux is not None and flux.ndim >= 2:
        has_data = (np.isfinite(flux) & (flux != 0)).reshape(len(flux), -1).any(axis=1)
        tally.number("bands", f"{records.name}.{records.value_field}", tuple(has_data.tolist()))


def _padding(values: NDArray[Any]) -> str:
    """Look for times that stand for none, and for a last one that is repeated."""
    for line in values.reshape(-1, values.shape[-1]) if values.ndim else ():
        for filler in FILLERS:
            count = int(np.count_nonzero(line == filler))
            if count > 1 or (count == 1 and _is_far(filler, line)):
                return f"{count} of {line.size} times are {filler:g}"
        if line.size > 3 and (line[-3:] == line[-1]).all() and not (line == line[-1]).all():
            return f"the last three of {line.size} times are all {line[-1]:.10g}"
    return ""


def _is_far(filler: float, line: NDArray[Any]) -> bool:
    """Tell whether a time is farther from the others than they are from one another."""
    others = line[np.isfinite(line) & (line != filler)]
    if not others.size:
        return False
    span = max(float(np.ptp(others)), 1.0)
    return not others.min() - span <= filler <= others.max() + span


def _check_zero_point(sound: NDArray[Any], entry: Entry, name: str, row: int, tally: Tally) -> None:
    scale = entry.records.survey.time_scale
    span = zero_point_range(scale)
    days = factor_to(entry.records.typed("time").unit or "day", "day")
    if span is None or days is None or not sound.size:
        return
    low, high = float(sound.min()) * days, float(sound.max()) * days
    message = f"days from {low:.8g} to {high:.8g} are not {scale!r}"
    tally.object("E4", name, low < span[0] or high > span[1], message, row)


def _check_errors(entry: Entry, row: int, tally: Tally) -> None:
    errors = entry.get("flux_err")
    if errors is None or errors.dtype.kind != "f":
        return
    wrong = np.isfinite(errors) & (errors <= 0)
    message = f"{np.count_nonzero(wrong)} of {errors.size} errors are not above 0"
    tally.object("E7", f"{entry.records.name}.flux_err", wrong.any(), message, row)


def judge_times(tally: Tally) -> None:
    """
    Judge the bands of all objects together.

    Parameters
    ----------
    tally : Tally
        Has the numbers, takes what is found.
    """
    for (kind, name), values in sorted(tally.numbers.items(), key=lambda item: item[0]):
        if kind != "bands" or len({len(value) for value in values}) != 1:
            continue
        empty = np.flatnonzero(~np.array(values).any(axis=0)).tolist()
        message = f"bands {empty}, from 0, have no data in any of {len(values)} objects"
        tally.whole("E6", name, empty, message)
