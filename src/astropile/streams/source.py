"""What a stream reads: columns of chosen rows of a tree, as arrays with one item per row."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from astropile.arrow import Block
from astropile.catalog import Catalog, open_catalog
from astropile.errors import SampleError, UnknownColumnError
from astropile.names import COMMON_COLUMNS
from astropile.schema import Ragged, Record, RecordList, Survey, column_names
from astropile.view import source_block

Batch: TypeAlias = "dict[str, Any]"
"""Column to array of shape ``(n, *shape)``, tensor of that shape, or `Ragged`."""

Arrays: TypeAlias = "dict[str, NDArray[Any] | Ragged]"
Room: TypeAlias = "Mapping[str, NDArray[Any]]"
Rows: TypeAlias = "NDArray[np.int64]"


class Source(Protocol):
    """Rows that a stream goes through; it is small to pickle and holds no open file."""

    @property
    def fingerprint(self) -> str:
        """What tells its content from any other."""

    @property
    def in_place(self) -> frozenset[str]:
        """Columns that can be read right into the memory that is given for them."""

    def __len__(self) -> int: ...

    def read(self, rows: Rows, room: Room) -> Arrays:
        """
        Read the columns of some rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Which, in any order.
        room : mapping of str to ndarray
            Memory to be used for columns, shape ``(n, *shape)``: what an earlier call gave.

        Returns
        -------
        dict of str to ndarray or Ragged
            The columns; those of `room` in it.
        """


class CatalogSource:
    """
    Columns of a tree, native or standard.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    columns : sequence of str, optional
        Native and common columns, standard names, fields of records (``"spectrum.flux"``) and
        records, which stand for all their fields; by default all native columns.
    rows : ndarray of int64, optional
        Objects of the tree to take, in this order; by default all.

    Raises
    ------
    UnknownColumnError
        If there is no such column.
    SampleError
        If a name stands for records of several kinds.
    """

    def __init__(
        self, catalog: Catalog, columns: Sequence[str] | None = None, rows: Rows | None = None
    ) -> None:
        if isinstance(columns, str):
            raise TypeError(f"columns: expected a sequence of names, as [{columns!r}], found one")
        self.catalog, self.rows = catalog, rows
        names = catalog.survey.column_names if columns is None else columns
        self.fields = dict(field for name in names for field in _fields_of(catalog.survey, name))
        native = [_native_name(field) for field in self.fields.values()]
        self.in_place = frozenset(
            name
            for name, field in self.fields.items()
            if isinstance(field, str) and self._is_fixed(field)
        )
        self._needed = list(dict.fromkeys(name for found in native for name in found))

    @property
    def fingerprint(self) -> str:
        """The snapshot of the tree, and a hash of the rows that were chosen of it."""
        snapshot = self.catalog.snapshot
        return snapshot if self.rows is None else f"{snapshot}:{hash_of(self.rows)}"

    def __len__(self) -> int:
        return len(self.catalog) if self.rows is None else len(self.rows)

    def read(self, rows: Rows, room: Room) -> Arrays:
        """
        Read the columns of some rows.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Which of the rows.
        room : mapping of str to ndarray
            Memory to be used.

        Returns
        -------
        dict of str to ndarray or Ragged
            Columns as they are stored are read right into the room; what is worked out, or is
            the same for all rows, is not.
        """
        out = {
            source: room[name]
            for name, source in self.fields.items()
            if name in room and name in self.in_place
        }
        chosen = rows if self.rows is None else self.rows[rows]
        taken = self.catalog.take(chosen, self._needed, out=out)
        found: Arrays = {}
        for name, source in self.fields.items():
            if isinstance(source, str):
                found[name] = self._spread(source, taken[source], len(rows))
            else:
                block = source_block(self.catalog.survey, taken, len(rows), source)
                found[name] = _array_of(block, len(rows))
        return found

    def _is_fixed(self, name: str) -> bool:
        survey = self.catalog.survey
        if name in COMMON_COLUMNS:
            return True
        return not survey[name].shared and not survey.ragged_dims(survey[name])

    def _spread(self, name: str, values: NDArray[Any] | Ragged, n: int) -> NDArray[Any] | Ragged:
        survey = self.catalog.survey
        if name in COMMON_COLUMNS or not survey[name].shared:
            return values
        one = np.asarray(values)
        return np.broadcast_to(one, (n, *one.shape))


def _fields_of(survey: Survey, name: str) -> Iterator[tuple[str, Any]]:
    """Say where the arrays that a name stands for come from."""
    first, *rest = name.split(".")
    if name in COMMON_COLUMNS or (name in survey.column_names and name not in survey.aliases):
        yield name, name
        return
    source: Any = survey.aliases.get(first)
    for field in rest:
        source = _inside(source).get(field)
    if source is None:
        known = [leaf for alias in survey.aliases.items() for leaf, _ in _leaves(*alias)]
        listed = dict.fromkeys((*COMMON_COLUMNS, *survey.aliases, *known, *survey.column_names))
        raise UnknownColumnError(name, survey.name, tuple(listed))
    yield from _leaves(name, source)


def _inside(source: Any) -> dict[str, Any]:
    match source:
        case Record(fields):
            return dict(fields)
        case RecordList(fields):
            there = {"there": source.where} if source.where else {}
            return {**fields, **there}
    return {}


def _leaves(name: str, source: Any) -> Iterator[tuple[str, Any]]:
    match source:
        case Record() | RecordList():
            for field, inner in _inside(source).items():
                yield from _leaves(f"{name}.{field}", inner)
        case tuple():
            for member in source:
                yield from _leaves(name, member)
        case _:
            yield name, source


def _native_name(source: Any) -> tuple[str, ...]:
    return (source,) if isinstance(source, str) else tuple(column_names(source))


def _array_of(block: Block, n: int) -> NDArray[Any] | Ragged:
    """Give the items of a block as one array, or as ragged values where their shapes differ."""
    values = block.values
    if block.null is not None and values.dtype.kind == "f":
        values = np.where(block.null, np.nan, values)
    if all(isinstance(dim, int) for dim in block.dims):
        items = values.reshape(block.n, *block.dims)
        return np.broadcast_to(items, (n, *items.shape[1:])) if block.shared else items
    if block.shared:
        return _array_of(block.spread(1, n), n)
    dims = [np.broadcast_to(np.asarray(dim, np.int64), (block.n,)) for dim in block.dims]
    offsets = np.concatenate(([0], np.cumsum(block.sizes)))
    return Ragged(values, offsets, np.stack(dims, axis=1))


class MatchSource:
    """
    Columns of the surveys of a match, row by row.

    Parameters
    ----------
    sides : mapping of str to CatalogSource
        What is read of each survey.
    rows : mapping of str to ndarray of int64
        Row numbers of each, -1 where it has no part.

    Notes
    -----
    Columns are called ``side.column``; ``side.present`` is False in the rows that a survey has
    no part in, whose numbers are 0, text empty and ragged values of length 0.
    """

    def __init__(self, sides: Mapping[str, CatalogSource], rows: Mapping[str, Rows]) -> None:
        self.sides = dict(sides)
        self.rows = {name: np.asarray(rows[name], np.int64) for name in self.sides}

    @property
    def fingerprint(self) -> str:
        """The snapshots of the trees and a hash of the pairs."""
        parts = [
            f"{name}:{side.fingerprint}:{hash_of(self.rows[name])}"
            for name, side in self.sides.items()
        ]
        return " ".join(parts)

    @property
    def in_place(self) -> frozenset[str]:
        """Columns that are read right into the room."""
        return frozenset(
            f"{name}.{column}" for name, side in self.sides.items() for column in side.in_place
        )

    def __len__(self) -> int:
        return len(next(iter(self.rows.values())))

    def read(self, rows: Rows, room: Room) -> Arrays:
        """
        Read the columns of some rows of the match.

        Parameters
        ----------
        rows : ndarray of int64, shape (n,)
            Rows of the match.
        room : mapping of str to ndarray
            Memory to be used.

        Returns
        -------
        dict of str to ndarray or Ragged
            The columns of all sides.
        """
        found: Arrays = {}
        for name, side in self.sides.items():
            own = {
                key[len(name) + 1 :]: value
                for key, value in room.items()
                if key.startswith(f"{name}.")
            }
            places = self.rows[name][rows]
            there = places >= 0
            columns = _read_where(side, places, there, own)
            found.update({f"{name}.{column}": values for column, values in columns.items()})
            found[f"{name}.present"] = there
        return found


def _read_where(side: CatalogSource, places: Rows, there: NDArray[np.bool_], room: Room) -> Arrays:
    if there.all():
        return side.read(places, room)
    # A missing row is read as one that is needed anyway, then emptied: nothing is moved.
    stand_in = places[there][0] if there.any() else 0
    columns = side.read(np.where(there, places, stand_in), room)
    return {name: _emptied(values, there) for name, values in columns.items()}


def _emptied(values: NDArray[Any] | Ragged, there: NDArray[np.bool_]) -> NDArray[Any] | Ragged:
    if isinstance(values, Ragged):
        lengths = np.where(there, np.diff(values.offsets), 0)
        kept = values.values[np.repeat(there, np.diff(values.offsets))]
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        return Ragged(kept, offsets, np.where(there[:, None], values.shapes, 0))
    if not values.flags.writeable:
        values = values.copy()
    values[~there] = np.zeros((), values.dtype)
    return values


def hash_of(rows: Rows) -> str:
    """
    Hash row numbers.

    Parameters
    ----------
    rows : ndarray of int64
        The numbers.

    Returns
    -------
    str
        Sixteen hexadecimal digits.
    """
    import hashlib

    content = np.ascontiguousarray(rows, "<i8")
    return hashlib.blake2b(content.data, digest_size=8).hexdigest()


Columns: TypeAlias = "Sequence[str] | Mapping[str, Sequence[str] | None] | None"


def open_source(source: Any, columns: Columns) -> Source:
    """
    Open whatever can be streamed.

    Parameters
    ----------
    source : Catalog, path, URL, CrossMatch, MatchedSample or datasets.Dataset
        A tree, the match of trees, or a lazy dataset of either: rows chosen of it too.
    columns : sequence or mapping, optional
        Columns of a tree; for a match, the columns of each survey by its name. Surveys that
        are not named are not read. By default all native columns; of a dataset with chosen
        columns, these.

    Returns
    -------
    Source
        Its rows.

    Raises
    ------
    SampleError
        If it is none of these, a side of the match is not a tree, or a dataset has values of
        its own.
    UnknownColumnError
        If there is no such column or survey.
    """
    if isinstance(source, str | os.PathLike):
        source = open_catalog(source)
    if isinstance(source, Catalog):
        return _open_tree(source, None, columns, None)
    sample = getattr(source, "sample", source)
    if hasattr(sample, "sides") and hasattr(sample, "rows"):
        parts = {name: side.part for name, side in sample.sides.items()}
        return _open_match(parts, sample.rows, columns, {})
    # Where there is a dataset, its library was imported.
    library = sys.modules.get("datasets")
    if library is None or not isinstance(source, library.Dataset):
        expected = "a tree, its path or URL, a match, or a datasets.Dataset of one"
        raise SampleError("source", expected, type(source).__name__)
    from astropile.hf.origin import MatchPart, origin_of

    match origin_of(source):
        case MatchPart(sides, rows):
            opened = {name: (part.catalog, part.rows) for name, part in sides.items()}
            own = {name: part.columns for name, part in sides.items()}
            return _open_match(opened, rows, columns, own)
        case part:
            return _open_tree(part.catalog, part.rows, columns, part.columns)


def _open_tree(
    catalog: Catalog, rows: Rows | None, columns: Columns, own: Sequence[str] | None
) -> CatalogSource:
    if isinstance(columns, Mapping):
        raise SampleError("columns", "names of columns", "a mapping, which is for a match")
    return CatalogSource(catalog, own if columns is None else columns, rows)


def _open_match(
    parts: Mapping[str, tuple[Catalog, Rows | None] | None],
    rows: Mapping[str, Rows],
    columns: Columns,
    own: Mapping[str, Sequence[str] | None],
) -> MatchSource:
    if columns is not None and not isinstance(columns, Mapping):
        raise SampleError("columns", "a mapping of survey to columns, for a match", repr(columns))
    chosen = {name: own.get(name) for name in parts} if columns is None else columns
    sides = {}
    for name, wanted in chosen.items():
        if name not in parts:
            raise UnknownColumnError(name, "the match", tuple(parts))
        part = parts[name]
        if part is None:
            raise SampleError(f"side {name!r} of the match", "a tree", "a table")
        sides[name] = CatalogSource(part[0], wanted, part[1])
    if not sides:
        raise SampleError("columns", "at least one survey", "none")
    return MatchSource(sides, {name: rows[name] for name in sides})
