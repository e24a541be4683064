"""
Say what a tree of matched objects is: its columns, standard names, citations and licences.

Values only. Column ``FLUX`` of side ``desi`` is ``desi.FLUX``, standard name ``spectrum`` is
``spectrum_desi``; every other fact of a column, its unit, bits and polarity, stays as it is.
"""

from __future__ import annotations

import dataclasses
import keyword
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.card import is_spdx
from astropile.errors import MatchError
from astropile.formula import rename_in
from astropile.match.contents import UNKNOWN, Content
from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    Record,
    RecordList,
    Stack,
    Survey,
    column_names,
)

_RESTRICTED: Final = (
    ("no commercial use", re.compile(r"\bNC\b|non-?\s?commercial", re.IGNORECASE)),
    ("no derivatives", re.compile(r"\bND\b|no-?\s?deriv", re.IGNORECASE)),
)
"""Terms that stand against sharing what a matched product is."""

_NO_LICENCE: Final = frozenset({"", UNKNOWN, "other", "none", "not stated", "unspecified"})


def licence_flags(licences: Mapping[str, str]) -> tuple[str, ...]:
    """
    Find what stands against sharing a product of several sources.

    Parameters
    ----------
    licences : mapping of str to str
        The licence of each source.

    Returns
    -------
    tuple of str
        One sentence for each source whose terms forbid commercial use or derivatives, or are
        not known; empty where there is none.

    Examples
    --------
    >>> licence_flags({"desi": "CC-BY-4.0", "des": "CC-BY-NC-ND-4.0"})
    ('des: no commercial use, no derivatives (CC-BY-NC-ND-4.0)',)
    >>> licence_flags({"sdss": "unknown"})
    ('sdss: licence not known',)
    """
    flags = []
    for name, licence in licences.items():
        text = licence.strip()
        if text.lower() in _NO_LICENCE:
            flags.append(f"{name}: licence not known")
            continue
        found = [what for what, pattern in _RESTRICTED if pattern.search(text)]
        if found:
            flags.append(f"{name}: {', '.join(found)} ({text})")
    return tuple(flags)


def joint_licence(licences: Mapping[str, str]) -> str:
    """
    Give the terms under which a product of several sources stands: those of all of them.

    Parameters
    ----------
    licences : mapping of str to str
        The licence of each source.

    Returns
    -------
    str
        The one that all have; else, where all are SPDX identifiers, an SPDX expression; else
        each with its source.

    Examples
    --------
    >>> joint_licence({"desi": "CC-BY-4.0", "gaia": "CC0-1.0"})
    'CC-BY-4.0 AND CC0-1.0'
    >>> joint_licence({"desi": "CC-BY-4.0", "sdss": "unknown"})
    'desi: CC-BY-4.0; sdss: unknown'
    """
    stated = {name: licence.strip() or UNKNOWN for name, licence in licences.items()}
    different = sorted(set(stated.values()))
    if len(different) == 1:
        return different[0]
    if all(is_spdx(licence) for licence in different):
        return " AND ".join(different)
    return "; ".join(f"{name}: {licence}" for name, licence in stated.items())


def namespace(name: str) -> str:
    """
    Make of the name of a side what its columns can be prefixed with.

    Parameters
    ----------
    name : str
        The name.

    Returns
    -------
    str
        It, with letters, digits and underscores only, no digit first: a formula can name it.

    Examples
    --------
    >>> namespace("2mass-psc")
    '_2mass_psc'
    """
    made = re.sub(r"[^A-Za-z0-9_]", "_", name) or "_"
    if made[0].isdigit():
        made = f"_{made}"
    return f"{made}_" if keyword.iskeyword(made) else made


def entry_counts(content: Content) -> tuple[int, ...]:
    """
    Find how many entries the lists of records of a side have, where that is fixed.

    Parameters
    ----------
    content : Content
        The side.

    Returns
    -------
    tuple of int
        Each number once: of such lists nothing would say that a side has no part in a row.
    """
    found = {_n_entries(s, content) for s in _lists_in(content.aliases.values())}
    return tuple(sorted(found - {0}))


def _lists_in(sources: Iterable[Any]) -> Iterator[RecordList]:
    for source in sources:
        if isinstance(source, RecordList):
            yield source
        elif isinstance(source, tuple):
            yield from _lists_in(source)


def _n_entries(source: RecordList, content: Content) -> int:
    """Give the fixed number of a list's entries, or 0 where it varies."""
    shapes = {column.name: column.shape for column in content.columns}
    first = next((shapes[name] for name in column_names(source) if shapes[name]), ())
    return first[0] if not source.where and first and isinstance(first[0], int) else 0


def entry_column(name: str, n_entries: int) -> str:
    """
    Name the column that says of every entry of a list whether its side has a part.

    Parameters
    ----------
    name : str
        Namespace of the side.
    n_entries : int
        How many entries the list has.

    Returns
    -------
    str
        The name.
    """
    return f"has_{name}_{n_entries}"


def merged_survey(
    contents: Mapping[str, Content],
    own: Sequence[Column],
    *,
    subset: str,
    matched: str,
    partial: Collection[str] = (),
) -> Survey:
    """
    Declare a tree of matched objects.

    Parameters
    ----------
    contents : mapping of str to Content
        What each side brings, by its namespace.
    own : sequence of Column
        Columns of the matches themselves, ``object_id``, ``observation_id``, ``ra`` and ``dec``
        among them.
    subset : str
        Name of the subset.
    matched : str
        What was matched and how, in a sentence.
    partial : collection of str
        Sides without a part in some rows: their lists of records are empty there.

    Returns
    -------
    Survey
        The declaration.

    Raises
    ------
    MatchError
        If names of two sides come to the same.
    """
    columns, aliases = list(own), {c: c for c in ("object_id", "observation_id", "ra", "dec")}
    for number, (name, content) in enumerate(contents.items(), 1):
        columns += [_renamed(column, name, number) for column in content.columns]
        for alias, source in content.aliases.items():
            kept = _where_there_is_one(source, name, content) if name in partial else source
            aliases[f"{alias}_{name}"] = _Renamer(name).renamed(kept)
    licences = {n: str(c.facts.get("licence", UNKNOWN)) for n, c in contents.items()}
    flags = licence_flags(licences)
    try:
        return Survey(
            name="_x_".join(contents),
            project=_each(contents, "project"),
            survey=_each(contents, "survey"),
            release=_each(contents, "release"),
            subset=subset,
            title=" x ".join(_told(contents, "title").values()),
            description=_description(contents, matched, flags),
            homepage=" ".join(_told(contents, "homepage").values()),
            citation="\n\n".join(_told(contents, "citation").values()),
            acknowledgement=" ".join(_told(contents, "acknowledgement").values()),
            licence=joint_licence(licences),
            columns=tuple(columns),
            aliases=aliases,
            epoch=_common(contents, "epoch"),
        )
    except ValueError as error:
        raise MatchError("the sides of a tree", "names that differ", str(error)) from error


def _description(contents: Mapping[str, Content], matched: str, flags: Sequence[str]) -> str:
    sentences = [matched, "Sources:"]
    for name, content in contents.items():
        facts = content.facts
        words = [
            " ".join(str(facts[key]) for key in ("survey", "release", "table") if facts.get(key)),
            f"subset {facts['subset']}" if facts.get("subset") else "",
            f"snapshot {facts['snapshot'][:12]}" if facts.get("snapshot") else "",
            f"epoch J{facts['epoch']}" if facts.get("epoch") else "",
            f"wavelengths {facts['wavelength']}" if facts.get("wavelength") else "",
            f"times {facts['time_scale']}" if facts.get("time_scale") else "",
            f"licence {facts['licence']}",
        ]
        sentences.append(f"{name}: {', '.join(word for word in words if word)}.")
    if flags:
        sentences.append(f"Before you share this: {'; '.join(flags)}.")
    sentences += _told(contents, "description").values()
    return " ".join(sentences)


def _told(contents: Mapping[str, Content], what: str) -> dict[str, str]:
    """Give what sides say of themselves, each text once."""
    told: dict[str, str] = {}
    for content in contents.values():
        text = content.described.get(what, "").strip()
        if text:
            told.setdefault(text, text)
    return told


def _each(contents: Mapping[str, Content], fact: str) -> str:
    found = (content.facts.get(fact) or content.facts.get("table") for content in contents.values())
    return "; ".join(dict.fromkeys(str(value) for value in found if value)) or UNKNOWN


def _common(contents: Mapping[str, Content], fact: str) -> Any:
    """Give a fact that all sides agree in, or None."""
    values = {content.facts.get(fact) for content in contents.values()}
    return values.pop() if len(values) == 1 else None


def _renamed(column: Column, name: str, number: int) -> Column:
    # Numbers keep dimensions of two sides apart, however the sides are called.
    shape = tuple(f"{size}_{number}" if isinstance(size, str) else size for size in column.shape)
    return dataclasses.replace(column, name=f"{name}.{column.name}", shape=shape)


def _where_there_is_one(source: Any, name: str, content: Content) -> Any:
    """Leave the entries of lists of fixed length out where the side has no part."""
    if isinstance(source, tuple):
        return tuple(_where_there_is_one(member, name, content) for member in source)
    if isinstance(source, RecordList) and (n_entries := _n_entries(source, content)):
        return dataclasses.replace(source, where=_OWN + entry_column(name, n_entries))
    return source


_OWN: Final = "="
"""Before the name of a column of the match itself; no column's name has it."""


@dataclass(frozen=True)
class _Renamer:
    """Write aliases of a side anew for columns in its namespace."""

    name: str

    def column(self, column: str) -> str:
        own = column.startswith(_OWN)
        return column.removeprefix(_OWN) if own else f"{self.name}.{column}"

    def renamed(self, source: Any) -> Any:
        match source:
            case str():
                return self.column(source)
            case Constant():
                return source
            case Stack(columns):
                return Stack(tuple(map(self.renamed, columns)))
            case Formula(expression):
                return dataclasses.replace(source, expression=rename_in(expression, self.column))
            case BadPixels(column):
                return dataclasses.replace(source, column=self.column(column))
            case Record(fields):
                return Record({key: self.renamed(value) for key, value in fields.items()})
            case RecordList(fields, where):
                renamed = {key: self.renamed(value) for key, value in fields.items()}
                return RecordList(renamed, self.column(where) if where else "")
            case tuple():
                return tuple(map(self.renamed, source))
        raise AssertionError(f"no alias: {source!r}")


def absent_values(content: Content) -> dict[str, NDArray[Any]]:
    """
    Give what stands in the columns of a side where it has no part in a match.

    Parameters
    ----------
    content : Content
        The side.

    Returns
    -------
    dict of str to ndarray
        For each column that is not shared one value: NaN, 0, False or empty text; of ragged
        columns length 0; of columns that are a mask in the standard view, bad throughout.
    """
    masks: dict[str, BadPixels] = {}

    def look(source: Any) -> None:
        match source:
            case BadPixels(column):
                masks.setdefault(column, source)
            case Record(fields) | RecordList(fields):
                for value in fields.values():
                    look(value)
            case tuple():
                for member in source:
                    look(member)

    for source in content.aliases.values():
        look(source)
    values = {}
    for column in content.columns:
        if not column.shared:
            shape = tuple(0 if isinstance(size, str) else size for size in column.shape)
            fill = _fill(column, masks.get(column.name))
            values[column.name] = np.full(shape, fill, column.numpy_dtype)
    return values


def _fill(column: Column, mask: BadPixels | None) -> Any:
    kind = column.numpy_dtype.kind
    if mask is None:
        return np.nan if kind == "f" else b"" if kind == "S" else 0
    if kind == "b":
        return not mask.good
    bits = mask.bits or tuple(column.bits)
    number = sum(1 << column.bits[bit] for bit in bits) or 1
    # The sign bit of a signed mask.
    return int(np.array(number, np.uint64).astype(column.numpy_dtype))
