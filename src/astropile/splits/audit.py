"""Measure how far apart the sets of a split are, and which objects are in more than one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import SampleError
from astropile.match.positions import match_positions
from astropile.splits.sky import member_positions

_HALF_TURN_ARCSEC = 648_000.0


@dataclass(frozen=True)
class Sample:
    """
    Objects of one survey in one set.

    Parameters
    ----------
    survey : str
        Name of the survey.
    ra, dec : ndarray, shape (n,), float64
        Positions [deg, ICRS]; NaN where there is none.
    object_id : ndarray, shape (n,), optional
        Identifiers in that survey.
    """

    survey: str
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]
    object_id: NDArray[Any] | None = None


@dataclass(frozen=True)
class Overlap:
    """
    What two sets have in common.

    Parameters
    ----------
    left, right : str
        Names of the sets.
    separation_arcsec : float
        Smallest separation of an object of one from an object of the other, of whatever survey
        [arcsec]; infinite where a set has none.
    n_near : int
        Objects of the left set with one of the right within the radius.
    n_shared : mapping of str to int
        For each survey the identifiers that are in both.
    shared : mapping of str to list
        Some of them, at most ten.
    """

    left: str
    right: str
    separation_arcsec: float
    n_near: int
    n_shared: Mapping[str, int]
    shared: Mapping[str, list[Any]]


@dataclass(frozen=True)
class SplitAudit:
    """
    What an audit found.

    Parameters
    ----------
    n_objects : mapping of str to int
        Objects of each set, of all surveys.
    radius_arcsec : float
        Separation up to which two rows are taken for one object [arcsec].
    overlaps : tuple of Overlap
        For each two sets what they share.
    """

    n_objects: Mapping[str, int]
    radius_arcsec: float
    overlaps: tuple[Overlap, ...]

    @property
    def separation_arcsec(self) -> float:
        """Smallest separation between objects of different sets [arcsec]."""
        return min((overlap.separation_arcsec for overlap in self.overlaps), default=np.inf)

    @property
    def is_clean(self) -> bool:
        """Whether no object is in two sets, neither by identifier nor by position."""
        return not any(o.n_near or any(o.n_shared.values()) for o in self.overlaps)

    def __str__(self) -> str:
        lines = [", ".join(f"{name}: {n:,} objects" for name, n in self.n_objects.items())]
        for o in self.overlaps:
            ids = sum(o.n_shared.values())
            lines.append(
                f"{o.left} and {o.right}: nearest {o.separation_arcsec:.4g} arcsec, "
                f"{o.n_near:,} within {self.radius_arcsec:g} arcsec, {ids:,} shared identifiers"
            )
        return "\n".join(lines)


def audit_splits(splits: Mapping[str, Any], *, radius_arcsec: float = 1.0) -> SplitAudit:
    """
    Look for objects and patches of sky that sets share.

    Parameters
    ----------
    splits : mapping of str to object
        For each set what `samples_of` takes: a dataset, a match, a `Sample`, or a list of these.
        A `datasets.DatasetDict` is such a mapping.
    radius_arcsec : float
        Separation up to which two rows are taken for one object [arcsec], inclusive.

    Returns
    -------
    SplitAudit
        Smallest separation, objects shared by position and by identifier, of each two sets.
        Identifiers are compared within a survey, positions between all.

    Raises
    ------
    SampleError
        If there are fewer than two sets, or one of them has no positions.

    Examples
    --------
    >>> audit = audit_splits(
    ...     {
    ...         "train": Sample("a", np.array([10.0, 20.0]), np.array([0.0, 0.0])),
    ...         "test": Sample("b", np.array([20.001]), np.array([0.0])),
    ...     }
    ... )
    >>> print(audit)
    train: 2 objects, test: 1 objects
    train and test: nearest 3.6 arcsec, 0 within 1 arcsec, 0 shared identifiers
    """
    if len(splits) < 2:
        raise SampleError("splits", "two sets or more", ", ".join(splits) or "none")
    samples = {name: samples_of(content) for name, content in splits.items()}
    points = {
        name: tuple(np.concatenate([getattr(s, axis) for s in mine]) for axis in ("ra", "dec"))
        for name, mine in samples.items()
    }
    overlaps = []
    for left, right in combinations(splits, 2):
        near = match_positions(*points[left], *points[right], radius_arcsec=radius_arcsec)
        shared = _shared_ids(samples[left], samples[right])
        overlaps.append(
            Overlap(
                left,
                right,
                _smallest_separation(points[left], points[right]),
                len(near),
                {survey: len(ids) for survey, ids in shared.items()},
                {survey: ids[:10].tolist() for survey, ids in shared.items()},
            )
        )
    counts = {name: sum(len(s.ra) for s in mine) for name, mine in samples.items()}
    return SplitAudit(counts, radius_arcsec, tuple(overlaps))


def samples_of(content: Any) -> list[Sample]:
    """
    Give positions and identifiers of what is in a set.

    Parameters
    ----------
    content : Sample, datasets.Dataset, CrossMatch, astropy.table.Table, or a list of these
        A dataset has columns ``ra`` and ``dec``, and ``object_id`` if identifiers are to be
        compared; of a match each member counts. A table has the same columns.

    Returns
    -------
    list of Sample
        One for each survey of each part.

    Raises
    ------
    SampleError
        If it is nothing of these, or has no positions.
    """
    if isinstance(content, Sample):
        return [content]
    if isinstance(content, Sequence) and not hasattr(content, "_fields") and content:
        return [sample for part in content for sample in samples_of(part)]
    if hasattr(content, "catalog") and hasattr(content, "dataset"):
        return _members(content.catalog)
    if hasattr(content, "colnames"):
        if any(name.startswith("row_") for name in content.colnames):
            return _members(content)
        missing = {"ra", "dec"} - set(content.colnames)
        if missing:
            raise SampleError("table", "columns ra and dec", ", ".join(content.colnames))
        ids = content["object_id"] if "object_id" in content.colnames else None
        return [_sample("", content["ra"], content["dec"], ids)]
    if hasattr(content, "select_columns"):
        from astropile.hf.splits import own_ids, own_positions

        name = str(content.info.dataset_name or "")
        return [_sample(name, *own_positions(content), own_ids(content))]
    raise SampleError(
        "a set", "a dataset, a match, a table, a Sample, or a list of these", repr(type(content))
    )


def _members(catalog: Any) -> list[Sample]:
    found = []
    for name, (ra, dec) in member_positions(catalog).items():
        ids = f"object_id_{name}"
        found.append(_sample(name, ra, dec, catalog[ids] if ids in catalog.colnames else None))
    return found


def _sample(survey: str, ra: ArrayLike, dec: ArrayLike, object_id: Any) -> Sample:
    """Without the rows that have no position."""
    lon, lat = (np.ma.filled(np.ma.asarray(x).astype(np.float64), np.nan) for x in (ra, dec))
    known = np.isfinite(lon) & np.isfinite(lat)
    ids = None if object_id is None else np.ma.getdata(np.ma.asarray(object_id))[known]
    return Sample(survey, lon[known], lat[known], ids)


def _shared_ids(left: list[Sample], right: list[Sample]) -> dict[str, NDArray[Any]]:
    found = {}
    for survey in dict.fromkeys(s.survey for s in left):
        ids = [
            [s.object_id for s in side if s.survey == survey and s.object_id is not None]
            for side in (left, right)
        ]
        if all(ids):
            found[survey] = np.intersect1d(np.concatenate(ids[0]), np.concatenate(ids[1]))
    return found


def _smallest_separation(left: Any, right: Any) -> float:
    """Widen the circle until there is someone in it."""
    radius = 1.0
    while len(left[0]) and len(right[0]):
        pairs = match_positions(*left, *right, radius_arcsec=radius)
        if len(pairs):
            return float(pairs.separation_arcsec.min())
        if radius == _HALF_TURN_ARCSEC:
            break
        radius = min(4 * radius, _HALF_TURN_ARCSEC)
    return float(np.inf)
