"""
Time whole matches against other programs, in memory and from catalogues on disk.

    python benchmarks/match_trees.py [--rows 100000] [--skies uniform clusters] [--repeats 1]
        [--growth 100000 1000000] [--peers ...] [--lsdb-python PYTHON]

Nearest neighbour within 1 arcsec, half the rows with a counterpart. Each program runs in a
process of its own, after a small match that loads what it needs; given are the CPU seconds
of the match itself, the wall clock, and how far memory rose above what it was before. Its
pairs must hash to those of astropile, or the line says how many differ.

LSDB may live elsewhere: ``python -m venv peers; peers/bin/pip install lsdb`` and then
``--lsdb-python peers/bin/python``. STILTS is the command of that name (Debian: ``apt-get
install stilts``), timed with the start of its machine. ``v1`` is the method of Multimodal
Universe v1: astropy's nearest neighbours, kept where both lie in one pixel of nside 16.

``--growth`` matches catalogues on disk of as many rows in 256 MiB: memory must stay flat.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
RADIUS_ARCSEC = 1.0
GROWTH_BYTES = 256 << 20
Pairs = tuple[np.ndarray, np.ndarray]


# What runs in the process of a program: needs numpy and that program.


def load(folder: Path) -> list[np.ndarray]:
    names = ("ra_left", "dec_left", "ra_right", "dec_right")
    return [np.load(folder / f"{name}.npy") for name in names]


def astropile(folder: Path) -> Callable[[], Pairs]:
    from astropile.match.positions import match_positions

    sides = load(folder)

    def run() -> Pairs:
        pairs = match_positions(*sides, radius_arcsec=RADIUS_ARCSEC, threads=1)
        return pairs.left, pairs.right

    return run


def astropile_disk(folder: Path, memory_bytes: int = 1 << 30) -> Callable[[], Pairs]:
    from astropile.match.partitions import match_files

    def run() -> Pairs:
        pairs = match_files(
            folder / "left",
            folder / "right",
            radius_arcsec=RADIUS_ARCSEC,
            threads=1,
            memory_bytes=memory_bytes,
        )
        return pairs.left, pairs.right

    return run


def growth(folder: Path) -> Callable[[], Pairs]:
    from astropile.match.partitions import match_files

    def run() -> Pairs:
        match_files(
            folder / "left",
            folder / "right",
            radius_arcsec=RADIUS_ARCSEC,
            threads=1,
            memory_bytes=GROWTH_BYTES,
            output=folder / "pairs.parquet",
        )
        return np.empty(0, np.int64), np.empty(0, np.int64)

    return run


def scipy(folder: Path) -> Callable[[], Pairs]:
    from match_positions import with_scipy

    sides = load(folder)
    return with_scipy(tuple(sides[:2]), tuple(sides[2:]))


def astropy(folder: Path) -> Callable[[], Pairs]:
    from match_positions import with_astropy

    sides = load(folder)
    return with_astropy(tuple(sides[:2]), tuple(sides[2:]))


def v1(folder: Path) -> Callable[[], Pairs]:
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    from astropile.healpix import ang2pix

    sides = load(folder)

    def run() -> Pairs:
        left, right = (SkyCoord(*sides[i : i + 2], unit="deg") for i in (0, 2))
        row, apart, _ = left.match_to_catalog_sky(right)
        close = apart < RADIUS_ARCSEC * u.arcsec
        close &= ang2pix(*sides[:2], 4) == ang2pix(*sides[2:], 4)[row]
        return np.flatnonzero(close), row[close]

    return run


def _frames(folder: Path) -> list[Any]:
    import pandas as pd

    sides = load(folder)
    return [
        pd.DataFrame({"row": np.arange(len(ra)), "ra": ra, "dec": dec})
        for ra, dec in (sides[:2], sides[2:])
    ]


def lsdb(folder: Path) -> Callable[[], Pairs]:
    import lsdb

    left, right = _frames(folder)
    columns = {"ra_column": "ra", "dec_column": "dec"}

    def run() -> Pairs:
        found = lsdb.crossmatch(
            left, right, radius_arcsec=RADIUS_ARCSEC, suffixes=("_1", "_2"), **columns
        ).compute()
        return found["row_1"].to_numpy(), found["row_2"].to_numpy()

    return run


def lsdb_prepare(folder: Path) -> Callable[[], Pairs]:
    """Write HATS catalogues with the margins that LSDB needs: not timed."""
    import lsdb

    for name, frame in zip(("left", "right"), _frames(folder), strict=True):
        target = folder / f"lsdb_{name}"
        if not target.exists():
            lsdb.from_dataframe(
                frame, ra_column="ra", dec_column="dec", catalog_name=name, margin_threshold=5.0
            ).write_catalog(target)
    nothing = np.empty(0, np.int64)
    return lambda: (nothing, nothing)


def lsdb_disk(folder: Path) -> Callable[[], Pairs]:
    import lsdb

    def run() -> Pairs:
        left, right = (lsdb.open_catalog(folder / f"lsdb_{name}") for name in ("left", "right"))
        found = left.crossmatch(right, radius_arcsec=RADIUS_ARCSEC, suffixes=("_1", "_2")).compute()
        return found["row_1"].to_numpy(), found["row_2"].to_numpy()

    return run


def one(program: str, folder: Path, warm: Path, out: Path) -> None:
    """Run a program once and say what it took."""
    import resource

    warnings.simplefilter("ignore")
    globals()[program](warm)()
    run = globals()[program](folder)
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    start, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    left, right = run()
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    peak = _status("VmHWM") - before
    np.save(out, np.stack([np.asarray(left, np.int64), np.asarray(right, np.int64)]))
    print(json.dumps({"cpu": cpu, "wall": wall, "peak": peak}))


def _status(name: str) -> float:
    """Read a line of /proc/self/status [MB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(name))) / 1024


# What prepares, starts and compares.


def prepare(folder: Path, left: Any, right: Any) -> None:
    """Write two lists as arrays, as FITS for STILTS, and as catalogues."""
    from astropy.table import Table

    folder.mkdir(parents=True)
    for name, sky in (("left", left), ("right", right)):
        ra, dec = _as_catalogue(folder / name, *sky)
        np.save(folder / f"ra_{name}.npy", ra)
        np.save(folder / f"dec_{name}.npy", dec)
        table = Table({"row": np.arange(len(ra)), "ra": ra, "dec": dec})
        table.write(folder / f"{name}.fits")


def _as_catalogue(folder: Path, ra: np.ndarray, dec: np.ndarray) -> Any:
    import pyarrow as pa

    from astropile.hats import write_hats
    from astropile.healpix import ang2pix

    pixels = ang2pix(ra, dec, 29)
    order = np.argsort(pixels)
    ra, dec, pixels = ra[order], dec[order], pixels[order]

    def table(first: int, last: int) -> Any:
        part = slice(first, last)
        rows = np.arange(first, last)
        return pa.table(
            {"object_id": rows, "ra": ra[part], "dec": dec[part], "_healpix_29": pixels[part]}
        )

    write_hats(folder, folder.name, pixels, 8, table)
    return ra, dec


def stilts(folder: Path) -> tuple[dict[str, float], Pairs]:
    """Run STILTS; the memory is that of the whole process, if GNU time is there to tell."""
    from astropy.table import Table

    out = folder / "stilts.fits"
    meter = shutil.which("time")
    line = [
        *([meter, "-f", "%M"] if meter else []),
        *("stilts", "tskymatch2", f"in1={folder / 'left.fits'}", f"in2={folder / 'right.fits'}"),
        *("ra1=ra", "dec1=dec", "ra2=ra", "dec2=dec", f"error={RADIUS_ARCSEC}", "join=1and2"),
        *("find=best1", f"out={out}", "ofmt=fits"),
    ]
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    done = subprocess.run(line, check=True, capture_output=True, text=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    peak = int(done.stderr.split()[-1]) / 1024 if meter else float("nan")
    table = Table.read(out)
    return {"cpu": cpu, "wall": wall, "peak": peak}, (
        np.asarray(table["row_1"], np.int64),
        np.asarray(table["row_2"], np.int64),
    )


def start(program: str, folder: Path, warm: Path, python: str) -> tuple[dict[str, float], Pairs]:
    """Run a program in its own process."""
    if program == "stilts":
        return stilts(folder)
    if program == "lsdb_disk" and not (folder / "lsdb_right").exists():
        start("lsdb_prepare", folder, warm, python)
    out = folder / f"{program}.npy"
    line = [python, __file__, "--one", program, str(folder), str(warm), str(out)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{program} failed:\n{done.stderr[-2000:]}")
    left, right = np.load(out)
    return json.loads(done.stdout.splitlines()[-1]), (left, right)


def digest(pairs: Pairs) -> str:
    order = np.lexsort((pairs[1], pairs[0]))
    return hashlib.sha256(np.stack(pairs)[:, order].tobytes()).hexdigest()


def compare(name: str, n: int, folder: Path, warm: Path, options: argparse.Namespace) -> None:
    from match_positions import SKIES, counterparts

    rng = np.random.default_rng(20)
    left = SKIES[name](n, rng)
    prepare(folder, left, counterparts(left, rng))
    expected: set[tuple[int, int]] | None = None
    hashed, base = "", 0.0
    runs: dict[str, list[dict[str, float]]] = {program: [] for program in options.peers}
    notes = {}
    for _ in range(options.repeats):
        for program in options.peers:
            python = options.lsdb_python if program.startswith("lsdb") else sys.executable
            facts, pairs = start(program, folder, warm, python)
            runs[program].append(facts)
            if program == "astropile":
                hashed = digest(pairs)
                expected = set(zip(*(rows.tolist() for rows in pairs), strict=True))
                notes[program] = f"{len(expected):,} pairs"
            elif digest(pairs) == hashed:
                notes[program] = "the same pairs"
            else:
                found = set(zip(*(rows.tolist() for rows in pairs), strict=True))
                assert expected is not None
                notes[program] = f"{len(expected - found)} missed, {len(found - expected)} wrong"
    for program, facts in runs.items():
        cpu, wall, peak = (
            statistics.median(run[key] for run in facts) for key in ("cpu", "wall", "peak")
        )
        base = base or cpu
        print(
            f"{name:9s} {n:>10,d} {program:15s} {cpu:9.3f} {cpu / base:7.1f} {wall:8.2f} "
            f"{peak:9.0f}   {notes[program]}",
            flush=True,
        )


def grow(n: int, folder: Path, warm: Path) -> None:
    from match_positions import counterparts, uniform

    rng = np.random.default_rng(20)
    left = uniform(n, rng)
    folder.mkdir()
    for name, sky in (("left", left), ("right", counterparts(left, rng))):
        _as_catalogue(folder / name, *sky)
    facts, _ = start("growth", folder, warm, sys.executable)
    import pyarrow.parquet as pq

    n_pairs = pq.read_metadata(folder / "pairs.parquet").num_rows
    print(
        f"{n:>11,d} {n_pairs:>11,d} {facts['cpu']:9.2f} {facts['cpu'] / n * 1e6:9.2f} "
        f"{facts['wall']:8.2f} {facts['peak']:9.0f}",
        flush=True,
    )
    shutil.rmtree(folder)


def is_there(program: str, python: str) -> bool:
    if program == "stilts":
        return shutil.which("stilts") is not None
    package = {"lsdb_disk": "lsdb", "v1": "astropy", "astropile_disk": "numpy"}.get(
        program, program
    )
    if package == "lsdb":
        line = [python, "-c", "import lsdb"]
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    return importlib.util.find_spec(package) is not None


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        program, folder, warm, out = sys.argv[2:]
        one(program, Path(folder), Path(warm), Path(out))
        return
    programs = ["astropile", "astropile_disk", "scipy", "astropy", "v1"]
    programs += ["lsdb", "lsdb_disk", "stilts"]
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rows", type=float, nargs="*", default=[1e5])
    parser.add_argument("--skies", nargs="+", default=["uniform", "clusters"])
    parser.add_argument("--growth", type=float, nargs="*", default=[1e5, 1e6])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=programs[1:], choices=programs[1:])
    parser.add_argument("--lsdb-python", default=sys.executable)
    options = parser.parse_args()
    asked = ["astropile", *options.peers]
    options.peers = [name for name in asked if is_there(name, options.lsdb_python)]
    for name in sorted(set(asked) - set(options.peers)):
        print(f"{name} is not installed: skipped")
    from match_positions import counterparts, uniform

    with tempfile.TemporaryDirectory(prefix="astropile-bench-") as scratch:
        folder = Path(scratch)
        rng = np.random.default_rng(1)
        left = uniform(3000, rng)
        prepare(folder / "warm", left, counterparts(left, rng))
        if options.rows:
            print(
                f"{'sky':9s} {'rows':>10s} {'program':15s} {'CPU s':>9s} {'ratio':>7s} "
                f"{'wall s':>8s} {'memory MB':>9s}"
            )
        for name in options.skies:
            for n in options.rows:
                compare(name, int(n), folder / f"{name}{int(n)}", folder / "warm", options)
        if options.growth:
            print(
                f"\nfrom catalogues on disk, in {GROWTH_BYTES >> 20} MiB, pairs written to a file"
            )
            print(
                f"{'rows':>11s} {'pairs':>11s} {'CPU s':>9s} {'us/row':>9s} {'wall s':>8s} "
                f"{'memory MB':>9s}"
            )
        for n in options.growth:
            grow(int(n), folder / f"growth{int(n)}", folder / "warm")


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
    main()
