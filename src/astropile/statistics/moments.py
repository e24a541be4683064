"""Mean and variance of values that come in parts, with weights or without."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    """
    Mean and variance of values seen so far.

    Parameters
    ----------
    weight : float
        Sum of the weights; how many values, where they have none.
    mean : float
        Their mean.
    m2 : float
        Sum of the squared differences from the mean, each times its weight.

    Notes
    -----
    Within a part in two passes; parts are merged as Chan, Golub and LeVeque (1983) do, so that
    nothing is lost where the mean is large against the scatter.

    Examples
    --------
    >>> import numpy as np
    >>> moments = Moments.of(np.array([1.0, 2.0])).merge(Moments.of(np.array([6.0])))
    >>> moments.mean, round(moments.variance, 6)
    (3.0, 4.666667)
    """

    weight: float = 0.0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> Self:
        """
        Take the moments of values.

        Parameters
        ----------
        values : ndarray, shape (n,), float64
            Finite values.
        weights : ndarray, shape (n,), float64, optional
            Their weights, finite and above 0.

        Returns
        -------
        Moments
            Of these alone.
        """
        if not values.size:
            return cls()
        with np.errstate(over="ignore", invalid="ignore"):
            if weights is None:
                mean = float(values.mean())
                return cls(float(values.size), mean, float(np.square(values - mean).sum()))
            total = float(weights.sum())
            mean = float((weights * values).sum() / total)
            return cls(total, mean, float((weights * np.square(values - mean)).sum()))

    def merge(self, other: Moments) -> Moments:
        """
        Put two parts together.

        Parameters
        ----------
        other : Moments
            Of other values.

        Returns
        -------
        Moments
            Of both.
        """
        if not self.weight or not other.weight:
            return self if self.weight else other
        total = self.weight + other.weight
        apart = other.mean - self.mean
        return Moments(
            total,
            self.mean + apart * (other.weight / total),
            self.m2 + other.m2 + apart * apart * (self.weight * (other.weight / total)),
        )

    @property
    def variance(self) -> float:
        """The mean squared difference from the mean; not a number where there is no value."""
        return self.m2 / self.weight if self.weight else math.nan

    @property
    def std(self) -> float:
        """The root of the variance."""
        return math.sqrt(self.variance) if self.variance >= 0 else math.nan
