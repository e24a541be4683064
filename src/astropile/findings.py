"""What a validation gives: problems, warnings, a report; and the names of all rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from astropile.meaning.rules import RULES

_SERIES: Final = {"T": 8, "S": 10, "R": 4, "A": 4, "L": 3, "M": 7, "W": 3}
"""How many rules of each letter `docs/format.md` has."""

FORMAT_RULES: Final = tuple(
    f"{letter}{number}" for letter, count in _SERIES.items() for number in range(1, count + 1)
)
ALL_RULES: Final = (*FORMAT_RULES, *RULES)
"""Names of the rules of the format, then of those of meaning."""


@dataclass(frozen=True)
class Problem:
    """
    One thing that is wrong.

    Parameters
    ----------
    rule : str
        The rule that it breaks, of `docs/format.md` or of `astropile.meaning.rules`.
    where : str
        File and column.
    message : str
        What is wrong.
    severity : {"error", "warning"}
        What breaks the format is an error; of the rules of meaning, each says.
    count : int
        Of a rule of meaning, the objects it was found in; 0 where it is not of objects.
    """

    rule: str
    where: str
    message: str
    severity: str = "error"
    count: int = 0

    def __str__(self) -> str:
        return f"{self.rule} {self.where}: {self.message}"


@dataclass(frozen=True)
class ValidationReport:
    """
    What `validate_catalog` found.

    Parameters
    ----------
    path : Path
        Folder of the subset.
    n_objects, n_shards : int
        What it holds.
    problems : tuple of Problem
        What is wrong; empty if nothing is.
    warnings : tuple of Problem
        What is unlikely, or keeps readers from what they need.
    looked : mapping of str to int
        For each rule of meaning that there was something to check for: how many objects, or 1.
    not_checked : tuple of str
        Rules of meaning that were wanted and had nothing to be checked on.
    """

    path: Path
    n_objects: int
    n_shards: int
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...] = ()
    looked: Mapping[str, int] = field(default_factory=dict)
    not_checked: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; warnings do not count."""
        return not self.problems


def choose_rules(only: Iterable[str] | None = None, skip: Iterable[str] = ()) -> frozenset[str]:
    """
    Choose among the rules of the format and of meaning.

    Parameters
    ----------
    only : iterable of str, optional
        Names of rules, or the letter of a series (``N``); by default all rules.
    skip : iterable of str
        Those to leave out, named likewise.

    Returns
    -------
    frozenset of str
        Names of rules.

    Raises
    ------
    ValueError
        If a name is no rule's.

    Examples
    --------
    >>> sorted(choose_rules(["K"], skip=["K4"]))
    ['K1', 'K2', 'K3', 'K5', 'K6']
    """
    return (_named(only) if only is not None else frozenset(ALL_RULES)) - _named(skip)


def _named(names: Iterable[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        mine = {rule for rule in ALL_RULES if rule == name or rule[0] == name}
        if not mine:
            series = ", ".join(dict.fromkeys(rule[0] for rule in ALL_RULES))
            raise ValueError(f"{name!r} is no rule: series are {series}, rules such as N3")
        found |= mine
    return frozenset(found)
