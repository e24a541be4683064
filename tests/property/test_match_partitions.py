"""However catalogues and work are divided, the match is that of all rows with all rows."""

import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from astropile.healpix import ang2pix
from astropile.match import partitions
from astropile.match.files import finest_order, widened
from astropile.match.partitions import match_files
from astropile.match.positions import match_positions
from astropile.sky import separation_arcsec
from hatsfolders import make_hats, scatter

KINDS = ("sky", "clumps", "clump")


@st.composite
def catalogues(draw, radius):
    """Positions, and how their catalogue is cut into files and row groups."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(1, 120))
    ra, dec = scatter(rng, n, radius, kind=draw(st.sampled_from(KINDS)))
    cut = {
        "group_rows": draw(st.sampled_from([1, 7, 1000])),
        "file_rows": draw(st.sampled_from([5, 40, 1000])),
        "max_order": draw(st.sampled_from([0, 3, 12])),
    }
    return ra, dec, cut


@st.composite
def matches(draw):
    """Two catalogues, what is sought, and the memory to do it in."""
    radius = draw(st.sampled_from([0.0, 1.0, 600.0, 36000.0, 648000.0]))
    find = draw(st.sampled_from(["nearest", "all", "mutual"]))
    options = {
        "radius_arcsec": radius,
        "find": find,
        "n_neighbors": draw(st.integers(1, 4)) if find == "nearest" else 1,
        "min_radius_arcsec": draw(st.sampled_from([0.0, 0.3])) if radius else 0.0,
    }
    left = draw(catalogues(radius or 1.0))
    itself = draw(st.booleans())
    right = left if itself else draw(catalogues(radius or 1.0))
    options["exclude_self"] = itself and draw(st.booleans())
    return left, right, options, draw(st.sampled_from([1000, 6400, 64000, 1 << 24]))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(matches())
def test_partitions_equal_the_whole(case):
    """Row numbers and separations are the same to the bit, whatever the memory."""
    *given_sides, options, memory_bytes = case
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(partitions, "LEAST_MEMORY_BYTES", 1),
    ):
        sides = [
            make_hats(Path(folder) / name, ra, dec, **cut)
            for name, (ra, dec, cut) in zip("ab", given_sides, strict=True)
        ]
        found = match_files(
            sides[0][0], sides[1][0], memory_bytes=memory_bytes, threads=1, **options
        )
    whole = match_positions(*sides[0][1:], *sides[1][1:], threads=1, **options)
    for name in ("left", "right", "separation_arcsec"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.floats(-4, 6).map(lambda power: 10.0**power),
    st.sampled_from([1, 50, 16384]),
    st.sampled_from(KINDS),
)
def test_surroundings_hold_everything_within_the_radius(seed, radius, max_pixels, kind):
    """No position within the radius of a row lies outside the widened ranges of all rows."""
    radius = min(radius, 648000.0)
    rng = np.random.default_rng(seed)
    ra, dec = scatter(rng, 60, radius, kind=kind)
    pixels = np.sort(ang2pix(ra, dec, 29))
    ranges = widened(np.stack([pixels, pixels + 1], axis=1), radius, max_pixels)
    angle = rng.uniform(0, 2 * np.pi, (40, 60))
    distance = np.radians(radius / 3600) * rng.choice([1.0, 0.999, 0.5], (40, 60))
    dec_1 = np.radians(dec)
    sine = np.sin(dec_1) * np.cos(distance) + np.cos(dec_1) * np.sin(distance) * np.cos(angle)
    dec_2 = np.arcsin(np.clip(sine, -1, 1))
    turn = np.arctan2(
        np.sin(angle) * np.sin(distance) * np.cos(dec_1),
        np.cos(distance) - np.sin(dec_1) * np.sin(dec_2),
    )
    ra_2, dec_2 = (ra + np.degrees(turn)) % 360.0, np.degrees(dec_2)
    near = separation_arcsec(ra, dec, ra_2, dec_2) <= radius
    at = ang2pix(ra_2[near], dec_2[near], 29)
    assert np.all(np.searchsorted(ranges.ravel(), at, side="right") % 2 == 1)
    assert finest_order(radius) < 0 or len(ranges) <= 9 * max(max_pixels, 12)
