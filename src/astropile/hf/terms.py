"""What the terms of the sources say against sharing a dataset that was made of several."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Final

from astropile.errors import LicenceWarning

BEFORE_SHARING: Final = "Before this is shared: "
"""How the paragraph of a description starts that says what stands against it."""


def told(flags: Sequence[str]) -> str:
    """
    Say in a description what stands against sharing.

    Parameters
    ----------
    flags : sequence of str
        What `astropile.match.licence_flags` gave.

    Returns
    -------
    str
        A paragraph; nothing if there are none.

    Examples
    --------
    >>> told(["des: no derivatives (CC-BY-ND-4.0)"])
    'Before this is shared: des: no derivatives (CC-BY-ND-4.0)'
    """
    return f"{BEFORE_SHARING}{'; '.join(flags)}" if flags else ""


def warn_before_sharing(data: Any) -> None:
    """
    Warn if the description of what is pushed says that something stands against sharing it.

    Parameters
    ----------
    data : Dataset, IterableDataset, or a dict of them
        What is about to be pushed.

    Warns
    -----
    LicenceWarning
        If so, once.
    """
    for one in data.values() if isinstance(data, dict) else [data]:
        for paragraph in (one.info.description or "").split("\n\n"):
            if paragraph.startswith(BEFORE_SHARING):
                warnings.warn(paragraph, LicenceWarning, stacklevel=3)
                return
