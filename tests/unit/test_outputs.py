"""Rows as tables, images and spectra: values as stored, units, masks that are True where bad."""

import sys

import numpy as np
import pytest
from astropy import units as u
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty
from astropy.table import QTable

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import MissingExtraError, SchemaError, UnknownColumnError
from astropile.schema import BadPixels, Column, Constant, Record, RecordList, Survey

ROWS = [17, 3, 3, 0]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    toy.write_native(folder / "native/a.npz", toy.make_batch(20, seed=1))
    build_catalog(toy.SURVEY, folder / "native", folder / "toy")
    return open_catalog(folder / "toy")


def spectra(unit):
    n, wave = 3, 50
    rng = np.random.default_rng(2)
    yield {
        "id": np.array([b"a", b"b", "ç".encode()], "S2"),
        "ra": np.arange(n) * 10.0,
        "dec": np.zeros(n),
        "z": np.array([0.5, np.nan, 0.0], "f4"),
        "flux": rng.normal(size=(n, wave)).astype("f4"),
        "ivar": rng.uniform(0, 2, (n, wave)).astype("f4"),
        "bad": rng.random((n, wave)) < 0.2,
        "lsf": np.full((n, wave), 1.5, "f4"),
        "wave": np.linspace(4000, 5000, wave),
        "map": rng.normal(size=(n, 2, 4, 5)).astype("f4"),
        "map_ivar": rng.uniform(1, 2, (n, 2, 4, 5)).astype("f4"),
        "map_err": rng.uniform(1, 2, (n, 2, 4, 5)).astype("f4"),
    }


SPECTRA = Survey(
    name="spectra",
    project="Toys",
    survey="SPEC",
    release="DR2",
    subset="main",
    title="Spectra and maps",
    description="Few of them.",
    homepage="",
    citation="none",
    licence="CC0-1.0",
    columns=(
        Column("id", "S2", "Identifier."),
        Column("ra", "float64", "Right ascension.", unit="deg"),
        Column("dec", "float64", "Declination.", unit="deg"),
        Column("z", "float32", "Redshift."),
        Column("flux", "float32", "Flux.", shape=(50,), unit="1e-17 erg / (s cm2 Angstrom)"),
        Column("ivar", "float32", "I.", shape=(50,), unit="1e34 s2 cm4 Angstrom2 / erg2"),
        Column("bad", "bool", "Is it bad.", shape=(50,)),
        Column("lsf", "float32", "Resolution.", shape=(50,), unit="Angstrom"),
        Column("wave", "float64", "W.", shape=("w",), unit="Angstrom", shared=True),
        Column("map", "float32", "Maps.", shape=(2, 4, 5)),
        Column("map_ivar", "float32", "Their inverse variance.", shape=(2, 4, 5)),
        Column("map_err", "float32", "Their error.", shape=(2, 4, 5)),
    ),
    aliases={
        "object_id": "id",
        "observation_id": "id",
        "ra": "ra",
        "dec": "dec",
        "z": "z",
        "spectrum": Record(
            {
                "flux": "flux",
                "ivar": "ivar",
                "lambda": "wave",
                "mask": BadPixels("bad"),
                "lsf_sigma": "lsf",
                "extra": Record({"bad": "bad"}),
            }
        ),
        "images": (
            RecordList(
                {
                    "filter": Constant(("a", "b")),
                    "data": "map",
                    "ivar": "map_ivar",
                    "units": Constant("unknown"),
                }
            ),
            RecordList({"filter": Constant(("a", "b")), "data": "map", "err": "map_err"}),
        ),
    },
    units=toy.units,
    read=spectra,
    wavelength_medium="vacuum",
    wavelength_frame="observed",
)


@pytest.fixture(scope="module")
def spectral(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spectra")
    (folder / "native").mkdir()
    (folder / "native/one.npz").write_bytes(b"")
    build_catalog(SPECTRA, folder / "native", folder / "spectra")
    return open_catalog(folder / "spectra")


def test_table(catalog):
    """A table has the rows asked for, in their order, bit for bit, with units and descriptions."""
    table = catalog.table(ROWS)
    stored = catalog.take(ROWS)
    assert isinstance(table, QTable)
    assert tuple(table.colnames) == toy.SURVEY.column_names
    for column in toy.SURVEY.columns:
        mine, theirs = table[column.name], stored[column.name]
        assert mine.info.description == column.doc
        if column.dtype.startswith("S"):
            assert mine.tolist() == [value.decode() for value in theirs.tolist()]
        elif column.shared:
            assert mine.shape == (4, toy.N_WAVE)
            assert (np.asarray(mine[2]) == theirs).all()
        elif (column.shape and "epoch" in column.shape) or "row" in column.shape:
            for one, other in zip(mine, theirs, strict=True):
                assert np.asarray(one).tobytes() == other.tobytes()
                assert np.asarray(one).shape == other.shape
        else:
            assert mine.dtype == theirs.dtype
            assert np.asarray(mine).tobytes() == theirs.tobytes()
    assert table["FLUX"].unit == u.Unit("1e-17 erg / (s cm2 Angstrom)")
    assert table["LC_TIME"][0].unit == u.day
    assert table["RA"].to(u.rad).max() < 7 * u.rad
    assert table["ID"].dtype == np.int64
    assert table.meta["survey"] == "TOY"
    assert table.meta["citation"] == toy.SURVEY.citation


def test_table_of_standard_names(catalog):
    """Common columns and standard names that are no records can be asked for beside native ones."""
    names = ["object_id", "ra", "healpix", "z", "mag", "NAME", "Z"]
    table = catalog.table(ROWS, names)
    assert table.colnames == names
    expected = catalog.standard(ROWS, ["mag"])["mag"].to_numpy()
    assert table["mag"].unit == u.mag
    np.testing.assert_array_equal(table["mag"].value, expected)
    assert table["mag"].info.description == "r, dereddened."
    assert table["ra"].unit == u.deg
    assert table["z"].tolist() == table["Z"].tolist()
    assert len(catalog.table([], names)) == 0
    assert len(catalog.table(np.ones(20, bool), ["mag"])) == 20
    with pytest.raises(UnknownColumnError, match="no column 'FLUXX' in toy/main; did you mean"):
        catalog.table(ROWS, ["FLUXX"])
    with pytest.raises(SchemaError, match="'image' in toy/main: expected a number"):
        catalog.table(ROWS, ["image"])
    with pytest.raises(IndexError, match="row 20 of 20"):
        catalog.table([20])


def test_shared_column_takes_no_memory(catalog):
    """What all objects share stands in every row of a table once in memory."""
    table = catalog.table(np.arange(20), ["WAVE"])
    assert table["WAVE"].shape == (20, toy.N_WAVE)
    assert table["WAVE"].strides[0] == 0


def test_to_pandas(catalog, monkeypatch):
    """A data frame has the row numbers as index, text as str, arrays as arrays."""
    pd = pytest.importorskip("pandas")
    frame = catalog.to_pandas(ROWS, ["object_id", "NAME", "mag", "FLUX", "STAMP", "GOOD"])
    assert isinstance(frame, pd.DataFrame)
    assert frame.index.tolist() == ROWS
    stored = catalog.take(ROWS, ["object_id", "NAME", "FLUX", "STAMP"])
    assert frame["object_id"].tolist() == stored["object_id"].tolist()
    assert frame["NAME"].tolist() == [value.decode() for value in stored["NAME"].tolist()]
    assert frame["FLUX"].iloc[1].dtype == np.float32
    assert (frame["FLUX"].iloc[1] == stored["FLUX"][1]).all()
    assert (frame["STAMP"].iloc[0] == stored["STAMP"][0]).all()
    assert frame["GOOD"].dtype == bool
    assert frame.attrs["units"]["mag"] == "mag"
    assert catalog.take(frame.index, ["ID"])["ID"].tolist() == stored["object_id"].tolist()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[pandas\]"):
        catalog.to_pandas(ROWS)


def test_to_arrow(catalog):
    """An Arrow table has native names and types, units in its fields' metadata."""
    table = catalog.to_arrow(ROWS)
    stored = catalog.take(ROWS)
    assert tuple(table.column_names) == toy.SURVEY.column_names
    for name in ("ID", "Z", "GOOD"):
        assert table[name].to_numpy().tolist() == stored[name].tolist()
    assert np.array(table["IMAGE"].to_pylist(), "f4").tobytes() == stored["IMAGE"].tobytes()
    assert [len(value) for value in table["LC_TIME"].to_pylist()] == [
        len(value) for value in stored["LC_TIME"]
    ]
    metadata = table.schema.field("FLUX_R").metadata
    assert metadata == {b"unit": b"nanomaggy", b"description": b"Flux in r."}
    assert table.schema.metadata[b"release"] == b"DR1"
    assert catalog.to_arrow([], ["mag", "spectrum"]).num_rows == 0


def test_images(catalog, tmp_path):
    """Images come one per band, with unit, mask and header, and can be written as FITS."""
    images = catalog.images(3)
    stored = catalog.take([3], ["IMAGE", "IMAGE_MASK", "PSF", "A_G", "A_R", "ID"])
    assert [type(image) for image in images] == [CCDData, CCDData]
    for band, image in enumerate(images):
        assert image.data.dtype == np.float32
        assert image.data.tobytes() == stored["IMAGE"][0, band].tobytes()
        assert (image.mask == (stored["IMAGE_MASK"][0, band] & 3 != 0)).all()
        assert image.unit == u.Unit("nanomaggy")
        assert image.uncertainty is None
        assert image.header["filter"] == "gr"[band]
        assert image.header["psf_fwhm"] == pytest.approx(float(stored["PSF"][0, band]))
        assert image.header.comments["psf_fwhm"] == "[arcsec]"
        assert image.header["pixel_size"] == 0.25
        assert image.header["extinction"] == pytest.approx(stored["A_" + "GR"[band]][0])
        assert image.header["object_id"] == stored["ID"][0]
        assert image.header["release"] == "DR1"
    images[0].write(tmp_path / "image.fits")
    again = CCDData.read(tmp_path / "image.fits")
    assert (again.data == images[0].data).all()
    assert (again.mask == images[0].mask).all()


def test_uncertainties(spectral):
    """Inverse variances and errors come as such; a unit nobody knows stays what it says."""
    images = spectral.images(1)
    stored = spectral.take([1], ["map_ivar", "map_err"])
    assert [type(image.uncertainty) for image in images] == 2 * [InverseVariance] + 2 * [
        StdDevUncertainty
    ]
    assert images[1].uncertainty.array.tobytes() == stored["map_ivar"][0, 1].tobytes()
    assert images[2].uncertainty.array.tobytes() == stored["map_err"][0, 0].tobytes()
    assert str(images[0].unit) == "unknown"
    assert images[3].unit == u.dimensionless_unscaled
    assert images[0].mask is None


def test_spectrum(spectral):
    """A spectrum has flux, wavelengths, inverse variance, mask and redshift, with units."""
    specutils = pytest.importorskip("specutils")
    rows = spectral.take(np.arange(3), ["id"])["id"].tolist()
    row = rows.index(b"a")
    spectrum = spectral.spectrum(row)
    stored = spectral.take([row], ["flux", "ivar", "bad", "lsf", "wave", "ra"])
    assert isinstance(spectrum, specutils.Spectrum)
    assert spectrum.flux.unit == u.Unit("1e-17 erg / (s cm2 Angstrom)")
    assert spectrum.flux.value.tobytes() == stored["flux"][0].tobytes()
    assert (spectrum.spectral_axis == stored["wave"] * u.AA).all()
    assert isinstance(spectrum.uncertainty, InverseVariance)
    assert (spectrum.uncertainty.array == stored["ivar"][0]).all()
    assert (spectrum.mask == stored["bad"][0]).all()
    assert spectrum.redshift.value == pytest.approx(0.5)
    assert (spectrum.meta["lsf_sigma"] == stored["lsf"][0] * u.AA).all()
    assert (spectrum.meta["extra"]["bad"] == stored["bad"][0]).all()
    assert spectrum.meta["object_id"] == "a"
    assert spectrum.meta["wavelength_medium"] == "vacuum"
    assert spectrum.meta["release"] == "DR2"
    assert spectral.spectrum(rows.index(b"b")).redshift.value == 0
    assert spectral.spectrum(rows.index("ç".encode())).meta["object_id"] == "ç"


def test_without_specutils(spectral, monkeypatch):
    """Where specutils is not installed, the extra to install is named."""
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[specutils\]"):
        spectral.spectrum(0)


def test_what_a_survey_has_not(catalog, spectral):
    """Images or spectra of a survey without them, and rows that are not there, are refused."""
    with pytest.raises(UnknownColumnError, match="no column 'nothing' in toy/main"):
        catalog.images(0, "nothing")
    with pytest.raises(IndexError, match="row 20 of 20"):
        catalog.images(20)
    with pytest.raises(SchemaError, match="expected a list of images"):
        catalog.images(0, "lightcurve")
