"""
Which set a position belongs to: a hash of the HEALPix block that it lies in.

Nothing but the position decides, so that surveys, subsets, matches and later additions agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.healpix import ang2pix, check_order, neighbours
from astropile.sky import unit_vectors

GUARD: Final = -1
"""Code of a position too near to a block of another set."""

NOWHERE: Final = -2
"""Code of a row that has no position."""

STRADDLING: Final = -3
"""Code of a match whose members lie in different sets."""

_LEFT_OUT: Final = {GUARD: "guard band", NOWHERE: "no position", STRADDLING: "straddling"}

_BLOCK_SIDE_ARCSEC: Final = np.degrees(np.sqrt(np.pi / 3)) * 3600
"""Side of a square as large as a pixel of order 0."""

_N_AROUND: Final = 64
_WIDER: Final = 1.2
"""
A block that comes nearer than the radius crosses a circle of 1.2 radii in an arc that holds one
of 64 points, down to corners of 40 degrees; those of HEALPix pixels are wider.
"""


@dataclass(frozen=True)
class Assignment:
    """
    The set of each row.

    Parameters
    ----------
    names : tuple of str
        Names of the sets.
    codes : ndarray, shape (n,), int8
        Number of the row's set among the names; `GUARD`, `NOWHERE` or `STRADDLING` for rows
        that are in none.
    """

    names: tuple[str, ...]
    codes: NDArray[np.int8]

    def rows(self, name: str) -> NDArray[np.int64]:
        """
        List the rows of a set.

        Parameters
        ----------
        name : str
            Its name.

        Returns
        -------
        ndarray, shape (m,), int64
            Row numbers, ascending.

        Raises
        ------
        SampleError
            If there is no such set.
        """
        if name not in self.names:
            raise SampleError("split", f"one of {', '.join(self.names)}", repr(name))
        return np.flatnonzero(self.codes == self.names.index(name))

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each set, and of those left out for each reason; their sum is all rows."""
        found = {name: int((self.codes == k).sum()) for k, name in enumerate(self.names)}
        return found | {why: int((self.codes == code).sum()) for code, why in _LEFT_OUT.items()}


@dataclass(frozen=True)
class SkySplits:
    """
    Sets by blocks of sky.

    Parameters
    ----------
    fractions : mapping of str to float
        Share of the sky of each set, in order; they add up to 1. With the same seed and order
        the last set lies within any larger one of the same place: a test set of 10 % of the sky
        within one of 20 %.
    order : int
        HEALPix order of the blocks, 0 to 20: 4 is 3.7 degrees wide, 6 is 0.9. The finer, the
        nearer the counts come to the fractions, and the more objects have neighbours in another
        set. It has nothing to do with the order of a tree.
    seed : int
        Another seed, other sets.
    guard_arcsec : float
        Keep positions of different sets at least this far apart [arcsec]: those within half of it
        of a block of another set are in none.

    Raises
    ------
    SampleError
        If the fractions do not add up to 1, or the guard band is not narrower than a quarter of
        a block.

    Examples
    --------
    >>> plan = SkySplits({"train": 0.8, "test": 0.2}, order=4, seed=1)
    >>> plan.assign([150.1, 150.1001, 33.0], [2.2, 2.2, -5.0]).codes
    array([1, 1, 0], dtype=int8)
    """

    fractions: Mapping[str, float] = field(
        default_factory=lambda: {"train": 0.8, "validation": 0.1, "test": 0.1}
    )
    order: int = 4
    seed: int = 0
    guard_arcsec: float = 0.0

    def __post_init__(self) -> None:
        shares = list(self.fractions.values())
        total = float(np.sum(shares)) if shares else 0.0
        if not shares or min(shares) < 0 or not abs(total - 1) < 1e-9:
            raise SampleError(
                "fractions", "shares of at least 0 that add up to 1", repr(dict(self.fractions))
            )
        if len(shares) > 100:
            raise SampleError("fractions", "at most 100 sets", str(len(shares)))
        try:
            check_order(self.order)
        except ValueError as error:
            raise SampleError("order", "0 to 20", repr(self.order)) from error
        if self.order > 20:
            raise SampleError("order", "0 to 20", repr(self.order))
        widest = _BLOCK_SIDE_ARCSEC / 2**self.order / 4
        if not 0 <= self.guard_arcsec <= widest:
            raise SampleError(
                "guard_arcsec",
                f"0 to {widest:.6g}, a quarter of the width of a block of order {self.order}",
                repr(self.guard_arcsec),
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sets."""
        return tuple(self.fractions)

    def of_blocks(self, ipix: ArrayLike) -> NDArray[np.int8]:
        """
        Give the set of each block of sky.

        Parameters
        ----------
        ipix : array_like, shape (n,), int64
            Pixel numbers at the order of the blocks, NESTED.

        Returns
        -------
        ndarray, shape (n,), int8
            Numbers of the sets.

        Notes
        -----
        The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014) of the pixel number
        and of a key made of seed and order by SHA-256; its upper 53 bits are a number from 0
        to 1 that is looked up among the fractions, added up from the last set.
        """
        digest = hashlib.sha256(f"{self.seed}/{self.order}".encode()).digest()
        key = np.uint64(int.from_bytes(digest[:8], "little"))
        mixed = np.asarray(ipix).astype(np.uint64) ^ key
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        drawn = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
        upper = np.cumsum(list(self.fractions.values())[::-1])[:-1]
        last = len(self.fractions) - 1
        return (last - np.searchsorted(upper, drawn, side="right")).astype(np.int8)

    def assign(self, ra: ArrayLike, dec: ArrayLike) -> Assignment:
        """
        Give the set of each position.

        Parameters
        ----------
        ra, dec : array_like, shape (n,)
            Positions [deg, ICRS]; masked or not finite ones are in no set.

        Returns
        -------
        Assignment
            The set of each.
        """
        ra, dec, is_known = _positions(ra, dec)
        codes = np.full(len(ra), NOWHERE, np.int8)
        codes[is_known] = self._codes(ra[is_known], dec[is_known])
        return Assignment(self.names, codes)

    def assign_match(self, positions: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Assignment:
        """
        Give the set of each match of several surveys' objects.

        Parameters
        ----------
        positions : mapping of str to (array_like, array_like)
            For each survey the positions of its objects [deg, ICRS], one for each match; masked
            where it has no part in it.

        Returns
        -------
        Assignment
            The set that all members are in. A match whose members lie in different sets is in
            none, and so is one with a member in a guard band.

        Raises
        ------
        SampleError
            If there is no survey, or they are not equally many.
        """
        each = [self.assign(ra, dec).codes for ra, dec in positions.values()]
        if not each or len({len(codes) for codes in each}) > 1:
            raise SampleError(
                "positions",
                "one position of each survey for each match",
                ", ".join(f"{name}: {len(c)}" for name, c in zip(positions, each, strict=True)),
            )
        members = np.stack(each)
        lowest = np.where(members >= 0, members, np.int8(127)).min(axis=0)
        highest = members.max(axis=0)
        codes = np.where((members == GUARD).any(axis=0), np.int8(GUARD), highest)
        codes[(highest >= 0) & (lowest != highest)] = STRADDLING
        return Assignment(self.names, codes)

    def _codes(self, ra: NDArray[Any], dec: NDArray[Any]) -> NDArray[np.int8]:
        codes = self.of_blocks(ang2pix(ra, dec, self.order))
        if self.guard_arcsec:
            near = np.flatnonzero(self._may_be_near_another(ra, dec))
            # A block of 16,384 positions has a million points around them: 24 MB.
            for start in range(0, len(near), 16_384):
                some = near[start : start + 16_384]
                around = self._around(ra[some], dec[some])
                codes[some[(around != codes[some, None]).any(axis=1)]] = GUARD
        return codes

    def _radius_arcsec(self) -> float:
        return _WIDER * self.guard_arcsec / 2

    def _may_be_near_another(self, ra: NDArray[Any], dec: NDArray[Any]) -> NDArray[np.bool_]:
        """Leave out those whose cell, at least four radii wide, touches only cells of one set."""
        finer = int(np.log2(_BLOCK_SIDE_ARCSEC / (4 * self._radius_arcsec())))
        finer = min(max(finer, self.order), 29)
        cells, which = np.unique(ang2pix(ra, dec, finer), return_inverse=True)
        around = neighbours(cells, finer)
        blocks = self.of_blocks(np.maximum(around, 0) >> 2 * (finer - self.order))
        own = self.of_blocks(cells >> 2 * (finer - self.order))
        differs = ((blocks != own[:, None]) & (around >= 0)).any(axis=1)
        return np.asarray(differs[which])

    def _around(self, ra: NDArray[Any], dec: NDArray[Any]) -> NDArray[np.int8]:
        """Give the sets at points on a circle around each position, shape (n, 64)."""
        radius = np.radians(self._radius_arcsec() / 3600)
        centre = unit_vectors(ra, dec)
        lon, lat = np.radians(ra), np.radians(dec)
        east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
        north = np.stack(
            [-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)], axis=-1
        )
        angle = np.linspace(0, 2 * np.pi, _N_AROUND, endpoint=False)[:, None]
        points = np.cos(radius) * centre[:, None] + np.sin(radius) * (
            np.cos(angle) * north[:, None] + np.sin(angle) * east[:, None]
        )
        x, y, z = (points[..., k].ravel() for k in range(3))
        pixels = ang2pix(
            np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y))), self.order
        )
        return self.of_blocks(pixels).reshape(len(ra), _N_AROUND)


def _positions(
    ra: ArrayLike, dec: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    columns = []
    for name, values in (("ra", ra), ("dec", dec)):
        filled = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
        if filled.ndim != 1:
            raise SampleError(name, "one number per object", f"shape {filled.shape}")
        columns.append(filled)
    if len(columns[0]) != len(columns[1]):
        raise SampleError("dec", f"{len(columns[0])} numbers, as many as ra", str(len(columns[1])))
    is_known = np.isfinite(columns[0]) & (np.abs(columns[1]) <= 90)
    return columns[0], columns[1], is_known


def split_dataset(dataset: Any, plan: SkySplits) -> Any:
    """
    Split a dataset by its ``ra`` and ``dec``, without copying it.

    Parameters
    ----------
    dataset : datasets.Dataset
        With columns ``ra`` and ``dec`` [deg, ICRS].
    plan : SkySplits
        The sets.

    Returns
    -------
    datasets.DatasetDict
        A dataset for each set, rows in their order. Rows in no set are in none of them:
        `SkySplits.assign` counts them.

    Raises
    ------
    SampleError
        If there are no such columns, or the dataset is a match: its members can lie on both
        sides of a border, so that `split_match` is what it takes.
    """
    from astropile.hf.splits import as_dict, own_positions

    assigned = plan.assign(*own_positions(dataset))
    return as_dict({name: dataset.select(assigned.rows(name)) for name in plan.names})


def split_match(matched: Any, plan: SkySplits) -> dict[str, Any]:
    """
    Split a match by the positions of all its members.

    Parameters
    ----------
    matched : CrossMatch
        What `cross_match_datasets` gave.
    plan : SkySplits
        The sets.

    Returns
    -------
    dict of str to CrossMatch
        For each set its rows of the catalogue and of the dataset. Matches in no set are in none
        of them: see `SkySplits.assign_match`.

    Raises
    ------
    SampleError
        If the catalogue has no positions of its sides.
    """
    assigned = plan.assign_match(member_positions(matched.catalog))
    found = {}
    for name in plan.names:
        rows = assigned.rows(name)
        sample, dataset = matched.sample.select(rows), matched.dataset.select(rows)
        found[name] = type(matched).of(sample, dataset)
    return found


def member_positions(catalog: Any) -> dict[str, tuple[Any, Any]]:
    """
    Give the positions of a match's members.

    Parameters
    ----------
    catalog : astropy.table.Table
        Catalogue of a match, with ``ra_<name>`` and ``dec_<name>`` of each side.

    Returns
    -------
    dict of str to (column, column)
        For each side its positions [deg], masked where it has no part.

    Raises
    ------
    SampleError
        If there are none.
    """
    sides: Sequence[str] = [n.removeprefix("row_") for n in catalog.colnames if n[:4] == "row_"]
    found = {
        side: (catalog[f"ra_{side}"], catalog[f"dec_{side}"])
        for side in sides
        if f"ra_{side}" in catalog.colnames
    }
    if not found:
        raise SampleError(
            "catalog", "columns row_<name>, ra_<name>, dec_<name>", ", ".join(catalog.colnames)
        )
    return found
