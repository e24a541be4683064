"""
Where every object of a build goes: from the spool to its place in the tree.

Found out once, and kept beside the spool, so that any process can write any partition. Memory:
about 100 bytes per object while it is found out; after that it stays on disk.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.batch import is_flat
from astropile.build.spool import Spool
from astropile.errors import BuildError
from astropile.healpix import ang2pix
from astropile.names import COMMON_COLUMNS
from astropile.publish import publish_bytes
from astropile.schema import Ragged, Rejected, Survey

RELEASE_NBYTES: Final = 64 * 2**20
"""Pages of the spool are let go of when so much of it may have been mapped."""

REPEATED: Final = "observation_id is repeated"


@dataclass(frozen=True)
class Objects:
    """
    Where objects lie in the spool and on the sky.

    Parameters
    ----------
    healpix_29 : ndarray, shape (n,), int64
        Pixel at order 29.
    unit : ndarray, shape (n,), int32
        Number of the unit they come from.
    block : ndarray, shape (n,), int32
        Block of the spool.
    row : ndarray, shape (n,), int64
        Row in the block.
    nbytes : ndarray, shape (n,), int64
        Size of the object.
    """

    healpix_29: NDArray[np.int64]
    unit: NDArray[np.int32]
    block: NDArray[np.int32]
    row: NDArray[np.int64]
    nbytes: NDArray[np.int64]

    def take(self, chosen: Any) -> Objects:
        """
        Give some of them.

        Parameters
        ----------
        chosen : slice or ndarray
            Which.

        Returns
        -------
        Objects
            These.
        """
        return Objects(*(getattr(self, f.name)[chosen] for f in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.row)


_DTYPES: Final = ("<i8", "<i4", "<i4", "<i8", "<i8")


@dataclass(frozen=True)
class Placed:
    """
    A spool, and the objects in it that are taken, in the order of the tree.

    Parameters
    ----------
    survey : Survey
        The survey, its tree's dimensions resolved.
    order : int
        HEALPix order of the partitions.
    spool : Spool
        Where they lie.
    objects : Objects
        Sorted by pixel at order 29, ties by `observation_id`.
    rejected : list of tuple
        The unit, by its key, and what was rejected of it.
    n_read : int
        Objects that new units gave, taken or not.
    """

    survey: Survey
    order: int
    spool: Spool
    objects: Objects
    rejected: list[tuple[str, Rejected]] = field(repr=False)
    n_read: int

    def partitions(self) -> list[tuple[int, int, int]]:
        """
        List the partitions.

        Returns
        -------
        list of tuple
            Pixel, first object and last object + 1 of each.
        """
        pixels = self.objects.healpix_29 >> 2 * (29 - self.order)
        ipixs, starts = np.unique(pixels, return_index=True)
        edges = [*starts.tolist(), len(pixels)]
        pairs = itertools.pairwise(edges)
        return [(ipix, *pair) for ipix, pair in zip(ipixs.tolist(), pairs, strict=True)]

    def columns(self, objects: Objects, names: Sequence[str]) -> dict[str, NDArray[Any] | Ragged]:
        """
        Bring columns of some objects together from the spool.

        Parameters
        ----------
        objects : Objects
            Which, in any order.
        names : sequence of str
            Native columns.

        Returns
        -------
        dict of str to ndarray or Ragged
            The columns.
        """
        return {name: self._gather(name, objects) for name in names}

    def common(
        self, columns: Mapping[str, Any], pixels: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """
        Make the common columns.

        Parameters
        ----------
        columns : mapping
            Native columns, those of the identifiers and positions among them.
        pixels : ndarray, shape (n,), int64
            Pixel of the partition of each object.

        Returns
        -------
        dict of str to ndarray
            The columns.
        """
        aliases = self.survey.aliases
        common = {name: columns[str(aliases[name])] for name in COMMON_COLUMNS[:-1]}
        # An ra of exactly 360 is 0; everything else outside [0, 360) was rejected.
        common["ra"] = np.mod(np.asarray(common["ra"], "<f8"), 360.0)
        common["dec"] = np.asarray(common["dec"], "<f8")
        common["healpix"] = pixels.astype("<i8")
        return common

    def _gather(self, name: str, objects: Objects) -> NDArray[Any] | Ragged:
        column = self.survey[name]
        get: Any = self.spool.column
        if column.shared:
            return np.array(get(int(objects.block[0]), name))
        ragged = self.survey.ragged_dims(column)
        if ragged:
            parts = [
                get(int(block), name)[int(row)]
                for block, row in zip(objects.block, objects.row, strict=True)
            ]
            return Ragged.of(parts, flat=is_flat(column, ragged))
        out: NDArray[Any] | None = None
        touched = 0
        by_block = np.argsort(objects.block, kind="stable")
        edges = np.flatnonzero(np.diff(objects.block[by_block])) + 1
        for group in np.split(by_block, edges):
            values: Any = get(int(objects.block[group[0]]), name)
            if out is None:
                out = np.empty((len(objects), *values.shape[1:]), values.dtype)
            out[group] = values[objects.row[group]]
            # The system maps more than is asked for, up to the whole block.
            touched += values.nbytes
            if touched > RELEASE_NBYTES:
                self.spool.release()
                touched = 0
        assert out is not None
        return out

    def save(self, path: Path) -> None:
        """
        Keep it, without the columns.

        Parameters
        ----------
        path : Path
            The file, ``.json``; the arrays go beside it.
        """
        parts = [
            np.ascontiguousarray(getattr(self.objects, f.name), dtype)
            for f, dtype in zip(dataclasses.fields(Objects), _DTYPES, strict=True)
        ]
        # Of a name of its own: another process may place the same, from other segments.
        arrays = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.bin")
        publish_bytes(arrays, b"".join(part.tobytes() for part in parts))
        facts = {
            "segments": self.spool.segments,
            "arrays": arrays.name,
            "n_objects": len(self.objects),
            "n_read": self.n_read,
            "rejected": [[u, r.key, r.reason, r.count, r.fault] for u, r in self.rejected],
        }
        publish_bytes(path, json.dumps(facts).encode())


def load_placed(path: Path, survey: Survey, order: int, spool: Path) -> Placed:
    """
    Open what `Placed.save` kept; it stays on disk.

    Parameters
    ----------
    path : Path
        The file.
    survey : Survey
        The survey, its tree's dimensions resolved.
    order : int
        HEALPix order of the partitions.
    spool : Path
        The spool's folder.

    Returns
    -------
    Placed
        The same.
    """
    facts = json.loads(path.read_bytes())
    n = facts["n_objects"]
    data = np.memmap(path.with_name(facts["arrays"]), np.uint8, mode="r")
    parts, at = [], 0
    for dtype in map(np.dtype, _DTYPES):
        parts.append(data[at : at + n * dtype.itemsize].view(dtype))
        at += n * dtype.itemsize
    rejected = [(unit, Rejected(*values)) for unit, *values in facts["rejected"]]
    segments = Spool(spool, facts["segments"])
    return Placed(survey, order, segments, Objects(*parts), rejected, facts["n_read"])


@dataclass(frozen=True)
class Rules:
    """
    What is taken and what is not.

    Parameters
    ----------
    where : str
        The subset that is built, for messages.
    duplicates : {"reject", "error"}
        What to do with a second object of the same ``observation_id``.
    tolerance : float
        Largest share of objects and of units rejected for a fault.
    """

    where: str
    duplicates: str
    tolerance: float


def place(
    survey: Survey,
    order: int,
    spool: Spool,
    rules: Rules,
    kept: Sequence[str] = (),
    taken: NDArray[Any] | None = None,
) -> Placed:
    """
    Find out where every object goes; reject those that have no place.

    Parameters
    ----------
    survey : Survey
        The survey, its tree's dimensions resolved.
    order : int
        HEALPix order of the partitions.
    spool : Spool
        All units.
    rules : Rules
        What is taken.
    kept : sequence of str
        Units of the spool that hold what was in the tree before: all of it is taken again.
    taken : ndarray, optional
        Identifiers of all objects that were in the tree before.

    Returns
    -------
    Placed
        The objects in order.

    Raises
    ------
    BuildError
        If nothing is left, or more was rejected than is tolerated.
    """
    work = _Placing(survey, spool, rules, kept, taken)
    objects = work.run()
    placed = Placed(survey, order, spool, objects, work.rejected, work.n_read)
    _check_tolerance(placed, spool, rules, set(kept))
    return placed


class _Placing:
    """The state of `place`."""

    def __init__(
        self,
        survey: Survey,
        spool: Spool,
        rules: Rules,
        kept: Sequence[str],
        taken: NDArray[Any] | None,
    ) -> None:
        self._survey, self._spool, self._rules, self._taken = survey, spool, rules, taken
        self._n_kept = len(kept)
        # What was there before comes first, so that of equals it is the one that stays.
        self._keys = [*sorted(kept), *sorted(set(spool.units) - set(kept))]
        self.rejected = [
            (key, Rejected(*values))
            for key in self._keys[self._n_kept :]
            for values in spool.units[key]["rejected"]
        ]
        spans = (
            stop - start
            for key in self._keys[self._n_kept :]
            for _, start, stop in spool.units[key]["spans"]
        )
        self.n_read = sum(spans) + sum(r.count for _, r in self.rejected)

    def run(self) -> Objects:
        spans: dict[int, list[tuple[int, int, int, int]]] = {}
        for number, key in enumerate(self._keys):
            for turn, (block, start, stop) in enumerate(self._spool.units[key]["spans"]):
                spans.setdefault(block, []).append((number, turn, start, stop))
        before = len(self.rejected)
        parts = []
        for block, members in spans.items():
            parts.append(self._block(block, members))
            self._spool.release()
        # Which units share a block, and so their order here, differs from run to run.
        self.rejected[before:] = sorted(
            self.rejected[before:], key=lambda entry: (entry[0], entry[1].reason, entry[1].key)
        )
        if not parts:
            return Objects(*(np.empty(0, dtype) for dtype in _DTYPES))
        ra, dec, unit, turn_of, block_of, row, nbytes, names = map(
            np.concatenate, zip(*parts, strict=True)
        )
        everything = Objects(ang2pix(ra, dec, 29), unit, block_of, row, nbytes)
        by_unit = np.lexsort((row, turn_of, unit))
        objects, names = self._unique(everything.take(by_unit), names[by_unit])
        n_new = int(np.count_nonzero(objects.unit >= self._n_kept))
        n_rejected = sum(r.count for _, r in self.rejected)
        if self.n_read != n_new + n_rejected:
            told = f"{self.n_read} objects were read, {n_new} taken and {n_rejected} rejected"
            raise BuildError(self._rules.where, f"{told}: this is a bug of the build")
        return objects.take(np.lexsort((names, objects.healpix_29)))

    def _block(self, block: int, members: list[tuple[int, int, int, int]]) -> list[NDArray[Any]]:
        """Look at a block's objects: position, unit, when in it, block, row, size, identifier."""
        aliases = self._survey.aliases
        ra, dec, names = (
            np.asarray(self._spool.column(block, str(aliases[name])))
            for name in ("ra", "dec", "observation_id")
        )
        ra, dec = ra.astype(np.float64), dec.astype(np.float64)
        unit = np.full(len(ra), -1, np.int32)
        turn_of = np.zeros(len(ra), np.int32)
        for number, turn, start, stop in members:
            unit[start:stop], turn_of[start:stop] = number, turn
        bad = ~(np.isfinite(ra) & np.isfinite(dec))
        off = ~bad & ((ra < 0) | (ra > 360) | (np.abs(dec) > 90))
        void = ~bad & ~off & (names == b"" if names.dtype.kind == "S" else np.False_)
        for wrong, reason in (
            (bad, "position is not finite"),
            (off, "position is not on the sky"),
            (void, "observation_id is empty"),
        ):
            self._reject(unit[wrong], names[wrong], reason)
        # Rows of no unit belong to one that was read anew.
        good = np.flatnonzero(~bad & ~off & ~void & (unit >= 0))
        where = np.full(len(good), block, np.int32)
        sizes = self._nbytes(block, len(ra))[good]
        return [
            *(values[good] for values in (ra, dec, unit, turn_of)),
            where,
            good,
            sizes,
            names[good],
        ]

    def _unique(self, objects: Objects, names: NDArray[Any]) -> tuple[Objects, NDArray[Any]]:
        """Keep the first of the objects that have one identifier, in the order of the units."""
        _, first = np.unique(names, return_index=True)
        again = np.ones(len(names), bool)
        again[first] = False
        if self._taken is not None:
            again |= (objects.unit >= self._n_kept) & np.isin(names, self._taken)
        if not again.any():
            return objects, names
        if self._rules.duplicates == "error":
            raise BuildError(
                self._rules.where,
                f"{again.sum()} objects repeat an observation_id, first {_text(names[again][0])!r}",
            )
        self._reject(objects.unit[again], names[again], REPEATED)
        return objects.take(~again), names[~again]

    def _reject(self, units: NDArray[Any], names: NDArray[Any], reason: str) -> None:
        self.rejected.extend(
            (self._keys[unit], Rejected(_text(name), reason))
            for unit, name in zip(units, names, strict=True)
            if unit >= 0
        )

    def _nbytes(self, block: int, n_objects: int) -> NDArray[np.int64]:
        """Count the bytes of each object of a block."""
        total: NDArray[np.int64] | None = None
        fixed = 0
        for column in self._survey.columns:
            if column.shared:
                continue
            values = self._spool.column(block, column.name)
            if isinstance(values, Ragged):
                each = values.values.dtype.itemsize * values.shapes.prod(axis=1)
                total = each if total is None else total + each
            else:
                fixed += values.dtype.itemsize * int(np.prod(values.shape[1:], dtype=np.int64))
        return np.full(n_objects, fixed, np.int64) + (0 if total is None else total)


def _check_tolerance(placed: Placed, spool: Spool, rules: Rules, kept: set[str]) -> None:
    reasons = placed_reasons(placed.rejected)
    units = [unit for key, unit in spool.units.items() if key not in kept]
    if not len(placed.objects):
        raise BuildError(rules.where, f"no object is left; {_main_reasons(reasons)}")
    # A file that cannot be read counts as one object, but holds any number of them.
    n_failed = sum(unit["failed"] for unit in units)
    n_faults = sum(r.count for _, r in placed.rejected if r.fault)
    for count, of, what in ((n_failed, len(units), "files"), (n_faults, placed.n_read, "objects")):
        if count > rules.tolerance * of:
            raise BuildError(
                rules.where,
                f"{count} of {of} {what} were rejected, more than the tolerance of "
                f"{rules.tolerance:g}; {_main_reasons(reasons)}; first: "
                f"{next(r.key for _, r in placed.rejected if r.fault)}",
            )


def placed_reasons(rejected: Sequence[tuple[str, Rejected]]) -> dict[str, int]:
    """
    Count what was rejected for each reason.

    Parameters
    ----------
    rejected : sequence of tuple
        The unit, and what was rejected of it.

    Returns
    -------
    dict of str to int
        The most frequent reason first.
    """
    counts: dict[str, int] = {}
    for _, one in rejected:
        counts[one.reason] = counts.get(one.reason, 0) + one.count
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _main_reasons(reasons: Mapping[str, int]) -> str:
    if not reasons:
        return "nothing was read"
    listed = [f"{reason} ({count})" for reason, count in itertools.islice(reasons.items(), 3)]
    return f"reasons: {'; '.join(listed)}"


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
