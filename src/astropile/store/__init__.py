"""Where bytes live, and which of them to ask for."""

from __future__ import annotations

from astropile.store.protocol import RemoteOptions

__all__ = ["RemoteOptions"]
