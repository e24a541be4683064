"""A survey with every kind of record, of values as they should be; and ways to spoil them."""

import json

import h5py
import numpy as np

from astropile.facts import survey_from_json
from astropile.schema import (
    BadPixels,
    Column,
    Constant,
    Formula,
    Record,
    RecordList,
    Survey,
    Unit,
)

N, N_WAVE, N_TIMES = 36, 400, 12
ROWS, COLUMNS = 8, 6
FLUX = "1e-17 erg / (s cm2 Angstrom)"
IVAR = "1e34 s2 cm4 Angstrom2 / erg2"
BITS = {"LITTLE_COVERAGE": 1, "SMALL_DELTA_CHI2": 2}


def make_values(seed=3):
    """Native columns of N objects in two fields, three magnitudes apart at most."""
    rng = np.random.default_rng(seed)
    mag = rng.uniform(18, 21, N)
    light = 10 ** (-0.4 * (mag - 20))[:, None]
    wave = np.linspace(3600, 9000, N_WAVE)
    sigma = 0.5 * (1 + 5 * np.linspace(0, 1, N_WAVE) ** 2) * np.ones((N, 1))
    mask = (rng.random((N, N_WAVE)) < 0.03).astype("i4")
    flux = 20 * light * (1 + 0.2 * np.sin(wave / 700)) + rng.normal(0, sigma)
    r = np.hypot(*np.mgrid[-12:12, -12:12])
    depth = 0.02 * (1 + r / 6) * np.ones((N, 3, 1, 1))
    image = light[:, :, None, None] * np.exp(-0.5 * (r / 2) ** 2) + rng.normal(0, depth)
    image_mask = (rng.random(image.shape) < 0.02).astype("i1")
    x, y = (part.reshape(-1) for part in np.mgrid[:ROWS, :COLUMNS])
    glow = np.exp(-0.5 * (((x - 3) / 3) ** 2 + (y - 1) ** 2))
    cube = 50 * light[:, :, None] * glow[:, None] + rng.normal(0, 0.2, (N, len(x), 100))
    z = rng.uniform(0.01, 0.5, N)
    flags = np.where(np.arange(N) % 6 == 0, 1 << BITS["LITTLE_COVERAGE"], 0)
    where = np.arange(N) % 2
    return {
        "ID": rng.integers(2**58, 2**59, N),
        "OBS": np.array([f"obs-{i:03d}" for i in range(N)], "S24"),
        "RA": (np.array([150.0, 359.8])[where] + rng.uniform(0, 0.5, N)) % 360,
        "DEC": np.array([2.0, -31.0])[where] + rng.uniform(0, 0.5, N),
        "Z": z,
        "ZERR": np.where(flags, 0.05, 1e-4) * rng.uniform(0.5, 1.5, N),
        "ZWARN": flags.astype("i4"),
        "MAG": mag,
        "EBV": rng.uniform(0.01, 0.1, N),
        "WAVE": wave,
        "FLUX": flux.astype("f4"),
        "IVAR": np.where(mask, 0, sigma**-2.0).astype("f4"),
        "MASK": mask,
        "LSF": (1.2 + 1e-4 * wave * np.ones((N, 1))).astype("f4"),
        "IMAGE": image.astype("f4"),
        "IMAGE_IVAR": np.where(image_mask, 0, depth**-2.0).astype("f4"),
        "IMAGE_MASK": image_mask,
        "PSF": rng.uniform(0.6, 0.9, (N, 3)).astype("f4"),
        "A": (np.array([3.3, 2.3, 1.7]) * rng.uniform(0.01, 0.1, (N, 1))).astype("f4"),
        "BAND": np.array([[b"g", b"r", b"i"]] * N),
        "CUBE_WAVE": np.linspace(3600, 10300, 100),
        "CUBE": cube.astype("f4"),
        "CUBE_IVAR": np.full(cube.shape, 25, "f4"),
        "ROW": np.tile(x.astype("i2"), (N, 1)),
        "COLUMN": np.tile(y.astype("i2"), (N, 1)),
        "PICTURE": cube.mean(axis=2).reshape(N, 1, ROWS, COLUMNS).astype("f4"),
        "TIME": np.sort(rng.uniform(57000, 58000, (N, 2, N_TIMES)), axis=-1),
        "LC": rng.normal(100, 5, (N, 2, N_TIMES)).astype("f4"),
        "LC_ERR": rng.uniform(4, 6, (N, 2, N_TIMES)).astype("f4"),
        "LC_QUALITY": rng.integers(0, 2**14, (N, 2, N_TIMES)).astype("i4"),
    }


def _columns(values):
    units = {
        **dict.fromkeys(("RA", "DEC"), "deg"),
        **dict.fromkeys(("MAG", "EBV", "A"), "mag"),
        **dict.fromkeys(("WAVE", "LSF", "CUBE_WAVE"), "Angstrom"),
        **dict.fromkeys(("FLUX", "CUBE"), FLUX),
        **dict.fromkeys(("IVAR", "CUBE_IVAR"), IVAR),
        **dict.fromkeys(("IMAGE", "PICTURE", "LC", "LC_ERR"), "nanomaggy"),
        "IMAGE_IVAR": "1 / nanomaggy2",
        "PSF": "arcsec",
        "TIME": "day",
    }
    bits = {"MASK": {"BAD": 0}, "IMAGE_MASK": {"BAD": 0}, "ZWARN": BITS}
    for name, array in values.items():
        dtype = f"S{array.dtype.itemsize}" if array.dtype.kind == "S" else array.dtype.name
        shared = name.endswith("WAVE")
        shape = array.shape if shared else array.shape[1:]
        yield Column(
            name, dtype, f"{name}.", shape, units.get(name, ""), shared, False, bits.get(name, {})
        )


def make_survey(values):
    return Survey(
        name="planted",
        project="Toys",
        survey="PLANTED",
        release="DR1",
        subset="main",
        title="A survey without a fault",
        description="Every kind of record.",
        homepage="https://example.org/planted",
        citation="Planted Collaboration 2031, PASP 1, 1",
        licence="CC-BY-4.0",
        columns=tuple(_columns(values)),
        aliases={
            "object_id": "ID",
            "observation_id": "OBS",
            "ra": "RA",
            "dec": "DEC",
            "z": "Z",
            "z_err": "ZERR",
            "ebv": "EBV",
            "mag": Formula("MAG - EBV", unit="mag", doc="Dereddened."),
            "spectrum": Record(
                {
                    "flux": "FLUX",
                    "ivar": "IVAR",
                    "lambda": "WAVE",
                    "lsf_sigma": "LSF",
                    "mask": BadPixels("MASK", bits=("BAD",)),
                }
            ),
            "image": RecordList(
                {
                    "array": "IMAGE",
                    "ivar": "IMAGE_IVAR",
                    "mask": BadPixels("IMAGE_MASK"),
                    "psf_fwhm": "PSF",
                    "pixel_size": Constant(0.25),
                    "filter": "BAND",
                    "extinction": "A",
                    "units": Constant("nanomaggy"),
                }
            ),
            "spaxels": RecordList(
                {
                    "flux": "CUBE",
                    "ivar": "CUBE_IVAR",
                    "lambda": "CUBE_WAVE",
                    "x": "ROW",
                    "y": "COLUMN",
                }
            ),
            "images": RecordList({"data": "PICTURE", "filter": Constant(("g",))}),
            "lightcurve": RecordList(
                {"time": "TIME", "flux": "LC", "flux_err": "LC_ERR", "quality": "LC_QUALITY"}
            ),
        },
        units=lambda path: [Unit("one", (path / "one",))],
        read=lambda _: [values],
        epoch=2016.0,
        wavelength_medium="vacuum",
        wavelength_frame="barycentric",
        time_scale="MJD, TDB",
    )


class Tree:
    """A copy of the tree, to be spoilt."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "main/astropile.json"
        self.shards = sorted(folder.glob("main/healpix=*/*.hdf5"))

    def facts(self, change):
        """Change what the survey declares."""
        values = json.loads(self.root.read_text())
        change(values["survey"])
        # What cannot be declared is no fault that validation has to find.
        survey_from_json(values["survey"], "here")
        self.root.write_text(json.dumps(values))

    def declare(self, **facts):
        self.facts(lambda survey: survey.update(facts))

    def column(self, name, **facts):
        """Change what is declared of a column."""

        def change(survey):
            next(c for c in survey["columns"] if c["name"] == name).update(facts)

        self.facts(change)

    def field(self, record, **fields):
        """Change where fields of a record come from; None takes a field away."""

        def change(survey):
            (kind, alias), *_ = survey["aliases"][record].items()
            inner = alias["fields"] if kind == "record_list" else alias
            for name, source in fields.items():
                inner.pop(name) if source is None else inner.update({name: source})

        self.facts(change)

    def put(self, name, change, shards=None):
        """Give a column other values: `change` makes them of what was there, shard by shard."""
        for number, path in enumerate(self.shards):
            if shards is not None and number not in shards:
                continue
            with h5py.File(path, "r+") as file:
                for place in (name, f"shared/{name}"):
                    if place in file:
                        new = np.asarray(change(file[place][()]))
                        del file[place]
                        file[place] = new

    def each(self, change):
        """Change a file as a whole, shard by shard."""
        for path in self.shards:
            with h5py.File(path, "r+") as file:
                change(file)
