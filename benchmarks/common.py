"""What the benchmarks share: runs that take turns, files out of the cache, tables of ratios."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[np.ndarray], Any]


@dataclass
class Result:
    """One line of the table."""

    section: str
    name: str
    value: float
    unit: str
    ratio: float
    spread: float = 0.0
    """Slowest quarter over median."""
    extra: dict[str, float] = field(default_factory=dict)


def has(package: str) -> bool:
    """Tell whether a peer is installed."""
    return importlib.util.find_spec(package) is not None


def machine() -> dict[str, str]:
    """Name the machine, the date and the versions."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":")[1].strip() if lines else model
    facts = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
    }
    for package in ("numpy", "h5py", "isal", "numba", "pyarrow", "datasets", "pylance", "zarr"):
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            facts[package] = "-"
    return facts


def forget(paths: Iterable[Path]) -> None:
    """Have the kernel drop files from its cache."""
    for path in paths:
        for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def bytes_from_disk() -> int:
    """Count what this process has had read from disks."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("read_bytes")))


def take_turns(
    section: str,
    runs: dict[str, Run],
    choose: Callable[[], np.ndarray],
    *,
    unit: str,
    scale: Callable[[float, np.ndarray], float],
    repeats: int,
    seldom: dict[str, int] | None = None,
    fewer: dict[str, int] | None = None,
    cold: dict[str, list[Path]] | None = None,
    needed: Callable[[np.ndarray], float] | None = None,
) -> list[Result]:
    """
    Time runs that take turns, in another order each round, each round on the same rows.

    The first run is what the others are compared with. `seldom` limits the rounds of slow ones,
    `fewer` the rows that they are given of each round's;
    `cold` gives the files to drop before a run; `needed` the bytes a cold run must read.
    """
    values: dict[str, list[float]] = {name: [] for name in runs}
    work: dict[str, list[float]] = {name: [] for name in runs}
    disk: dict[str, list[float]] = {name: [] for name in runs}
    order = np.random.default_rng(0)
    for turn in range(repeats):
        rows = choose()
        for name in order.permutation(list(runs)).tolist():
            run = runs[name]
            if seldom and turn >= seldom.get(name, repeats):
                continue
            if cold is not None:
                forget(cold[name])
            before = bytes_from_disk() if cold is not None else 0
            given = rows[: fewer[name]] if fewer and name in fewer else rows
            cpu, started = time.process_time(), time.perf_counter()
            kept = run(given)
            values[name].append(scale(time.perf_counter() - started, given))
            work[name].append(scale(time.process_time() - cpu, given))
            if cold is not None and needed is not None:
                disk[name].append((bytes_from_disk() - before) / needed(rows))
            del kept
    results = []
    first = None
    for name, found in values.items():
        middle = statistics.median(found)
        first = middle if first is None else first
        spread = float(np.percentile(found, 75)) / middle
        extra = {"CPU": statistics.median(work[name])}
        if disk[name]:
            extra["disk bytes / needed"] = statistics.median(disk[name])
        results.append(Result(section, name, middle, unit, middle / first, spread, extra))
    show(results)
    return results


def show(results: list[Result]) -> None:
    """Print lines of the table."""
    print(f"\n{results[0].section}")
    for r in results:
        more = "".join(f"   {key} {value:.3g}" for key, value in r.extra.items())
        print(f"  {r.name:38s} {r.value:10.4g} {r.unit:9s} {r.ratio:8.2f}{more}")


def finish(results: list[Result], as_json: str | None) -> None:
    """Print the facts of the machine; write all as JSON where asked to."""
    facts = machine()
    print("\n" + "; ".join(f"{key} {value}" for key, value in facts.items()))
    if as_json:
        content = {"machine": facts, "results": [asdict(result) for result in results]}
        text = json.dumps(content, indent=1)
        if as_json == "-":
            sys.stdout.write(text + "\n")
        else:
            Path(as_json).write_text(text + "\n")
