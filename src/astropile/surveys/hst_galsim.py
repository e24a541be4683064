"""
HST COSMOS galaxies as GalSim takes them: a catalogue, stamps and a PSF for each galaxy.

Native files: ``real_galaxy_catalog*.fits`` and the image files that its rows name
(GAL_FILENAME, PSF_FILENAME), beside it; image and PSF of a galaxy are HDUs of these (GAL_HDU,
PSF_HDU). The companions ``*_fits.fits`` and ``*_selection.fits`` (fits, quality cuts) are not
read, nor is the correlation function of the noise (NOISE_FILENAME).

Data model: https://galsim-developers.github.io/GalSim/_build/html/real_gal.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError
from astropile.schema import Column, Constant, Formula, RecordList, Rejected, Stack, Survey, Unit
from astropile.surveys._fits import FitsFile
from astropile.surveys._stamps import FWHM_PER_SIGMA, gaussian_sigma

_OBJECTS_PER_BATCH: Final = 256
"""Stamps are some hundred pixels wide, in float64: at most some tens of MB a batch."""

_COMPANIONS: Final = ("_fits.fits", "_selection.fits")

NATIVE_COLUMNS: Final = (
    Column("IDENT", "int32", "Identifier of the galaxy in the catalogue."),
    Column("RA", "float64", "Right ascension, J2000.", unit="deg"),
    Column("DEC", "float64", "Declination, J2000.", unit="deg"),
    Column("MAG", "float64", "F814W magnitude (AB).", unit="mag"),
    Column("BAND", "S5", "Filter."),
    Column("WEIGHT", "float64", "Weight that undoes how the chance to be taken depends on size."),
    Column("GAL_FILENAME", "S64", "File of the image of the galaxy."),
    Column("PSF_FILENAME", "S64", "File of the image of the PSF."),
    Column("GAL_HDU", "int32", "HDU of the image of the galaxy."),
    Column("PSF_HDU", "int32", "HDU of the image of the PSF."),
    Column("PIXEL_SCALE", "float64", "Side of a pixel.", unit="arcsec"),
    Column("NOISE_MEAN", "float64", "Mean of the noise."),
    Column("NOISE_VARIANCE", "float64", "Variance of the noise of a pixel."),
    Column("NOISE_FILENAME", "S32", "File of the correlation function of the noise."),
    Column("stamp_flux", "float64", "Flux in the stamp."),
)


def list_units(native_path: Path) -> Iterator[Unit]:
    """
    List the catalogues.

    Parameters
    ----------
    native_path : Path
        Folder with the catalogues and the files of images.

    Yields
    ------
    Unit
        A catalogue with the files of images that lie beside it.

    Raises
    ------
    NativeFileError
        If there is no catalogue.
    """
    native_path = Path(native_path)
    catalogs = [
        path
        for path in sorted(native_path.rglob("real_galaxy_catalog*.fits"))
        if not path.name.endswith(_COMPANIONS)
    ]
    if not catalogs:
        raise NativeFileError(str(native_path), "real_galaxy_catalog*.fits", "no such file")
    for catalog in catalogs:
        images = sorted(catalog.parent.glob("real_galaxy_*images*.fits"))
        key = catalog.relative_to(native_path).as_posix()
        yield Unit(key=key, paths=(catalog, *images))


def read(unit: Unit) -> Iterator[dict[str, Any] | Rejected]:
    """
    Read the galaxies of a catalogue.

    Parameters
    ----------
    unit : Unit
        As `list_units` gives them.

    Yields
    ------
    dict or Rejected
        Batches of at most 256 galaxies, and those whose images cannot be read.

    Raises
    ------
    NativeFileError
        If the catalogue cannot be used.
    """
    catalog, *image_paths = unit.paths
    with FitsFile(catalog) as file:
        objects = {column.name: file.column(1, column.name) for column in NATIVE_COLUMNS}
    with ExitStack() as opened:
        files: dict[str, FitsFile | NativeFileError] = {}
        for path in image_paths:
            try:
                files[path.name] = opened.enter_context(FitsFile(path))
            except NativeFileError as error:
                files[path.name] = error
        for start in range(0, len(objects["IDENT"]), _OBJECTS_PER_BATCH):
            rows = range(start, min(start + _OBJECTS_PER_BATCH, len(objects["IDENT"])))
            taken: list[int] = []
            images: dict[str, list[NDArray[Any]]] = {"image_array": [], "psf": []}
            for row in rows:
                try:
                    image = _image(files, objects, row, "GAL")
                    psf = _image(files, objects, row, "PSF")
                except NativeFileError as error:
                    reason = f"expected {error.expected}, found {error.found}"
                    yield Rejected(str(objects["IDENT"][row]), f"{Path(error.path).name}: {reason}")
                    continue
                taken.append(row)
                images["image_array"].append(image)
                images["psf"].append(psf)
            if taken:
                batch = {name: values[taken] for name, values in objects.items()}
                sigma = np.array([gaussian_sigma(psf[0]) for psf in images["psf"]])
                fwhm = sigma * FWHM_PER_SIGMA * batch["PIXEL_SCALE"]
                yield batch | images | {"psf_fwhm": fwhm[:, None].astype(np.float32)}


def _image(
    files: Mapping[str, FitsFile | NativeFileError],
    objects: Mapping[str, NDArray[Any]],
    row: int,
    kind: str,
) -> NDArray[np.float64]:
    name = objects[f"{kind}_FILENAME"][row].decode()
    file = files.get(name)
    if file is None:
        raise NativeFileError(name, "a file beside the catalogue", "no such file")
    if isinstance(file, NativeFileError):
        raise file
    image = file.image(int(objects[f"{kind}_HDU"][row]))
    if image.ndim != 2 or image.dtype != np.float64:
        raise file.error("a float64 image (row, column)", f"{image.dtype}, {image.ndim} axes")
    return image[None]


SURVEY = Survey(
    name="hst_galsim",
    project="HST",
    survey="COSMOS",
    release="GalSim",
    subset="real_galaxy",
    title="HST COSMOS galaxies for GalSim",
    description="Stamps of single galaxies in the HST ACS F814W images of the COSMOS field, each "
    "with its PSF, in the format of GalSim's RealGalaxyCatalog.",
    homepage="https://github.com/GalSim-developers/GalSim/wiki/RealGalaxy-Data",
    citation="Mandelbaum et al. 2012, MNRAS 420, 1518, doi:10.1111/j.1365-2966.2011.20138.x; "
    "Leauthaud et al. 2007, ApJS 172, 219, doi:10.1086/516598",
    licence="unknown",
    columns=(
        *NATIVE_COLUMNS,
        Column(
            "image_array",
            "float64",
            "Image of the galaxy as in its file, (band, row, column).",
            shape=(1, "row", "col"),
        ),
        Column(
            "psf",
            "float64",
            "Image of the PSF as in its file, on pixels of the same size.",
            shape=(1, "psf_row", "psf_col"),
        ),
        Column(
            "psf_fwhm",
            "float32",
            "FWHM of the Gaussian with the adaptive second moments of the PSF.",
            shape=(1,),
            unit="arcsec",
            derived=True,
        ),
    ),
    aliases={
        "object_id": "IDENT",
        "observation_id": "IDENT",
        "ra": "RA",
        "dec": "DEC",
        "mag": Formula("MAG", unit="mag", doc="F814W magnitude of the catalogue."),
        "image": RecordList(
            {
                "filter": Stack(("BAND",)),
                "array": "image_array",
                "psf_fwhm": "psf_fwhm",
                "pixel_size": Stack(("PIXEL_SCALE",)),
                "noise_std": Stack((Formula("sqrt(NOISE_VARIANCE)"),)),
                "units": Constant("unknown"),
            }
        ),
    },
    units=list_units,
    read=read,
)
