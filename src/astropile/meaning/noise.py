"""Fluxes, weights and masks, of any record: rules N1 to N12, and the brightness for J1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.meaning.records import Entry
from astropile.meaning.tally import Tally

MIN_PIXELS: Final = 64
"""Fewer measured pixels tell nothing of their scatter."""

SCATTER_FACTOR: Final = 10.0
"""Rule N3: the scatter may be so many times larger or smaller than ivar says."""

N_BINS: Final = 8
"""Rule N11: the pixels of an object are sorted by weight into so many bins."""

MIN_RANGE: Final = 4.0
"""Rule N11: weights that differ by less tell nothing of their trend."""

PADDED_SHARE: Final = 0.05
"""Rule N7: an edge of one value is padding from this share of the length on."""

MIN_PADDED: Final = 8
"""Rule N7: and from so many pixels of a spectrum on."""

SECOND: Final = (-0.5, 0.0, 1.0, 0.0, -0.5)
"""A pixel less the mean of those two away: resampling correlates the noise of neighbours."""

FOURTH: Final = (1.0, -4.0, 6.0, -4.0, 1.0)
"""The finest detail there is: nothing that a line spread or PSF of a few pixels leaves."""

_MAX_SPAXELS: Final = 128
"""The noise of a cube is measured in so many of its spaxels."""


def check_values(entry: Entry, row: int, tally: Tally) -> None:
    """
    Check what an object's record measured, against its weights and masks.

    Parameters
    ----------
    entry : Entry
        The record.
    row : int
        Row of the object in its file.
    tally : Tally
        Takes what is found.
    """
    records = entry.records
    if not records.value_field:
        return
    flux = entry.get(records.value_field)
    if flux is None or not flux.size or flux.dtype.kind not in "fiu":
        return
    name = f"{records.name}.{records.value_field}"
    ivar = entry.like("ivar", flux)
    mask = entry.like("mask", flux)
    if mask is not None:
        mask = mask.astype(bool)
    finite = np.isfinite(flux)
    if ivar is not None:
        _check_ivar(ivar, f"{records.name}.ivar", row, tally)
        used = finite & (ivar > 0)
        unsound = ~finite & (ivar > 0) & (~mask if mask is not None else True)
        message = f"{np.count_nonzero(unsound)} pixels are no number and count as measured"
        tally.object("N10", name, unsound.any(), message, row)
    else:
        used = finite
    if mask is not None:
        _check_mask(mask, ivar, finite, records.name, row, tally)
        used = used & ~mask
    is_map = records.kind == "image" and "label" in records.fields
    if not is_map:
        _check_presence(flux, used, name, row, tally)
    if flux.dtype.kind == "f" and records.kind in ("spectrum", "image", "cube") and not is_map:
        _check_edges(flux, used, entry, name, row, tally)
        if ivar is not None:
            _note_scatter(flux, ivar, used, entry, name, tally)
    if not is_map:
        _note_copy(flux, entry, name, row, tally)


def _check_ivar(ivar: NDArray[Any], name: str, row: int, tally: Tally) -> None:
    wrong = ~(np.isfinite(ivar) & (ivar >= 0))
    message = f"{np.count_nonzero(wrong)} of {ivar.size} weights are negative or no number"
    tally.object("N1", name, wrong.any(), message, row)
    positive = ivar[np.isfinite(ivar) & (ivar > 0)]
    if positive.size and tally.wants("N2"):
        # In float64: the largest of float32 times anything is infinite.
        largest, middle = float(positive.max()), float(np.median(positive))
        message = f"a weight of {largest:.3g}, where the median is {middle:.3g}"
        tally.object("N2", name, largest > 1e10 * middle or largest > 3e38, message, row)


def _check_mask(
    mask: NDArray[np.bool_],
    ivar: NDArray[Any] | None,
    finite: NDArray[np.bool_],
    of: str,
    row: int,
    tally: Tally,
) -> None:
    share = float(mask.mean())
    tally.number("masked", f"{of}.mask", share)
    if ivar is None or not 0 < share < 1:
        return
    empty = ~finite | ~(ivar > 0)
    flagged, clean = float(empty[mask].mean()), float(empty[~mask].mean())
    if clean == flagged:
        return
    message = (
        f"{flagged:.0%} of the pixels flagged are without weight, {clean:.0%} of the others: "
        "True is bad"
    )
    tally.object("N4", f"{of}.mask", flagged < 0.1 and clean > 0.5, message, row)


def _check_presence(
    flux: NDArray[Any], used: NDArray[np.bool_], name: str, row: int, tally: Tally
) -> None:
    """Rule N8: something was measured."""
    if flux.dtype.kind in "iu" or not tally.wants("N8"):
        return
    if not used.any():
        said = "nothing in it is measured, all is flagged, without weight or no number"
    elif not flux[used].any():
        said = "all that counts as measured is 0"
    else:
        said = ""
    tally.object("N8", name, said, said, row)


def _check_edges(
    flux: NDArray[Any], used: NDArray[np.bool_], entry: Entry, name: str, row: int, tally: Tally
) -> None:
    """Rule N7: no run of one value at an edge, unless it is flagged."""
    if not tally.wants("N7") or not ("ivar" in entry or "mask" in entry):
        return
    measured = flux[used]
    if not measured.size or (measured == measured[0]).all():
        return
    is_image = entry.records.kind == "image"
    if is_image and flux.ndim >= 2:
        lines = [(flux, used), (np.swapaxes(flux, -1, -2), np.swapaxes(used, -1, -2))]
        longest = max(_padded_lines(values, good) for values, good in lines)
        least, what = max(2, int(PADDED_SHARE * min(flux.shape[-2:]))), "rows or columns"
    elif not is_image and entry.records.kind == "spectrum":
        longest = _padded(flux, used)
        least, what = max(MIN_PADDED, int(PADDED_SHARE * flux.shape[-1])), "pixels"
    else:
        return
    message = f"{longest} {what} at an edge hold one value and count as measured"
    tally.object("N7", name, longest >= least, message, row)


def _padded(flux: NDArray[Any], used: NDArray[np.bool_]) -> int:
    """Count the pixels at either end that repeat the last one and count as measured."""
    longest = 0
    for values, good in ((flux, used), (flux[..., ::-1], used[..., ::-1])):
        same = (values == values[..., :1]) & good
        runs = np.where(same.all(axis=-1), same.shape[-1], np.argmin(same, axis=-1))
        longest = max(longest, int(runs.max(initial=0)))
    return longest if longest > 1 else 0


def _padded_lines(flux: NDArray[Any], used: NDArray[np.bool_]) -> int:
    """Count the lines of an image, from either end, that hold one value and are measured."""
    flat = flux.reshape(-1, *flux.shape[-2:])
    good = used.reshape(flat.shape)
    longest = 0
    for values, sound in ((flat, good), (flat[:, ::-1], good[:, ::-1])):
        same = ((values == values[:, :1, :1]) & sound).all(axis=-1)
        runs = np.where(same.all(axis=-1), same.shape[-1], np.argmin(same, axis=-1))
        # A band of one value throughout is another matter.
        longest = max(longest, int(runs[runs < same.shape[-1]].max(initial=0)))
    return longest


def _note_scatter(
    flux: NDArray[Any],
    ivar: NDArray[Any],
    used: NDArray[np.bool_],
    entry: Entry,
    name: str,
    tally: Tally,
) -> None:
    """Keep how much an object scatters relative to its weights, and how that goes with them."""
    if not tally.wants("N3", "N11") or flux.shape[-1] < 8:
        return
    if entry.records.kind == "cube" and len(flux) > _MAX_SPAXELS:
        chosen = np.linspace(0, len(flux) - 1, _MAX_SPAXELS).astype(int)
        flux, ivar, used = flux[chosen], ivar[chosen], used[chosen]
    noise, weight = differences(flux, ivar, used, SECOND)
    if noise.size < MIN_PIXELS:
        return
    factor = _robust(noise * np.sqrt(weight))
    # Lines and edges scatter too, but less from one pixel to the next than noise does.
    fine, fine_weight = differences(flux, ivar, used, FOURTH)
    if fine.size >= MIN_PIXELS:
        if factor > 1:
            factor = min(factor, _robust(fine * np.sqrt(fine_weight)))
        if (slope := trend(fine, fine_weight)) is not None:
            tally.number("trend", name, slope)
    tally.number("scatter", name, np.log10(max(factor, 1e-300)))


def differences(
    flux: NDArray[Any],
    ivar: NDArray[Any],
    used: NDArray[np.bool_],
    kernel: Sequence[float],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """
    Take differences along the last axis in which smooth light cancels.

    Parameters
    ----------
    flux, ivar : ndarray, shape (..., n)
        Values and weights.
    used : ndarray, shape (..., n), bool
        Which count.
    kernel : sequence of float
        What the pixels are multiplied with; its sum is 0.

    Returns
    -------
    difference, weight : ndarray, shape (m,)
        The differences all of whose pixels count, and their inverse variances by ivar.
    """
    n = flux.shape[-1] - len(kernel) + 1
    if n < 1:
        return np.empty(0), np.empty(0)
    good = np.ones((*flux.shape[:-1], n), bool)
    step, total = np.zeros(good.shape), np.zeros(good.shape)
    with np.errstate(all="ignore"):
        for start, factor in enumerate(kernel):
            if factor:
                here = (..., slice(start, start + n))
                good &= used[here]
                step += factor * flux[here].astype(np.float64)
                total += factor**2 / ivar[here].astype(np.float64)
    # Noise never gives exactly nothing: those are pixels that somebody filled.
    good &= np.isfinite(total) & np.isfinite(step) & (total > 0) & (step != 0)
    return step[good], 1 / total[good]


def _robust(values: NDArray[np.float64]) -> float:
    """Give the standard deviation by the median absolute deviation."""
    return 1.4826 * _middle(np.abs(values - _middle(values)))


def _middle(values: NDArray[np.float64]) -> float:
    """Give the upper median: np.median costs three times as much for a few hundred numbers."""
    return float(np.partition(values, len(values) // 2)[len(values) // 2])


def trend(noise: NDArray[np.float64], weight: NDArray[np.float64]) -> float | None:
    """
    Measure how the scatter goes with the weights within one object.

    Parameters
    ----------
    noise, weight : ndarray, shape (n,)
        Differences and their inverse variances.

    Returns
    -------
    float or None
        Slope of log scatter over log weight: -0.5 for inverse variances, +1 for the standard
        deviation and +0.5 for the variance in their place; None if the weights hardly differ.
    """
    order = np.argsort(weight)
    bins = np.array_split(order, N_BINS)
    if len(bins[0]) < MIN_PIXELS // 2:
        return None
    x = np.array([_middle(weight[b]) for b in bins])
    y = np.array([_robust(noise[b]) for b in bins])
    if not (x[-1] > MIN_RANGE * x[0] > 0) or not (y > 0).all():
        return None
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _note_copy(flux: NDArray[Any], entry: Entry, name: str, row: int, tally: Tally) -> None:
    rule = "N12" if entry.records.kind == "image" else "N9"
    if not tally.wants(rule) or flux.size < 16 or entry.records.kind == "other":
        return
    content = np.ascontiguousarray(flux)
    if (content == content.flat[0]).all() or not np.isfinite(content).any():
        return
    digest = hashlib.blake2b(content.view(np.uint8).data, digest_size=8).digest()
    # One object in several rows of a match is no other object's copy.
    digested = int.from_bytes(digest, "little")
    tally.number(f"copies {rule}", name, (digested, row, entry.source_row))


def judge_values(tally: Tally) -> None:
    """
    Judge what was kept of all objects of a subset.

    Parameters
    ----------
    tally : Tally
        Has the numbers, takes what is found.
    """
    for name, values in tally.each("scatter"):
        factor = 10 ** float(np.median(values))
        message = (
            f"the median object scatters {factor:.3g} times as much as its ivar says, over "
            f"{len(values)} objects"
        )
        wrong = not 1 / SCATTER_FACTOR < factor < SCATTER_FACTOR
        tally.whole("N3", name, wrong, message)
    for name, values in tally.each("trend"):
        slope = float(np.median(values))
        message = (
            f"the scatter goes as ivar to the power {slope:+.2f}, not -0.5: is it a standard "
            "deviation or a variance?"
        )
        tally.whole("N11", name, slope > 0.25, message)
    for name, values in tally.each("masked"):
        share = float(np.median(values))
        message = f"{share:.0%} of the pixels of the median object are flagged: True is bad"
        tally.whole("N5", name, share > 0.97, message)
    for rule in ("N9", "N12"):
        for (kind, name), seen in list(tally.numbers.items()):
            if kind == f"copies {rule}":
                _judge_copies(rule, name, seen, tally)


def _judge_copies(rule: str, name: str, seen: list[Any], tally: Tally) -> None:
    """Look for a hash that comes twice, over all shards."""
    digests = np.concatenate([part[0] for part in seen])
    shards = np.repeat(np.arange(len(seen)), [len(part[0]) for part in seen])
    rows = np.concatenate([part[1] for part in seen])
    sources = np.concatenate([part[2] for part in seen])
    _, first, which = np.unique(digests, return_index=True, return_inverse=True)
    first = first[which]
    again = np.flatnonzero(
        (first != np.arange(len(digests))) & ((sources < 0) | (sources != sources[first]))
    )
    message = ""
    if len(again):
        here = int(again[0])
        there = int(first[here])
        message = (
            f"{seen[shards[here]][3]}, row {rows[here]} is bit for bit "
            f"{seen[shards[there]][3]}, row {rows[there]}"
        )
        message += f" ({len(again)} in all)" if len(again) > 1 else ""
    tally.whole(rule, name, message, message)
