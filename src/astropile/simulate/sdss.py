"""
SDSS spectra of the simulated galaxies, in the three forms in which SDSS publishes them.

Of three galaxies one comes as a spec-lite file of SDSS-I/II, one as a spec-lite file of eBOSS,
and one in the spPlate files of a plate that was observed twice, with its specObj table. Plates
have a few fibres instead of 640 or 1000; everything else is in the official layout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.schema import Column
from astropile.simulate.galaxies import BANDS, Galaxies
from astropile.surveys._sdss_columns import IMAGING, SPALL, SPECOBJ, SPECTRUM

_SCATTER_ARCSEC: Final = 0.07
_LEGACY, _EBOSS = "26", "v5_13_2"
_WIDTHS: Final = {
    "SPECOBJID": 22,
    "RUN2D": 7,
    "RUN1D": 7,
    "CLASS": 6,
    "SUBCLASS": 21,
    "CHUNK": 16,
    "PROGRAMNAME": 23,
    "PLATEQUALITY": 8,
    "SURVEY": 6,
    "INSTRUMENT": 4,
    "TARGETTYPE": 8,
    "SOURCETYPE": 19,
    "OBJTYPE": 16,
    "FLUXOBJID": 19,
    "BESTOBJID": 19,
    "SPALL.OBJID": 19,
    "TARGETOBJID": 22,
    "PLATEID": 19,
}
_FORMATS: Final = {"uint8": "B", "int16": "I", "int32": "J", "int64": "K"} | {
    "float32": "E",
    "float64": "D",
}
RUN, CAMCOL, FIELD = 2125, 1, 18
"""Field of the imaging that the galaxies lie in."""

_BRIGHTSKY, _NODATA = 1 << 23, 1 << 24


def write(native_path: Path, galaxies: Galaxies, *, seed: int, only_plates: bool = False) -> None:
    """
    Write the galaxies as SDSS would have published their spectra.

    Parameters
    ----------
    native_path : Path
        Folder to write into.
    galaxies : Galaxies
        What is observed.
    seed : int
        Seed of the noise.
    only_plates : bool
        Write all of them as spPlate files: a file for each galaxy, with its table of some
        hundred columns, takes a hundred times as long to write and to read.
    """
    rng = np.random.default_rng([seed, 20])
    offset = rng.normal(0.0, _SCATTER_ARCSEC / 3600.0, (2, len(galaxies)))
    ra = (galaxies.ra + offset[0] / np.cos(np.deg2rad(galaxies.dec))) % 360.0
    dec = galaxies.dec + offset[1]
    on_plates: list[tuple[int, dict[str, Any], dict[str, NDArray[Any]]]] = []
    for row in range(len(galaxies)):
        fibre = row + 1
        form = 2 if only_plates else row % 3
        plate, mjd, run2d = ((412, 52258, _LEGACY), (7338, 57859, _EBOSS), (266, 0, _LEGACY))[form]
        if form == 2:
            # One plate, two nights: the spectra of either are in their own file.
            mjd = (51602, 51630)[row // 3 % 2]
        values = _summary(galaxies, row, plate=plate, mjd=mjd, fibre=fibre, run2d=run2d)
        values |= {"PLUG_RA": ra[row], "PLUG_DEC": dec[row]}
        first, n_wave = (3.5536, 4580) if form == 1 else (3.5806, 3830 + fibre % 20)
        if form == 2:
            n_wave = 3850
        pixels = _observe(galaxies, row, first, n_wave, rng)
        if form == 2:
            on_plates.append((mjd, values, pixels))
        else:
            _write_spec(native_path, values, pixels, is_spall=form == 1)
    if on_plates:
        _write_plates(native_path, on_plates)


def specobjid(plate: int, mjd: int, fibre: int, run2d: str) -> int:
    """
    Give the identifier of a spectrum.

    Parameters
    ----------
    plate, mjd, fibre : int
        Plate number, MJD and fibre number.
    run2d : str
        Version of the reduction.

    Returns
    -------
    int
        SPECOBJID.

    Examples
    --------
    >>> specobjid(3655, 55240, 2, "v5_13_0")
    4115164797179547648
    """
    if run2d.isdigit():
        version = int(run2d)
    else:
        major, minor, patch = (int(part) for part in run2d.lstrip("v").split("_"))
        version = (major - 5) * 10000 + minor * 100 + patch
    return plate << 50 | fibre << 38 | (mjd - 50000) << 24 | version << 10


def photo_objid(run: int, camcol: int, field: int, number: int) -> int:
    """
    Give the identifier of an imaging object in rerun 301.

    Parameters
    ----------
    run, camcol, field, number : int
        Imaging run, camera column, field, and object within the field.

    Returns
    -------
    int
        OBJID.

    Examples
    --------
    >>> photo_objid(4874, 3, 677, 81)
    1237666407922335825
    """
    return 2 << 59 | 301 << 48 | run << 32 | camcol << 29 | field << 16 | number


def _summary(
    galaxies: Galaxies, row: int, *, plate: int, mjd: int, fibre: int, run2d: str
) -> dict[str, Any]:
    is_spall = run2d == _EBOSS
    flux = 10.0 ** (-0.4 * (galaxies.mag[row] - 22.5))
    identifier = specobjid(plate, mjd, fibre, run2d)
    objid = str(photo_objid(RUN, CAMCOL, FIELD, row + 1))
    return {
        "SPECOBJID": identifier if is_spall else f"{identifier:>22d}",
        "PLATE": plate,
        "MJD": mjd,
        "FIBERID": fibre,
        "RUN2D": run2d,
        "RUN1D": run2d if is_spall else "",
        "CLASS": "GALAXY",
        "SUBCLASS": "STARFORMING" if galaxies.line_strength[row] > 5.0 else "",
        "Z": galaxies.z[row],
        "Z_ERR": 1e-5,
        "ZWARNING": 0 if row % 7 else 4,
        "PLATEQUALITY": "good",
        "PROGRAMNAME": "eboss" if is_spall else "legacy",
        "SPECPRIMARY": 1,
        "SPECTROFLUX": flux[: len(BANDS) - 1],
        "SPECTROFLUX_IVAR": 100.0 / flux[: len(BANDS) - 1] ** 2,
        "VDISP": 150.0,
        "SURVEY": "sdss",
        "INSTRUMENT": "SDSS",
        "TARGETTYPE": "SCIENCE",
        "SOURCETYPE": "GALAXY",
        "BESTOBJID": objid,
        "FLUXOBJID": objid,
        "SPALL.OBJID": objid,
        "TARGETOBJID": f"{row + 1:>22d}",
        "OBJTYPE": "GALAXY",
        "RA": galaxies.ra[row],
        "DEC": galaxies.dec[row],
        "RERUN": "301",
        "EXTINCTION": [0.10, 0.08, 0.05, 0.04, 0.03],
    }


def _observe(
    galaxies: Galaxies, row: int, first: float, n_wave: int, rng: np.random.Generator
) -> dict[str, NDArray[Any]]:
    loglam = first + 1e-4 * np.arange(n_wave)
    wavelength = 10.0**loglam
    model = galaxies.spectrum(row, wavelength)
    sky = 2.0 + 40.0 * np.exp(-0.5 * ((wavelength - 5578.9) / 3.0) ** 2)
    sigma = np.sqrt(0.3**2 + 0.01 * sky + (0.03 * model) ** 2)
    flux = model + rng.normal(0.0, 1.0, n_wave) * sigma
    ivar = sigma**-2
    mask = np.where(sky > 10.0, _BRIGHTSKY, 0)
    # The ends of the grid, and a bad column, hold no data.
    lost = np.zeros(n_wave, dtype=bool)
    lost[:3] = True
    lost[-2:] = True
    lost[1200:1202] = True
    flux[lost], ivar[lost], mask[lost] = 0.0, 0.0, _NODATA
    return {
        "flux": flux.astype("f4"),
        "loglam": loglam.astype("f4"),
        "ivar": ivar.astype("f4"),
        "and_mask": mask.astype("i4"),
        "or_mask": (mask | 1 << 16).astype("i4"),
        "wdisp": np.where(lost, 0.0, 1.1 - 0.2 * np.linspace(0, 1, n_wave)).astype("f4"),
        "sky": sky.astype("f4"),
        "model": model.astype("f4"),
    }


def table_hdu(rows: list[dict[str, Any]], columns: tuple[Column, ...], name: str) -> Any:
    """
    Make a table as SDSS writes it: strings padded with blanks, 64-bit identifiers unsigned.

    Parameters
    ----------
    rows : list of dict
        Values by column; what is left out is 0 or empty.
    columns : tuple of Column
        The columns.
    name : str
        Name of the HDU.

    Returns
    -------
    astropy.io.fits.BinTableHDU
        The table.
    """
    from astropy.io import fits

    made = []
    for column in columns:
        blank: Any = "" if column.dtype.startswith("S") else 0
        given = [row.get(column.name, blank) for row in rows]
        native = "OBJID" if column.name == "SPALL.OBJID" else column.name
        if column.name == "SPECOBJID" and name == "SPALL":
            values = np.array(given, dtype="u8")
            made.append(fits.Column(native, "K", bzero=2**63, array=values))
        elif column.dtype.startswith("S"):
            width = _WIDTHS.get(column.name, int(column.dtype[1:]))
            padded = np.char.ljust(np.array(given, dtype=f"S{width}"), width)
            made.append(fits.Column(native, f"{width}A", array=padded))
        else:
            size = tuple(size for size in column.shape if isinstance(size, int))
            array = np.zeros((len(rows), *size), column.numpy_dtype)
            for row, value in enumerate(given):
                array[row] = value
            count = int(np.prod(size))
            dim = str(size[::-1]) if len(size) > 1 else None
            made.append(
                fits.Column(native, f"{count}{_FORMATS[column.dtype]}", array=array, dim=dim)
            )
    return fits.BinTableHDU.from_columns(made, name=name)


def _header(values: dict[str, Any]) -> Any:
    from astropy.io import fits

    header = fits.Header()
    header["TELESCOP"] = ("SDSS 2.5-M", "Sloan Digital Sky Survey")
    header["FLAVOR"] = ("science", "exposure type, SDSS spectro style")
    header["PLATEID"] = values["PLATE"]
    header["MJD"] = values["MJD"]
    # Where the telescope points, not the target.
    header["RA"] = (round(values["PLUG_RA"]) * 1.0, "RA of telescope boresight (deg)")
    header["DEC"] = (round(values["PLUG_DEC"]) * 1.0, "Dec of telescope boresight (deg)")
    header["VACUUM"] = (True, "Wavelengths are in vacuum")
    header["BUNIT"] = "1E-17 erg/cm^2/s/Ang"
    if values["RUN2D"] == _EBOSS:
        header["RUN2D"] = values["RUN2D"]
    return header


def _write_spec(
    root: Path, values: dict[str, Any], pixels: dict[str, NDArray[Any]], *, is_spall: bool
) -> None:
    from astropy.io import fits

    header = _header(values)
    header["PLUG_RA"], header["PLUG_DEC"] = values["PLUG_RA"], values["PLUG_DEC"]
    header["FIBERID"] = values["FIBERID"]
    coadd = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, "J" if array.dtype.kind == "i" else "E", array=array)
            for name, array in pixels.items()
        ],
        name="COADD",
    )
    if is_spall:
        table = table_hdu([values], (*SPECTRUM, *SPALL, *IMAGING), "SPALL")
    else:
        table = table_hdu([values], (*SPECTRUM, *SPECOBJ), "SPECOBJ")
    lines = fits.BinTableHDU.from_columns(
        [
            fits.Column("PLATE", "J", array=[values["PLATE"]]),
            fits.Column("MJD", "J", array=[values["MJD"]]),
            fits.Column("FIBERID", "J", array=[values["FIBERID"]]),
            fits.Column("LINENAME", "13A", array=["H_alpha      "]),
            fits.Column("LINEWAVE", "D", array=[6564.61]),
            fits.Column("LINEZ", "E", array=[values["Z"]]),
        ],
        name="SPZLINE",
    )
    plate, mjd, fibre = values["PLATE"], values["MJD"], values["FIBERID"]
    project = "eboss" if is_spall else "sdss"
    path = root / f"{project}/spectro/redux/{values['RUN2D']}/spectra/lite/{plate:04d}"
    path.mkdir(parents=True, exist_ok=True)
    hdus = fits.HDUList([fits.PrimaryHDU(header=header), coadd, table, lines])
    hdus.writeto(path / f"spec-{plate:04d}-{mjd}-{fibre:04d}.fits", overwrite=True)


def _write_plates(
    root: Path, observed: list[tuple[int, dict[str, Any], dict[str, NDArray[Any]]]]
) -> None:
    from astropy.io import fits

    redux = root / "sdss/spectro/redux"
    n_fibres = max(values["FIBERID"] for _, values, _ in observed)
    for mjd in sorted({mjd for mjd, _, _ in observed}):
        here = [(values, pixels) for night, values, pixels in observed if night == mjd]
        values = here[0][0]
        n_wave = len(here[0][1]["flux"])
        images = {
            name: np.zeros((n_fibres, n_wave), here[0][1][name].dtype)
            for name in ("flux", "ivar", "and_mask", "or_mask", "wdisp", "sky")
        }
        # Fibres of other objects: no data.
        images["and_mask"][:] = _NODATA
        for entry, pixels in here:
            for name, image in images.items():
                image[entry["FIBERID"] - 1] = pixels[name]
        header = _header(values)
        first = float(np.round(here[0][1]["loglam"][0], 4))
        header["COEFF0"], header["COEFF1"] = first, 1e-4
        header["CRPIX1"], header["CRVAL1"], header["CD1_1"] = 1, first, 1e-4
        header["DC-FLAG"] = 1
        fibres = np.arange(1, n_fibres + 1)
        plug_map = fits.BinTableHDU.from_columns(
            [
                fits.Column("HOLETYPE", "16A", array=["OBJECT          "] * n_fibres),
                fits.Column("OBJTYPE", "16A", array=["GALAXY          "] * n_fibres),
                fits.Column("SPECTROGRAPHID", "J", array=np.ones(n_fibres, dtype="i4")),
                fits.Column("FIBERID", "J", array=fibres),
            ]
        )
        hdus = [fits.PrimaryHDU(images["flux"], header=header)]
        hdus += [fits.ImageHDU(images[n]) for n in ("ivar", "and_mask", "or_mask", "wdisp")]
        hdus += [plug_map, fits.ImageHDU(images["sky"])]
        folder = redux / values["RUN2D"] / f"{values['PLATE']:04d}"
        folder.mkdir(parents=True, exist_ok=True)
        name = f"spPlate-{values['PLATE']:04d}-{mjd}.fits"
        fits.HDUList(hdus).writeto(folder / name, overwrite=True)
    rows = [values for _, values, _ in observed]
    table = table_hdu(rows, (*SPECTRUM, *SPECOBJ), "SPECOBJ")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(redux / "specObj-dr17.fits", overwrite=True)
