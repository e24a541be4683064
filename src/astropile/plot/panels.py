"""A panel: one pair of axes, and what draws into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

INK: Final = "#222222"
BLUE: Final = "#1b4f8a"
GREY: Final = "#9a9a9a"
ORANGE: Final = "#d55e00"
PURPLE: Final = "#b03a7a"
GREEN: Final = "#4c7a34"


@dataclass(frozen=True)
class Panel:
    """
    One pair of axes.

    Parameters
    ----------
    width : float
        Its width [inch].
    draw : callable
        ``draw(axes)`` draws into matplotlib's axes.
    """

    width: float
    draw: Callable[[Any], None]
