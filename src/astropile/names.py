"""
Standard names, once: columns, units, attribute keys, the format's version.

Nothing else in the package spells these strings out.
"""

from __future__ import annotations

from typing import Final

FORMAT_VERSION: Final = "1.1"
"""Version of the on-disk format (`docs/format.md`).

A minor step adds what older readers may ignore; a major step changes what they rely on.

- 1.0: first version.
- 1.1: `astropile.json` tells of ``parent``, ``built`` and ``files``, the list of inputs of hashes.
"""

COMMON_COLUMNS: Final = ("object_id", "observation_id", "ra", "dec", "healpix")
"""Columns every file holds, on axis 0, beside the native ones."""

REQUIRED_ALIASES: Final = ("object_id", "observation_id", "ra", "dec")
"""Aliases every survey declares; `healpix` follows from `ra` and `dec`."""

PROVENANCE: Final = "provenance"
PROVENANCE_FIELDS: Final = ("project", "survey", "release")

HEALPIX_29: Final = "_healpix_29"
"""Catalogue column: NESTED pixel number at order 29, the sort key (name set by HATS)."""

SHARD_COLUMN: Final = "_shard"
"""Catalogue column: number of the shard within its partition, from 1."""

ROW_COLUMN: Final = "_row"
"""Catalogue column: row within the shard, from 0."""

ROW_NUMBER: Final = "_row_number"
"""Column that SQL sees: the object's place in the subset."""

RESERVED_NAMES: Final = frozenset(
    {"healpix", "provenance", "shared", "ragged", HEALPIX_29, SHARD_COLUMN, ROW_COLUMN}
)
"""Names that a native column cannot have: they mean something else in a file or catalogue."""

FIELD_UNITS: Final = {
    "ra": "deg",
    "dec": "deg",
    "separation": "arcsec",
    "lambda": "Angstrom",
    "lsf_sigma": "Angstrom",
    "psf_fwhm": "arcsec",
    "pixel_size": "arcsec",
    "spaxel_size": "arcsec",
    "extinction": "mag",
    "ebv": "mag",
    "mag": "mag",
}
"""Unit of a standard field, the same in every survey (others: stated by the survey)."""
