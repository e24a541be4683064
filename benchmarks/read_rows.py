"""
Time the reading of rows: memmap, pread, h5py, Parquet, Lance, Zarr, `datasets` and v1's loop.

    python benchmarks/read_rows.py [--rows 1000] [--repeats 15] [--folder DIR] [--json FILE]

Stamp rows are 5x160x160 float32 flux and ivar, a boolean mask, and scalars: 1.15 MB. Runs take
turns on the same random rows, medians are given, and every peer has to return the values that
were written before it is timed. Peers that are not installed are left out. In every table the
last column is the time over that of the first line.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from common import Result, Run, finish, has, show, take_turns

from astropile import build_catalog, open_catalog
from astropile.hdf5.codec import decode_chunk, encode_chunk
from astropile.schema import Column, Survey, Unit

STAMP = (5, 160, 160)
STAMPS = {"FLUX": "float32", "IVAR": "float32", "MASK": "bool"}
N_WAVE = 7781
SPECTRA = {"FLUX": "float32", "IVAR": "float32", "LSF": "float32", "MASK": "bool"}

Arrays = dict[str, np.ndarray]


# -- data


def stamps(n: int) -> Arrays:
    """Sky noise and a galaxy; an inverse variance that follows the flux; cosmic rays."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:160, :160]
    flux = rng.normal(0, 0.02, (n, *STAMP)).astype("f4")
    flux += (10 * np.exp(-((y - 80) ** 2 + (x - 80) ** 2) / 50)).astype("f4")
    ivar = (1 / (0.02**2 + np.abs(flux) * 1e-3)).astype("f4")
    return {"FLUX": flux, "IVAR": ivar, "MASK": rng.random((n, *STAMP), "f4") < 0.01}


def spectra(n: int) -> Arrays:
    """A continuum and noise; an inverse variance with sky lines; a smooth line spread."""
    rng = np.random.default_rng(1)
    wave = np.linspace(0, 1, N_WAVE, dtype="f4")
    sky = (1 + 30 * (rng.random(N_WAVE) < 0.02)).astype("f4")
    flux = (1 + rng.random((n, 1), "f4") * wave + rng.normal(0, 0.3, (n, N_WAVE))).astype("f4")
    ivar = (rng.uniform(5, 15, (n, 1)) / sky).astype("f4")
    lsf = np.broadcast_to(0.8 + 0.3 * wave, (n, N_WAVE)).astype("f4")
    return {"FLUX": flux, "IVAR": ivar, "LSF": lsf, "MASK": rng.random((n, N_WAVE), "f4") < 0.01}


def build(folder: Path, data: Arrays, kinds: dict[str, str], shared: Arrays) -> dict[str, Any]:
    """Build both layouts in one partition; give the catalogs, and the data in their order."""
    n = len(data["FLUX"])
    rng = np.random.default_rng(2)
    light = {"ID": np.arange(n), "RA": rng.uniform(10, 11, n), "DEC": rng.uniform(5, 6, n)}
    light |= {f"MAG{k}": rng.normal(20, 1, n).astype("f4") for k in range(12)}
    columns = [
        Column("ID", "int64", "Identifier."),
        Column("RA", "float64", "Right ascension.", unit="deg"),
        Column("DEC", "float64", "Declination.", unit="deg"),
        *(Column(f"MAG{k}", "float32", "A magnitude.", unit="mag") for k in range(12)),
        *(
            Column(name, kind, "Values.", shape=data[name].shape[1:])
            for name, kind in kinds.items()
        ),
        *(
            Column(name, str(values.dtype), "Shared.", shape=values.shape, shared=True)
            for name, values in shared.items()
        ),
    ]
    survey = Survey(
        name="bench",
        project="Bench",
        survey="BENCH",
        release="1",
        subset="main",
        title="Benchmark",
        description="Made rows.",
        homepage="https://example.org",
        citation="None 2031",
        licence="CC0-1.0",
        columns=tuple(columns),
        aliases={"object_id": "ID", "observation_id": "ID", "ra": "RA", "dec": "DEC"},
        units=lambda _: [Unit("all", ())],
        read=lambda _: [{**light, **data, **shared}],
    )
    for layout in ("fast", "compact"):
        build_catalog(survey, folder, folder / layout, order=0, layout=layout, shard_nbytes=2**40)
    catalogs = {layout: open_catalog(folder / layout) for layout in ("fast", "compact")}
    order = catalogs["fast"].take(np.arange(n), ["ID"])["ID"]
    return {**catalogs, "order": order}


def as_table(data: Arrays) -> pa.Table:
    """Flat lists of fixed size."""
    arrays = []
    for values in data.values():
        flat = values.reshape(-1)
        item = pa.array(flat) if flat.dtype != bool else pa.array(flat.view(np.uint8))
        arrays.append(pa.FixedSizeListArray.from_arrays(item, flat.size // len(values)))
    return pa.table(arrays, names=list(data))


def from_table(table: pa.Table, data: Arrays) -> Arrays:
    """Undo `as_table`."""
    found = {}
    for name in table.column_names:
        chunks = [chunk.flatten().to_numpy() for chunk in table.column(name).chunks]
        flat = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        found[name] = flat.view(data[name].dtype).reshape(-1, *data[name].shape[1:])
    return found


# -- ways to read rows


class Maps:
    """The columns of a fast shard: memory maps of it, and plain reads of the same bytes."""

    def __init__(self, path: Path, data: Arrays) -> None:
        self.path = path
        with h5py.File(path) as file:
            self.offsets = {name: file[name].id.get_offset() for name in data}
        self.shapes = {name: (values.dtype, values.shape) for name, values in data.items()}
        self.nbytes = {name: values[0].nbytes for name, values in data.items()}
        self.maps = self.mapped()

    def mapped(self) -> Arrays:
        return {
            name: np.memmap(self.path, dtype, "r", self.offsets[name], shape)
            for name, (dtype, shape) in self.shapes.items()
        }

    def fresh(self, rows: np.ndarray) -> Arrays:
        return {name: values[rows] for name, values in self.maps.items()}

    def mapped_anew(self, rows: np.ndarray) -> Arrays:
        # What is mapped stays in the cache: cold reads need a map of their own.
        return {name: values[rows] for name, values in self.mapped().items()}

    def into(self, rows: np.ndarray, out: Arrays) -> Arrays:
        for name, values in self.maps.items():
            np.take(values, rows, axis=0, out=out[name], mode="clip")
        return out

    def pread(self, rows: np.ndarray, out: Arrays) -> Arrays:
        descriptor = os.open(self.path, os.O_RDONLY)
        for place, row in enumerate(rows.tolist()):
            for name, width in self.nbytes.items():
                view = out[name][place].reshape(-1).view(np.uint8).data
                os.preadv(descriptor, [view], self.offsets[name] + row * width)
        os.close(descriptor)
        return out


def take_mapped_anew(path: Path, names: list[str], rows: np.ndarray) -> Arrays:
    """What is mapped stays in the cache: cold reads need a catalog of their own."""
    return dict(open_catalog(path, memory_map=True).take(rows, names))


def h5py_batched(path: Path, names: list[str], rows: np.ndarray, *, chunked: bool) -> Arrays:
    """Sorted rows, one open: a whole selection where contiguous, row by row where chunked."""
    order = np.argsort(rows)
    found = {}
    with h5py.File(path) as file:
        for name in names:
            dataset = file[name]
            if chunked:
                found[name] = np.stack([dataset[row] for row in rows[order]])
            else:
                found[name] = dataset[rows[order]]
    back = np.argsort(order)
    return {name: values[back] for name, values in found.items()}


def v1_loop(path: Path, names: list[str], rows: np.ndarray) -> Arrays:
    """Rows and bands one by one, as v1's loading scripts do."""
    with h5py.File(path) as file:
        return {
            name: np.array([[file[name][row][band] for band in range(5)] for row in rows])
            for name in names
        }


def parquet_rows(path: Path, data: Arrays, rows: np.ndarray) -> Arrays:
    """Read the row groups that hold the rows, take the rows."""
    file = pq.ParquetFile(path)
    ends = np.cumsum([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])
    group = np.searchsorted(ends, rows, side="right")
    groups = np.unique(group)
    starts = np.concatenate(([0], ends))[groups]
    sizes = np.concatenate(([0], ends))[groups + 1] - starts
    before = np.concatenate(([0], np.cumsum(sizes)))[:-1]
    table = file.read_row_groups(groups.tolist(), columns=list(data))
    which = np.searchsorted(groups, group)
    return from_table(table.take(pa.array(before[which] + rows - starts[which])), data)


def check(runs: dict[str, Run], rows: np.ndarray, expected: Arrays) -> None:
    """Every run returns what was written."""
    for name, run in runs.items():
        found = run(rows)
        for column, values in expected.items():
            if column in found:
                mine = np.asarray(found[column]).reshape(len(rows), *values.shape[1:])
                if mine.dtype != values.dtype or not np.array_equal(mine, values[rows]):
                    raise SystemExit(f"{name}: column {column} is not what was written")


# -- the tables


def stamp_rows(folder: Path, n: int, repeats: int) -> list[Result]:
    data = stamps(n)
    made = build(folder, data, STAMPS, {})
    data = {name: values[made["order"]] for name, values in data.items()}
    fast, compact = made["fast"], made["compact"]
    kept = [open_catalog(fast.path, memory_map=True)]
    names = list(STAMPS)
    paths = {"fast": fast.shards[0].path, "compact": compact.shards[0].path}
    maps = Maps(paths["fast"], data)
    room = {name: np.empty((10, *values.shape[1:]), values.dtype) for name, values in data.items()}
    rng = np.random.default_rng(3)

    def choose() -> np.ndarray:
        return rng.choice(n, 10, replace=False)

    runs: dict[str, Run] = {
        "astropile fast, into reused arrays": lambda rows: fast.take(rows, names, out=room),
        "astropile fast": lambda rows: fast.take(rows, names),
        "astropile fast, mapped, reused": lambda rows: kept[0].take(rows, names, out=room),
        "astropile fast, mapped": lambda rows: kept[0].take(rows, names),
        "pread of the same bytes, reused": lambda rows: maps.pread(rows, room),
        "numpy memmap, reused": lambda rows: maps.into(rows, room),
        "numpy memmap": maps.fresh,
        "astropile compact, reused": lambda rows: compact.take(rows, names, out=room),
        "astropile compact": lambda rows: compact.take(rows, names),
        "h5py batched, fast": partial(h5py_batched, paths["fast"], names, chunked=False),
        "h5py batched, compact": partial(h5py_batched, paths["compact"], names, chunked=True),
        "v1's loop on the fast file": partial(v1_loop, paths["fast"], names),
    }
    mapped_anew = partial(take_mapped_anew, fast.path, names)
    files = {name: [paths["compact" if "compact" in name else "fast"]] for name in runs}
    v1 = folder / "v1.hdf5"
    with h5py.File(v1, "w") as file:
        for name, values in data.items():
            file.create_dataset(name, data=values, compression="gzip", chunks=True)
    as_v1 = "v1's loop on a file as v1 writes it"
    runs[as_v1] = partial(v1_loop, v1, names)
    table = as_table(data)
    for label, size in (("one row group", n), ("100-row groups", 100)):
        path = folder / f"{size}.parquet"
        pq.write_table(table, path, row_group_size=size, compression="zstd")
        runs[f"Parquet, {label}"] = partial(parquet_rows, path, data)
        files[f"Parquet, {label}"] = [path]
    if has("lance"):
        import lance

        lance.write_dataset(table, str(folder / "stamps.lance"))
        dataset = lance.dataset(str(folder / "stamps.lance"))
        runs["Lance take"] = lambda rows: from_table(dataset.take(rows.tolist(), names), data)
        files["Lance take"] = [folder / "stamps.lance"]
    if has("zarr"):
        import zarr

        group = zarr.open_group(str(folder / "stamps.zarr"), mode="w")
        for name, values in data.items():
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(1, *STAMP),
                shards=(50, *STAMP),
            )
            array[:] = values
        runs["Zarr v3, 50-row shards"] = lambda rows: {
            name: group[name].oindex[np.sort(rows)][np.argsort(np.argsort(rows))] for name in names
        }
    checked = {name: run for name, run in runs.items() if name != as_v1}
    check(checked, choose(), data)
    check({as_v1: runs[as_v1]}, np.arange(2), data)
    if has("datasets"):
        for name, tree in (("fast", fast), ("compact", compact)):
            runs[f"dset[[...]] of {name}"] = partial(by_batch, lazily(tree, names))
            runs[f"dset[i] of {name}"] = partial(one_by_one, lazily(tree, names))
            runs[f"astropile {name}, row by row"] = partial(take_one_by_one, tree, names)
    slow = {as_v1: 1, "Parquet, one row group": 2, "Parquet, 100-row groups": 2}
    slow |= {"Zarr v3, 50-row shards": 5, "v1's loop on the fast file": 5}
    slow |= {"h5py batched, compact": 5}
    results = take_turns(
        f"10 random stamp rows of {n}, warm",
        runs,
        choose,
        unit="ms/row",
        scale=lambda seconds, rows: 1e3 * seconds / len(rows),
        repeats=repeats,
        seldom=slow,
        fewer={as_v1: 2},
    )
    if has("datasets"):
        results += through_datasets(folder, fast, compact, data)
    cold = [
        "astropile fast",
        "astropile fast, mapped",
        "astropile compact",
        "pread of the same bytes, reused",
    ]
    cold += ["numpy memmap", "h5py batched, fast", "Lance take"]
    cold_runs = {name: runs[name] for name in cold if name in runs}
    cold_runs["numpy memmap"] = maps.mapped_anew
    cold_runs["astropile fast, mapped"] = mapped_anew
    maps.maps.clear()
    kept.clear()
    stored = _stored_nbytes(paths["compact"], names)
    width = sum(values[0].nbytes for values in data.values())

    results += take_turns(
        "the same, cold",
        cold_runs,
        choose,
        unit="ms/row",
        scale=lambda seconds, rows: 1e3 * seconds / len(rows),
        repeats=max(3, repeats // 3),
        cold=files,
        needed=lambda rows: float(width * len(rows)),
    )
    for result in results:
        if result.name == "astropile compact" and "disk bytes / needed" in result.extra:
            share = width * n / stored
            result.extra["disk bytes / needed"] *= share
            read = result.extra["disk bytes / needed"]
            print(f"  (compact: {read:.3f} of its stored bytes, which are {share:.2f} times fewer)")
    results += scans(folder, fast, compact, data, repeats)
    return results + loader(fast, data, n, repeats)


def lazily(catalog: Any, names: list[str]) -> Any:
    """Open a tree as a Hugging Face dataset of some columns, in the format that keeps dtypes."""
    from astropile import load_dataset

    return load_dataset(catalog.path, columns=names).with_format("astropile")


def by_batch(dataset: Any, rows: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = dataset[rows.tolist()]
    return found


def take_one_by_one(catalog: Any, names: list[str], rows: np.ndarray) -> list[Any]:
    return [catalog.take([row], names) for row in rows.tolist()]


def one_by_one(dataset: Any, rows: np.ndarray) -> list[Any]:
    return [dataset[int(row)] for row in rows]


def through_datasets(folder: Path, fast: Any, compact: Any, data: Arrays) -> list[Result]:
    """All rows as a stream; `datasets`' own HDF5 reader makes its Arrow copy first, or streams."""
    import datasets

    from astropile import load_dataset

    datasets.disable_progress_bars()
    names, n = list(data), len(data["FLUX"])
    gigabytes = sum(values.nbytes for values in data.values()) / 1e9
    few = min(n, 100)

    def stream(opened: Any, most: int) -> float:
        started = time.perf_counter()
        last = None
        for last in itertools.islice(opened, most):  # noqa: B007 - the last one is looked at
            pass
        seconds = time.perf_counter() - started
        if not np.array_equal(np.reshape(last["FLUX"], STAMP), data["FLUX"][most - 1]):
            raise SystemExit("a streamed row is not what was written")
        return 1e3 * seconds / most

    results = []
    for name, tree in (("fast", fast), ("compact", compact)):
        opened = load_dataset(tree.path, columns=names, streaming=True).with_format("astropile")
        results.append(
            Result("a stream of rows", f"astropile {name}", stream(opened, n), "ms/row", 1)
        )
    files = [str(fast.shards[0].path)]
    own = datasets.load_dataset("hdf5", data_files=files, split="train", streaming=True)
    own = own.select_columns(names).with_format("numpy")
    results.append(Result("a stream of rows", "datasets' hdf5", stream(own, few), "ms/row", 0))
    started = time.perf_counter()
    cache = folder / "arrow"
    datasets.load_dataset("hdf5", data_files=files, split="train", cache_dir=str(cache))
    seconds = time.perf_counter() - started
    written = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    extra = {"GB written": written / 1e9, "GB of rows": gigabytes}
    copy = Result("a stream of rows", "datasets' hdf5, to open", 1e3 * seconds / n, "ms/row", 0)
    results.append(replace(copy, extra=extra))
    first = results[0].value
    results = [replace(result, ratio=result.value / first) for result in results]
    show(results)
    return results


def _stored_nbytes(path: Path, names: list[str]) -> int:
    with h5py.File(path) as file:
        return sum(file[name].id.get_storage_size() for name in names)


def scans(folder: Path, fast: Any, compact: Any, data: Arrays, repeats: int) -> list[Result]:
    """All rows of flux, ivar and mask, 64 at a time."""
    n, names = len(data["FLUX"]), list(data)
    n_bytes = sum(values.nbytes for values in data.values())
    maps = Maps(fast.shards[0].path, data)
    room = {name: np.empty((64, *values.shape[1:]), values.dtype) for name, values in data.items()}
    blocks = [np.arange(i, min(i + 64, n)) for i in range(0, n, 64)]

    def ours(catalog: Any) -> None:
        for rows in blocks:
            catalog.take(rows, names, out={k: v[: len(rows)] for k, v in room.items()})

    def memmap() -> None:
        for rows in blocks:
            for name in names:
                room[name][: len(rows)] = maps.maps[name][rows[0] : rows[-1] + 1]

    def with_h5py(path: Path) -> None:
        with h5py.File(path) as file:
            for rows in blocks:
                for name in names:
                    file[name].read_direct(
                        room[name], np.s_[rows[0] : rows[-1] + 1], np.s_[: len(rows)]
                    )

    def parquet() -> None:
        for batch in pq.ParquetFile(folder / f"{n}.parquet").iter_batches(64):
            from_table(pa.Table.from_batches([batch]), data)

    kept = open_catalog(fast.path, memory_map=True)
    runs: dict[str, Run] = {
        "astropile fast": lambda _: ours(fast),
        "astropile fast, mapped": lambda _: ours(kept),
        "numpy memmap": lambda _: memmap(),
        "astropile compact": lambda _: ours(compact),
        "h5py, compact": lambda _: with_h5py(compact.shards[0].path),
        "Parquet": lambda _: parquet(),
    }
    if has("lance"):
        import lance

        dataset = lance.dataset(str(folder / "stamps.lance"))
        runs["Lance"] = lambda _: [
            from_table(pa.Table.from_batches([b]), data) for b in dataset.to_batches(batch_size=64)
        ][:0]
    return take_turns(
        "scan of all stamp rows, warm (s/GB; GB/s is its inverse)",
        runs,
        lambda: np.arange(n),
        unit="s/GB",
        scale=lambda seconds, _: 1e9 * seconds / n_bytes,
        repeats=max(3, repeats // 4),
        seldom={"h5py, compact": 1, "Parquet": 1, "Lance": 2},
    )


def loader(fast: Any, data: Arrays, n: int, repeats: int) -> list[Result]:
    """Shuffled batches of flux into the same memory, as a training loop takes them."""
    size = min(256, n)
    room = {"FLUX": np.empty((size, *STAMP), "f4")}
    maps = Maps(fast.shards[0].path, {"FLUX": data["FLUX"]})
    kept = open_catalog(fast.path, memory_map=True)
    rng = np.random.default_rng(4)
    runs: dict[str, Run] = {
        "astropile fast": lambda rows: fast.take(rows, ["FLUX"], out=room),
        "astropile fast, mapped": lambda rows: kept.take(rows, ["FLUX"], out=room),
        "numpy memmap": lambda rows: maps.into(rows, room),
        "h5py batched": partial(h5py_batched, fast.shards[0].path, ["FLUX"], chunked=False),
    }
    return take_turns(
        f"shuffled batches of {size}, flux only, warm",
        runs,
        lambda: rng.choice(n, size, replace=False),
        unit="ms/row",
        scale=lambda seconds, rows: 1e3 * seconds / len(rows),
        repeats=max(3, repeats // 2),
        seldom={"h5py batched": 3},
    )


def spectrum_rows(folder: Path, n: int, repeats: int) -> list[Result]:
    data = spectra(n)
    made = build(folder, data, SPECTRA, {"LAMBDA": np.linspace(3600, 9824, N_WAVE)})
    data = {name: values[made["order"]] for name, values in data.items()}
    fast, compact = made["fast"], made["compact"]
    kept = open_catalog(fast.path, memory_map=True)
    names = [*SPECTRA, "LAMBDA"]
    maps = Maps(fast.shards[0].path, data)
    rng = np.random.default_rng(5)
    room = {name: np.empty((100, N_WAVE), values.dtype) for name, values in data.items()}
    runs: dict[str, Run] = {
        "astropile fast": lambda rows: fast.take(rows, names),
        "astropile fast, mapped": lambda rows: kept.take(rows, names),
        "numpy memmap": maps.fresh,
        "pread of the same bytes, reused": lambda rows: maps.pread(rows, room),
        "astropile compact": lambda rows: compact.take(rows, names),
    }
    if has("lance"):
        import lance

        lance.write_dataset(as_table(data), str(folder / "spectra.lance"))
        dataset = lance.dataset(str(folder / "spectra.lance"))
        runs["Lance take"] = lambda rows: from_table(dataset.take(rows.tolist(), list(data)), data)
    check(runs, rng.choice(n, 100, replace=False), data)
    results = take_turns(
        f"100 random spectrum rows of {n}, warm",
        runs,
        lambda: rng.choice(n, 100, replace=False),
        unit="ms/row",
        scale=lambda seconds, rows: 1e3 * seconds / len(rows),
        repeats=repeats,
    )
    stored = _stored_nbytes(compact.shards[0].path, list(SPECTRA))
    print(f"  (compact: {sum(v.nbytes for v in data.values()) / stored:.2f} times fewer bytes)")
    everything = {
        "all columns of 1 row": lambda rows: fast.take(rows[:1]),
        "all columns of 256 rows": fast.take,
        "15 light columns of 1 row": lambda rows: fast.take(rows[:1], LIGHT),
        "15 light columns of 256 rows": lambda rows: fast.take(rows, LIGHT),
    }
    return results + take_turns(
        "whole takes of spectra, fast, warm",
        everything,
        lambda: rng.choice(n, min(n, 256), replace=False),
        unit="ms",
        scale=lambda seconds, _: 1e3 * seconds,
        repeats=repeats,
    )


LIGHT = ["ID", "RA", "DEC", *(f"MAG{k}" for k in range(12))]


def codec(repeats: int) -> list[Result]:
    """One core, one stamp at a time; CPU time, so that a busy machine does not count."""
    results = []
    for name, values in stamps(1).items():
        chunk = values[0]
        packed = encode_chunk(chunk)
        out = np.empty_like(chunk)
        decode_chunk(packed, out)
        assert np.array_equal(out, chunk)
        extra = {"times smaller": chunk.nbytes / len(packed)}
        for what, run in (
            ("decode", partial(decode_chunk, packed, out)),
            ("encode", partial(encode_chunk, chunk)),
        ):
            times = []
            for _ in range(max(5, repeats)):
                started = time.process_time()
                for _ in range(10):
                    run()
                times.append((time.process_time() - started) / 10)
            speed = chunk.nbytes / float(np.median(times)) / 1e9
            results.append(Result("codec, one core", f"{what} {name}", speed, "GB/s", 1, 0, extra))
    show(results)
    return results


def many_shards(folder: Path) -> list[Result]:
    """Open a tree of 10,000 shards: what it says of itself is made, the shards are not there."""
    import json

    root = folder / "fast" / "main" / "astropile.json"
    facts = json.loads(root.read_text())
    facts["order"] = 5
    facts["partitions"] = [[pixel, [5]] for pixel in range(10_000)]
    facts["n_objects"] = 50_000
    tree = folder / "many" / "main"
    tree.mkdir(parents=True)
    (tree / "astropile.json").write_text(json.dumps(facts))
    programs = {
        "open_catalog": "c = open_catalog(sys.argv[1]); assert len(c.shards) == 10_000",
        "load_dataset": "d = load_dataset(sys.argv[1]); assert len(d) == 50_000",
    }
    results = []
    for name, program in programs.items():
        if name == "load_dataset" and not has("datasets"):
            continue
        cache = folder / f"cache-{name}"
        cache.mkdir()
        code = (
            "import sys, time, resource, astropile\n"
            f"from astropile import {name}\n"
            "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
            "before = peak(); t = time.perf_counter()\n"
            f"{program}\n"
            "print(time.perf_counter() - t, peak() - before)\n"
        )
        environment = {
            **os.environ,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(Path(__file__).parents[1] / "src"),
        }
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder / "many")],
            capture_output=True,
            text=True,
            env=environment,
            check=True,
        )
        seconds, memory = (float(word) for word in done.stdout.split())
        written = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
        extra = {"MB": memory, "bytes written": written}
        results.append(Result("open 10,000 shards", name, seconds, "s", 1, 0, extra))
    show(results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--folder", default=None, help="where files are made; a disk, not memory")
    parser.add_argument("--json", default=None, metavar="FILE", help="- for standard output")
    parser.add_argument("--only", nargs="*", default=["codec", "stamps", "spectra", "shards"])
    chosen = parser.parse_args()
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        (folder / "stamps").mkdir()
        (folder / "spectra").mkdir()
        if "codec" in chosen.only:
            results += codec(chosen.repeats)
        if "spectra" in chosen.only or "shards" in chosen.only:
            results += spectrum_rows(folder / "spectra", 2 * chosen.rows, chosen.repeats)
        if "shards" in chosen.only:
            results += many_shards(folder / "spectra")
        if "stamps" in chosen.only:
            results += stamp_rows(folder / "stamps", chosen.rows, chosen.repeats)
    finish(results, chosen.json)


if __name__ == "__main__":
    main()
