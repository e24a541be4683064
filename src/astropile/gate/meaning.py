"""
Whether the columns of a file make sense: one length, positions on the sky, pixels, identifiers.

Rules of the format that need a whole tree are `astropile.validate`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.gate.contents import values_of
from astropile.gate.source import Source
from astropile.gate.structure import Dataset, Structure
from astropile.healpix import MAX_ORDER, ang2pix
from astropile.names import COMMON_COLUMNS

_NEEDED: Final = tuple(name for name in COMMON_COLUMNS if name != "observation_id")
_DEGREES: Final = frozenset({"deg", "degree", "degrees", "\N{DEGREE SIGN}"})
_GROUPS: Final = ("shared/", "ragged/")
_KINDS: Final = {"ra": "f", "dec": "f", "healpix": "iu"}

Finding = tuple[str, str]
"""Place in the file, what is wrong."""


def check_meaning(source: Source, structure: Structure) -> Iterator[Finding]:
    """
    Look for what makes no sense in a file whose data is whole.

    Parameters
    ----------
    source : Source
        The file.
    structure : Structure
        What it holds.

    Yields
    ------
    tuple of str
        Place in the file, what is wrong.
    """
    columns = {column.name: column for column in structure.datasets}
    shape_problems = list(_lengths(columns))
    yield from shape_problems
    for name in _NEEDED:
        if name not in columns:
            yield name, "missing"
    for name in ("ra", "dec"):
        unit = columns[name].attributes.get("unit", "deg") if name in columns else "deg"
        if unit not in _DEGREES:
            yield name, f"expected unit deg, found {unit!r}"
    wrong_kind = False
    for name, kinds in _KINDS.items():
        column = columns.get(name)
        if column is not None and (
            column.type.dtype is None or column.type.dtype.kind not in kinds
        ):
            wrong_kind = True
            yield name, f"expected a {'float' if kinds == 'f' else 'whole number'}"
    if shape_problems or wrong_kind or not set(_NEEDED) <= set(columns):
        return
    ra, dec = (values_of(source, columns[name]).astype(np.float64) for name in ("ra", "dec"))
    positions = list(_positions(ra, dec))
    yield from positions
    if not positions:
        pixels = values_of(source, columns["healpix"]).astype(np.int64)
        yield from _pixels(ra, dec, pixels, structure.attributes)
    name = "observation_id" if "observation_id" in columns else "object_id"
    yield from _identifiers(name, values_of(source, columns[name]))


def _lengths(columns: dict[str, Dataset]) -> Iterator[Finding]:
    """Every column of the root has one row per object, those all must have one value per row."""
    rows: dict[str, int] = {}
    for name, column in columns.items():
        if name.startswith(_GROUPS):
            continue
        if not column.shape:
            yield name, "a single value where every column has a row per object"
        else:
            rows[name] = column.shape[0]
        if name in COMMON_COLUMNS and len(column.shape) != 1:
            yield name, f"expected one value per object, found shape {column.shape}"
    if not rows:
        yield "", "no columns"
        return
    wanted = "ra" if "ra" in rows else next(iter(rows))
    for name, count in rows.items():
        if count != rows[wanted]:
            yield name, f"{count} rows, but {wanted} has {rows[wanted]}"
    if rows[wanted] == 0:
        yield wanted, "no objects"


def _positions(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Iterator[Finding]:
    for name, values, good, span in (
        ("ra", ra, (ra >= 0) & (ra < 360), "0 <= ra < 360"),
        ("dec", dec, np.abs(dec) <= 90, "-90 <= dec <= 90"),
    ):
        # Not a number compares as False.
        bad = np.flatnonzero(~good)
        if len(bad):
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            yield name, f"row {bad[0]}: expected {span}, found {values[bad[0]]}{more}"


def _order(attributes: dict[str, Any]) -> int | None:
    """Give the HEALPix order that a file states, as a number or as nside."""
    order, nside = attributes.get("healpix_order"), attributes.get("healpix_nside")
    if isinstance(order, int) and 0 <= order <= MAX_ORDER:
        return order
    if isinstance(nside, int) and 0 < nside <= 1 << MAX_ORDER and nside & (nside - 1) == 0:
        return nside.bit_length() - 1
    return None


def _pixels(
    ra: NDArray[np.float64],
    dec: NDArray[np.float64],
    pixels: NDArray[np.int64],
    attributes: dict[str, Any],
) -> Iterator[Finding]:
    """Compare the column healpix with the positions, at the order stated or at any."""
    schemes = {attributes.get("healpix_scheme"), attributes.get("healpix_order")}
    if {str(scheme).lower() for scheme in schemes} & {"ring", "r"}:
        yield "healpix", "expected pixels in the scheme NESTED, found RING"
        return
    order = _order(attributes)
    finest = ang2pix(ra, dec, MAX_ORDER)
    orders = range(MAX_ORDER + 1) if order is None else (order,)
    best = min((np.flatnonzero(finest >> 2 * (MAX_ORDER - k) != pixels) for k in orders), key=len)
    if len(best):
        row = int(best[0])
        at = "any order" if order is None else f"order {order}"
        yield (
            "healpix",
            (f"row {row}: expected the pixel of its position at {at}, found {pixels[row]}"),
        )


def _identifiers(name: str, values: NDArray[Any]) -> Iterator[Finding]:
    ordered = np.sort(values)
    same = np.flatnonzero(ordered[1:] == ordered[:-1])
    if len(same):
        one = ordered[same[0]]
        shown = one.decode("utf-8", "replace") if isinstance(one, bytes) else one
        yield name, f"{shown!r} more than once ({len(same)} repeated)"
