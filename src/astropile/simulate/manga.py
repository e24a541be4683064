"""
Write a small MaNGA DR17 folder: cubes, maps, drpall and dapall.

The full wavelength grid, all HDUs and keywords that are read, but few spaxels: real cubes are
32 to 76 spaxels wide. Galaxies rotate; noise is Gaussian and independent, unlike the survey's.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from astropile.simulate.galaxies import BANDS, LINES, Galaxies
from astropile.surveys._manga_files import survey_wavelengths
from astropile.surveys._manga_model import MAPS, Map

DRP, DAP, DAPTYPE = "v3_1_1", "3.1.0", "HYB10-MILESHC-MASTARSSP"
SPAXEL_ARCSEC = 0.5
PSF_FWHM_ARCSEC = 2.5
SIGMA_V = 120.0
"""Velocity dispersion of stars and gas [km / s]."""

LINE_CHANNELS = (
    *("OII-3727", "OII-3729", "H12-3751", "H11-3771", "Hthe-3798", "Heta-3836", "NeIII-3869"),
    *("HeI-3889", "Hzet-3890", "NeIII-3968", "Heps-3971", "Hdel-4102", "Hgam-4341", "HeII-4687"),
    *("Hb-4862", "OIII-4960", "OIII-5008", "NI-5199", "NI-5201", "HeI-5877", "OI-6302"),
    *("OI-6365", "NII-6549", "Ha-6564", "NII-6585", "SII-6718", "SII-6732", "HeI-7067"),
    *("ArIII-7137", "ArIII-7753", "Peta-9017", "SIII-9071", "Pzet-9231", "SIII-9533"),
    "Peps-9548",
)
_TRUE_LINES = {
    "OII-3729": "[OII]",
    "Hb-4862": "Hbeta",
    "OIII-4960": "[OIII]4960",
    "OIII-5008": "[OIII]5008",
    "Ha-6564": "Halpha",
    "NII-6585": "[NII]",
    "SII-6718": "[SII]",
}
INDEX_CHANNELS = (
    *("CN1 mag", "CN2 mag", "Ca4227 ang", "G4300 ang", "Fe4383 ang", "Ca4455 ang", "Fe4531 ang"),
    *("C24668 ang", "Hb ang", "Fe5015 ang", "Mg1 mag", "Mg2 mag", "Mgb ang", "Fe5270 ang"),
    *("Fe5335 ang", "Fe5406 ang", "Fe5709 ang", "Fe5782 ang", "NaD ang", "TiO1 mag", "TiO2 mag"),
    *("HDeltaA ang", "HGammaA ang", "HDeltaF ang", "HGammaF ang", "CaHK ang", "CaII1 ang"),
    *("CaII2 ang", "CaII3 ang", "Pa17 ang", "Pa14 ang", "Pa12 ang", "MgICvD ang", "NaICvD ang"),
    *("MgIIR ang", "FeHCvD ang", "NaI ang", "bTiO mag", "aTiO mag", "CaH1 mag", "CaH2 mag"),
    *("NaISDSS ang", "TiO2SDSS mag", "D4000 ", "Dn4000 ", "TiOCvD "),
)
_MERIT = ("RMS", "Frac. RMS", "Reduced chi2", "68th Fr", "99th Fr", "Max Fr", "68th", "99th", "Max")
CHANNELS: Mapping[str, Sequence[str]] = {
    "SPX_SKYCOO": ("On-sky X", "On-sky Y"),
    "BIN_LWSKYCOO": ("Lum. weighted on-sky X", "Lum. weighted on-sky Y"),
    "SPX_ELLCOO": ("Elliptical radius", "R/Re", "R h/kpc", "Elliptical azimuth"),
    "BIN_LWELLCOO": ("Lum. weighted elliptical radius", "R/Re", "R h/kpc", "Elliptical azimuth"),
    "BINID": (
        *("Binned spectra", "Stellar continua", "Em. line moments", "Em. line models"),
        "Spectral indices",
    ),
    "STELLAR_SIGMACORR": ("resolution difference", "fit"),
    "STELLAR_FOM": _MERIT,
    "EMLINE_FOM": _MERIT,
}
_UNITS = {"1e-17 erg / (s cm2 Angstrom)": "1E-17 erg/s/cm^2/ang/spaxel"}
_UNITS |= {"1e-17 erg / (s cm2)": "1E-17 erg/s/cm^2/spaxel", "Angstrom": "ang", "km / s": "km/s"}
_UNITS |= {"arcsec2": "arcsec^2"}

_LIGHT_SPEED = 299792.458
_OUTSIDE, _EDGE = 1027, 1026
"""Masks of the DRP: NOCOV, LOWCOV, DONOTUSE; LOWCOV, DONOTUSE."""
_NO_MAP, _NO_VALUE = (1 << 30) + 3, (1 << 30) + 16
"""Masks of the DAP: DONOTUSE with NOCOV, LOWCOV; DONOTUSE with NOVALUE."""


@dataclass(frozen=True)
class _Target:
    """One galaxy as its IFU sees it."""

    row: int
    plate: int
    ifu: int
    mangaid: str
    ra: float
    dec: float
    share: NDArray[np.float64]
    """Fraction of its light that falls into each spaxel."""
    inside: NDArray[np.bool_]
    edge: NDArray[np.bool_]
    east: NDArray[np.float64]
    north: NDArray[np.float64]
    radius: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    velocity: NDArray[np.float64]

    @property
    def plateifu(self) -> str:
        return f"{self.plate}-{self.ifu}"


def write(native_path: Path, galaxies: Galaxies, *, seed: int, side: int = 10) -> None:
    """
    Write the galaxies as the survey would have published them.

    Parameters
    ----------
    native_path : Path
        Folder to write into; made if absent.
    galaxies : Galaxies
        The true sky; each has an IFU of its own.
    seed : int
        Seed of noise and astrometric scatter.
    side : int
        Width of the cubes [spaxel].
    """
    redux = native_path / "spectro" / "redux" / DRP
    analysis = native_path / "spectro" / "analysis" / DRP / DAP
    targets = []
    for row in range(len(galaxies)):
        rng = np.random.default_rng((seed, 0x4D614E, row))
        target = _point(galaxies, row, side, rng)
        targets.append(target)
        plate, ifu = str(target.plate), str(target.ifu)
        name = f"manga-{target.plateifu}"
        stack = redux / plate / "stack"
        _save(stack / f"{name}-LOGCUBE.fits.gz", _cube(galaxies, target, rng))
        folder = analysis / DAPTYPE / plate / ifu
        _save(folder / f"{name}-MAPS-{DAPTYPE}.fits.gz", _maps(galaxies, target, rng))
    # The catalogues list observations in orders of their own, and more than are at hand.
    order = np.random.default_rng((seed, 0x4D614E)).permutation(len(targets))
    _save(redux / f"drpall-{DRP}.fits", _drpall(galaxies, [targets[i] for i in order]))
    _save(analysis / f"dapall-{DRP}-{DAP}.fits", _dapall(galaxies, targets[::-1]))


def _point(galaxies: Galaxies, row: int, side: int, rng: np.random.Generator) -> _Target:
    centre = side // 2
    rows, columns = np.mgrid[:side, :side]
    shape = (side, side)
    one = galaxies.select([row])
    light = one.image(
        shape,
        [centre],
        [centre],
        pixel_size_arcsec=SPAXEL_ARCSEC,
        psf_fwhm_arcsec=PSF_FWHM_ARCSEC,
        band="r",
    )
    flux = 10.0 ** (-0.4 * (one.mag[0, BANDS.index("r")] - 22.5))
    east, north = -(columns - centre) * SPAXEL_ARCSEC, (rows - centre) * SPAXEL_ARCSEC
    pa = np.deg2rad(one.pa_deg[0])
    along = east * np.sin(pa) + north * np.cos(pa)
    across = (east * np.cos(pa) - north * np.sin(pa)) / one.axis_ratio[0]
    radius = np.hypot(along, across)
    # A hexagon, as fibres are packed.
    x, y = np.abs(columns - centre) / centre, np.abs(rows - centre) / centre
    reach = np.maximum(y / 0.9, x + y / np.sqrt(3))
    inclined = np.sqrt(1 - one.axis_ratio[0] ** 2)
    velocity = 180.0 * inclined * np.tanh(along / one.half_light_arcsec[0])
    scatter = rng.normal(0, 0.07 / 3600, 2)
    return _Target(
        row=row,
        plate=8000 + row // 2,
        ifu=1901 + row % 2,
        mangaid=f"1-{100000 + row}",
        ra=float((one.ra[0] + scatter[0] / np.cos(np.deg2rad(one.dec[0]))) % 360),
        dec=float(one.dec[0] + scatter[1]),
        share=light / flux,
        inside=reach <= 1.0,
        edge=(reach <= 1.0) & (reach > 0.85),
        east=east,
        north=north,
        radius=radius,
        azimuth=np.rad2deg(np.arctan2(across, along)) % 360,
        velocity=velocity,
    )


def _header(target: _Target) -> dict[str, Any]:
    """Give the keywords that the DRP writes and the DAP repeats."""
    return {
        "VERSDRP2": DRP,
        "VERSDRP3": DRP,
        "TELESCOP": "SDSS 2.5-M",
        "INSTRUME": "MaNGA",
        "SRVYMODE": "MaNGA dither",
        "OBJSYS": "ICRS",
        "EQUINOX": 2000.0,
        "RADESYS": "FK5",
        "NEXP": 9,
        "EXPTIME": 8100.87,
        "SEEMED": 1.30425,
        "MJDMED": 57132,
        "DATE-OBS": "2015-04-20",
        "MNGTARG1": 2336,
        "MNGTARG2": 0,
        "MNGTARG3": 0,
        "IFURA": round(target.ra, 6),
        "IFUDEC": round(target.dec, 6),
        "OBJRA": target.ra,
        "OBJDEC": target.dec,
        "PLATEID": target.plate,
        "IFUDSGN": target.ifu,
        "PLATEIFU": target.plateifu,
        "MANGAID": target.mangaid,
        "CATIDNUM": "1",
        "DRP3QUAL": 0,
        "EBVGAL": 0.0144335,
        **{f"{band.upper()}FWHM": PSF_FWHM_ARCSEC for band in "griz"},
    }


def _sky(target: _Target, side: int, *, matrix: str) -> dict[str, Any]:
    """Give the keywords of the sky coordinates: CD in cubes, PC and CDELT in maps."""
    step = 0.000138889
    keys: dict[str, Any] = {"CRPIX1": side // 2 + 1.0, "CRPIX2": side // 2 + 1.0}
    keys |= {"CRVAL1": target.ra, "CRVAL2": target.dec}
    keys |= {f"{matrix}1_1": -step, f"{matrix}2_2": step}
    keys |= {"CDELT1": 1.0, "CDELT2": 1.0} if matrix == "PC" else {}
    keys |= {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CUNIT1": "deg", "CUNIT2": "deg"}
    return keys


def _image(name: str, data: NDArray[Any], keys: Mapping[str, Any] | None = None) -> bytes:
    """
    Write an image HDU.

    By hand, since a maps file has some six thousand keywords and astropy takes half a second
    for them.
    """
    bits = 8 * data.dtype.itemsize * (-1 if data.dtype.kind == "f" else 1)
    axes = {f"NAXIS{n}": size for n, size in enumerate(data.shape[::-1], 1)}
    cards = {"XTENSION": "IMAGE", "BITPIX": bits, "NAXIS": data.ndim, **axes}
    cards |= {"PCOUNT": 0, "GCOUNT": 1, "EXTNAME": name, **(keys or {})}
    pixels = data.astype(data.dtype.newbyteorder(">")).tobytes()
    return _cards(cards) + pixels + bytes(-len(pixels) % 2880)


def _primary(keys: Mapping[str, Any]) -> bytes:
    return _cards({"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True, **keys})


def _cards(keys: Mapping[str, Any]) -> bytes:
    text = "".join(f"{key:8}= {_card_value(value)}".ljust(80) for key, value in keys.items())
    text += "END"
    return text.ljust(len(text) + -len(text) % 2880).encode("ascii")


def _card_value(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value:8}'"
    if isinstance(value, bool):
        return f"{'T' if value else 'F':>20}"
    return f"{value:>20}" if isinstance(value, int) else f"{float(value)!r:>20}".upper()


def _table(name: str, columns: Sequence[tuple[str, str, Any]]) -> bytes:
    from astropy.io import fits

    table = [fits.Column(key, form, array=values) for key, form, values in columns]
    buffer = io.BytesIO()
    hdu = fits.BinTableHDU.from_columns(table, name=name)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()[2880:]


def _save(path: Path, hdus: Sequence[bytes]) -> None:
    """Write HDUs; gzip without a time, so that the same seed gives the same bytes."""
    whole = b"".join(hdus)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(whole, 1, mtime=0) if path.suffix == ".gz" else whole)


# --------------------------------------------------------------------------------------
# Cubes


def _cube(galaxies: Galaxies, target: _Target, rng: np.random.Generator) -> list[bytes]:
    wave = survey_wavelengths()
    shape = (len(wave), *target.share.shape)
    whole = galaxies.spectrum(target.row, wave)
    noise = 0.015 * (1 + ((wave - 6500) / 4500) ** 2)
    inside = target.inside
    rows, columns = np.nonzero(inside)
    share, edge = target.share[inside], target.edge[inside]
    shifted = wave * (1 - target.velocity[inside, None] / _LIGHT_SPEED)
    sigma = noise * np.where(edge, 2.0, 1.0)[:, None]
    light = share[:, None] * np.interp(shifted, wave, whole)
    flux, ivar, lsf = (np.zeros(shape, np.float32) for _ in range(3))
    mask = np.full(shape, _OUTSIDE, np.int32)
    flux[:, inside] = (light + rng.standard_normal(light.shape) * sigma).T
    ivar[:, inside] = (1 / sigma**2).T
    lsf[:, inside] = ((0.9 + wave / 3e4) * (1 + 0.01 * share[:, None])).T
    mask[:, inside] = np.where(edge, _EDGE, 0)
    # Both ends of the spectrograph see nothing.
    for end in (slice(0, 4), slice(-3, None)):
        flux[end], ivar[end], mask[end] = 0, 0, _OUTSIDE
    resolution = wave / (2.35482 * (0.9 + wave / 3e4))
    side = shape[1]
    sky = _sky(target, side, matrix="CD")
    keys = sky | {"CTYPE3": "WAVE-LOG", "CUNIT3": "Angstrom", "CRPIX3": 1, "CRVAL3": wave[0]}
    keys |= {"CD3_3": wave[1] - wave[0], "BUNIT": "1E-17 erg/s/cm^2/Ang/spaxel"}
    header = _header(target) | {"MASKNAME": "MANGA_DRP3PIXMASK"}
    hdus = [
        _primary(header),
        _image("FLUX", flux, keys | {"ERRDATA": "IVAR", "QUALDATA": "MASK"}),
        _image("IVAR", ivar, {"SCIDATA": "FLUX", "QUALDATA": "MASK"}),
        _image("MASK", mask, {"SCIDATA": "FLUX", "ERRDATA": "IVAR"}),
        _image("LSFPOST", lsf),
        _image("LSFPRE", lsf * np.float32(0.98)),
        _image("WAVE", wave),
        _image("SPECRES", resolution),
        _image("SPECRESD", resolution * 0.03),
        _image("PRESPECRES", resolution * 1.02),
        _image("PRESPECRESD", resolution * 0.03),
        _table(
            "OBSINFO",
            [
                ("MANGAID", "8A", [target.mangaid] * 3),
                ("MJD", "J", [57132] * 3),
                ("EXPTIME", "E", [900.0] * 3),
            ],
        ),
    ]
    one = galaxies.select([target.row])
    for band in "griz":
        total = 10.0 ** (-0.4 * (one.mag[0, BANDS.index(band)] - 22.5))
        image = np.where(target.inside, total * target.share, 0).astype(np.float32)
        hdus.append(_image(f"{band.upper()}IMG", image, sky | {"BUNIT": "nanomaggies/pixel"}))
    spread = np.hypot(target.east, target.north) / (PSF_FWHM_ARCSEC / 2.35482)
    psf = np.exp(-0.5 * spread**2)
    for band in "griz":
        data = (psf / psf.sum()).astype(np.float32)
        hdus.append(_image(f"{band.upper()}PSF", data, sky | {"BUNIT": "nanomaggies/pixel"}))
    for band in "griz":
        pairs = zip(("I_C1", "I_C2", "J_C1", "J_C2"), (columns, rows) * 2, strict=True)
        table: list[tuple[str, str, Any]] = [(f"INDX{name}", "J", pixels) for name, pixels in pairs]
        table.append(("RHOIJ", "D", np.ones(len(rows))))
        hdus.append(_table(f"{band.upper()}CORREL", table))
    return hdus


# --------------------------------------------------------------------------------------
# Maps


def _maps(galaxies: Galaxies, target: _Target, rng: np.random.Generator) -> list[bytes]:
    side = target.share.shape[0]
    seen = target.inside & ~target.edge
    truth = _true_maps(galaxies, target, seen)
    header = _header(target) | {"MASKNAME": "MANGA_DAPPIXMASK", "VERSDAP": DAP, "DAPTYPE": DAPTYPE}
    header |= {"DAPFRMT": "MAPS", "SCINPVEL": galaxies.z[target.row] * _LIGHT_SPEED}
    header |= {"ECOOPA": galaxies.pa_deg[target.row], "DAPQUAL": 0}
    header |= {"ECOOELL": 1 - galaxies.axis_ratio[target.row]}
    header |= {"REFF": galaxies.half_light_arcsec[target.row]}
    hdus = [_primary(header)]
    for entry in MAPS:
        if entry.name.startswith("STELLAR_CONT_"):
            continue
        names, units = _channels(entry)
        shape = (*((len(names),) if names else ()), side, side)
        ideal = truth.get(entry.name, np.zeros(shape))
        error = 0.02 * np.abs(ideal).mean() + 0.01
        measured = np.broadcast_to(ideal, shape)
        if entry.has_ivar:
            measured = measured + rng.normal(0, error, shape)
        blank = not entry.name.startswith("SPX_") and entry.name != "BINID"
        data = np.where(seen, measured, 0) if blank else measured
        flags = np.where(target.inside, np.where(target.edge, _NO_VALUE, 0), _NO_MAP)
        mask = np.broadcast_to(flags, shape).astype(np.int32)
        if entry.name == "EMLINE_SFLUX":
            # Channel 2 lies in the passband of channel 1 and is left empty.
            mask[1], data[1] = _NO_VALUE, 0
        keys = _sky(target, side, matrix="PC") | {"HDUCLASS": "SDSS"}
        if entry.unit:
            keys["BUNIT"] = _UNITS.get(entry.unit, entry.unit)
        wide = 2 if len(names) > 9 else 1
        keys |= {f"C{n:0{wide}d}": name for n, name in enumerate(names, 1)}
        keys |= {f"U{n:0{wide}d}": unit for n, unit in enumerate(units, 1)}
        linked = {"ERRDATA": f"{entry.name}_IVAR"} if entry.has_ivar else {}
        linked |= {"QUALDATA": f"{entry.name}_MASK"} if entry.has_mask else {}
        hdus.append(_image(entry.name, data.astype(entry.dtype), keys | linked))
        keys.pop("BUNIT", None)
        if entry.has_ivar:
            ivar = np.broadcast_to(np.where(seen, error**-2, 0), shape).astype(np.float32)
            hdus.append(_image(f"{entry.name}_IVAR", ivar, keys | {"SCIDATA": entry.name}))
        if entry.has_mask:
            hdus.append(_image(f"{entry.name}_MASK", mask, keys | {"SCIDATA": entry.name}))
    return hdus


def _channels(entry: Map) -> tuple[list[str], list[str]]:
    """Names of the channels of an HDU, and their units where they differ."""
    name = entry.name
    if not entry.channel:
        return [], []
    if name in CHANNELS:
        units = ["arcsec", "", "kpc/h", "degrees"] if "ELLCOO" in name else []
        return list(CHANNELS[name]), units
    if name.startswith("SPECINDEX"):
        pairs = [text.split(" ") for text in INDEX_CHANNELS]
        return [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    first = "OIId-3728" if name.startswith("EMLINE_S") else LINE_CHANNELS[0]
    return [first, *LINE_CHANNELS[1:]], []


def _true_maps(
    galaxies: Galaxies, target: _Target, seen: NDArray[np.bool_]
) -> dict[str, NDArray[np.float64]]:
    """Give what the analysis would find without noise; maps not named here are zero."""
    z = float(galaxies.z[target.row])
    reff = float(galaxies.half_light_arcsec[target.row])
    strength = float(galaxies.line_strength[target.row])
    lines = np.zeros((len(LINE_CHANNELS), *target.share.shape))
    for channel, name in _TRUE_LINES.items():
        centre, relative = LINES[name]
        beside = galaxies.spectrum(target.row, [centre * (1 + z) * 1.012])[0]
        width = relative * strength * (1 + z)
        lines[LINE_CHANNELS.index(channel)] = width * beside * target.share
    continuum = galaxies.spectrum(target.row, [4900.0])[0] * target.share
    bins = np.full(seen.shape, -1.0)
    bins[seen] = np.arange(seen.sum())
    every_line = np.ones((len(LINE_CHANNELS), 1, 1))
    index = np.zeros((len(INDEX_CHANNELS), *seen.shape))
    index[INDEX_CHANNELS.index("D4000 ")] = 1.6
    index[INDEX_CHANNELS.index("Dn4000 ")] = 1.4
    sky = np.stack([target.east, target.north])
    kpc = target.radius * z * _LIGHT_SPEED / 100 * 1000 / 206265
    ellipse = np.stack([target.radius, target.radius / reff, kpc, target.azimuth])
    return {
        "SPX_SKYCOO": sky,
        "BIN_LWSKYCOO": sky,
        "SPX_ELLCOO": ellipse,
        "BIN_LWELLCOO": ellipse,
        "SPX_MFLUX": continuum,
        "BIN_MFLUX": continuum,
        "SPX_SNR": continuum / 0.02,
        "BIN_SNR": continuum / 0.02,
        "BINID": np.broadcast_to(bins, (5, *seen.shape)),
        "BIN_AREA": np.full(seen.shape, SPAXEL_ARCSEC**2),
        "BIN_FAREA": np.ones(seen.shape),
        "STELLAR_VEL": target.velocity,
        "STELLAR_SIGMA": np.full(seen.shape, SIGMA_V),
        "EMLINE_SFLUX": lines,
        "EMLINE_GFLUX": lines,
        "EMLINE_GVEL": every_line * target.velocity,
        "EMLINE_GSIGMA": every_line * np.full(seen.shape, SIGMA_V),
        "EMLINE_INSTSIGMA": every_line * np.full(seen.shape, 70.0),
        "SPECINDEX": index,
        "SPECINDEX_BF": index,
        "SPECINDEX_MODEL": index,
    }


# --------------------------------------------------------------------------------------
# Catalogues


def _drpall(galaxies: Galaxies, targets: Sequence[_Target]) -> list[bytes]:
    rows = [target.row for target in targets]
    one = galaxies.select(np.array(rows, int))
    # FNugriz: two ultraviolet bands that the simulation does not have.
    flux = np.zeros((len(rows), 7))
    flux[:, 2:] = 10.0 ** (-0.4 * (one.mag[:, :5] - 22.5))
    columns: list[tuple[str, str, Any]] = [
        ("plate", "K", [target.plate for target in targets]),
        ("ifudsgn", "21A", [str(target.ifu) for target in targets]),
        ("plateifu", "11A", [target.plateifu for target in targets]),
        ("mangaid", "9A", [target.mangaid for target in targets]),
        ("objra", "D", [target.ra for target in targets]),
        ("objdec", "D", [target.dec for target in targets]),
        ("nsa_nsaid", "K", 200000 + np.array(rows, int)),
        ("z", "D", one.z),
        ("nsa_z", "D", one.z),
        ("nsa_elpetro_mass", "D", 10 ** (9.5 + 0.1 * np.arange(len(rows)) % 2)),
        ("nsa_elpetro_ba", "D", one.axis_ratio),
        ("nsa_elpetro_phi", "D", one.pa_deg),
        ("nsa_elpetro_th50_r", "D", one.half_light_arcsec),
        ("nsa_elpetro_flux", "7D", flux),
        ("nsa_elpetro_flux_ivar", "7D", np.where(flux > 0, 1e4 / np.maximum(flux, 1) ** 2, 0)),
        ("nsa_sersic_n", "D", np.ones(len(rows))),
    ]
    stars = [("plateifu", "11A", ["9999-701"]), ("mangaid", "9A", ["3-1"])]
    return [_primary({}), _table("MANGA", columns), _table("MASTAR", stars)]


def _dapall(galaxies: Galaxies, targets: Sequence[_Target]) -> list[bytes]:
    one = galaxies.select(np.array([target.row for target in targets], int))
    n = len(targets)
    hdus = [_primary({})]
    for daptype in ("SPX-MILESHC-MASTARSSP", DAPTYPE):
        columns: list[tuple[str, str, Any]] = [
            ("PLATE", "J", [target.plate for target in targets]),
            ("IFUDESIGN", "J", [target.ifu for target in targets]),
            ("PLATEIFU", "12A", [target.plateifu for target in targets]),
            ("MANGAID", "9A", [target.mangaid for target in targets]),
            ("DAPTYPE", "23A", [daptype] * n),
            ("DAPDONE", "L", [True] * n),
            ("Z", "D", one.z),
            ("LDIST_Z", "D", one.z * _LIGHT_SPEED / 100 * (1 + one.z / 2)),
            ("RCOV90", "D", np.full(n, 2.5)),
            ("STELLAR_Z", "D", one.z),
            ("STELLAR_SIGMA_1RE", "D", np.full(n, SIGMA_V)),
            ("HA_Z", "D", one.z + (1e-5 if daptype == DAPTYPE else 0)),
            ("HA_GSIGMA_1RE", "D", np.full(n, SIGMA_V)),
            ("SFR_1RE", "D", 0.01 * one.line_strength),
            ("SFR_TOT", "D", 0.02 * one.line_strength),
        ]
        hdus.append(_table(daptype, columns))
    return hdus
