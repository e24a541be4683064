"""Catalogues on disk made of positions, cut finely so that small ones have many parts."""

from unittest import mock

import numpy as np
import pyarrow as pa

from astropile import hats
from astropile.healpix import ang2pix

SPOTS = np.array(
    [
        (0.0, 0.0),
        (359.99999, 0.0),
        (45.0, 41.8103149),
        (90.0, 0.0),
        (10.0, 89.9999),
        (190.0, 89.9999),
        (77.0, -90.0),
        (180.0, -41.8103149),
    ]
)
"""Where borders of pixels, poles and the seam meet."""


def make_hats(folder, ra, dec, *, group_rows=8, file_rows=30, max_order=4):
    """Write positions as the catalogue of a tree; gives the folder and the rows' coordinates."""
    pixels = ang2pix(ra, dec, 29)
    order = np.argsort(pixels, kind="stable")
    ra, dec, pixels = np.asarray(ra)[order], np.asarray(dec)[order], pixels[order]

    def table(first, last):
        part = slice(first, last)
        return pa.table(
            {
                "object_id": np.arange(first, last),
                "ra": ra[part],
                "dec": dec[part],
                "_healpix_29": pixels[part],
            }
        )

    small = mock.patch.multiple(hats, ROW_GROUP_ROWS=group_rows, MAX_ROWS=file_rows)
    with small:
        hats.write_hats(folder, folder.name, pixels, max_order, table)
    return folder, ra, dec


def scatter(rng, n, radius_arcsec, *, kind):
    """Positions: all over the sky, in clumps around the spots, or all in one."""
    if kind == "sky":
        return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    which = rng.integers(0, len(SPOTS), n) if kind == "clumps" else np.full(n, 2)
    ra, dec = SPOTS[which].T
    width = 3 * radius_arcsec / 3600
    dec = np.clip(dec + rng.normal(0, width, n), -90, 90)
    ra = (ra + rng.normal(0, width, n) / np.maximum(np.cos(np.radians(dec)), 1e-6)) % 360.0
    # Some at one place, and at places of others: ties.
    ra[: n // 10], dec[: n // 10] = ra[0], dec[0]
    return np.where(ra >= 360, 0.0, ra), dec
