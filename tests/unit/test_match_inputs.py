"""Positions from tables of every kind: which columns, in which unit, which rows have none."""

import bz2
import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable import writeto
from astropy.table import MaskedColumn, QTable, Table
from astropy.units import Unit

import astropile
from astropile.errors import MatchError, TreeNotFoundError
from astropile.match import as_positions, cross_match, match_positions
from hftrees import quiet, trees  # noqa: F401

RA = np.array([10.0, 359.99999, 200.5])
DEC = np.array([-45.0, 0.0, 89.5])
IDS = np.array([2**60 + 1, 2**60 + 2, -(2**62) - 3], np.int64)


def _plain():
    return {"source_id": IDS, "ra": RA, "dec": DEC}


def _votable(path):
    writeto(Table(_plain()), str(path))


def _gzipped(write):
    def wrapped(path):
        plain = path.with_suffix("")
        write(plain)
        path.write_bytes(gzip.compress(plain.read_bytes()))

    return wrapped


def _csv(path):
    pd.DataFrame(_plain()).to_csv(path, index=False)


def _ecsv(path):
    Table(_plain()).write(path, format="ascii.ecsv")


def _fits(path):
    Table(_plain()).write(path, format="fits")


FILES = {
    "a.fits": _fits,
    "a.fits.gz": _gzipped(_fits),
    "a.vot": _votable,
    "a.xml": _votable,
    "a.csv": _csv,
    "a.csv.gz": _gzipped(_csv),
    "a.tsv": lambda path: pd.DataFrame(_plain()).to_csv(path, index=False, sep="\t"),
    "a.ecsv": _ecsv,
    "a.parquet": lambda path: pq.write_table(pa.table(_plain()), path),
    "b.parquet": lambda path: Table(_plain()).write(path, format="parquet"),
}


def _same(found):
    np.testing.assert_allclose(found.ra, RA, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.dec, DEC, rtol=0, atol=1e-12)
    assert found.ra.dtype == found.dec.dtype == np.float64
    assert found.table()["source_id"].to_pylist() == IDS.tolist()


@pytest.mark.parametrize("name", FILES)
def test_files(name, tmp_path):
    """Positions and identifiers beyond 2**53 come out of every kind of file as they went in."""
    FILES[name](tmp_path / name)
    found = as_positions(tmp_path / name)
    _same(found)
    assert found.name == name[0]
    assert as_positions(str(tmp_path / name)).name == name[0]


def test_bzip2_text(tmp_path):
    """Text compressed with bzip2, with comments before its header, is read."""
    text = b"# from somewhere\n#\nRA,Dec\n10,-45\n"
    (tmp_path / "a.csv.bz2").write_bytes(bz2.compress(text))
    assert as_positions(tmp_path / "a.csv.bz2").dec.tolist() == [-45.0]


TABLES = {
    "astropy Table": lambda: Table(_plain()),
    "QTable": lambda: QTable({**_plain(), "ra": RA * Unit("deg"), "dec": DEC * Unit("deg")}),
    "pandas": lambda: pd.DataFrame(_plain(), index=["x", "y", "z"]),
    "pyarrow": lambda: pa.table(_plain()),
    "record batch": lambda: pa.record_batch(_plain()),
    "dict": _plain,
    "dict of lists": lambda: {k: v.tolist() for k, v in _plain().items()},
    "structured array": lambda: np.rec.fromarrays(list(_plain().values()), names=list(_plain())),
    "big-endian FITS": lambda: {
        k: v.astype(v.dtype.newbyteorder(">")) for k, v in _plain().items()
    },
    "radians": lambda: Table(
        {
            "source_id": IDS,
            "coord_ra": np.radians(RA) * Unit("rad"),
            "coord_dec": np.radians(DEC) * Unit("rad"),
        }
    ),
    "hours": lambda: QTable(
        {"source_id": IDS, "RA": RA / 15 * Unit("hourangle"), "DEC": DEC * Unit("deg")}
    ),
    "arrow with units": lambda: pa.table(
        [IDS, RA / 15, DEC * 60],
        schema=pa.schema(
            [
                pa.field("source_id", "i8"),
                pa.field("ra", "f8", metadata={"unit": "hourangle"}),
                pa.field("dec", "f8", metadata={"unit": "arcmin"}),
            ]
        ),
    ),
    "sexagesimal": lambda: {
        "source_id": IDS,
        "RAJ2000": ["00:40:00", "23:59:59.9976", "13 22 00"],
        "DEJ2000": ["-45:00:00", "+00:00:00", "89 30 00"],
    },
    "decimal text": lambda: {"source_id": IDS, "RA": RA.astype(str), "Dec": DEC.astype(str)},
    "SkyCoord column": lambda: QTable(
        {"source_id": IDS, "position": SkyCoord(RA, DEC, unit="deg").galactic}
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_tables(kind):
    """Positions and identifiers come out of every kind of table as they went in."""
    found = as_positions(TABLES[kind]())
    atol = 1e-12 if kind != "SkyCoord column" else 1e-9
    np.testing.assert_allclose(found.ra, RA, rtol=0, atol=atol)
    np.testing.assert_allclose(found.dec, DEC, rtol=0, atol=atol)
    assert found.table()["source_id"].to_pylist() == IDS.tolist()


def test_polars():
    """A polars data frame is a table."""
    polars = pytest.importorskip("polars")
    _same(as_positions(polars.DataFrame(_plain())))
    text = polars.DataFrame({"RA": ["00:40:00", None], "DEC": ["-45:00:00", "1"]})
    assert abs(as_positions(text).ra[0] - 10.0) < 1e-12
    assert np.isnan(as_positions(text).ra[1])


def test_skycoord():
    """A SkyCoord is positions, turned to ICRS."""
    found = as_positions(SkyCoord(RA, DEC, unit="deg").fk5)
    np.testing.assert_allclose(found.ra, RA, rtol=0, atol=1e-9)


MISSING = {
    "masked": lambda: Table({"ra": MaskedColumn(RA, mask=[0, 1, 0]), "dec": DEC}),
    "masked quantity": lambda: QTable(
        {"ra": MaskedColumn(RA, mask=[0, 1, 0], unit="deg"), "dec": DEC * Unit("deg")}
    ),
    "masked text": lambda: Table(
        {
            "ra": MaskedColumn(["00:40:00", "xx", "13:22:00"], mask=[0, 1, 0]),
            "dec": ["-45:00:00", "0:0:0", "89:30:00"],
        }
    ),
    "arrow nulls": lambda: pa.table({"ra": [10.0, None, 200.5], "dec": DEC}),
    "pandas nullable": lambda: pd.DataFrame(
        {"ra": pd.array([10.0, None, 200.5], dtype="Float64"), "dec": DEC}
    ),
    "empty text": lambda: {"ra": ["10", "", "200.5"], "dec": ["-45", "0", "89.5"]},
    "numpy masked": lambda: {"ra": np.ma.array(RA, mask=[0, 1, 0]), "dec": DEC},
}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_positions(kind):
    """A row without a position has NaN, never matches, and is counted."""
    value = MISSING[kind]()
    found = as_positions(value)
    assert np.isnan(found.ra).tolist() == [False, True, False]
    pairs = cross_match(value, {"ra": RA, "dec": DEC}, radius_arcsec=1)
    assert pairs.left.tolist() == pairs.right.tolist() == [0, 2]
    assert pairs.n_invalid_left == 1


def test_order_of_names():
    """The pair of names that comes first in the stated order is taken, letter by letter."""
    both = {"RAJ2000": [1.0], "DEJ2000": [2.0], "ra": [3.0], "dec": [4.0]}
    assert as_positions(both).ra_column == "ra"
    assert as_positions({"rA": [1.0], "dEC": [2.0]}).dec_column == "dEC"
    named = as_positions(both, ra="RAJ2000", dec="DEJ2000")
    assert (named.ra.tolist(), named.dec.tolist()) == ([1.0], [2.0])


def test_ucd_of_votables_goes_first(tmp_path):
    """The columns that a VOTable marks as its main positions are taken, whatever their names."""
    table = Table({"ra": [1.0], "dec": [2.0], "alpha": [3.0], "delta": [4.0]})
    for name, ucd in (("alpha", "pos.eq.ra;meta.main"), ("delta", "pos.eq.dec;meta.main")):
        table[name].meta["ucd"] = ucd
    writeto(table, str(tmp_path / "a.vot"))
    found = as_positions(tmp_path / "a.vot")
    assert (found.ra_column, found.dec_column) == ("alpha", "delta")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ({"x": [1.0], "y": [2.0]}, "columns like ra and dec.*x, y"),
        ({"coord_ra": [1.0], "coord_dec": [0.5]}, "a unit, for these may be radians"),
        ({"ra": ["25:00:00"], "dec": ["1:00:00"]}, "hour"),
        ({"ra": ["east"], "dec": ["north"]}, "sexagesimal"),
        ({"ra": [[1.0, 2.0]], "dec": [[1.0, 2.0]]}, "one value per row"),
        (Table({"ra": [1.0] * Unit("km"), "dec": [1.0]}), "unit of angle"),
        (42, "a table, the path of one"),
    ],
)
def test_what_cannot_be_told_is_refused(value, match):
    """Where columns or units cannot be told the error says what was there."""
    with pytest.raises(MatchError, match=match):
        as_positions(value)


def test_half_a_position_is_refused():
    """Naming one column, or one that is not there, is refused."""
    with pytest.raises(MatchError, match="both columns"):
        as_positions(_plain(), ra="ra")
    with pytest.raises(MatchError, match="'alpha'"):
        as_positions(_plain(), ra="alpha", dec="dec")


def test_paths_that_are_nothing(tmp_path):
    """A path that is no file, no tree and no catalogue is refused by name."""
    with pytest.raises(TreeNotFoundError, match=r"nothing\.csv"):
        as_positions(tmp_path / "nothing.csv")
    with pytest.raises(TreeNotFoundError, match="HATS"):
        as_positions(tmp_path)
    (tmp_path / "a.docx").write_bytes(b"")
    with pytest.raises(MatchError, match=r"a file ending in \.fits"):
        as_positions(tmp_path / "a.docx")


def test_hats_catalogue(tmp_path):
    """A HATS catalogue is read in the order of the sky, only the columns asked for."""
    for order, pixel, rows in ((1, 17, [0]), (0, 9, [2]), (1, 16, [1])):
        folder = tmp_path / f"cat/dataset/Norder={order}/Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        part = {name: values[rows] for name, values in _plain().items()}
        pq.write_table(pa.table(part), folder / f"Npix={pixel}.parquet")
    found = as_positions(tmp_path / "cat")
    assert found.column("source_id").to_pylist() == [int(IDS[i]) for i in (1, 0, 2)]
    assert found.name == "cat"
    properties = "#HATS\nhats_col_ra=dec\nhats_col_dec = ra\n"
    (tmp_path / "cat/hats.properties").write_text(properties)
    assert as_positions(tmp_path / "cat").ra_column == "dec"
    (tmp_path / "collection.properties").write_text("hats_primary_table_url=cat\n")
    assert len(as_positions(tmp_path)) == 3


def test_motions_and_epochs():
    """Motions are found by name and unit, epochs as years, Julian dates or modified ones."""
    table = Table({**_plain(), "pmra": [1.0, 2, 3] * Unit("arcsec/yr"), "pmdec": [0.0, 0, 0]})
    table["ref_epoch"] = [2016.0] * 3
    table["jd"] = [2457388.5] * 3
    table["mjd"] = [57388.0] * 3
    side = as_positions(table)
    np.testing.assert_allclose(side.moving().pmra, [1000.0, 2000.0, 3000.0], rtol=1e-15)
    assert side.moving().epoch.tolist() == [2016.0] * 3
    np.testing.assert_allclose(side.moving("jd").epoch, 2015.999, atol=1e-3)
    np.testing.assert_array_equal(side.moving("mjd").epoch, side.moving("jd").epoch)
    assert side.moving(1991.25).epoch.tolist() == [1991.25] * 3
    with pytest.raises(MatchError, match="years, Julian dates"):
        side.moving("source_id")
    with pytest.raises(MatchError, match="epoch of table"):
        as_positions(_plain()).moving()


def test_match_of_tables_with_epochs():
    """Tables are matched where their objects were seen when both epochs are given."""
    stars = {"ra": [10.0], "dec": [0.0], "pmra": [3600.0], "pmdec": [0.0]}
    seen = {"ra": [10.0 - 0.016], "dec": [0.0], "jd": [2451545.0]}
    assert len(cross_match(stars, seen, radius_arcsec=1)) == 0
    options = {"radius_arcsec": 1, "left_epoch": 2016.0, "right_epoch": "jd"}
    pairs = cross_match(stars, seen, **options)
    assert len(pairs) == 1
    assert pairs.epoch.tolist() == [2000.0]


def test_matched_dataset_of_tables(tmp_path):
    """A matched dataset of two tables has a row of each side, identifiers exact, and saves."""
    pd.DataFrame(_plain()).to_csv(tmp_path / "stars.csv", index=False)
    other = Table({"name": ["one", "two"], "RA": RA[:2] / 15, "DEC": DEC[:2]})
    other["RA"].unit = "hourangle"
    catalog, dataset = astropile.cross_match_datasets(tmp_path / "stars.csv", other, 1.0)
    assert len(catalog) == len(dataset) == 2
    first = dataset[0]
    assert first["stars"]["source_id"] == 2**60 + 1
    assert first["table"]["name"] == "one"
    np.testing.assert_allclose(first["table"]["ra"], 10.0)
    again = as_positions(astropile.CrossMatch(catalog, dataset))
    np.testing.assert_allclose(np.sort(again.ra), [10.0, 359.99999])
    dataset.save_to_disk(str(tmp_path / "saved"))


def test_trees_and_tables(trees):  # noqa: F811
    """A tree by path, catalog, builder and dataset matches a table alike."""
    left = astropile.open_catalog(trees.left)
    builder = astropile.load_dataset_builder(trees.left)
    table = {"ra": trees.batch_right["RA"], "dec": trees.batch_right["DEC"]}
    expected = match_positions(*left.positions(), *table.values(), radius_arcsec=1.0)
    assert len(expected) > 10
    dataset = builder.as_dataset("train")
    for side in (trees.left, str(trees.left), left, builder, dataset):
        pairs = cross_match(side, table, radius_arcsec=1.0)
        assert pairs.left.tolist() == expected.left.tolist()
        back = cross_match(table, side, radius_arcsec=1.0, find="all")
        assert set(zip(back.right.tolist(), back.left.tolist(), strict=True)) >= set(
            zip(expected.left.tolist(), expected.right.tolist(), strict=True)
        )
    assert "object_id" in as_positions(left).table().column_names
    # The catalogue beside the data is a HATS catalogue.
    beside = as_positions(left.path / "catalog")
    assert beside.ra.tolist() == left.positions()[0].tolist()
    assert beside.dec.tolist() == left.positions()[1].tolist()
    matched, rows = astropile.cross_match_datasets(trees.left, table, 1.0)
    assert len(matched) == len(rows) == len(expected)
    assert "image" not in rows.features["table"]


def test_summary_in_the_catalogue(trees, tmp_path):  # noqa: F811
    """A match says on demand how much of it is chance; that is saved with its catalogue."""
    table = {"ra": trees.batch_right["RA"], "dec": trees.batch_right["DEC"]}
    catalog, _ = astropile.cross_match_datasets(trees.left, table, 1.0, summary=True)
    assert catalog.meta["summary"]["n_pairs"] == len(catalog)
    assert catalog.meta["summary"]["n_false"] < 0.5
    catalog.write(tmp_path / "catalog.ecsv", format="ascii.ecsv")
    again = Table.read(tmp_path / "catalog.ecsv").meta["summary"]
    assert again == catalog.meta["summary"]


def test_errors_of_positions():
    """Errors are found by name, in the unit stated or published; what is none is unknown."""
    gaia = {"ra": RA, "dec": DEC, "ra_error": [3.0, 30.0, 0.0], "dec_error": [4.0, 40.0, 1.0]}
    stated = Table({"ra": RA, "dec": DEC, "raErr": [1.0, 2.0, 3.0], "decErr": [1.0, 2.0, 3.0]})
    stated["raErr"].unit = stated["decErr"].unit = "mas"
    mean_square = [np.sqrt(12.5) / 1000, np.sqrt(1250.0) / 1000, np.nan]
    np.testing.assert_allclose(as_positions(gaia).errors(), mean_square)
    np.testing.assert_allclose(as_positions(stated).errors(), [1e-3, 2e-3, 3e-3])
    np.testing.assert_allclose(as_positions(gaia).errors("dec_error")[:2], [4.0, 40.0])
    assert as_positions(_plain()).errors() is None
    with pytest.raises(MatchError, match="one number per row"):
        as_positions({**gaia, "text": ["a", "b", "c"]}).errors("text")
