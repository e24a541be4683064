"""
Put samples together to a batch: what is of one shape stacked, what is not padded and masked.

Three things can be wanting, and each has its place: a value that an object does not have (None)
is 0 in the arrays and False in the flags under `PRESENT`; an entry that a list of records does
not have is False in the flags under its path and ``[]``; an element beyond the end of a shorter
array is True in the mask of its `Padded`. No NaN is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from astropile.errors import SampleError
from astropile.samples.fields import PRESENT, samples_of

_NUMBERS: Final = "biufc"


class Padded(NamedTuple):
    """
    Values of shapes that differ, each at the beginning of its room.

    Parameters
    ----------
    values : ndarray or tensor, shape (n, ...)
        The values; 0 where there is none.
    mask : ndarray or tensor, shape (n, ...), bool
        True where there is no value: padding. Of the shape of `values`.
    """

    values: Any
    mask: Any


def collate(
    samples: Sequence[Mapping[str, Any]] | Mapping[str, Any],
    *,
    pad: Mapping[str, Sequence[int]] | None = None,
    like: Mapping[str, Any] | None = None,
    empty_is_absent: bool = True,
    to: Literal["numpy", "torch"] = "numpy",
) -> dict[str, Any]:
    """
    Put samples together to a batch.

    Parameters
    ----------
    samples : sequence of mapping, or mapping
        Samples, as ``dataset.with_format("astropile")[i]`` or `pick` gives them; or a batch not
        put together yet, as a `Stream` gives it: `samples_of` takes it apart.
    pad : mapping of str to sequence of int, optional
        Paths of what is always `Padded`, even where the shapes happen to be the same, and the
        lengths that its axes may have, ascending: the first that is enough is taken. Nothing in
        the sequence: as long as the longest. The path of a record stands for all its arrays; that
        of a list of records for the number of its entries.
    like : mapping of str to object, optional
        A sample that has all its modalities: tells what to make of a field that no object of the
        batch has. Without it such a field is None.
    empty_is_absent : bool
        An empty array or list is not there, as if it were None.
    to : {"numpy", "torch"}
        What the batch is made of.

    Returns
    -------
    dict of str to object
        For each field of the samples: numbers and arrays of one shape as one array with n in
        front, of their dtype; arrays of shapes that differ as `Padded`; text as a list; records
        as dicts of these; a list of records (bands, spaxels) as such a dict too, with an axis for
        the entries after the first, everything in it `Padded` where their number differs. Under
        `PRESENT` bool arrays by path: shape (n,) for each field of the samples; shape (n, entries)
        for each list of records, the path ending in ``[]``; and for what lies deeper and is None
        somewhere.

    Raises
    ------
    SampleError
        If values of one field differ in kind, dtype or number of axes, or one is longer than `pad`
        lets it be; if there is no sample.

    Examples
    --------
    >>> batch = collate([{"time": np.arange(2.0)}, {"time": np.arange(3.0)}, {"time": None}])
    >>> batch["time"].values
    array([[0., 1., 0.],
           [0., 1., 2.],
           [0., 0., 0.]])
    >>> batch["time"].mask[0], batch["present"]["time"]
    (array([False, False,  True]), array([ True,  True, False]))
    """
    columns, n = _columns(samples)
    if PRESENT in columns:
        raise SampleError("samples", f"no field called {PRESENT!r}", "one")
    if to not in ("numpy", "torch"):
        raise SampleError("to", "'numpy' or 'torch'", repr(to))
    if like is not None:
        missing = [name for name in columns if name not in like]
        if missing:
            raise SampleError("like", f"a field {missing[0]!r}", ", ".join(like))
    maker = _Maker(dict(pad or {}), empty_is_absent=empty_is_absent)
    out: dict[str, Any] = {}
    for name, values in columns.items():
        known = values if like is None else [*values, like[name]]
        out[name] = maker.field(name, known, n, always=True)
    out[PRESENT] = maker.flags
    return _as_torch(out) if to == "torch" else out


def _columns(samples: Any) -> tuple[dict[str, list[Any]], int]:
    """Give the values of each field, one per object."""
    if isinstance(samples, Mapping):
        samples = samples_of(samples)
    if not len(samples):
        raise SampleError("samples", "at least 1", "none")
    names = list(samples[0])
    for number, sample in enumerate(samples):
        if set(sample) != set(names):
            raise SampleError(
                f"sample {number}", f"the fields {', '.join(names)}", ", ".join(sample)
            )
    return {name: [sample[name] for sample in samples] for name in names}, len(samples)


@dataclass
class _Maker:
    """What holds for a whole batch while its fields are made."""

    pad: dict[str, Sequence[int]]
    empty_is_absent: bool
    flags: dict[str, NDArray[np.bool_]] = field(default_factory=dict)

    def field(self, path: str, values: list[Any], n: int, *, always: bool = False) -> Any:
        """Make a field of its values: the first n are the batch's, another tells what it is."""
        if self.empty_is_absent:
            values = [None if _is_empty(value) else value for value in values]
        there = np.array([value is not None for value in values[:n]], bool)
        if always or not there.all():
            self.flags[path] = there
        first = next((value for value in values if value is not None), None)
        match first:
            case None:
                return None
            case Mapping():
                self._check(path, values, Mapping, "a record")
                return self._record(path, values, n)
            case list() if not _is_text(first):
                self._check(path, values, list, "a list")
                return self._entries(path, values, n)
        if _is_text(first):
            return values[:n]
        return self._numbers(path, values, n)

    def _check(self, path: str, values: list[Any], kind: type, named: str) -> None:
        for value in values:
            if value is not None and not isinstance(value, kind):
                raise SampleError(f"field {path!r}", f"{named} as before", type(value).__name__)

    def _record(self, path: str, values: list[Any], n: int) -> dict[str, Any]:
        names = dict.fromkeys(name for value in values if value is not None for name in value)
        above = np.array([value is not None for value in values[:n]], bool)
        made = {}
        for name in names:
            inner = [None if value is None else value.get(name) for value in values]
            made[name] = self.field(f"{path}.{name}", inner, n)
            # Said once where it is the record that is missing.
            own = self.flags.get(f"{path}.{name}")
            if own is not None and np.array_equal(own, above):
                del self.flags[f"{path}.{name}"]
        return made

    def _entries(self, path: str, values: list[Any], n: int) -> Any:
        """Make a list of records, or of arrays: all entries one after another, then in rows."""
        rows = [value or [] for value in values[:n]]
        counts = np.array([len(row) for row in rows], np.int64)
        lengths = self.pad.get(path.replace("[]", ""))
        is_padded = lengths is not None or len({len(v) for v in values[:n] if v is not None}) > 1
        flat = [entry for row in rows for entry in row]
        kept = [entry for value in values[n:] for entry in value or ()][:1]
        inner = _Maker(self.pad, self.empty_is_absent)
        made = inner.field(f"{path}[]", flat + kept, len(flat))
        size = _room(path, int(counts.max(initial=0)), lengths)
        where = np.arange(size) < counts[:, None]
        self.flags[f"{path}[]"] = where
        for name, there in inner.flags.items():
            self.flags[name if name != f"{path}[]" else f"{path}[].value"] = _in_rows(there, where)
        return _map(made, lambda leaf: _leaf_in_rows(leaf, where, is_padded=is_padded))

    def _numbers(self, path: str, values: list[Any], n: int) -> Any:
        arrays = [None if value is None else np.asarray(value) for value in values]
        known = next(array for array in arrays if array is not None)
        if known.dtype.kind not in _NUMBERS:
            raise SampleError(f"field {path!r}", "numbers or text", str(known.dtype))
        for array in arrays:
            if array is not None and (array.dtype != known.dtype or array.ndim != known.ndim):
                raise SampleError(
                    f"field {path!r}",
                    f"{known.dtype} of {known.ndim} axes as before",
                    f"{array.dtype} of {array.ndim}",
                )
        mine = [array for array in arrays[:n] if array is not None]
        shapes = np.array([array.shape for array in mine or [known]], np.int64)
        lengths = self._lengths(path) if known.ndim else None
        shape = tuple(_room(path, int(size), lengths) for size in shapes.max(axis=0))
        is_padded = lengths is not None or bool((shapes != shapes[0]).any())
        room = np.zeros((n, *shape), known.dtype.newbyteorder("="))
        mask = np.ones(room.shape, bool) if is_padded else None
        for row, array in enumerate(arrays[:n]):
            if array is not None:
                inside: Any = (row, *(slice(size) for size in array.shape))
                room[inside] = array
                if mask is not None:
                    mask[inside] = False
        return room if mask is None else Padded(room, mask)

    def _lengths(self, path: str) -> Sequence[int] | None:
        """Find the lengths that the axes of an array may have: its own, or those of its record."""
        while path and not path.endswith("[]"):
            found = self.pad.get(path.replace("[]", ""))
            if found is not None:
                return found
            path = path.rpartition(".")[0]
        return None


def _room(path: str, size: int, lengths: Sequence[int] | None) -> int:
    """Give the length of an axis that holds so many values."""
    for length in lengths or (size,):
        if length >= size:
            return length
    plain = path.replace("[]", "")
    raise SampleError(f"field {plain!r}", f"at most {max(lengths or ())} as padded to", str(size))


def _is_empty(value: Any) -> bool:
    if isinstance(value, list):
        return not value
    return isinstance(value, np.ndarray) and value.size == 0


def _is_text(value: Any) -> bool:
    match value:
        case str() | bytes():
            return True
        case list():
            return bool(value) and all(isinstance(item, str | bytes) for item in value)
    # Not an array of our own making: a tensor has no kind.
    return getattr(getattr(value, "dtype", None), "kind", "f") in "USOT"


def _map(made: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(made, Mapping):
        return {name: _map(inner, change) for name, inner in made.items()}
    return change(made)


def _leaf_in_rows(leaf: Any, where: NDArray[np.bool_], *, is_padded: bool) -> Any:
    match leaf:
        case None:
            return None
        case Padded():
            return Padded(_in_rows(leaf.values, where), ~_in_rows(~leaf.mask, where))
        case list():
            items = iter(leaf)
            return [[next(items) for _ in range(int(n))] or None for n in where.sum(axis=1)]
    values = _in_rows(leaf, where)
    return Padded(values, ~_in_rows(np.ones(leaf.shape, bool), where)) if is_padded else values


def _in_rows(values: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """Give entries, one after another, the places that are True; 0 elsewhere."""
    if where.all():
        return values.reshape(*where.shape, *values.shape[1:])
    room = np.zeros((*where.shape, *values.shape[1:]), values.dtype)
    room[where] = values
    return room


def _as_torch(value: Any) -> Any:
    import torch

    match value:
        case Padded():
            return Padded(torch.from_numpy(value.values), torch.from_numpy(value.mask))
        case Mapping():
            return {name: _as_torch(inner) for name, inner in value.items()}
        case np.ndarray():
            return torch.from_numpy(value)
    return value


def as_array(values: Any) -> NDArray[Any]:
    """
    Give a tensor of any device as an array.

    Parameters
    ----------
    values : array_like or tensor
        The values.

    Returns
    -------
    ndarray
        The same.
    """
    return np.asarray(values.cpu() if hasattr(values, "cpu") else values)


def uncollate(batch: Mapping[str, Any], like: Mapping[str, Any]) -> list[dict[str, Any]]:
    """
    Take a batch apart: the inverse of `collate`.

    Parameters
    ----------
    batch : mapping of str to object
        What `collate` gave.
    like : mapping of str to object
        A sample that has all its modalities: tells records from lists of records.

    Returns
    -------
    list of dict
        The samples, every value of its dtype and shape; what was None is None. An empty array of
        several axes has lost their lengths.

    Raises
    ------
    SampleError
        If `like` lacks a field of the batch.
    """
    names = [name for name in batch if name != PRESENT]
    missing = [name for name in names if name not in like]
    if missing:
        raise SampleError("like", f"a field {missing[0]!r}", ", ".join(like))
    flags = {path: as_array(there) for path, there in batch[PRESENT].items()}
    n = len(next(iter(flags.values())))
    return [
        {name: _value(batch[name], like[name], flags, name, (row,)) for name in names}
        for row in range(n)
    ]


def _value(
    made: Any, like: Any, flags: Mapping[str, NDArray[np.bool_]], path: str, at: tuple[int, ...]
) -> Any:
    """Give the value at a place: the row, and the entry within each list on the way."""
    there = flags.get(path)
    if made is None or (there is not None and not there[at]):
        return None
    if isinstance(like, Mapping):
        return {
            name: _value(inner, like.get(name), flags, f"{path}.{name}", at)
            for name, inner in made.items()
        }
    if isinstance(like, list) and not _is_text(like):
        entries = flags[f"{path}[]"][at]
        inside = like[0] if like else None
        return [
            _entry(made, inside, flags, path, (*at, number))
            for number in np.flatnonzero(entries).tolist()
        ]
    if isinstance(made, list):
        for index in at:
            made = made[index]
        return made
    if isinstance(made, Padded):
        values, mask = as_array(made.values)[at], as_array(made.mask)[at]
        shape = tuple(
            int(np.flatnonzero((~mask).any(axis=tuple(set(range(mask.ndim)) - {axis}))).size)
            for axis in range(mask.ndim)
        )
        return values[tuple(slice(size) for size in shape)]
    return as_array(made)[at]


def _entry(
    made: Any, like: Any, flags: Mapping[str, NDArray[np.bool_]], path: str, at: tuple[int, ...]
) -> Any:
    missing = flags.get(f"{path}[].value")
    if missing is not None and not missing[at]:
        return None
    # The flag of the entries is of the list, not of what is in it.
    others = {name: there for name, there in flags.items() if name != f"{path}[]"}
    return _value(made, like, others, f"{path}[]", at)
