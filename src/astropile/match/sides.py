"""What can stand on a side of a match: a tree, or a table of any kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.catalog import Catalog
from astropile.errors import UnknownColumnError
from astropile.match.contents import Content, TableContent, TreeContent, hash_of_rows
from astropile.match.inputs import SkyTable, as_positions, open_side
from astropile.names import COMMON_COLUMNS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

DEFAULT_ORDER: Final = 4
"""HEALPix order of what comes of sides of which the first is no tree."""

SHOWN: Final = tuple(name for name in COMMON_COLUMNS if name != "healpix")
"""What a line of a match's catalogue shows of a side."""


class Side(ABC):
    """One side of a match."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is called, before names are told apart."""

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def provenance(self) -> dict[str, str]:
        """What the rows come from."""

    @abstractmethod
    def positions(self) -> tuple[Floats, Floats]:
        """Read the positions of all rows [deg, ICRS]."""

    @abstractmethod
    def lines(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """Read the columns that a line of the catalogue shows, ``ra`` and ``dec`` at least."""

    @abstractmethod
    def column(self, name: str) -> NDArray[Any]:
        """Read one column of all rows."""

    @abstractmethod
    def table(self) -> SkyTable:
        """Give the rows with all their columns of one number or text each."""

    @abstractmethod
    def content(self) -> Content:
        """Give what the rows bring into a tree."""

    @property
    def tree(self) -> Catalog | None:
        """The tree, where the side is all of one."""
        return None

    @property
    def part(self) -> tuple[Catalog, Ints | None] | None:
        """The tree whose objects the rows are, and which of them; None in place of all."""
        return None if self.tree is None else (self.tree, None)

    @property
    def tree_rows(self) -> bool:
        """Whether the rows are objects of a tree, whose identifiers are unique."""
        return self.tree is not None

    @property
    def order(self) -> int:
        """HEALPix order of the tree, where it is one."""
        return DEFAULT_ORDER if self.tree is None else self.tree.order

    @property
    def licence(self) -> str:
        """The licence, as it is stated."""
        return "unknown" if self.tree is None else self.tree.survey.licence

    def lines_where(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """Read lines of rows that may be -1: masked there."""
        there = rows >= 0
        found = self.lines(rows[there])
        if there.all():
            return found
        lines: dict[str, NDArray[Any]] = {}
        for name, values in found.items():
            filled = np.zeros(len(rows), values.dtype)
            filled[there] = np.ma.getdata(values)
            mask = ~there
            mask[there] |= np.ma.getmaskarray(values)
            lines[name] = np.ma.MaskedArray(filled, mask=mask)
        return lines


class TreeSide(Side):
    """
    All objects of a tree.

    Parameters
    ----------
    catalog : Catalog
        The tree.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    @property
    def name(self) -> str:
        """The survey's name."""
        return self._catalog.survey.name

    def __len__(self) -> int:
        return len(self._catalog)

    @property
    def provenance(self) -> dict[str, str]:
        """Survey, release, subset and snapshot."""
        return tree_provenance(self._catalog)

    @property
    def tree(self) -> Catalog:
        """The tree."""
        return self._catalog

    def positions(self) -> tuple[Floats, Floats]:
        """
        Read the positions of all rows.

        Returns
        -------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS].
        """
        return self._catalog.positions()

    def lines(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """
        Read the columns that a line of the catalogue shows.

        Parameters
        ----------
        rows : ndarray of int64
            Which rows.

        Returns
        -------
        dict of str to ndarray
            Identifiers and positions.
        """
        if len(rows) * 4 < len(self):
            taken: dict[str, Any] = self._catalog.take(rows, SHOWN)
            return {name: _as_text(values) for name, values in taken.items()}
        table = self._catalog.light(SHOWN)
        found = {name: _as_array(table.column(name)) for name in SHOWN}
        return {name: values[rows] for name, values in found.items()}

    def column(self, name: str) -> NDArray[Any]:
        """
        Read one light column of all rows.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        ndarray
            Its values.
        """
        return _as_array(self._catalog.light([name]).column(0))

    def table(self) -> SkyTable:
        """
        Give the rows with their light columns.

        Returns
        -------
        SkyTable
            The rows.
        """
        return as_positions(self._catalog)

    def content(self) -> Content:
        """
        Give what the rows bring into a tree.

        Returns
        -------
        Content
            All native columns.
        """
        return TreeContent(self._catalog)


class TableSide(Side):
    """
    The rows of a table.

    Parameters
    ----------
    table : SkyTable
        The table.
    """

    def __init__(self, table: SkyTable) -> None:
        self._table = table

    @property
    def name(self) -> str:
        """What the table is called."""
        return self._table.name

    def __len__(self) -> int:
        return len(self._table)

    @property
    def provenance(self) -> dict[str, str]:
        """Name of the table, where its positions are, and a hash of them."""
        table = self._table
        return {
            "table": table.name,
            "positions": f"{table.ra_column}, {table.dec_column}",
            "fingerprint": hash_of_rows(table.ra, table.dec),
        }

    def positions(self) -> tuple[Floats, Floats]:
        """
        Read the positions of all rows.

        Returns
        -------
        ra, dec : ndarray, shape (n,), float64
            Positions [deg, ICRS], NaN where a row has none.
        """
        return self._table.positions()

    def lines(self, rows: Ints) -> dict[str, NDArray[Any]]:
        """
        Read the columns that a line of the catalogue shows.

        Parameters
        ----------
        rows : ndarray of int64
            Which rows.

        Returns
        -------
        dict of str to ndarray
            Positions, and identifiers where the table has columns of these names.
        """
        found: dict[str, NDArray[Any]] = {
            name: self.column(name)[rows]
            for name in SHOWN
            if name in self._table.column_names and name not in {"ra", "dec"}
        }
        return {**found, "ra": self._table.ra[rows], "dec": self._table.dec[rows]}

    def column(self, name: str) -> NDArray[Any]:
        """
        Read one column of all rows.

        Parameters
        ----------
        name : str
            The column.

        Returns
        -------
        ndarray
            Its values, masked where there is none.
        """
        if name not in self._arrow.column_names:
            raise UnknownColumnError(name, self.name, tuple(self._arrow.column_names))
        column = self._arrow.column(name)
        if not column.null_count:
            return _as_array(column)
        missing = column.is_null().to_numpy(zero_copy_only=False)
        filled = column.drop_null()
        whole = _as_array(filled)
        values = np.zeros(len(column), whole.dtype)
        values[~missing] = whole
        return np.ma.MaskedArray(values, mask=missing)

    @cached_property
    def _arrow(self) -> Any:
        return self._table.table()

    def table(self) -> SkyTable:
        """
        Give the table.

        Returns
        -------
        SkyTable
            It.
        """
        return self._table

    def content(self) -> Content:
        """
        Give what the rows bring into a tree.

        Returns
        -------
        Content
            All columns of the table.
        """
        arrow = self._arrow
        return TableContent(
            self.name,
            arrow.schema,
            len(self),
            lambda rows, names: arrow.select(names).take(rows),
            self._table.units(),
            self.provenance,
        )


def tree_provenance(catalog: Catalog) -> dict[str, str]:
    """
    Say of a tree what a match states of it.

    Parameters
    ----------
    catalog : Catalog
        The tree.

    Returns
    -------
    dict of str to str
        Project, survey, release, subset, snapshot.
    """
    facts = {**catalog.survey.provenance, "subset": catalog.subset}
    return {**facts, "snapshot": catalog.snapshot}


def as_side(value: Any) -> Side:
    """
    Take whatever `match_surveys` matches as a side.

    Parameters
    ----------
    value : object
        A side, a `Catalog`, or what `as_positions` takes.

    Returns
    -------
    Side
        The side.

    Raises
    ------
    MatchError, TreeNotFoundError
        As for `as_positions`.
    """
    if isinstance(value, Side):
        return value
    opened = open_side(value)
    return TreeSide(opened) if isinstance(opened, Catalog) else TableSide(opened)


def _as_text(values: NDArray[Any]) -> NDArray[Any]:
    return np.char.decode(values, "utf-8") if values.dtype.kind == "S" else values


def _as_array(column: Any) -> NDArray[Any]:
    values = np.asarray(column)
    return values.astype(np.str_) if values.dtype.kind == "O" else values
