"""What each object is and where: rules P, K, B and Z, on columns of one value per object."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.healpix import ang2pix, ring_of_nested
from astropile.meaning.tally import Tally
from astropile.schema import Column, Survey

MIN_OBJECTS: Final = 20
"""Fewer objects tell nothing of how all of them were written."""

SENTINELS: Final = (-1.0, -9.0, -99.0, -999.0, -9999.0, 99.0, 999.0, 9999.0)
"""Redshifts that stand for none."""

LOWEST_REDSHIFT: Final = -0.01
"""No star in the Galaxy or galaxy near it comes at 3000 km/s."""

FAR_ARCSEC: Final = 60.0
"""Rule K5: places of one object are nearer than that."""

FLAGS: Final = ("z_warning", "zwarn", "z_flag")
"""Standard names of a flag of redshifts: True, or not 0, is a problem."""

_ZWARN_BITS: Final = frozenset({"LITTLE_COVERAGE", "SMALL_DELTA_CHI2", "NEGATIVE_MODEL"})
"""Bits by which a bit mask is known as the redshift warning of SDSS, BOSS and DESI."""


def redshift_flag(survey: Survey) -> str:
    """
    Name the column that flags bad redshifts.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    str
        The column that one of `FLAGS` names, else the first whose declared bits are those of a
        redshift warning; empty if there is none.
    """
    for name in FLAGS:
        source = survey.aliases.get(name)
        if isinstance(source, str):
            return source
    return next((c.name for c in survey.columns if len(_ZWARN_BITS & set(c.bits)) > 1), "")


@dataclass(frozen=True)
class Objects:
    """
    Some objects' values of one number or text each.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    values : mapping of str to ndarray
        Common columns by name; those they are copied from with ``=`` before it; and
        ``z``, ``z_err``, ``mag``, ``ebv``, ``flag`` where the survey has them.
    rows : ndarray, int64
        Rows in their file.
    ipix, order : int
        Pixel and order of their partition.
    """

    survey: Survey
    values: Mapping[str, NDArray[Any]]
    rows: NDArray[np.int64]
    ipix: int
    order: int


def check_objects(objects: Objects, tally: Tally) -> None:
    """
    Check some objects one by one.

    Parameters
    ----------
    objects : Objects
        The objects.
    tally : Tally
        Takes what is found, and what the subset is judged by.
    """
    _check_positions(objects, tally)
    named = {str(objects.survey.aliases[name]): name for name in ("observation_id", "object_id")}
    for column, name in named.items():
        _check_ids(objects, name, column, tally)
    _check_brightness(objects, tally)
    _check_redshifts(objects, tally)


def _check_positions(objects: Objects, tally: Tally) -> None:
    values, rows = objects.values, objects.rows
    ra, dec = values["ra"], values["dec"]
    nowhere = (ra == 0) & (dec == 0)
    tally.objects("P1", "ra, dec", nowhere, lambda _: "the position (0, 0)", rows)
    wanted = np.mod(np.asarray(values["=ra"], np.float64), 360.0)
    native_dec = np.asarray(values["=dec"], np.float64)
    away = _separation(ra, dec, wanted, native_dec)
    # What float32 holds of 360 degrees is 0.11 arcsec.
    tally.objects(
        "P3",
        "ra, dec",
        ~(away < 0.2),
        lambda i: f"({ra[i]}, {dec[i]}) for a native position ({wanted[i]}, {native_dec[i]})",
        rows,
    )
    sound = np.isfinite(ra) & (np.abs(dec) <= 90)
    ring = np.zeros(len(ra), bool)
    pixels = ang2pix(ra[sound], dec[sound], objects.order)
    swapped = ring_of_nested(pixels, objects.order) == objects.ipix
    ring[sound] = (pixels != objects.ipix) & swapped
    what = f"its pixel is {objects.ipix} in the RING scheme, not in NESTED"
    tally.objects("P6", "healpix", ring, lambda _: what, rows)
    tally.number("sky", "ra, dec", _extent_of(ra, dec))
    single = (ra == ra.astype(np.float32)) & (dec == dec.astype(np.float32))
    tally.number("float32", "ra, dec", (int(single.sum()), len(ra)))


def _separation(ra: Any, dec: Any, ra2: Any, dec2: Any) -> NDArray[np.float64]:
    """Great-circle distance [arcsec], exact for small ones."""
    ra, dec, ra2, dec2 = (np.deg2rad(np.asarray(part, np.float64)) for part in (ra, dec, ra2, dec2))
    half = np.sin((dec2 - dec) / 2) ** 2 + np.cos(dec) * np.cos(dec2) * np.sin((ra2 - ra) / 2) ** 2
    away: NDArray[np.float64] = np.rad2deg(2 * np.arcsin(np.sqrt(np.minimum(half, 1)))) * 3600
    return away


def _extent_of(ra: NDArray[Any], dec: NDArray[Any]) -> tuple[float, ...]:
    return float(ra.min()), float(ra.max()), float(dec.min()), float(dec.max()), float(len(ra))


_LITERAL = re.compile(r"b(['\"]).*\1", re.DOTALL)
_FLOAT = re.compile(r"[-+]?(?:\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)|[-+]?\d+\.0*|nan|NaN|inf")


def _check_ids(objects: Objects, name: str, column: str, tally: Tally) -> None:
    ids, rows = objects.values[name], objects.rows
    if ids.dtype.kind == "S":
        texts = [value.decode("utf-8", "replace") for value in ids.tolist()]
        literal = np.array(
            [text != text.strip() or bool(_LITERAL.fullmatch(text)) for text in texts]
        )
        floats = np.array([bool(_FLOAT.fullmatch(text)) for text in texts])
        empty = np.array([not text.strip() for text in texts])
        tally.objects("K1", column, literal, lambda i: f"the identifier {texts[i]!r}", rows)
        tally.objects("K2", column, floats, lambda i: f"the identifier {texts[i]!r}", rows)
        tally.objects("K6", column, empty, lambda i: f"the identifier {texts[i]!r}", rows)
        digits = [int(text) for text in texts if text.isascii() and text.isdecimal()]
        fits = [number for number in digits if number < 2**63]
        tally.number("every digits", column, np.array(fits, np.int64))
    else:
        tally.number("every digits", column, ids)
    if name == "object_id":
        where = objects.values["ra"], objects.values["dec"]
        tally.number("every place", column, (ids, *where))


def _check_brightness(objects: Objects, tally: Tally) -> None:
    for name, low, high in (("mag", -30.0, 50.0), ("ebv", -0.5, 100.0)):
        values = objects.values.get(name)
        if values is None:
            continue
        wrong = np.isfinite(values) & ~((values >= low) & (values <= high))
        rule = "B1" if name == "mag" else "B2"
        tally.objects(rule, name, wrong, lambda i, v=values: f"the value {v[i]:.6g}", objects.rows)


def _check_redshifts(objects: Objects, tally: Tally) -> None:
    z, rows = objects.values.get("z"), objects.rows
    if z is None:
        return
    flag = objects.values.get("flag")
    flagged = np.zeros(len(z), bool) if flag is None else np.asarray(flag) != 0
    filled = np.isin(z, np.array(SENTINELS, z.dtype))
    wrong = filled | (~flagged & (z < LOWEST_REDSHIFT))
    tally.objects("Z1", "z", wrong, lambda i: f"the redshift {z[i]:.6g}", rows)
    errors = objects.values.get("z_err")
    if errors is not None:
        wrong = ~flagged & (errors < 0)
        tally.objects("Z4", "z_err", wrong, lambda i: f"the error {errors[i]:.6g}", rows)
    facts = np.full((len(z), 4), np.nan, np.float64)
    facts[:, 0], facts[:, 2], facts[:, 3] = z, flagged, flag is not None
    if errors is not None:
        facts[:, 1] = errors
    tally.number("every redshift", "z", facts)


def judge_objects(survey: Survey, tally: Tally) -> None:
    """
    Judge what was kept of all objects of a subset.

    Parameters
    ----------
    survey : Survey
        The resolved survey.
    tally : Tally
        Has the numbers, takes what is found.
    """
    for _, extents in tally.each("sky"):
        _judge_angles(extents, tally)
    for _, counts in tally.each("float32"):
        single, total = counts.sum(axis=0).tolist()
        message = (
            f"all {total} positions are what float32 holds: steps of 0.11 arcsec at right "
            "ascension 300"
        )
        if total >= MIN_OBJECTS:
            tally.whole("P4", "ra, dec", single == total, message)
    for (kind, column), values in list(tally.numbers.items()):
        if kind == "every digits":
            _judge_digits(column, np.concatenate(values), tally)
        elif kind == "every place":
            places = (np.concatenate(parts) for parts in zip(*values, strict=True))
            _judge_places(column, *places, tally=tally)
        elif kind == "every redshift":
            _judge_redshifts(np.concatenate(values), tally)
    year = survey.epoch
    has_motion = "pmra" in survey.aliases and "epoch" not in survey.aliases
    wrong = (year is None and has_motion) or (year is not None and not 1800 < year < 2100)
    said = "proper motions without an epoch" if year is None else f"the epoch {year}"
    tally.whole("P5", "epoch", wrong, said)


def _judge_angles(extents: NDArray[Any], tally: Tally) -> None:
    """Rule P2: a field as large as the sky is in radians or hours, and no larger."""
    if extents[:, 4].sum() < MIN_OBJECTS:
        return
    ra, dec = (extents[:, 0].min(), extents[:, 1].max()), (extents[:, 2].min(), extents[:, 3].max())
    radians = 3 < ra[1] <= 2 * np.pi and ra[0] < 3 and np.abs(dec).max() <= np.pi / 2
    radians &= bool(np.ptp(dec) > 0.5)
    hours = 12 < ra[1] <= 24 and ra[0] < 12 and np.ptp(dec) > 45
    message = (
        f"right ascensions from {ra[0]:.4g} to {ra[1]:.4g}, declinations from {dec[0]:.4g} to "
        f"{dec[1]:.4g}: are they in {'radians' if radians else 'hours'}?"
    )
    tally.whole("P2", "ra, dec", radians or hours, message)


def _judge_digits(column: str, numbers: NDArray[Any], tally: Tally) -> None:
    n = len(numbers)
    if n < MIN_OBJECTS:
        return
    smallest, largest = int(numbers.min()), int(numbers.max())
    in_turn = smallest in (0, 1) and largest - smallest == n - 1 == len(np.unique(numbers)) - 1
    message = f"they are the numbers {smallest} to {largest}: nothing ties them to the source"
    tally.whole("K4", column, in_turn, message)
    if smallest < 0 or largest < 2**24:
        return
    whole = numbers.astype(np.uint64)
    lengths = np.frexp(whole.astype(np.float64))[1]
    lowest = whole & (~whole + np.uint64(1))
    zeros = np.where(whole == 0, 64, np.frexp(lowest.astype(np.float64))[1] - 1)
    for bits in (24, 53):
        # Binary digits of each number that a float of that precision has no room for.
        lost = np.maximum(0, lengths - bits)
        # Numbers made of fields (a plate, a fibre) may all end alike: digits that are left after
        # others were lost do not.
        left = (whole >> np.uint64(int(lost.max()))) & np.uint64(15)
        rounded = lost.sum() >= 40 and bool((zeros >= lost).all())
        wrong = rounded and len(np.unique(left)) >= 8
        message = f"all {n} are numbers that a float of {bits} binary digits holds"
        tally.whole("K3", column, wrong, message)


def _judge_places(
    column: str, ids: NDArray[Any], ra: NDArray[Any], dec: NDArray[Any], *, tally: Tally
) -> None:
    _, first, which = np.unique(ids, return_index=True, return_inverse=True)
    there = first[which]
    away = _separation(ra, dec, ra[there], dec[there])
    far = np.flatnonzero(away > FAR_ARCSEC)
    message = ""
    if len(far):
        name = ids[far[0]]
        shown = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        message = f"{shown!s} is at places {away[far[0]]:.4g} arcsec apart ({len(far)} such)"
    tally.whole("K5", column, message, message)


def _judge_redshifts(values: NDArray[Any], tally: Tally) -> None:
    z, error, flagged, has_flag = values.T
    known = np.isfinite(z)
    if np.count_nonzero(known) >= 10:
        one = z[known]
        message = f"it is {one[0]:.6g} for all {len(one)} objects that have one"
        tally.whole("Z2", "z", one.min() == one.max(), message)
    given = np.isfinite(error)
    if np.count_nonzero(given) >= 10:
        tally.whole("Z5", "z_err", not error[given].any(), f"it is 0 for all {given.sum()} objects")
    bad, good = given & known & (flagged > 0), given & known & (flagged == 0)
    if has_flag.any() and min(np.count_nonzero(bad), np.count_nonzero(good)) >= 3:
        worse, better = float(np.median(error[bad])), float(np.median(error[good]))
        message = (
            f"{np.mean(flagged):.0%} are flagged, with a median z_err of {worse:.3g}; the others "
            f"have {better:.3g}: is the flag reversed?"
        )
        tally.whole("Z3", "z", np.mean(flagged) > 0.5 and 0 <= worse < better / 3, message)


def light_columns(survey: Survey) -> tuple[Column, ...]:
    """
    List the native columns that these rules read beside the common ones.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    tuple of Column
        Those behind ra and dec, and the flag of redshifts.
    """
    names = [str(survey.aliases[name]) for name in ("ra", "dec")]
    flag = redshift_flag(survey)
    return tuple(survey[name] for name in dict.fromkeys([*names, *([flag] if flag else [])]))
