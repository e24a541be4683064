"""
Time whole matches against other programs, in memory and from catalogues on disk.

    python benchmarks/match_trees.py [--long] [--repeats 1] [--peers ...] [--lsdb-python PYTHON]
        [--rows 1000 1000000] [--skies uniform clusters] [--lopsided] [--growth 1e5 1e6]

Nearest neighbour within 1 arcsec, half the rows with a counterpart. Each program runs in a
process of its own, after a small match that loads what it needs; given are the CPU seconds
of the match itself, the wall clock, and how far memory rose above what it was before. Its
pairs must hash to those of astropile, or the line says how many differ.

Without options every goal is measured that takes minutes: lists of a thousand and a million
rows, and growth to ten million. ``--long`` adds ten thousand rows against ten million, ten
million against ten million, and growth to a hundred million out of core (6 GB of disk).
``--rows``, ``--lopsided`` and ``--growth`` choose for themselves; ``--growth`` alone turns
growth off.

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
    """Write two lists as arrays and as catalogues."""
    folder.mkdir(parents=True)
    for name, sky in (("left", left), ("right", right)):
        ra, dec = _as_catalogue(folder / name, *sky)
        np.save(folder / f"ra_{name}.npy", ra)
        np.save(folder / f"dec_{name}.npy", dec)


def _as_catalogue(folder: Path, ra: np.ndarray, dec: np.ndarray) -> Any:
    from astropile.healpix import ang2pix

    pixels = ang2pix(ra, dec, 29)
    order = np.argsort(pixels)
    ra, dec, pixels = ra[order], dec[order], pixels[order]

    _write_catalogue(folder, pixels, lambda first, last: (ra[first:last], dec[first:last]))
    return ra, dec


def _write_catalogue(folder: Path, pixels: np.ndarray, positions: Callable[..., Any]) -> None:
    import pyarrow as pa

    from astropile.hats import write_hats

    def table(first: int, last: int) -> Any:
        ra, dec = positions(first, last)
        rows = np.arange(first, last)
        return pa.table(
            {"object_id": rows, "ra": ra, "dec": dec, "_healpix_29": pixels[first:last]}
        )

    write_hats(folder, folder.name, pixels, 8, table)


def grown(folder: Path, n: int) -> None:
    """Write two catalogues of n rows all over the sky, half with a counterpart."""
    from astropile.healpix import ang2pix, pix2ang

    rng = np.random.default_rng(20)
    n_pixels = 12 << 58
    left = np.sort(rng.integers(0, n_pixels, n))
    right = rng.integers(0, n_pixels, n)
    scatter = 0.2 / 3600
    for first in range(0, n // 2, 1 << 20):
        part = slice(first, min(first + (1 << 20), n // 2))
        ra, dec = pix2ang(left[::2][part], 29)
        dec = np.clip(dec + rng.normal(0, scatter, len(dec)), -90, 90)
        right[part] = ang2pix((ra + rng.normal(0, scatter, len(ra))) % 360, dec, 29)
    right.sort()
    folder.mkdir()
    for name, pixels in (("left", left), ("right", right)):
        _write_catalogue(
            folder / name, pixels, lambda low, high, p=pixels: pix2ang(p[low:high], 29)
        )


def stilts(folder: Path) -> tuple[dict[str, float], Pairs]:
    """Run STILTS; the memory is that of the whole process, if GNU time is there to tell."""
    from astropy.table import Table

    for name in ("left", "right"):
        if not (folder / f"{name}.fits").exists():
            ra, dec = (np.load(folder / f"{axis}_{name}.npy") for axis in ("ra", "dec"))
            table = Table({"row": np.arange(len(ra)), "ra": ra, "dec": dec})
            table.write(folder / f"{name}.fits")
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


def difference(expected: Pairs, found: Pairs) -> str:
    """Say how the pairs of a program differ from ours."""
    if digest(expected) == digest(found):
        return "the same pairs"
    ours, theirs = (pairs[0] << 32 | pairs[1] for pairs in (expected, found))
    missed, wrong = len(np.setdiff1d(ours, theirs)), len(np.setdiff1d(theirs, ours))
    return f"{missed} missed, {wrong} wrong"


def skies(name: str, n_left: int, n_right: int) -> tuple[Any, Any]:
    """Make two lists, half of the shorter with a counterpart in the other."""
    from match_positions import SKIES, counterparts

    rng = np.random.default_rng(20)
    left = SKIES[name](max(n_left, n_right), rng)
    right = counterparts(left, rng)
    some = [rng.permutation(len(left[0]))[:n] for n in (n_left, n_right)]
    pick = [slice(None) if len(rows) == len(left[0]) else rows for rows in some]
    return tuple(x[pick[0]] for x in left), tuple(x[pick[1]] for x in right)


def compare(name: str, n: tuple[int, int], folder: Path, options: argparse.Namespace) -> None:
    warm = folder.parent / "warm"
    prepare(folder, *skies(name, *n))
    expected: Pairs = (np.empty(0, np.int64), np.empty(0, np.int64))
    runs: dict[str, list[dict[str, float]]] = {program: [] for program in options.peers}
    bases: dict[bool, float] = {}
    sizes = " x ".join(f"{rows:,d}" for rows in n)
    for repeat in range(options.repeats):
        for program in options.peers:
            python = options.lsdb_python if program.startswith("lsdb") else sys.executable
            facts, pairs = start(program, folder, warm, python)
            runs[program].append(facts)
            if program == "astropile":
                expected = pairs
            if repeat < options.repeats - 1:
                continue
            note = difference(expected, pairs)
            if program == "astropile":
                note = f"{len(pairs[0]):,} pairs"
            cpu, wall, peak = (
                statistics.median(run[key] for run in runs[program])
                for key in ("cpu", "wall", "peak")
            )
            base = bases.setdefault(program.endswith("_disk"), cpu)
            print(
                f"{name:9s} {sizes:>23s} {program:15s} {cpu:9.4f} {cpu / base:7.1f} {wall:8.3f} "
                f"{peak:9.0f}   {note}",
                flush=True,
            )
    shutil.rmtree(folder)


def grow(n: int, folder: Path) -> None:
    import pyarrow.parquet as pq

    grown(folder, n)
    facts, _ = start("growth", folder, folder.parent / "warm", sys.executable)
    n_pairs = pq.read_metadata(folder / "pairs.parquet").num_rows
    print(
        f"{n:>11,d} {n_pairs:>11,d} {facts['cpu']:9.2f} {facts['cpu'] / n * 1e6:9.3f} "
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
    parser.add_argument("--long", action="store_true", help="every size, up to a hundred million")
    parser.add_argument("--rows", type=float, nargs="*")
    parser.add_argument("--skies", nargs="+", default=["uniform", "clusters"])
    parser.add_argument("--lopsided", action="store_true", help="ten thousand against ten million")
    parser.add_argument("--growth", type=float, nargs="*")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--peers", nargs="*", default=programs[1:], choices=programs[1:])
    parser.add_argument("--lsdb-python", default=sys.executable)
    options = parser.parse_args()
    if options.rows is None and options.growth is None and not options.lopsided:
        options.lopsided = options.long
        options.rows = [1e3, 1e6, 1e7] if options.long else [1e3, 1e6]
        options.growth = [1e5, 1e6, 1e7, 1e8] if options.long else [1e5, 1e6, 1e7]
    asked = ["astropile", *options.peers]
    options.peers = [name for name in asked if is_there(name, options.lsdb_python)]
    for name in sorted(set(asked) - set(options.peers)):
        print(f"{name} is not installed: skipped")
    sizes = [(int(n), int(n)) for n in options.rows or []]
    if options.lopsided:
        sizes.append((10_000, 10_000_000))
    with tempfile.TemporaryDirectory(prefix="astropile-bench-") as scratch:
        folder = Path(scratch)
        # Crowded, lopsided and long enough for every compiled function to be loaded.
        prepare(folder / "warm", *skies("clump", 3000, 60_000))
        if sizes:
            print(
                f"{'sky':9s} {'rows':>23s} {'program':15s} {'CPU s':>9s} {'ratio':>7s} "
                f"{'wall s':>8s} {'memory MB':>9s}"
            )
        for n in sizes:
            for name in options.skies:
                compare(name, n, folder / f"{name}{n[0]}", options)
        if options.growth:
            print(
                f"\nfrom catalogues on disk, in {GROWTH_BYTES >> 20} MiB, pairs written to a file"
            )
            print(
                f"{'rows':>11s} {'pairs':>11s} {'CPU s':>9s} {'us/row':>9s} {'wall s':>8s} "
                f"{'memory MB':>9s}"
            )
        for n_rows in options.growth or []:
            grow(int(n_rows), folder / f"growth{int(n_rows)}")


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent / "src")]
    main()
