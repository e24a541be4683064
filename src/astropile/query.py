"""
Questions in SQL about the light columns, answered by DuckDB: rows, or tables.

SQL sees one table, ``catalog``, with a row per object: `_row_number`, the common columns, the
standard names that are one number or string, and the light native columns. It is read from the
catalogue's files as far as a question needs it. A question can only ask: it changes nothing and
reaches no file and no network.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from astropile.errors import MissingExtraError, QueryError, UnknownColumnError
from astropile.formula import evaluate, names_in
from astropile.hats import open_dataset, read_hats
from astropile.layout import CATALOG_DIR
from astropile.manifest import Partition, Root
from astropile.names import COMMON_COLUMNS, ROW_COLUMN, ROW_NUMBER, SHARD_COLUMN
from astropile.schema import Constant, Formula, Survey

MEMORY_NBYTES: Final = 2**30
"""DuckDB uses at most so much memory for a question; what does not fit goes to a temporary file."""

TABLE_FUNCTIONS: Final = frozenset({"generate_series", "range", "unnest"})
"""What may stand after FROM beside tables: these make rows of nothing but their arguments."""

_SQL_TYPES: Final = {
    "bool": "BOOLEAN",
    "int8": "TINYINT",
    "int16": "SMALLINT",
    "int32": "INTEGER",
    "int64": "BIGINT",
    "uint8": "UTINYINT",
    "uint16": "USMALLINT",
    "uint32": "UINTEGER",
    "uint64": "UBIGINT",
    "float32": "FLOAT",
    "float64": "DOUBLE",
}

_NOT_FOUND: Final = re.compile(r'Referenced column "([^"]+)" not found')
_FROM_FILES: Final = re.compile(r"arrow|stream", re.IGNORECASE)
"""What DuckDB's message has in it where reading the files failed, not the question."""

_NO_TABLE: Final = re.compile(r'Referenced table "([^"]+)" not found')


class Queries:
    """What a `Catalog` can be asked in SQL."""

    path: Path
    root: Root

    if TYPE_CHECKING:  # What a catalog brings.

        def follow(self) -> bool: ...  # noqa: D102

    def query(self, where: str, *, memory_nbytes: int = MEMORY_NBYTES) -> NDArray[np.int64]:
        """
        Choose the objects for which a condition holds.

        Parameters
        ----------
        where : str
            The condition: what SQL has after WHERE. Names as the survey spells them, or
            standard ones; dots in them are allowed.
        memory_nbytes : int
            Memory that DuckDB may use [bytes].

        Returns
        -------
        ndarray, shape (n,), int64
            Row numbers, sorted.

        Raises
        ------
        UnknownColumnError
            If a name is not among `query_columns`.
        QueryError
            If it is not a condition of SQL.
        MissingExtraError
            If DuckDB is not installed.
        FormatError
            If a file of the catalogue is missing or damaged.

        Notes
        -----
        A number that is not a number (NaN) is NULL in SQL: no comparison with it holds, and
        ``z IS NULL`` finds it.
        """
        if not where.strip():
            raise QueryError(where, "a condition, as SQL has after WHERE, is missing")
        statement = f"SELECT {ROW_NUMBER} FROM catalog WHERE ({where}\n)"  # noqa: S608
        with self._engine(memory_nbytes).opened() as engine:
            table = engine.ask(statement, where, condition=True)
        return np.sort(np.asarray(table[ROW_NUMBER].to_numpy(), np.int64))

    def sql(self, query: str, *, memory_nbytes: int = MEMORY_NBYTES) -> pa.Table:
        """
        Ask a question in SQL.

        Parameters
        ----------
        query : str
            One SELECT of DuckDB's SQL, from the table ``catalog``.
        memory_nbytes : int
            Memory that DuckDB may use, beside the result [bytes].

        Returns
        -------
        pyarrow.Table
            The answer. Its rows are in no order unless ORDER BY gives one.

        Raises
        ------
        UnknownColumnError
            If a name is not among `query_columns`.
        QueryError
            If it is not one SELECT, asks for a file or function it may not, or fails.
        MissingExtraError
            If DuckDB is not installed.
        FormatError
            If a file of the catalogue is missing or damaged.
        """
        with self._engine(memory_nbytes).opened() as engine:
            return engine.ask(query, query)

    @property
    def query_columns(self) -> tuple[str, ...]:
        """Names that `query` and `sql` know: one number or string per object each."""
        return tuple(source.name for source in _sources(self.root.survey))

    def _engine(self, memory_nbytes: int) -> _Engine:
        self.follow()
        return _Engine(self.root, self._relation, self._check_files, memory_nbytes)

    def _check_files(self, columns: list[str]) -> None:
        """Raise `FormatError` where columns of the catalogue cannot be read."""
        if isinstance(self.path, Path):
            read_hats(self.path / CATALOG_DIR, columns)

    def _relation(self, schema: pa.Schema) -> Any:
        """Give columns of the catalogue as something that DuckDB can read as often as it must."""
        return open_dataset(self.path / CATALOG_DIR, schema)


@dataclass(frozen=True)
class _Source:
    """
    A column of the table that SQL sees.

    Parameters
    ----------
    name : str
        As the survey, or the standard, spells it.
    sql_name : str
        Under which name SQL knows it, which does not tell capital letters from small ones.
    origin : str, Formula or Constant
        The catalogue's column, or how it is made.
    """

    name: str
    sql_name: str
    origin: str | Formula | Constant


def _sources(survey: Survey) -> list[_Source]:
    """List the columns: common and standard ones first, then native ones."""
    light = {column.name for column in survey.columns if column.is_light}
    found = [_Source(ROW_NUMBER, ROW_NUMBER, ROW_NUMBER)]
    found += [_Source(name, name, name) for name in COMMON_COLUMNS]
    for name, alias in survey.aliases.items():
        native = isinstance(alias, str) and alias in light
        scalar = isinstance(alias, Formula) and light.issuperset(names_in(alias.expression))
        single = isinstance(alias, Constant) and isinstance(alias.value, str | int | float)
        if name not in COMMON_COLUMNS and (native or scalar or single):
            assert isinstance(alias, str | Formula | Constant)
            found.append(_Source(name, name, alias))
    taken = {source.sql_name.lower(): source for source in found}
    for column in survey.columns:
        if column.name not in light or any(column.name == source.name for source in found):
            continue
        same = taken.get(column.name.lower())
        if same is None:
            sql_name = column.name
        elif column.name in (same.origin, survey.aliases.get(same.name)):
            # The standard column is this one.
            found.append(_Source(column.name, same.sql_name, same.origin))
            continue
        else:
            sql_name = f"native_{column.name}"
            while sql_name.lower() in taken:
                sql_name += "_"
        found.append(_Source(column.name, sql_name, column.name))
        taken[sql_name.lower()] = found[-1]
    return found


class _Engine:
    """DuckDB over one catalogue, shut in."""

    def __init__(
        self,
        root: Root,
        relation: Callable[[pa.Schema], Any],
        check_files: Callable[[list[str]], None],
        memory_nbytes: int,
    ) -> None:
        self._root, self._relation, self._check_files = root, relation, check_files
        self._memory = memory_nbytes
        self._where = f"{root.survey.name}/{root.subset}"
        self._kinds = _stored_kinds(root.survey)
        self._sources = _sources(root.survey)
        self._dotted: list[str] = []
        self._exact = {source.name: source.sql_name for source in self._sources}
        self._any_case: dict[str, str] = {}
        for source in self._sources:
            self._any_case.setdefault(source.name.lower(), source.sql_name)

    @contextlib.contextmanager
    def opened(self) -> Iterator[_Engine]:
        """Start DuckDB and shut every door."""
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtraError("SQL over the catalogue", "query") from error
        self._duckdb = duckdb
        with tempfile.TemporaryDirectory(prefix="astropile-query-") as spill:
            self._connection: Any = duckdb.connect(":memory:", config={"temp_directory": spill})
            try:
                for source in self._sources:
                    self._make_functions(source)
                for setting in (
                    f"memory_limit = '{max(self._memory, 2**24)}B'",
                    "python_enable_replacements = false",
                    "enable_external_access = false",
                    "lock_configuration = true",
                ):
                    self._connection.execute(f"SET {setting}")
                yield self
            finally:
                self._connection.close()

    # -- the table

    def _show(self, names: set[str], relation: Callable[[pa.Schema], Any]) -> None:
        """Make the view ``catalog`` of the columns that SQL knows by these names."""
        chosen: dict[str, _Source] = {}
        for source in self._sources:
            if source.sql_name in names:
                chosen.setdefault(source.sql_name, source)
        needed = dict.fromkeys(name for source in chosen.values() for name in _needs(source))
        # DuckDB cannot read a table of no column.
        base = list(needed) or ["healpix"]
        self._read_columns = base
        schema = pa.schema([(name, self._kinds[name]) for name in base])
        self._connection.register("_files", relation(schema))
        # By place: names may differ in capital letters only.
        column = {name: f"c{number}" for number, name in enumerate(base)}
        fields = [f"{self._field(s, column)} AS {_quoted(name)}" for name, s in chosen.items()]
        self._connection.execute(
            f"CREATE OR REPLACE VIEW catalog AS SELECT {', '.join(fields) or 'c0'} "  # noqa: S608
            f"FROM _files AS files({', '.join(column.values())})"
        )

    def _field(self, source: _Source, column: Mapping[str, str]) -> str:
        """Write how a column of the view is made of the files' columns."""
        arguments = ", ".join(column[name] for name in _needs(source))
        match source.origin:
            case Constant(value):
                return _literal(value)
            case Formula():
                return f"{_quoted(f'formula of {source.sql_name}')}({arguments})"
            case str(name) if name == ROW_NUMBER:
                return f"row_number_of({arguments})"
            case name:
                floating = pa.types.is_floating(self._kinds[name])
                return f"nullif({arguments}, 'nan')" if floating else arguments

    def _make_functions(self, source: _Source) -> None:
        """Give DuckDB the functions that a column is made with."""
        needs = _needs(source)
        kinds = [self._kinds[name] for name in needs]
        match source.origin:
            case Formula(expression, dtype):
                work = partial(_evaluate, expression, needs, dtype)
                self._function(f"formula of {source.sql_name}", work, kinds, _SQL_TYPES[dtype])
            case str(name) if name == ROW_NUMBER:
                work = partial(_row_numbers, *_starts(self._root.partitions))
                self._function("row_number_of", work, kinds, "BIGINT")

    def _function(
        self, name: str, work: Callable[..., pa.Array], kinds: list[pa.DataType], result: str
    ) -> None:
        def call(*columns: Any) -> pa.Array:
            return work(*columns)

        # DuckDB asks the function how many arguments it takes.
        numbered = [f"column_{number}" for number in range(len(kinds))]
        call.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(each, inspect.Parameter.POSITIONAL_ONLY) for each in numbered]
        )
        takes = [_SQL_TYPES[np.dtype(kind.to_pandas_dtype()).name] for kind in kinds]
        self._connection.create_function(name, call, takes, result, type="arrow")

    # -- the question

    def ask(self, statement: str, text: str, *, condition: bool = False) -> pa.Table:
        """Check a question, put it, and give the answer; `text` is what the user wrote."""
        try:
            statement, names = self._checked(statement, text, condition=condition)
            # First without the files: what is wrong is found before anything is read.
            self._show({*self._exact.values()}, pa.Schema.empty_table)
            self._connection.sql(statement)
            self._show(names, self._relation)
            return self._connection.sql(statement).to_arrow_table()
        except self._duckdb.OutOfMemoryException as error:
            reason = f"it needs more than {self._memory} bytes of memory: {_line(error)}"
            raise QueryError(text, reason) from None
        except self._duckdb.Error as error:
            reason = _line(error)
            missing = self._missing(reason)
            if missing:
                raise UnknownColumnError(missing, self._where, tuple(self._exact)) from None
            if _FROM_FILES.search(reason):
                self._check_files(self._read_columns)
            raise QueryError(text, reason) from None

    def _missing(self, reason: str) -> str | None:
        """Find out of DuckDB's message which name there is no column for."""
        found = _NOT_FOUND.search(reason)
        if found:
            return None if found[1].lower() in self._any_case else found[1]
        # A dotted name that is not there looks like a column of another table.
        found = _NO_TABLE.search(reason)
        return next((name for name in self._dotted if found and name.startswith(found[1])), None)

    def _checked(self, statement: str, text: str, *, condition: bool) -> tuple[str, set[str]]:
        """
        Take a statement apart, refuse what is not a question, and spell the names for SQL.

        Gives the statement, and the columns of the view that it needs.
        """
        cursor = self._connection.execute("SELECT json_serialize_sql(?)", [statement])
        parsed = json.loads(cursor.fetchall()[0][0])
        if parsed["error"]:
            reason = parsed.get("error_message", "not SQL").split("\n")[0]
            if reason.startswith("Only SELECT"):
                reason = "only SELECT is allowed: a query reads the catalogue"
            raise QueryError(text, reason)
        statements = parsed["statements"]
        if len(statements) != 1:
            raise QueryError(text, f"one SELECT at a time, not {len(statements)}")
        if condition and not _is_condition(statements[0]["node"]):
            raise QueryError(text, "one condition, as SQL has after WHERE")
        nodes = list(_nodes(statements[0]))
        references = [list(node["column_names"]) for node in _references(nodes)]
        self._dotted = [".".join(parts) for parts in references if len(parts) > 1]
        for node in nodes:
            if node.get("type") == "TABLE_FUNCTION":
                name = node["function"]["function_name"]
                if name not in TABLE_FUNCTIONS:
                    raise QueryError(text, f"{name}() is not allowed: a query reads the catalogue")
        tables = {str(node.get("alias", "")).lower() for node in nodes if "class" not in node}
        own = {str(node.get("alias", "")).lower() for node in nodes if "class" in node}
        for node in nodes:
            own.update(str(name).lower() for name in node.get("column_name_alias") or ())
        needed: set[str] = set()
        for node, parts in zip(_references(nodes), references, strict=True):
            node["column_names"], known = self._spelled(parts, own)
            # A name that is no column may be a result's, or a table's as a whole.
            if known or parts[-1].lower() not in own - tables:
                needed.add(known or "*")
        for node in nodes:
            needed.update(self._any_case.get(n.lower(), "*") for n in node.get("using_columns", ()))
        if "*" in needed or any(_takes_all(node) for node in nodes):
            needed.update(self._exact.values())
        cursor = self._connection.execute("SELECT json_deserialize_sql(?)", [json.dumps(parsed)])
        return str(cursor.fetchall()[0][0]), needed

    def _spelled(self, parts: list[str], own: set[str]) -> tuple[list[str], str | None]:
        """Give a name as the view has it: dots rejoined, capital letters told apart."""
        for first in range(len(parts)):
            name = ".".join(parts[first:])
            known = self._exact.get(name) or self._any_case.get(name.lower())
            if known:
                return (parts if name.lower() in own else [*parts[:first], known]), known
        return parts, None


def _stored_kinds(survey: Survey) -> dict[str, pa.DataType]:
    """Give the types of the catalogue's columns."""

    def kind(dtype: str) -> pa.DataType:
        return pa.string() if dtype.startswith("S") else pa.from_numpy_dtype(np.dtype(dtype))

    kinds = {"ra": pa.float64(), "dec": pa.float64(), "healpix": pa.int64()}
    kinds |= {SHARD_COLUMN: pa.int32(), ROW_COLUMN: pa.int64()}
    for name in ("object_id", "observation_id"):
        kinds[name] = kind(survey[str(survey.aliases[name])].dtype)
    native = {column.name: kind(column.dtype) for column in survey.columns if column.is_light}
    return {**native, **kinds}


def _needs(source: _Source) -> tuple[str, ...]:
    """Name the columns of the catalogue that a column of the view is made of."""
    match source.origin:
        case Constant():
            return ()
        case Formula(expression):
            return names_in(expression)
        case str(name) if name == ROW_NUMBER:
            return ("healpix", SHARD_COLUMN, ROW_COLUMN)
        case name:
            return (name,)


def _references(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [node for node in nodes if node.get("class") == "COLUMN_REF"]


def _takes_all(node: Mapping[str, Any]) -> bool:
    """Tell whether a part of a statement may read columns that it does not name."""
    return (
        node.get("class") == "STAR"
        or node.get("type") in ("STAR", "PIVOT", "SHOW_REF")
        or node.get("ref_type") == "NATURAL"
    )


def _evaluate(
    expression: str, names: tuple[str, ...], dtype: str, *columns: pa.ChunkedArray
) -> pa.Array:
    values = {
        name: column.to_numpy(zero_copy_only=False)
        if isinstance(column, pa.Array)
        else column.to_numpy()
        for name, column in zip(names, columns, strict=True)
    }
    result = evaluate(expression, values, dtype)
    if columns:
        result = np.broadcast_to(result, (len(columns[0]),))
    missing = np.isnan(result) if result.dtype.kind == "f" else None
    return pa.array(result, mask=missing)


def _starts(
    partitions: tuple[Partition, ...],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Give each partition's pixel and first shard, and each shard's first row number."""
    counts = [n for partition in partitions for n in partition.n_objects]
    pixels = np.array([partition.ipix for partition in partitions], np.int64)
    shards = np.cumsum([0, *(len(partition.n_objects) for partition in partitions)])[:-1]
    return pixels, shards, np.cumsum([0, *counts])[:-1].astype(np.int64)


def _row_numbers(
    pixels: NDArray[np.int64],
    first_shard: NDArray[np.int64],
    first_row: NDArray[np.int64],
    healpix: pa.ChunkedArray,
    shard: pa.ChunkedArray,
    row: pa.ChunkedArray,
) -> pa.Array:
    number = np.searchsorted(pixels, np.asarray(healpix))
    return pa.array(first_row[first_shard[number] + np.asarray(shard) - 1] + np.asarray(row))


def _is_condition(node: Mapping[str, Any]) -> bool:
    """Tell whether a parsed SELECT has a WHERE and nothing that the user added around it."""
    extra = ("modifiers", "group_expressions", "having", "sample", "qualify")
    return (
        node.get("type") == "SELECT_NODE"
        and node.get("where_clause") is not None
        and node["from_table"].get("table_name") == "catalog"
        and not any(node.get(name) for name in extra)
        and not node["cte_map"]["map"]
    )


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Give every object of a parsed statement."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(value: str | float) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def _line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
