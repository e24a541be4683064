"""How large a build will be and how long it will take, from a sample of its units."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.batch import check_batch
from astropile.build.plan import Plan
from astropile.errors import NativeFileError
from astropile.hdf5.writer import ShardPlace, shard_image
from astropile.healpix import ang2pix, n_pixels
from astropile.names import COMMON_COLUMNS
from astropile.schema import Rejected, Unit

SAMPLE_UNITS: Final = 5
"""So many units are read, spread over the list."""

SAMPLE_S: Final = 20.0
"""No further unit is read after so long [s]."""

_ENCODED_NBYTES: Final = 16 * 2**20
"""About so much of what was read is encoded, to see how it shrinks."""


@dataclass(frozen=True)
class Estimate:
    """
    What a build will about come to, found out from some of its units.

    Parameters
    ----------
    n_sampled : int
        Units read; the rest is taken to be like them, in proportion to the size of their files.
    n_objects : int
        Objects.
    n_partitions : int
        Partitions.
    n_bytes : int
        Size of the shards.
    spool_nbytes : int
        Space needed beside them while the build runs.
    seconds : float
        Time, by `n_workers` that do not wait for one another [s].
    n_workers : int
        The workers reckoned with.
    """

    n_sampled: int
    n_objects: int
    n_partitions: int
    n_bytes: int
    spool_nbytes: int
    seconds: float
    n_workers: int


@dataclass
class _Sample:
    """Sums over the units read."""

    input_nbytes: int = 0
    n_units: int = 0
    n_objects: int = 0
    nbytes: int = 0
    encoded_from: int = 0
    encoded_to: int = 0
    read_s: float = 0.0
    encode_s: float = 0.0


def estimate_build(plan: Plan, n_workers: int = 1) -> Estimate:
    """
    Estimate a build; nothing is written.

    Parameters
    ----------
    plan : Plan
        What is to be built.
    n_workers : int
        Workers that will share it.

    Returns
    -------
    Estimate
        What it will come to. Where the sample is all there is, the counts are exact but for
        objects that are rejected for their position or identifier.

    Raises
    ------
    SchemaError
        If a unit gives what the survey does not declare.
    """
    n_units = len(plan.units)
    picks = np.unique(np.linspace(0, n_units - 1, min(n_units, SAMPLE_UNITS)).round().astype(int))
    sums, pixels = _Sample(), list[NDArray[np.int64]]()
    began = time.monotonic()
    for number in picks.tolist():
        pixels.append(_read(plan, plan.units[number], sums))
        if time.monotonic() - began > SAMPLE_S:
            break
    input_nbytes = sum(_size_of(unit) for unit in plan.units)
    share = input_nbytes / sums.input_nbytes if sums.input_nbytes else n_units / sums.n_units
    shrinks = sums.encoded_to / sums.encoded_from if sums.encoded_from else 1.0
    encode_s = sums.encode_s / sums.encoded_from * sums.nbytes if sums.encoded_from else 0.0
    return Estimate(
        n_sampled=sums.n_units,
        n_objects=round(sums.n_objects * share),
        n_partitions=n_partitions(pixels, n_units, n_pixels(plan.order)),
        n_bytes=round(sums.nbytes * shrinks * share),
        spool_nbytes=round(sums.nbytes * share),
        seconds=(sums.read_s + encode_s) * share / n_workers,
        n_workers=n_workers,
    )


def _size_of(unit: Unit) -> int:
    return sum(path.stat().st_size for path in unit.paths if path.is_file())


def _read(plan: Plan, unit: Unit, sums: _Sample) -> NDArray[np.int64]:
    """Read a unit; give the pixels of its objects."""
    aliases, sizes = plan.survey.aliases, dict[str, int]()
    found = [np.empty(0, np.int64)]
    began = time.monotonic()
    try:
        for item in plan.survey.read(unit):
            if isinstance(item, Rejected):
                continue
            batch = check_batch(plan.survey, item, sizes, unit.key)
            ra, dec = (np.asarray(batch[str(aliases[name])], float) for name in ("ra", "dec"))
            good = np.isfinite(ra) & np.isfinite(dec) & (abs(dec) <= 90) & (ra >= 0) & (ra <= 360)
            found.append(np.unique(ang2pix(ra[good], dec[good], plan.order)))
            sums.n_objects += len(ra)
            sums.nbytes += _nbytes(batch)
            if sums.encoded_from < _ENCODED_NBYTES and len(ra):
                before = time.monotonic()
                _encode(plan, batch, sizes, sums)
                spent = time.monotonic() - before
                sums.encode_s, began = sums.encode_s + spent, began + spent
    except (NativeFileError, EOFError):
        # What cannot be read is rejected by the build, and counts there.
        pass
    sums.read_s += time.monotonic() - began
    sums.input_nbytes += _size_of(unit)
    sums.n_units += 1
    return np.unique(np.concatenate(found))


def _encode(plan: Plan, batch: Mapping[str, Any], sizes: dict[str, int], sums: _Sample) -> None:
    """Write a batch as a shard in memory."""
    survey = plan.survey.resolve(sizes)
    common = {name: batch[str(survey.aliases[name])] for name in COMMON_COLUMNS[:-1]}
    common["ra"], common["dec"] = (np.asarray(common[name], "<f8") for name in ("ra", "dec"))
    common["healpix"] = np.zeros(len(common["ra"]), "<i8")
    place = ShardPlace(plan.final.name, plan.order, 0, 1, 1)
    sums.encoded_to += len(shard_image(survey, batch, common, place, plan.layout))
    sums.encoded_from += _nbytes(batch)


def _nbytes(batch: Mapping[str, Any]) -> int:
    return sum(
        values.nbytes if isinstance(values, np.ndarray) else values.values.nbytes
        for values in batch.values()
    )


def n_partitions(pixels: list[NDArray[np.int64]], n_units: int, most: int) -> int:
    """
    Estimate how many pixels units cover from those that some of them do.

    The units are taken to fall at random into a number of pixels, which follows from how much
    those of the sample overlap: ``union = N (1 - (1 - m / N)^k)`` for `k` units of `m` pixels.

    Parameters
    ----------
    pixels : list of ndarray
        Pixels of each unit of the sample.
    n_units : int
        Number of all units.
    most : int
        Number of all pixels.

    Returns
    -------
    int
        About how many pixels all units cover.

    Examples
    --------
    >>> n_partitions([np.array([1]), np.array([2])], 10, 3072)
    10
    >>> n_partitions([np.array([1, 2]), np.array([1, 2])], 10, 3072)
    2
    """
    union = len(np.unique(np.concatenate(pixels)))
    each = sum(map(len, pixels)) / len(pixels)
    if len(pixels) >= n_units or not union:
        return union
    if union >= each * len(pixels):
        return min(most, round(each * n_units))

    def covered(total: float, units: int) -> float:
        return total * (1 - (1 - each / total) ** units)

    low, high = max(each, float(union)), float(most)
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if covered(middle, len(pixels)) < union else (low, middle)
    return min(most, round(covered(high, n_units)))
