"""Leave modalities out at random, so that a model learns to do without."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.errors import SampleError
from astropile.samples.collate import Padded, as_array
from astropile.samples.fields import PRESENT


def draw_dropped(
    present: Mapping[str, Any],
    probabilities: Mapping[str, float],
    generator: np.random.Generator | int,
    *,
    keep_one: bool = True,
) -> dict[str, NDArray[np.bool_]]:
    """
    Draw which modalities are left out of which objects.

    Parameters
    ----------
    present : mapping of str to array_like of bool, shape (n,)
        Where each modality is there.
    probabilities : mapping of str to float
        Probability that a modality is left out, for those that may be.
    generator : numpy.random.Generator or int
        Where the random numbers come from, or a seed. As many are drawn whatever is present.
    keep_one : bool
        Never leave out all that an object has of these modalities.

    Returns
    -------
    dict of str to ndarray, shape (n,), bool
        For each named modality, the objects that lose it; only those that have it.

    Raises
    ------
    SampleError
        If a probability is not between 0 and 1, or a name not among those of `present`.

    Notes
    -----
    Modality i is dropped with probability p_i, independently of the others. With `keep_one`, if
    all that are present would go (probability P, the product of their p), one is kept after all,
    i with the weight w_i = (1 - p_i) / sum(1 - p_j) among those present (equal weights if all p
    are 1): so i is dropped with probability p_i - P w_i.

    Examples
    --------
    >>> draw_dropped({"image": [True], "spectrum": [False]}, {"image": 1.0, "spectrum": 1.0}, 0)
    {'image': array([False]), 'spectrum': array([False])}
    """
    for name, chance in probabilities.items():
        if not 0 <= chance <= 1:
            raise SampleError(f"probability of {name!r}", "0 to 1", repr(chance))
        if name not in present:
            raise SampleError("modality", f"one of {', '.join(present)}", repr(name))
    if not probabilities:
        return {}
    there = np.stack([np.asarray(present[name], bool) for name in probabilities])
    chances = np.array(list(probabilities.values()), np.float64)[:, None]
    rng = np.random.default_rng(generator)
    drawn = rng.random((len(chances) + 1, there.shape[1]))
    dropped = there & (drawn[:-1] < chances)
    if keep_one:
        bare = np.flatnonzero((dropped == there).all(axis=0) & there.any(axis=0))
        dropped[_kept(there[:, bare], chances, drawn[-1, bare]), bare] = False
    return dict(zip(probabilities, dropped, strict=True))


def _kept(
    there: NDArray[np.bool_], chances: NDArray[np.float64], drawn: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Choose one modality of each object, by the weights of `draw_dropped`."""
    weights = np.where(there, 1 - chances, 0.0)
    weights = np.where(weights.sum(axis=0) > 0, weights, there)
    upper = np.cumsum(weights / weights.sum(axis=0), axis=0)
    # The last one with a weight, were rounding to leave the sum below what was drawn.
    last = len(weights) - 1 - np.argmax(weights[::-1] > 0, axis=0)
    return np.asarray(np.minimum((upper <= drawn).sum(axis=0), last))


def drop_modalities(
    batch: Mapping[str, Any],
    probabilities: Mapping[str, float],
    generator: np.random.Generator | int,
    *,
    keep_one: bool = True,
) -> dict[str, Any]:
    """
    Leave modalities out of a batch at random.

    Parameters
    ----------
    batch : mapping of str to object
        What `collate` gave, of numpy arrays or tensors.
    probabilities, generator, keep_one
        As for `draw_dropped`. Fields that are not named stay, and are not counted.

    Returns
    -------
    dict of str to object
        The batch; where a modality was dropped, its values are 0, its masks True, its texts None
        and its flags False, as if it had not been there. What was given is not changed.

    Raises
    ------
    SampleError
        As for `draw_dropped`, or if the batch has no flags.
    """
    if PRESENT not in batch:
        raise SampleError("batch", f"flags under {PRESENT!r}, as collate gives", ", ".join(batch))
    flags = batch[PRESENT]
    dropped = draw_dropped(
        {name: as_array(flags[name]) for name in flags if name in batch},
        probabilities,
        generator,
        keep_one=keep_one,
    )
    out = dict(batch)
    out[PRESENT] = {
        path: _without(value, dropped[owner])
        if (owner := _owner(path, batch)) in dropped
        else value
        for path, value in flags.items()
    }
    for name, gone in dropped.items():
        out[name] = _without(batch[name], gone)
    return out


def _owner(path: str, names: Iterable[str]) -> str:
    """Name the field of a batch that a flag is of."""
    return next((n for n in names if path == n or path.startswith((f"{n}.", f"{n}[]"))), path)


def _without(value: Any, gone: NDArray[np.bool_]) -> Any:
    """Copy a field with nothing in some rows."""
    match value:
        case None:
            return None
        case Padded():
            return Padded(_without(value.values, gone), _filled(value.mask, gone, fill=True))
        case Mapping():
            return {name: _without(inner, gone) for name, inner in value.items()}
        case list():
            return [None if lost else item for item, lost in zip(value, gone, strict=True)]
    return _filled(value, gone, fill=False)


def _filled(values: Any, gone: NDArray[np.bool_], *, fill: bool) -> Any:
    if isinstance(values, np.ndarray):
        copy = values.copy()
        copy[gone] = fill
        return copy
    import torch

    copy = values.clone()
    copy[torch.from_numpy(gone).to(copy.device)] = fill
    return copy
