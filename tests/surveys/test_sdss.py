"""SDSS optical spectra: spec files of every kind, and plates with their table."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.units import Unit as AstropyUnit

from astropile import build_catalog, open_catalog
from astropile.errors import NativeFileError
from astropile.formula import evaluate
from astropile.simulate import sdss as simulated
from astropile.simulate.galaxies import make_galaxies
from astropile.surveys import sdss
from astropile.surveys._sdss_columns import IMAGING, PIXEL_BITS, SPALL, SPECOBJ, SPECTRUM
from astropile.surveys.sdss import SURVEY
from astropile.testing import read_all

GALAXIES = make_galaxies(9, seed=5)
PIXELS = ("flux", "loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model")
N_WAVE = 7


@pytest.fixture(scope="module")
def sky(tmp_path_factory) -> Path:
    """Nine galaxies: three of SDSS-I/II, three of eBOSS, three on plates."""
    folder = tmp_path_factory.mktemp("sdss")
    simulated.write(folder, GALAXIES, seed=1)
    return folder


@pytest.fixture(scope="module")
def native(sky):
    """Their columns."""
    columns, rejected = read_all(SURVEY, sky)
    assert not rejected
    return columns


@pytest.fixture
def copy(sky, tmp_path) -> Path:
    """The same files, to be broken."""
    return Path(shutil.copytree(sky, tmp_path / "native"))


def first(folder: Path, pattern: str) -> Path:
    return min(folder.rglob(pattern))


def rewrite(path: Path, change) -> None:
    """Write a FITS file again with its HDUs changed by ``change(list of HDUs)``."""
    with fits.open(path) as hdus:
        changed = fits.HDUList(change([hdu.copy() for hdu in hdus]))
        changed.writeto(path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def without_column(hdu, name: str):
    kept = [column for column in hdu.columns if column.name != name]
    return fits.BinTableHDU.from_columns(fits.ColDefs(kept), name=hdu.name)


def write_plate(
    redux: Path, run2d: str, plate: int, mjd: int, *, fibres=(1, 2, 3), header_run2d=None
) -> Path:
    """A plate whose flux is MJD + fibre / 100, in the order of its plug map."""
    flux = np.array([[mjd - 50000 + fibre / 128] * N_WAVE for fibre in fibres], dtype="f4")
    zero = np.zeros(flux.shape, dtype="i4")
    primary = fits.PrimaryHDU(flux)
    primary.header["COEFF0"], primary.header["COEFF1"] = 3.5, 1e-4
    primary.header["CRVAL1"], primary.header["CD1_1"], primary.header["CRPIX1"] = 3.5, 1e-4, 1
    if header_run2d:
        primary.header["RUN2D"] = header_run2d
    plug_map = fits.BinTableHDU.from_columns([fits.Column("FIBERID", "J", array=list(fibres))])
    hdus = [
        primary,
        fits.ImageHDU(np.ones_like(flux)),
        fits.ImageHDU(zero),
        fits.ImageHDU(zero),
        fits.ImageHDU(np.ones_like(flux)),
        plug_map,
        fits.ImageHDU(flux + 1),
    ]
    folder = redux / run2d / f"{plate:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"spPlate-{plate:04d}-{mjd}.fits"
    fits.HDUList(hdus).writeto(path)
    return path


def write_table(redux: Path, rows: list[tuple[str, int, int, int]], name="specObj-dr17.fits"):
    """A specObj table of (run2d, plate, mjd, fibre)."""
    values = [
        {
            "RUN2D": run2d,
            "PLATE": plate,
            "MJD": mjd,
            "FIBERID": fibre,
            "SPECOBJID": f"{simulated.specobjid(plate, mjd, fibre, run2d):>22d}",
            "PLUG_RA": 10.0 + fibre,
            "PLUG_DEC": 1.0,
        }
        for run2d, plate, mjd, fibre in rows
    ]
    redux.mkdir(parents=True, exist_ok=True)
    table = simulated.table_hdu(values, (*SPECTRUM, *SPECOBJ), "SPECOBJ")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(redux / name)


# --------------------------------------------------------------------------------------
# What is declared


def test_every_unit_can_be_parsed_and_every_column_is_documented():
    """Every unit is one that astropy knows, and no doc is left out."""
    for column in SURVEY.columns:
        AstropyUnit(column.unit)
        assert column.doc.endswith(".")


def test_the_survey_travels_to_another_process():
    """The survey's value survives pickling."""
    assert pickle.loads(pickle.dumps(SURVEY)) == SURVEY


def test_mask_bits_are_those_of_sppixmask():
    """Bits have the numbers of the SPPIXMASK table."""
    assert PIXEL_BITS["NOPLUG"] == 0
    assert PIXEL_BITS["NEARBADPIXEL"] == 16
    assert PIXEL_BITS["BRIGHTSKY"] == 23
    assert PIXEL_BITS["REDMONSTER"] == 28
    assert SURVEY["ZWARNING"].bits["UNPLUGGED"] == 7


# --------------------------------------------------------------------------------------
# The simulated sky


def test_simulated_files_are_the_same_each_time(sky, tmp_path):
    """The same seed gives the same bytes."""
    simulated.write(tmp_path, GALAXIES, seed=1)
    files = sorted(path.relative_to(sky) for path in sky.rglob("*.fits"))
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.fits"))
    assert all((sky / name).read_bytes() == (tmp_path / name).read_bytes() for name in files)


def test_simulated_tables_have_the_columns_of_the_survey(sky):
    """Simulated tables name their columns as the survey declares them."""
    with fits.open(first(sky, "spec-7338-*.fits")) as hdus:
        names = {column.name for column in (*SPECTRUM, *SPALL, *IMAGING)} - {"SPALL.OBJID"}
        assert set(hdus["SPALL"].columns.names) == names | {"OBJID"}
    with fits.open(first(sky, "spec-0412-*.fits")) as hdus:
        names = {column.name for column in (*SPECTRUM, *SPECOBJ)}
        assert set(hdus["SPECOBJ"].columns.names) == names


def test_each_simulated_galaxy_comes_once_with_its_own_spectrum(native):
    """Nine galaxies give nine spectra, each at the place and redshift of its galaxy."""
    columns = native
    assert len(columns["PLATE"]) == 9
    galaxy = columns["FIBERID"] - 1
    assert sorted(galaxy) == list(range(9))
    np.testing.assert_allclose(columns["Z"], GALAXIES.z[galaxy], rtol=1e-6)
    np.testing.assert_allclose(columns["PLUG_RA"], GALAXIES.ra[galaxy], atol=1 / 3600)
    np.testing.assert_allclose(columns["PLUG_DEC"], GALAXIES.dec[galaxy], atol=1 / 3600)
    for row in range(9):
        truth = GALAXIES.spectrum(galaxy[row], 10.0 ** columns["loglam"][row])
        good = ~columns["bad"][row]
        off = (columns["flux"][row] - truth) * np.sqrt(columns["ivar"][row])
        assert 0.9 < off[good].std() < 1.1


def test_a_spectrum_keeps_its_length(native):
    """Spectra of different lengths come as they are, without padding."""
    columns = native
    lengths = [len(flux) for flux in columns["flux"]]
    assert len(set(lengths)) > 2
    for name in ("loglam", "ivar", "and_mask", "or_mask", "wdisp", "sky", "bad"):
        assert [len(values) for values in columns[name]] == lengths
    assert all((loglam > 3.5).all() for loglam in columns["loglam"])


def test_position_is_the_fibre_not_the_telescope(sky, native):
    """Position is PLUG_RA, PLUG_DEC, not the RA, DEC of the header."""
    with fits.open(first(sky, "spec-0412-*.fits")) as hdus:
        assert hdus[0].header["RA"] == 150.0
        assert hdus[2].data["PLUG_RA"][0] in native["PLUG_RA"]
    assert SURVEY.aliases["ra"] == "PLUG_RA"


def test_identifiers_are_bare_digits(native):
    """Identifiers are digits without blanks, whether text or unsigned integers in the file."""
    columns = native
    for name in ("SPECOBJID", "SKY_ID"):
        assert all(value.isdigit() for value in columns[name].tolist())
    high = simulated.specobjid(9367, 57758, 386, "v5_13_0")
    assert high == 10546410660425912320 > 2**63


def test_objects_and_observations_are_told_apart(native):
    """Repeated spectra of one object share SKY_ID and differ in SPECOBJID."""
    columns = native
    assert len(set(columns["SPECOBJID"].tolist())) == 9
    legacy = columns["SUMMARY"] == b"SPECOBJ"
    np.testing.assert_array_equal(columns["SKY_ID"][legacy], columns["BESTOBJID"][legacy])
    np.testing.assert_array_equal(columns["SKY_ID"][~legacy], columns["SPALL.OBJID"][~legacy])


@pytest.mark.parametrize("none", ["", "0", "-1", "   "])
def test_object_without_imaging_is_known_by_its_spectrum(copy, none):
    """Without an imaging object SKY_ID is SPECOBJID."""
    path = first(copy, "spec-0412-*.fits")

    def change(hdus):
        hdus[2].data["BESTOBJID"][0] = none
        return hdus

    rewrite(path, change)
    columns, _ = read_all(SURVEY, path.parent)
    row = columns["BESTOBJID"].tolist().index(none.strip().encode())
    assert columns["SKY_ID"][row] == columns["SPECOBJID"][row]


def test_columns_of_the_other_table_are_blank(native):
    """What a row's own table does not hold is 0, NaN or empty, and SUMMARY says which it is."""
    columns = native
    spall = columns["SUMMARY"] == b"SPALL"
    assert spall.sum() == 3
    assert np.isnan(columns["PSFFLUX"][~spall]).all()
    assert not np.isnan(columns["PSFFLUX"][spall]).any()
    assert set(columns["SURVEY"][spall].tolist()) == {b""}
    assert set(columns["SURVEY"][~spall].tolist()) == {b"sdss"}


def test_unnamed_hdus_and_capital_letters_read_the_same(copy):
    """A file without EXTNAME and with capital column names gives the same values."""
    path = first(copy, "spec-7338-*.fits")
    before, _ = read_all(SURVEY, path.parent)

    def change(hdus):
        for hdu in hdus[1:]:
            for name in hdu.columns.names:
                hdu.columns.change_name(name, name.upper())
            del hdu.header["EXTNAME"]
        return hdus

    rewrite(path, change)
    with fits.open(path) as hdus:
        assert hdus[1].name == ""
        assert hdus[1].columns.names[0] == "FLUX"
    after, rejected = read_all(SURVEY, path.parent)
    assert not rejected
    for name in SURVEY.column_names:
        np.testing.assert_equal(after[name], before[name])


def test_standard_spectrum(native):
    """Wavelength, line spread and weights follow from the columns as SDSS defines them."""
    columns = native
    fields = SURVEY.aliases["spectrum"].fields
    values = {name: columns[name][0] for name in (*PIXELS, "bad")}
    wavelength = evaluate(fields["lambda"].expression, values)
    np.testing.assert_array_equal(wavelength, 10.0 ** values["loglam"].astype("f8"))
    lsf = evaluate(fields["lsf_sigma"].expression, values)
    middle = len(lsf) // 2
    # One pixel is 1e-4 dex: at 6000 Angstrom 1.38 Angstrom.
    step = wavelength[middle] * np.log(10) * 1e-4
    np.testing.assert_allclose(lsf[middle], values["wdisp"][middle] * step, rtol=1e-9)
    ivar = evaluate(fields["ivar"].expression, values)
    assert np.isfinite(ivar).all()
    assert (ivar[values["bad"]] == 0).all()
    assert (ivar[~values["bad"]] > 0).all()


def test_pixels_without_data_are_bad_and_noisy_ones_are_not(copy):
    """NODATA, NaN and negative ivar make a pixel bad; BRIGHTSKY alone does not."""
    path = first(copy, "spec-0412-*.fits")

    def change(hdus):
        coadd = hdus[1].data
        coadd["ivar"][100:106] = [1.0, np.nan, -1.0, 0.0, 1.0, 1.0]
        coadd["and_mask"][100:106] = [0, 0, 0, 0, 1 << 24, 1 << 23]
        return hdus

    rewrite(path, change)
    columns, _ = read_all(SURVEY, path.parent)
    row = (
        columns["SPECOBJID"].tolist().index(str(simulated.specobjid(412, 52258, 1, "26")).encode())
    )
    assert columns["bad"][row][100:106].tolist() == [False, True, True, True, True, False]
    formula = SURVEY.aliases["spectrum"].fields["ivar"].expression
    ivar = evaluate(formula, {"bad": columns["bad"][row], "ivar": columns["ivar"][row]})
    assert ivar[100:106].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


# --------------------------------------------------------------------------------------
# Plates


def test_each_night_of_a_plate_is_read_from_its_own_file(tmp_path):
    """Rows of two nights of one plate, mixed in the table, each get their own night's flux."""
    redux = tmp_path / "redux"
    for mjd in (51602, 51630):
        write_plate(redux, "26", 266, mjd)
    write_table(redux, [("26", 266, mjd, fibre) for fibre in (3, 1) for mjd in (51630, 51602)])
    columns, rejected = read_all(SURVEY, tmp_path)
    assert not rejected
    assert len(columns["flux"]) == 4
    for row in range(4):
        expected = columns["MJD"][row] - 50000 + columns["FIBERID"][row] / 128
        assert columns["flux"][row].tolist() == [expected] * N_WAVE
        assert columns["sky"][row].tolist() == [expected + 1] * N_WAVE
    assert [model.size for model in columns["model"]] == [0] * 4


def test_each_reduction_of_a_night_is_read_from_its_own_folder(tmp_path):
    """Two reductions of one plate and night are told apart by RUN2D."""
    redux = tmp_path / "redux"
    path = write_plate(redux, "103", 1960, 53289)
    write_plate(redux, "26", 1960, 53289)
    with fits.open(path, mode="update") as hdus:
        hdus[0].data += 1000
    write_table(redux, [("26", 1960, 53289, 2), ("103", 1960, 53289, 2)])
    columns, _ = read_all(SURVEY, tmp_path)
    flux = {
        run2d: value[0]
        for run2d, value in zip(columns["RUN2D"].tolist(), columns["flux"], strict=True)
    }
    assert flux == {b"26": 3289 + 2 / 128, b"103": 4289 + 2 / 128}


def test_fibres_are_found_by_the_plug_map(tmp_path):
    """A row gets the image row whose FIBERID is its own, in whatever order they are."""
    redux = tmp_path / "redux"
    write_plate(redux, "26", 266, 51602, fibres=(3, 1, 2))
    write_table(redux, [("26", 266, 51602, fibre) for fibre in (1, 2, 3, 4)])
    columns, rejected = read_all(SURVEY, tmp_path)
    assert columns["FIBERID"].tolist() == [1, 2, 3]
    assert [flux[0] for flux in columns["flux"]] == [1602 + fibre / 128 for fibre in (1, 2, 3)]
    assert [(r.key, r.count) for r in rejected] == [
        (str(simulated.specobjid(266, 51602, 4, "26")), 1)
    ]


def test_wavelengths_of_a_plate_follow_its_header(tmp_path):
    """loglam is COEFF0 + COEFF1 i, in the precision of the spec files."""
    redux = tmp_path / "redux"
    write_plate(redux, "26", 266, 51602)
    write_table(redux, [("26", 266, 51602, 1)])
    columns, _ = read_all(SURVEY, tmp_path)
    expected = np.array([3.5, 3.5001, 3.5002, 3.5003, 3.5004, 3.5005, 3.5006], dtype="f4")
    np.testing.assert_array_equal(columns["loglam"][0], expected)


def test_rows_without_a_plate_are_counted(tmp_path):
    """Rows whose plate is not at hand are rejected by number, which is no fault."""
    redux = tmp_path / "redux"
    write_plate(redux, "26", 266, 51602)
    write_table(redux, [("26", 266, 51602, 1), ("26", 266, 51630, 1), ("26", 266, 51630, 2)])
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert len(columns["flux"]) == 1
    assert (rejected.count, rejected.fault) == (2, False)
    assert "spPlate" in rejected.reason


def test_a_plate_of_another_reduction_is_refused(tmp_path):
    """A plate whose header names another RUN2D than its folder gives no spectrum."""
    redux = tmp_path / "redux"
    write_plate(redux, "v5_13_2", 3655, 55240, header_run2d="v5_7_0")
    write_table(redux, [("v5_13_2", 3655, 55240, 1)])
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert not columns["flux"]
    assert "RUN2D" in rejected.reason


def test_a_broken_plate_costs_its_own_rows_only(tmp_path):
    """A truncated spPlate file is rejected with all its rows; other plates are read."""
    redux = tmp_path / "redux"
    broken = write_plate(redux, "26", 266, 51602)
    write_plate(redux, "26", 266, 51630)
    write_table(redux, [("26", 266, mjd, fibre) for mjd in (51602, 51630) for fibre in (1, 2)])
    broken.write_bytes(broken.read_bytes()[:-3000])
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert columns["MJD"].tolist() == [51630, 51630]
    assert (rejected.count, rejected.fault) == (2, True)


def test_a_plate_in_no_table_is_counted(tmp_path):
    """A spPlate file that no table speaks of is rejected."""
    redux = tmp_path / "redux"
    write_plate(redux, "26", 266, 51602)
    write_plate(redux, "26", 300, 51602)
    write_table(redux, [("26", 266, 51602, 1)])
    columns, (rejected,) = read_all(SURVEY, tmp_path)
    assert len(columns["flux"]) == 1
    assert rejected.key == "spPlate-0300-51602.fits"


def test_plates_without_a_table_are_refused(tmp_path):
    """spPlate files alone do not say whose spectra they hold."""
    write_plate(tmp_path, "26", 266, 51602)
    with pytest.raises(NativeFileError, match="specObj"):
        sdss.units(tmp_path)


# --------------------------------------------------------------------------------------
# Bad input


def test_an_empty_folder_is_refused(tmp_path):
    """A folder without SDSS files is refused, saying what was sought."""
    with pytest.raises(NativeFileError, match=r"spec-\*\.fits"):
        sdss.units(tmp_path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100_000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_bytes(b"<html>404 Not Found</html>" * 200)


def lose_hdu(path: Path) -> None:
    rewrite(path, lambda hdus: hdus[:2])


def lose_column(path: Path) -> None:
    rewrite(path, lambda hdus: [hdus[0], without_column(hdus[1], "wdisp"), *hdus[2:]])


def lose_table_column(path: Path) -> None:
    rewrite(path, lambda hdus: [*hdus[:2], without_column(hdus[2], "PLUG_RA"), hdus[3]])


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (truncate, "as long as its headers say"),
        (empty, "a FITS file"),
        (text, "a FITS file"),
        (lose_hdu, "HDU 'SPECOBJ' or 'SPALL' or 2"),
        (lose_column, "column 'wdisp'"),
        (lose_table_column, "column 'PLUG_RA'"),
    ],
)
def test_a_broken_spec_file_is_rejected_alone(copy, breaking, said):
    """One broken file is one rejected object with its reason; the others are unchanged."""
    folder = first(copy, "spec-0412-*.fits").parent
    whole, _ = read_all(SURVEY, folder)
    broken = sorted(folder.glob("*.fits"))[1]
    breaking(broken)
    columns, (rejected,) = read_all(SURVEY, folder)
    assert rejected.key == broken.name
    assert said in rejected.reason
    for name in ("SPECOBJID", "flux", "Z"):
        np.testing.assert_equal(list(columns[name]), [list(whole[name])[i] for i in (0, 2)])


def test_a_whole_folder_becomes_a_tree(sky, native, tmp_path):
    """A tree holds every native value, and its standard view the seed's spectrum."""
    report = build_catalog(SURVEY, sky, tmp_path / "sdss", progress=False)
    assert (report.n_written, report.n_rejected) == (9, 0)
    catalog = open_catalog(tmp_path / "sdss")
    rows = np.arange(len(catalog))
    taken = catalog.take(rows)
    order = {name: row for row, name in enumerate(native["SPECOBJID"].tolist())}
    for row, name in enumerate(taken["SPECOBJID"].tolist()):
        for column in SURVEY.column_names:
            np.testing.assert_array_equal(taken[column][row], native[column][order[name]])
    record = catalog.standard([4]).to_pylist()[0]
    here = order[record["observation_id"].encode()]
    assert record["provenance"] == {"project": "SDSS", "survey": "SDSS", "release": "DR17"}
    assert record["ra"] == native["PLUG_RA"][here]
    assert record["z"] == native["Z"][here]
    assert record["spectrum"]["flux"] == native["flux"][here].tolist()
    assert record["spectrum"]["mask"] == native["bad"][here].tolist()
    assert record["spectrum"]["extra"]["and_mask"] == native["and_mask"][here].tolist()
    np.testing.assert_array_equal(
        record["spectrum"]["lambda"], 10.0 ** native["loglam"][here].astype("f8")
    )
    galaxy = native["FIBERID"][here] - 1
    np.testing.assert_allclose(record["mag"], GALAXIES.mag[galaxy, 2], rtol=1e-6)


# --------------------------------------------------------------------------------------
# Real files


@pytest.fixture(scope="module")
def real(real_data):
    """Every real spectrum, and what was rejected."""
    return read_all(SURVEY, real_data / "spectra/sdss")


def spec_files(real_data: Path) -> list[Path]:
    return sorted((real_data / "spectra/sdss").glob("spec-*/*.fits"))


def same(found, source) -> bool:
    """Compare a value with the source, strings without their padding."""
    if source.dtype.kind == "S":
        return found.tolist() == source.tolist().strip()
    if found.dtype.kind == "S":
        return found.tolist() == str(source).strip().encode()
    return found.dtype.newbyteorder("=") == source.dtype.newbyteorder("=") and np.array_equal(
        found, source, equal_nan=source.dtype.kind == "f"
    )


@pytest.mark.real
def test_real_spectra_are_all_read(real, real_data):
    """All 87 spectra are read, and only the clustering catalogue is turned away."""
    columns, rejected = real
    assert len(columns["PLATE"]) == len(spec_files(real_data)) == 87
    assert [r.key for r in rejected] == ["cat_for_clustering_plate3655.fits.gz"]
    lengths = [len(flux) for flux in columns["flux"]]
    assert (min(lengths), max(lengths)) == (3799, 4628)
    assert set(columns["RUN2D"].tolist()) == {
        b"26",
        b"104",
        b"v5_10_0",
        b"v5_13_0",
        b"v5_13_2",
    }


@pytest.mark.real
def test_real_values_are_those_of_the_files(real, real_data):
    """Every pixel and every column of the summary row equals the file's, bit for bit."""
    columns, _ = real
    row_of = {name: row for row, name in enumerate(columns["SPECOBJID"].tolist())}
    n_compared = 0
    for path in spec_files(real_data):
        with fits.open(path) as hdus:
            table = hdus[2].data
            raw = table.view(np.ndarray)
            row = row_of[str(table["SPECOBJID"][0]).strip().encode()]
            coadd = {name.lower(): hdus[1].data[name] for name in hdus[1].columns.names}
            for name in PIXELS:
                assert same(columns[name][row], coadd[name]), (path.name, name)
            for name in hdus[2].columns.names:
                # The one column that is scaled: unsigned integers.
                source = table.field(name)[0] if name == "SPECOBJID" else raw[name][0]
                target = name
                if name == "OBJID" and raw[name].dtype.kind == "S":
                    target = "SPALL.OBJID"
                assert same(columns[target][row], np.asarray(source)), (path.name, name)
                n_compared += 1
    assert n_compared == 18 * 126 + 69 * 236


@pytest.mark.real
def test_real_pixels_are_bad_where_ivar_is_zero(real):
    """Standard weights are the file's but for one pixel of 387526 that has no sky."""
    columns, _ = real
    bad, ivar = np.concatenate(columns["bad"]), np.concatenate(columns["ivar"])
    assert (bad.size, int(bad.sum()), int((ivar == 0).sum())) == (387526, 780, 779)
    assert np.isfinite(ivar).all()


@pytest.mark.real
def test_real_repeats_share_their_object(real):
    """Repeats by SDSS-I, SEGUE-2 and BOSS of one object share its imaging identifier."""
    columns, _ = real
    spectra = {}
    for row, name in enumerate(columns["SKY_ID"].tolist()):
        spectra.setdefault(name, []).append(int(columns["PLATE"][row]))
    assert sorted(spectra[b"1237661385994338550"]) == [1325, 7338, 7339]
    assert sorted(spectra[b"1237666407922335825"]) == [3127, 7330]
    assert spectra[b"1237663783680933900"] == [412] * 5


@pytest.mark.real
def test_real_identifiers_follow_from_plate_mjd_and_fibre(real):
    """SPECOBJID of every real spectrum is what plate, MJD, fibre and reduction make it."""
    columns, _ = real
    for name, plate, mjd, fibre, run2d in zip(
        *(columns[key].tolist() for key in ("SPECOBJID", "PLATE", "MJD", "FIBERID", "RUN2D")),
        strict=True,
    ):
        assert int(name) == simulated.specobjid(plate, mjd, fibre, run2d.decode())


@pytest.mark.real
def test_real_rows_and_pixels_on_a_plate_equal_the_spec_files(real, real_data, tmp_path):
    """Real spectra of plate 3655, put on a plate with the real spAll table, read the same."""
    columns, _ = real
    folder = real_data / "spectra/sdss"
    chosen = [
        r for r in np.flatnonzero(columns["PLATE"] == 3655) if len(columns["flux"][r]) == 4622
    ]
    assert len(chosen) > 10
    grid = columns["loglam"][chosen[0]]
    chosen = [r for r in chosen if np.array_equal(columns["loglam"][r], grid)]
    redux = tmp_path / "eboss/spectro/redux"
    path = write_plate(
        redux, "v5_13_0", 3655, 55240, fibres=columns["FIBERID"][chosen], header_run2d="v5_13_0"
    )
    names = {0: "flux", 1: "ivar", 2: "and_mask", 3: "or_mask", 4: "wdisp", 6: "sky"}

    def change(hdus):
        for number, name in names.items():
            hdus[number].data = np.stack([columns[name][row] for row in chosen])
        hdus[0].header["COEFF0"] = float(np.round(float(grid[0]), 4))
        return hdus

    rewrite(path, change)
    (redux / "spAll-v5_13_0.fits").symlink_to(folder / "spAll-plate3655.fits")
    again, _ = read_all(SURVEY, tmp_path)
    assert len(again["flux"]) == len(chosen)
    row_of = {name: row for row, name in enumerate(columns["SPECOBJID"].tolist())}
    for row, name in enumerate(again["SPECOBJID"].tolist()):
        for column in (*names.values(), "Z", "CLASS", "PLUG_RA", "CMODELFLUX", "SKY_ID"):
            np.testing.assert_array_equal(again[column][row], columns[column][row_of[name]])
        np.testing.assert_allclose(again["loglam"][row], grid, atol=3e-7)


@pytest.mark.real
def test_real_tree_gives_back_the_files(real_data, tmp_path):
    """A tree of real files, awkward ones among them, gives back each value of each object."""
    native = tmp_path / "native"
    native.mkdir()
    for name in (
        "spec-full/NGC3073_SDSS_DR18.fits",
        "spec-full/spec-7339-58895-0735.fits",
        "spec-lite/spec-3127-54835-0622.fits",
        "spec-lite/spec-3655-55240-0002.fits",
        "spec-lite/spec-9367-57758-0386.fits",
    ):
        path = real_data / "spectra/sdss" / name
        (native / path.name).symlink_to(path)
    report = build_catalog("sdss", native, tmp_path / "sdss", progress=False)
    assert (report.n_written, report.n_rejected) == (5, 0)
    catalog = open_catalog(tmp_path / "sdss", "dr17")
    source, _ = read_all(SURVEY, native)
    row_of = {name: row for row, name in enumerate(source["SPECOBJID"].tolist())}
    taken = catalog.take(np.arange(5))
    for row, name in enumerate(taken["SPECOBJID"].tolist()):
        for column in SURVEY.column_names:
            np.testing.assert_array_equal(taken[column][row], source[column][row_of[name]])
