"""Rows chosen on the sky are those that comparing every position gives."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from astropile import hats, regions
from astropile.healpix import ang2pix, pix2ang
from astropile.regions import PIXEL_RADIUS, Box, Cone, Polygon, pixel_ranges, ranges_of
from astropile.select import SkySelections
from astropile.sky import separation_arcsec, unit_vectors


class Chosen(SkySelections):
    """The selections of a catalogue without a tree."""

    def __init__(self, folder):
        self.folder = folder

    def ranges(self, ranges, columns=()):
        return hats.read_ranges(self.folder, ranges, columns)


def sky():
    """Positions all over, crowded at the poles, the seam, pixel corners, and edges to be hit."""
    rng = np.random.default_rng(11)
    n = 4000
    ra = [rng.uniform(0, 360, n)]
    dec = [np.degrees(np.arcsin(rng.uniform(-1, 1, n)))]
    for pole in (90, -90):
        ra.append(rng.uniform(0, 360, 200))
        dec.append(np.clip(pole - np.sign(pole) * rng.exponential(0.5, 200), -90, 90))
    ra.append(rng.normal(0, 0.5, 300) % 360)
    dec.append(rng.normal(0, 0.5, 300))
    for order in (0, 3):
        centres = pix2ang(np.arange(12 * 4**order), order)
        ra.append(centres[0])
        dec.append(centres[1])
    grid = np.meshgrid(np.arange(0, 360, 30.0), np.arange(-90, 91, 15.0))
    ra.append(grid[0].ravel())
    dec.append(grid[1].ravel())
    ra, dec = np.concatenate(ra), np.concatenate(dec)
    ra[ra == 360] = 0
    order = np.argsort(ang2pix(ra, dec, 29), kind="stable")
    return ra[order], dec[order]


all_ra, all_dec = sky()
PIXELS = ang2pix(all_ra, all_dec, 29)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    """A catalogue of many files and row groups."""
    folder = tmp_path_factory.mktemp("select")

    def table_of(first, last):
        return pa.table(
            {
                "_healpix_29": PIXELS[first:last],
                "ra": all_ra[first:last],
                "dec": all_dec[first:last],
            }
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hats, "MAX_ROWS", 400)
        patch.setattr(hats, "ROW_GROUP_ROWS", 64)
        hats.write_hats(folder / "catalog", "sky", PIXELS, 6, table_of)
    return Chosen(folder / "catalog")


quick = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ras = st.one_of(st.floats(-400, 800), st.sampled_from([0.0, 30.0, 360.0, 359.9999]))
decs = st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, -45.0, 0.0, 90.0]))
radii = st.one_of(st.floats(0, 648000), st.sampled_from([0.0, 3600.0, 54000.0]), st.floats(0, 9000))


@quick
@given(ra=ras, dec=decs, radius=radii)
@example(ra=0.0, dec=90.0, radius=54000.0)
@example(ra=30.0, dec=0.0, radius=0.0)
@example(ra=30.0, dec=0.0, radius=648000.0)
def test_cone(catalog, ra, dec, radius):
    """A cone gives the rows whose separation is at most its radius."""
    expected = np.flatnonzero(separation_arcsec(ra, dec, all_ra, all_dec) <= radius)
    found = catalog.cone(ra, dec, radius)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


@quick
@given(ra=ras, width=st.one_of(st.floats(0, 400), st.just(0.0)), dec=decs, other=decs)
@example(ra=330.0, width=60.0, dec=-15.0, other=15.0)
@example(ra=350.0, width=10.0, dec=60.0, other=90.0)
def test_box(catalog, ra, width, dec, other):
    """A box gives the rows between its limits, through 0 = 360 where it must."""
    low, high = sorted((dec, other))
    first, last = (0.0 if turn == 360 else turn for turn in (ra % 360, (ra + width) % 360))
    if (ra + width) - ra >= 360:
        across = np.ones(len(all_ra), bool)
    elif first <= last:
        across = (all_ra >= first) & (all_ra <= last)
    else:
        across = (all_ra >= first) | (all_ra <= last)
    expected = np.flatnonzero(across & (all_dec >= low) & (all_dec <= high))
    np.testing.assert_array_equal(catalog.box(ra, ra + width, low, high), expected)
    if width < 360 and first != last:
        np.testing.assert_array_equal(catalog.box(first, last, low, high), expected)


def ring(ra, dec, radii, start=0.0):
    """Corners around a position, one for each radius [deg]."""
    centre = unit_vectors(ra, dec)
    north = unit_vectors(ra, dec + 90 if dec < 0 else dec - 90) * (1 if dec < 0 else -1)
    east = np.cross(north, centre)
    turns = np.radians(start) + np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    r = np.radians(radii)[:, None]
    points = np.cos(r) * centre + np.sin(r) * (
        np.cos(turns)[:, None] * north + np.sin(turns)[:, None] * east
    )
    x, y, z = points.T
    return np.stack([np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))])


def star_contains(ra, dec, corners):
    """Brute force for a polygon seen whole from its middle: the sector's triangle holds a point."""
    centre = unit_vectors(ra, dec)
    points = unit_vectors(all_ra, all_dec)
    vectors = unit_vectors(*corners)
    inside = np.zeros(len(all_ra), bool)
    for a, b in zip(vectors, np.roll(vectors, -1, axis=0), strict=True):
        sign = np.sign(np.dot(np.cross(a, b), centre))
        triple = [np.cross(u, v) @ points.T * sign for u, v in ((a, b), (b, centre), (centre, a))]
        inside |= np.all(np.array(triple) >= 0, axis=0)
    return inside


@quick
@given(
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    radii=st.lists(st.floats(0.02, 80), min_size=4, max_size=9),
    start=st.floats(0, 90),
    backwards=st.booleans(),
)
@example(ra=10.0, dec=90.0, radii=[5.0, 1.0, 5.0, 1.0, 5.0, 1.0], start=3.0, backwards=True)
@example(ra=0.0, dec=0.0, radii=[30.0, 2.0] * 4, start=1.0, backwards=False)
@example(ra=40.0, dec=-89.9, radii=[80.0] * 5, start=1.0, backwards=False)
def test_polygon(catalog, ra, dec, radii, start, backwards):
    """A polygon, star-shaped or round, gives the rows on its smaller side."""
    corners = ring(ra, dec, radii, start)
    found = catalog.polygon(corners.T[::-1] if backwards else corners.T)
    mine = np.zeros(len(all_ra), bool)
    mine[found] = True
    differing = mine != star_contains(ra, dec, corners)
    # Brute force knows no edge: what lies on one, to rounding, is inside only here.
    polygon = Polygon(corners.T)
    on_edge = polygon._distance(unit_vectors(all_ra[differing], all_dec[differing])) <= 1e-12
    assert on_edge.all()
    assert mine[differing].all()


@quick
@given(
    order=st.integers(0, 29),
    numbers=st.lists(st.integers(0, 10**18), max_size=20),
    rows=st.lists(st.integers(0, len(all_ra) - 1), max_size=20),
)
def test_pixels(catalog, order, numbers, rows):
    """Pixels of any order give the rows whose pixel at that order is among them."""
    shift = 2 * (29 - order)
    chosen = [number % (12 << 2 * order) for number in numbers]
    chosen += (PIXELS[rows] >> shift).tolist()
    expected = np.flatnonzero(np.isin(PIXELS >> shift, chosen))
    np.testing.assert_array_equal(catalog.pixels(order, chosen), expected)


def test_moc(catalog, tmp_path):
    """A coverage map gives the rows in it, from an object, a FITS and a JSON file alike."""
    mocpy = pytest.importorskip("mocpy")
    u = pytest.importorskip("astropy.units")
    cells = np.array([3, 200, 201, 40000], np.uint64)
    moc = mocpy.MOC.from_healpix_cells(cells, np.array([0, 3, 3, 7], np.uint8), 9)
    expected = np.flatnonzero(moc.contains_lonlat(all_ra * u.deg, all_dec * u.deg))
    assert len(expected) > 50
    for form in ("fits", "json", "ascii"):
        path = tmp_path / f"moc.{form}"
        moc.save(str(path), format=form)
        np.testing.assert_array_equal(catalog.moc(path), expected)
        np.testing.assert_array_equal(catalog.moc(str(path)), expected)
    np.testing.assert_array_equal(catalog.moc(moc), expected)
    assert catalog.moc(mocpy.MOC.new_empty(5)).tolist() == []
    (tmp_path / "no.json").write_text(json.dumps({"a": "b"}))
    for name in ("no.json", "no.txt"):
        (tmp_path / name).write_text("{what" if name == "no.json" else "nothing of that kind")
        with pytest.raises(ValueError, match=f"{name}: expected a coverage map"):
            catalog.moc(tmp_path / name)
    with pytest.raises(TypeError, match=r"a mocpy\.MOC or a file, not list"):
        catalog.moc([1, 2])


def test_pixel_radius():
    """No corner of a pixel is farther from its centre than the bound says."""
    from cdshealpix.nested import vertices

    for order in range(7):
        pixels = np.arange(12 * 4**order)
        ra, dec = pix2ang(pixels, order)
        lon, lat = vertices(pixels.astype(np.uint64), order)
        apart = separation_arcsec(ra[:, None], dec[:, None], lon.deg, lat.deg)
        assert apart.max() / 206265 < PIXEL_RADIUS / 2**order


def test_little_is_read(catalog, monkeypatch):
    """A small region reads one row group, not the catalogue."""
    read = []
    real = hats.pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        hats.pq.ParquetFile,
        "read_row_group",
        lambda self, *args: read.append(args) or real(self, *args),
    )
    row = 1234
    assert row in catalog.cone(all_ra[row], all_dec[row], 0.5)
    assert len(read) == 1
    assert catalog.cone(123.4, 56.7, 0).tolist() == []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Cone(0, 91, 1), "-90 to 90 degrees, not 91"),
        (lambda: Cone(0, 0, -1), "at least 0 arcsec, not -1"),
        (lambda: Cone(np.nan, 0, 1), "right ascension is finite"),
        (lambda: Box(0, 1, 2, 1), "dec_min 2 is greater than dec_max 1"),
        (lambda: Polygon([[0, 0], [1, 1], [0, 0]]), "three corners"),
        (lambda: Polygon([[0, 0], [180, 0], [0, 80]]), "opposite"),
        (lambda: Polygon([0, 1, 2]), "n pairs ra, dec"),
        (lambda: Polygon([[0, 0], [1, 100], [0, 1]]), "not on the sky"),
        (lambda: ranges_of([12], 0), "12 is not among the 12 of order 0"),
        (lambda: ranges_of([-1], 3), "-1 is not among"),
        (lambda: ranges_of([0], 30), "0 to 29, not 30"),
    ],
)
def test_wrong_regions(make, said):
    """A region that cannot be says what is wrong with it."""
    with pytest.raises(ValueError, match=said):
        make()


def test_pixel_numbers_are_integers():
    """Pixel numbers that are not integers are refused."""
    with pytest.raises(TypeError, match="float64"):
        ranges_of([1.5], 3)


def test_edges_of_a_polygon():
    """Corners, and points along the edges, are inside; a hair outside they are not."""
    corners = np.array([[10.0, 0.0], [12.0, 0.0], [12.0, 2.0], [10.0, 2.0]])
    polygon = Polygon(corners)
    ra = np.array([10.0, 12.0, 11.0, 12.0, 11.0, 12.0 + 1e-9, 9.999, 11.0, 191.0])
    dec = np.array([0.0, 2.0, 0.0, 1.0, 1.0, 1.0, 1.0, -1e-9, -1.0])
    assert polygon.contains(ra, dec).tolist() == [True] * 5 + [False] * 4
    closed = Polygon([*corners, corners[0]])
    assert closed.contains(ra, dec).tolist() == [True] * 5 + [False] * 4


def test_small_polygon_keeps_its_digits():
    """An arcsecond-sized polygon tells positions a microarcsecond apart."""
    step = 1 / 3600
    polygon = Polygon([[50, 20], [50 + step, 20], [50 + step, 20 + step], [50, 20 + step]])
    ra = np.array([50 + 3e-10, 50 - 3e-10])
    assert polygon.contains(ra, np.full(2, 20 + step / 2)).tolist() == [True, False]


def test_large_polygon():
    """A polygon may take up nearly half of the sky, and hold a pole or both sides of the seam."""
    band = [[ra, -1.0] for ra in range(0, 360, 20)]
    holds = Polygon(band).contains(np.array([0.0, 10.0, 200.0]), np.array([-89.0, 3.0, -2.0]))
    assert holds.tolist() == [True, False, True]
    covered = np.diff(pixel_ranges(Polygon(band))).sum() / (12 * 4**29)
    assert 0.49 < covered < 0.6
    assert regions.merged(np.empty((0, 2), np.int64)).shape == (0, 2)
