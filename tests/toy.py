"""A small survey for tests: every kind of column and alias, native files as .npz."""

import os
import signal
import zipfile
from pathlib import Path

import numpy as np

from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    Record,
    RecordList,
    Rejected,
    Stack,
    Survey,
    Unit,
)

N_WAVE = 2000


def units(native_path):
    return [Unit(path.name, (path,)) for path in sorted(Path(native_path).glob("*.npz"))]


READ = []
"""Keys of the units read in this process."""


def read(unit):
    from astropile.errors import NativeFileError

    READ.append(unit.key)

    try:
        with unit.paths[0].open("rb") as file, np.load(file, allow_pickle=True) as stored:
            batch = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise NativeFileError(str(unit.paths[0]), "a numpy archive", str(error)) from error
    lost = batch.pop("lost", None)
    if lost is not None:
        yield Rejected("lost", "toy says so", int(lost))
    for name in ("LC_TIME", "LC_FLUX", "STAMP"):
        batch[name] = list(batch[name])
    yield batch
    after, _, how = os.environ.get("TOY_STOP", "0 none").partition(" ")
    if len(READ) == int(after):
        if how == "SIGINT":  # Ignored by what a shell starts in the background.
            signal.signal(signal.SIGINT, signal.default_int_handler)
        os.kill(os.getpid(), getattr(signal, how))


SURVEY = Survey(
    name="toy",
    project="Toys",
    survey="TOY",
    release="DR1",
    subset="main",
    title="Toy survey",
    description="Every kind of column.",
    homepage="https://example.org/toy",
    citation="Toy Collaboration 2031, PASP 1, 1",
    licence="CC-BY-4.0",
    columns=(
        Column("ID", "int64", "Identifier."),
        Column("RA", "float64", "Right ascension, ICRS.", unit="deg"),
        Column("DEC", "float64", "Declination, ICRS.", unit="deg"),
        Column("Z", "float32", "Redshift."),
        Column("NAME", "S12", "A name."),
        Column("FLUX_R", "float32", "Flux in r.", unit="nanomaggy"),
        Column("A_G", "float32", "Extinction in g.", unit="mag"),
        Column("A_R", "float32", "Extinction in r.", unit="mag"),
        Column("GOOD", "bool", "Is it good."),
        Column(
            "WAVE", "float64", "Vacuum wavelength.", shape=("wave",), unit="Angstrom", shared=True
        ),
        Column(
            "FLUX", "float32", "Flux density.", shape=("wave",), unit="1e-17 erg / (s cm2 Angstrom)"
        ),
        Column("IMAGE", "float32", "Image of each band.", shape=(2, 24, 32), unit="nanomaggy"),
        Column(
            "IMAGE_MASK",
            "int32",
            "Mask of each band.",
            shape=(2, 24, 32),
            bits={"BAD": 0, "SAT": 1, "COSMIC": 5},
        ),
        Column("PSF", "float32", "PSF FWHM of each band.", shape=(2,), unit="arcsec"),
        Column("LC_TIME", "float64", "Times.", shape=("epoch",), unit="day"),
        Column("LC_FLUX", "float32", "Fluxes.", shape=("epoch",), unit="nanomaggy"),
        Column("STAMP", "uint8", "A stamp of varying size.", shape=(3, "row", "col")),
    ),
    aliases={
        "object_id": "ID",
        "observation_id": "ID",
        "ra": "RA",
        "dec": "DEC",
        "z": "Z",
        "mag": Formula("22.5 - 2.5 * log10(FLUX_R) - A_R", unit="mag", doc="r, dereddened."),
        "image": RecordList(
            {
                "array": "IMAGE",
                "mask": BadPixels("IMAGE_MASK", bits=("BAD", "SAT")),
                "psf_fwhm": "PSF",
                "pixel_size": Constant(0.25),
                "filter": Constant(("g", "r")),
                "units": Constant("nanomaggy"),
                "extinction": Stack(("A_G", "A_R")),
            }
        ),
        "spectrum": Record({"flux": "FLUX", "lambda": "WAVE", "extra": Record({"good": "GOOD"})}),
        "lightcurve": Record({"time": "LC_TIME", "flux": "LC_FLUX"}),
    },
    units=units,
    read=read,
)


def make_batch(n, *, seed, first_id=0, ra=None, dec=None):
    rng = np.random.default_rng(seed)
    ragged = {"LC_TIME": [], "LC_FLUX": [], "STAMP": []}
    for _ in range(n):
        length = int(rng.integers(0, 6))
        ragged["LC_TIME"].append(rng.uniform(50000, 60000, length))
        ragged["LC_FLUX"].append(rng.normal(size=length).astype("f4"))
        shape = (3, int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        ragged["STAMP"].append(rng.integers(0, 255, shape).astype("u1"))
    return {
        "ID": np.arange(first_id, first_id + n) + 2**60 + 1,
        "RA": rng.uniform(0, 360, n) if ra is None else np.asarray(ra, float),
        "DEC": np.rad2deg(np.arcsin(rng.uniform(-1, 1, n)))
        if dec is None
        else np.asarray(dec, float),
        "Z": rng.uniform(0, 1, n).astype("f4"),
        "NAME": np.array([f"näme {i}".encode() for i in range(n)], "S12"),
        "FLUX_R": rng.uniform(-1, 100, n).astype("f4"),
        "A_G": rng.uniform(0, 1, n).astype("f4"),
        "A_R": rng.uniform(0, 1, n).astype("f4"),
        "GOOD": rng.random(n) < 0.5,
        "WAVE": np.linspace(3600, 9800, N_WAVE),
        "FLUX": rng.normal(size=(n, N_WAVE)).astype("f4"),
        "IMAGE": rng.normal(size=(n, 2, 24, 32)).astype("f4"),
        "IMAGE_MASK": rng.choice([0, 0, 0, 1, 2, 32], (n, 2, 24, 32)).astype("i4"),
        "PSF": rng.uniform(0.5, 1, (n, 2)).astype("f4"),
        **ragged,
    }


def write_native(path: Path, batch, **extra):
    """Save a batch as a native file of the toy survey."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = dict(batch, **extra)
    for name in ("LC_TIME", "LC_FLUX", "STAMP"):
        values = np.empty(len(batch[name]), object)
        for row, value in enumerate(batch[name]):
            values[row] = value
        stored[name] = values
    np.savez(path, **stored)
