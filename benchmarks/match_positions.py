"""
Time `match_positions` against scipy's KD-tree and astropy, nearest neighbour within 1 arcsec.

    python benchmarks/match_positions.py [--rows 100000 1000000] [--repeats 3] [--peers ...]

Every peer matches the same two lists and has to find the same pairs before it is timed.
Times are CPU seconds of one thread, medians of runs that take turns, so that a busy machine
disturbs all alike; compilation is left out, and so is the turning of numbers into a peer's
own coordinate objects where it has any. Peers that are not installed are skipped.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from astropile.match.positions import match_positions
from astropile.sky import unit_vectors

ARCSEC = 1 / 3600
RADIUS_ARCSEC = 1.0
CHORD = 2 * np.sin(np.radians(RADIUS_ARCSEC * ARCSEC) / 2)

Sky = tuple[np.ndarray, np.ndarray]
Pairs = tuple[np.ndarray, np.ndarray]
Run = Callable[[], Pairs]


def uniform(n: int, rng: np.random.Generator) -> Sky:
    """All over the sky."""
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


def fields(n: int, rng: np.random.Generator) -> Sky:
    """Six fields of nine square degrees, as of a deep survey; the rest of the sky empty."""
    which = rng.integers(0, 6, n)
    ra, dec = np.array([0.0, 35, 150, 180, 243, 334]), np.array([0.0, -4.5, 2.2, 0.2, 55, 0])
    return (ra[which] + rng.uniform(-1.5, 1.5, n)) % 360, dec[which] + rng.uniform(-1.5, 1.5, n)


def clusters(n: int, rng: np.random.Generator) -> Sky:
    """Half the rows anywhere, half in a thousand clusters a few arcminutes wide."""
    ra, dec = uniform(n, rng)
    which = rng.integers(0, 1000, n // 2)
    dec[: n // 2] = np.clip(dec[which] + rng.normal(0, 0.05, n // 2), -90, 90)
    ra[: n // 2] = (ra[which] + rng.normal(0, 0.05, n // 2)) % 360
    return ra, dec


def clump(n: int, rng: np.random.Generator) -> Sky:
    """Half the rows anywhere, half within ten arcseconds."""
    ra, dec = uniform(n, rng)
    ra[: n // 2] = 10 + rng.uniform(0, 10 * ARCSEC, n // 2)
    dec[: n // 2] = 20 + rng.uniform(0, 10 * ARCSEC, n // 2)
    return ra, dec


SKIES = {"uniform": uniform, "fields": fields, "clusters": clusters, "clump": clump}


def counterparts(sky: Sky, rng: np.random.Generator) -> Sky:
    """Return as many positions, half of them counterparts, in another order."""
    ra, dec = (angle.copy() for angle in sky)
    half = len(ra) // 2
    order = rng.permutation(len(ra))
    # Rows without a counterpart move by arcminutes, which keeps the crowding as it is.
    scatter = np.where(order < half, 0.2 * ARCSEC, 0.05)
    dec = np.clip(dec[order] + rng.normal(0, 1, len(ra)) * scatter, -90, 90)
    return (ra[order] + rng.normal(0, 1, len(ra)) * scatter) % 360, dec


def with_astropile(left: Sky, right: Sky) -> Run:
    def run() -> Pairs:
        pairs = match_positions(*left, *right, radius_arcsec=RADIUS_ARCSEC, threads=1)
        return pairs.left, pairs.right

    return run


def with_scipy(left: Sky, right: Sky) -> Run:
    from scipy.spatial import cKDTree

    def run() -> Pairs:
        tree = cKDTree(unit_vectors(*right))
        _, row = tree.query(unit_vectors(*left), distance_upper_bound=CHORD)
        found = row < len(right[0])
        return np.flatnonzero(found), row[found]

    return run


def with_astropy(left: Sky, right: Sky) -> Run:
    from astropy.coordinates import SkyCoord

    def run() -> Pairs:
        # Made anew, because astropy keeps the tree with the coordinates.
        left_sky, right_sky = (SkyCoord(*side, unit="deg") for side in (left, right))
        row, apart, _ = left_sky.match_to_catalog_sky(right_sky)
        found = apart.arcsec <= RADIUS_ARCSEC
        return np.flatnonzero(found), row[found]

    return run


PEERS = {"astropile": with_astropile, "scipy": with_scipy, "astropy": with_astropy}


def compare(name: str, n: int, peers: list[str], repeats: int) -> None:
    rng = np.random.default_rng(20)
    left = SKIES[name](n, rng)
    right = counterparts(left, rng)
    runs = {peer: PEERS[peer](left, right) for peer in peers}
    expected = runs["astropile"]()
    for peer, run in runs.items():
        for ours, theirs in zip(expected, run(), strict=True):
            if not np.array_equal(ours, theirs):
                sys.exit(f"{peer} finds other pairs on the {name} sky of {n} rows")
    seconds: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(repeats):
        for peer, run in runs.items():
            start = time.process_time()
            run()
            seconds[peer].append(time.process_time() - start)
    medians = {peer: statistics.median(times) for peer, times in seconds.items()}
    cells = [f"{medians[peer]:9.3f} {medians[peer] / medians['astropile']:6.1f}x" for peer in peers]
    print(f"{name:9s} {n:>10,d} {len(expected[0]):>10,d}  " + "  ".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--skies", nargs="+", default=list(SKIES), choices=list(SKIES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", nargs="*", default=["scipy", "astropy"], choices=list(PEERS)[1:])
    options = parser.parse_args()
    peers = ["astropile"]
    for peer in options.peers:
        if importlib.util.find_spec(peer) is None:
            print(f"{peer} is not installed: skipped")
        else:
            peers.append(peer)
    start = time.perf_counter()
    match_positions([0.0] * 20, [0.0] * 20, [0.0] * 20, [0.0] * 20, radius_arcsec=1)
    compare("uniform", 60_000, ["astropile"], 1)
    print(f"loaded or compiled in {time.perf_counter() - start:.1f} s\n")
    print(f"{'sky':9s} {'rows':>10s} {'pairs':>10s}  " + "  ".join(f"{p:>17s}" for p in peers))
    for name in options.skies:
        for n in options.rows:
            compare(name, n, peers, options.repeats)


if __name__ == "__main__":
    main()
