"""What was looked at and what was found, added up over objects, blocks and shards."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MAX_SAMPLES: Final = 2000
"""A shard gives at most so many numbers for the statistics of a subset."""


@dataclass(frozen=True)
class Sight:
    """
    One rule broken in one field, over all objects that were looked at.

    Parameters
    ----------
    rule : str
        The rule.
    field : str
        Standard field or column: ``spectrum.ivar``.
    message : str
        What was found, of the first object where it is of objects.
    count : int
        Objects it was found in; 0 where it is of the subset as a whole.
    where : str
        The first file and row; empty where it is of the subset as a whole.
    """

    rule: str
    field: str
    message: str
    count: int = 0
    where: str = ""


@dataclass
class Tally:
    """
    The findings and statistics of some objects.

    Parameters
    ----------
    wanted : frozenset of str
        The rules that are to be checked.
    place : str
        The file that the objects at hand are in.

    Attributes
    ----------
    found : dict
        What breaks a rule, by rule and field.
    looked : dict
        How many objects each rule and field was checked for.
    numbers : dict
        What the subset is judged by, by statistic and field.
    unreadable : dict
        Files that could not be read, and why.
    """

    wanted: frozenset[str]
    place: str = ""
    found: dict[tuple[str, str], Sight] = field(default_factory=dict)
    looked: dict[tuple[str, str], int] = field(default_factory=dict)
    numbers: dict[tuple[str, str], list[Any]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def wants(self, *rules: str) -> bool:
        """
        Tell whether one of some rules is to be checked.

        Parameters
        ----------
        *rules : str
            The rules.

        Returns
        -------
        bool
            True if at least one is.
        """
        return not self.wanted.isdisjoint(rules)

    def object(self, rule: str, name: str, wrong: Any, message: str, row: int) -> None:
        """
        Note that a rule was checked for one object, and whether it is broken.

        Parameters
        ----------
        rule, name : str
            Rule and field.
        wrong : bool
            Whether it is broken.
        message : str
            What is found then.
        row : int
            Row of the object in its file.
        """
        self.objects(rule, name, np.array([bool(wrong)]), lambda _: message, np.array([row]))

    def objects(
        self, rule: str, name: str, wrong: NDArray[np.bool_], message: Any, rows: NDArray[Any]
    ) -> None:
        """
        Note that a rule was checked for some objects, and which of them break it.

        Parameters
        ----------
        rule, name : str
            Rule and field.
        wrong : ndarray, shape (n,), bool
            Which objects break it.
        message : callable
            Given the number of an object, from 0, says what is found there.
        rows : ndarray, shape (n,)
            Rows of the objects in their file.
        """
        if rule not in self.wanted:
            return
        key = (rule, name)
        self.looked[key] = self.looked.get(key, 0) + len(wrong)
        count = int(np.count_nonzero(wrong))
        if not count:
            return
        if (before := self.found.get(key)) is None:
            first = int(np.argmax(wrong))
            where = f"{self.place}, row {int(rows[first])}"
            self.found[key] = Sight(rule, name, message(first), count, where)
        else:
            self.found[key] = Sight(rule, name, before.message, before.count + count, before.where)

    def whole(self, rule: str, name: str, wrong: Any, message: str) -> None:
        """
        Note that a rule was checked for the subset as a whole, and whether it is broken.

        Parameters
        ----------
        rule, name : str
            Rule and field.
        wrong : bool
            Whether it is broken.
        message : str
            What is found then.
        """
        if rule not in self.wanted:
            return
        self.looked.setdefault((rule, name), 1)
        if wrong:
            self.found.setdefault((rule, name), Sight(rule, name, message))

    def number(self, key: str, name: str, values: Any) -> None:
        """
        Keep numbers for a statistic of the subset.

        Parameters
        ----------
        key, name : str
            Which statistic, of which field.
        values : array_like
            One value, or a tuple of values, of an object.
        """
        self.numbers.setdefault((key, name), []).append(values)

    def pack(self) -> Tally:
        """
        Thin the numbers, so that what a shard leaves behind is small.

        Returns
        -------
        Tally
            This one.
        """
        for key, values in self.numbers.items():
            if key[0].startswith("copies"):
                digests, rows, sources = zip(*values, strict=True)
                numbers = np.array([rows, sources], np.int64)
                packed = np.array(digests, np.uint64), *numbers, self.place
                self.numbers[key] = [packed]
            elif len(values) > MAX_SAMPLES and not key[0].startswith("every"):
                chosen = np.linspace(0, len(values) - 1, MAX_SAMPLES).astype(int)
                self.numbers[key] = [values[i] for i in chosen]
        return self

    def add(self, other: Tally) -> None:
        """
        Take in the tally of a shard.

        Parameters
        ----------
        other : Tally
            The shard's.
        """
        self.unreadable.update(other.unreadable)
        for key, count in other.looked.items():
            self.looked[key] = self.looked.get(key, 0) + count
        for key, sight in other.found.items():
            mine = self.found.get(key)
            if mine is not None:
                count = mine.count + sight.count
                sight = Sight(sight.rule, sight.field, mine.message, count, mine.where)  # noqa: PLW2901
            self.found[key] = sight
        for key, values in other.numbers.items():
            self.numbers.setdefault(key, []).extend(values)

    def each(self, key: str) -> Iterable[tuple[str, NDArray[Any]]]:
        """
        Go through the fields that a statistic was kept for.

        Parameters
        ----------
        key : str
            Which statistic.

        Yields
        ------
        str, ndarray
            The field and its numbers, objects on axis 0.
        """
        for (kind, name), values in sorted(self.numbers.items(), key=lambda item: item[0]):
            if kind == key:
                yield name, np.array(values)
