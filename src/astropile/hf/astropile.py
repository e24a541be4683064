"""
The builder that `datasets` sees.

Alone in a module of this name because `datasets` names a builder after its module, and
replaces ``open`` and ``os.path`` in that module by functions of its own.
"""

from __future__ import annotations

from astropile.hf.builder import TreeBuilder


class AstroPile(TreeBuilder):
    """An AstroPile tree as a dataset; see `astropile.hf.builder`."""
