"""What is known of a field, of a channel of it, and of a whole tree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from astropile.errors import FormatError, SampleError
from astropile.statistics.moments import Moments
from astropile.statistics.sketch import DEFAULT_K, QuantileSketch

_MAD_OF_IQR = 0.741301109252801
"""The standard deviation of a normal distribution whose quartiles are 1 apart."""


@dataclass(frozen=True)
class Statistic:
    """
    What is known of the values of one channel of a field.

    Parameters
    ----------
    n_values : int
        All places for a value.
    n_missing : int
        Those with none: null, not a number or infinite.
    n_masked : int
        Those with a finite one that is bad.
    minimum, maximum : int, float or None
        Of the others, exactly.
    moments : Moments
        Of the others.
    weighted : Moments
        The same with inverse variances as weights; empty where there are none.
    sketch : QuantileSketch
        Of the others, without weights.
    """

    n_values: int = 0
    n_missing: int = 0
    n_masked: int = 0
    minimum: float | None = None
    maximum: float | None = None
    moments: Moments = field(default_factory=Moments)
    weighted: Moments = field(default_factory=Moments)
    sketch: QuantileSketch = field(default_factory=QuantileSketch, compare=False)

    @classmethod
    def of(
        cls,
        values: ArrayLike,
        *,
        missing: NDArray[np.bool_] | None = None,
        masked: NDArray[np.bool_] | None = None,
        weights: NDArray[np.float64] | None = None,
        k: int = DEFAULT_K,
        seed: int = 0,
    ) -> Self:
        """
        Gather what there is to know of values.

        Parameters
        ----------
        values : array_like of numbers
            The values, of any shape.
        missing, masked : ndarray of bool, of the same shape, optional
            True where there is no value; True where it is bad.
        weights : ndarray of float64, of the same shape, optional
            Inverse variances; where not above 0, the value is bad.
        k, seed : int
            As for `QuantileSketch`.

        Returns
        -------
        Statistic
            Of these values alone.
        """
        array = np.asarray(values)
        absent = np.zeros(array.shape, bool) if missing is None else missing
        if array.dtype.kind == "f":
            absent = absent | ~np.isfinite(array)
        bad = np.zeros(array.shape, bool) if masked is None else masked
        if weights is not None:
            bad = bad | ~(np.isfinite(weights) & (weights > 0))
        bad = bad & ~absent
        used = ~(absent | bad)
        good = array[used]
        sketch = QuantileSketch(k, seed)
        sketch.update(good)
        floats = good.astype(np.float64)
        return cls(
            array.size,
            int(absent.sum()),
            int(bad.sum()),
            good.min().item() if good.size else None,
            good.max().item() if good.size else None,
            Moments.of(floats),
            Moments() if weights is None else Moments.of(floats, weights[used].astype(np.float64)),
            sketch,
        )

    def merge(self, other: Statistic) -> Statistic:
        """
        Put two parts together.

        Parameters
        ----------
        other : Statistic
            Of other values.

        Returns
        -------
        Statistic
            Of both.
        """
        lowest = [x for x in (self.minimum, other.minimum) if x is not None]
        highest = [x for x in (self.maximum, other.maximum) if x is not None]
        return Statistic(
            self.n_values + other.n_values,
            self.n_missing + other.n_missing,
            self.n_masked + other.n_masked,
            min(lowest, default=None),
            max(highest, default=None),
            self.moments.merge(other.moments),
            self.weighted.merge(other.weighted),
            self.sketch.merge(other.sketch),
        )

    @property
    def count(self) -> int:
        """Values that are neither missing nor bad: those that all else is of."""
        return self.n_values - self.n_missing - self.n_masked

    @property
    def missing_fraction(self) -> float:
        """Share of the places with no value."""
        return self.n_missing / self.n_values if self.n_values else math.nan

    @property
    def mean(self) -> float:
        """Mean; not a number where there is no value."""
        return self.moments.mean if self.count else math.nan

    @property
    def std(self) -> float:
        """Root of the mean squared difference from the mean."""
        return self.moments.std

    def quantile(self, q: ArrayLike) -> NDArray[np.float64]:
        """
        Give quantiles: see `QuantileSketch.quantile`; the first and last value exactly.

        Parameters
        ----------
        q : array_like
            Shares, 0 to 1.

        Returns
        -------
        ndarray, of the shape of q, float64
            Values.
        """
        shares = np.asarray(q, np.float64)
        found = self.sketch.quantile(shares)
        if self.minimum is None or self.maximum is None:
            return found
        return np.where(shares == 0, self.minimum, np.where(shares == 1, self.maximum, found))

    def to_json(self) -> dict[str, Any]:
        """
        Give what JSON can hold.

        Returns
        -------
        dict
            For `from_json`.
        """
        return {
            "n_values": self.n_values,
            "n_missing": self.n_missing,
            "n_masked": self.n_masked,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "moments": asdict(self.moments),
            "weighted": asdict(self.weighted),
            "sketch": self.sketch.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """
        Make of what `to_json` gave.

        Parameters
        ----------
        stored : mapping
            The statistic.

        Returns
        -------
        Statistic
            Equal to it.
        """
        moments, weighted = (Moments(**stored[name]) for name in ("moments", "weighted"))
        counts = [stored[name] for name in ("n_values", "n_missing", "n_masked")]
        low, high = stored["minimum"], stored["maximum"]
        floats = [*asdict(moments).values(), *asdict(weighted).values()]
        extremes = [x for x in (low, high) if x is not None]
        if not all(isinstance(x, int | float) for x in (*counts, *floats, *extremes)):
            raise TypeError("expected numbers, found something else")
        return cls(
            n_values=counts[0],
            n_missing=counts[1],
            n_masked=counts[2],
            minimum=low,
            maximum=high,
            moments=moments,
            weighted=weighted,
            sketch=QuantileSketch.from_json(stored["sketch"]),
        )


@dataclass(frozen=True)
class FieldStatistics:
    """
    What is known of a field.

    Parameters
    ----------
    n_objects, n_absent : int
        How many objects, and how many of them have not one value here.
    channels : mapping of str to Statistic
        By band or label; of a field that has none under the empty text.
    unit : str
        Unit of the values.
    """

    n_objects: int
    n_absent: int
    channels: Mapping[str, Statistic]
    unit: str = ""

    @property
    def total(self) -> Statistic:
        """All channels together."""
        names = sorted(self.channels)
        found = self.channels[names[0]] if names else Statistic()
        for name in names[1:]:
            found = found.merge(self.channels[name])
        return found

    def merge(self, other: FieldStatistics) -> FieldStatistics:
        """
        Put two parts together.

        Parameters
        ----------
        other : FieldStatistics
            Of other objects.

        Returns
        -------
        FieldStatistics
            Of both.

        Raises
        ------
        SampleError
            If they differ in unit.
        """
        if self.unit != other.unit:
            raise SampleError("field", f"the unit {self.unit!r} as before", repr(other.unit))
        channels = dict(self.channels)
        for name, statistic in other.channels.items():
            channels[name] = channels[name].merge(statistic) if name in channels else statistic
        return FieldStatistics(
            self.n_objects + other.n_objects, self.n_absent + other.n_absent, channels, self.unit
        )


class Scaling(NamedTuple):
    """
    What normalises a field: ``(values - center) / scale``.

    Parameters
    ----------
    center, scale : ndarray, shape () or (n_channels,), float64
        What is taken off, and what is divided by, in the order of the channels.
    """

    center: NDArray[np.float64]
    scale: NDArray[np.float64]


@dataclass(frozen=True)
class Statistics:
    """
    Statistics of fields of a tree, or of some rows of it.

    Parameters
    ----------
    survey, subset, snapshot : str
        What they are of.
    n_objects : int
        How many objects were looked at.
    fields : mapping of str to FieldStatistics
        By path: names with dots between.
    selection : mapping
        Which objects: ``sample`` and ``seed``, and under ``rows`` a hash of the row numbers,
        or "all".
    """

    survey: str
    subset: str
    snapshot: str
    n_objects: int
    fields: Mapping[str, FieldStatistics]
    selection: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, path: str) -> FieldStatistics:
        if path not in self.fields:
            raise SampleError("field", f"one of {', '.join(sorted(self.fields))}", repr(path))
        return self.fields[path]

    def merge(self, other: Statistics) -> Statistics:
        """
        Put statistics of different objects together.

        Parameters
        ----------
        other : Statistics
            Of other rows, or of another subset with the same fields.

        Returns
        -------
        Statistics
            Of both; of no snapshot where they differ in it.

        Raises
        ------
        SampleError
            If they are not of the same fields.
        """
        if set(self.fields) != set(other.fields):
            differing = sorted(set(self.fields) ^ set(other.fields))
            raise SampleError("fields", "the same in both", f"{', '.join(differing)} in one")
        return replace(
            self,
            snapshot=self.snapshot if self.snapshot == other.snapshot else "",
            n_objects=self.n_objects + other.n_objects,
            fields={path: self.fields[path].merge(other.fields[path]) for path in self.fields},
        )

    def normalizer(
        self,
        path: str,
        *,
        channels: Sequence[str] | None = None,
        robust: bool = False,
        weighted: bool = False,
    ) -> Scaling:
        """
        Give what normalises a field.

        Parameters
        ----------
        path : str
            The field.
        channels : sequence of str, optional
            One centre and scale for each of these; by default one for all values.
        robust : bool
            The median, and 0.7413 times the distance of the quartiles: the standard deviation,
            were the values normally distributed, whatever the outliers. Otherwise mean and
            standard deviation.
        weighted : bool
            Mean and standard deviation with inverse variances as weights.

        Returns
        -------
        Scaling
            Plain arrays. Where all values are equal, the scale is 1.

        Raises
        ------
        SampleError
            If there is no such field or channel, it has no value or no weights, or both `robust`
            and `weighted` are asked for.
        """
        if robust and weighted:
            raise SampleError("normalizer", "robust or weighted", "both")
        known = self[path]
        if channels is None:
            pairs = np.array(_scaling(path, known.total, robust=robust, weighted=weighted))
            return Scaling(pairs[0], pairs[1])
        missing = [name for name in channels if name not in known.channels]
        if missing:
            raise SampleError(
                f"channel of {path!r}",
                f"one of {', '.join(map(repr, sorted(known.channels)))}",
                repr(missing[0]),
            )
        each = [
            _scaling(f"{path} {name}", known.channels[name], robust=robust, weighted=weighted)
            for name in channels
        ]
        pairs = np.array(each, np.float64).reshape(-1, 2)
        return Scaling(pairs[:, 0], pairs[:, 1])

    def to_json(self) -> dict[str, Any]:
        """
        Give what JSON can hold.

        Returns
        -------
        dict
            For `from_json`.
        """
        return {
            "survey": self.survey,
            "subset": self.subset,
            "snapshot": self.snapshot,
            "n_objects": self.n_objects,
            "selection": dict(self.selection),
            "fields": {
                path: {
                    "unit": known.unit,
                    "n_objects": known.n_objects,
                    "n_absent": known.n_absent,
                    "channels": {n: known.channels[n].to_json() for n in sorted(known.channels)},
                }
                for path, known in sorted(self.fields.items())
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], where: str = "statistics") -> Self:
        """
        Make of what `to_json` gave.

        Parameters
        ----------
        stored : mapping
            The statistics.
        where : str
            Their file, for messages.

        Returns
        -------
        Statistics
            Equal to them.

        Raises
        ------
        FormatError
            If they cannot be any.
        """
        try:
            fields = {
                path: FieldStatistics(
                    known["n_objects"],
                    known["n_absent"],
                    {n: Statistic.from_json(one) for n, one in known["channels"].items()},
                    known["unit"],
                )
                for path, known in stored["fields"].items()
            }
            return cls(
                stored["survey"],
                stored["subset"],
                stored["snapshot"],
                stored["n_objects"],
                fields,
                stored["selection"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(where, "statistics of fields", repr(error)) from error


def _scaling(
    what: str, statistic: Statistic, *, robust: bool, weighted: bool
) -> tuple[float, float]:
    if not statistic.count:
        raise SampleError(f"normalizer of {what!r}", "at least one good value", "none")
    if weighted and not statistic.weighted.weight:
        raise SampleError(f"normalizer of {what!r}", "inverse variances beside it", "none")
    if robust:
        low, center, high = statistic.quantile([0.25, 0.5, 0.75]).tolist()
        scale = _MAD_OF_IQR * (high - low)
    else:
        moments = statistic.weighted if weighted else statistic.moments
        center, scale = moments.mean, moments.std
    return center, scale if scale > 0 else 1.0
