"""
Rows of a stamp survey over HTTP, with 20 ms of latency for each request.

    python benchmarks/read_remote.py [--folder FOLDER] [--repeat 5]

Every method gives the same values, checked before any time counts; the server counts requests
and bytes. `floor`: the bytes of the rows, known beforehand, fetched side by side and not
decoded. "at hand": the tree is open and its row tables were read before; "cold": nothing was.
Peers read copies of the same rows: h5py, pyarrow and Zarr through fsspec, Lance as from a bucket,
each with settings that suit it. HATS: a partition of 1,000 rows, which is read whole for one row;
one is read, time, requests and bytes are given for the ten.

Then ten spectra are matched against a survey of 3,000 shards, and their stamps fetched.
"""

import argparse
import contextlib
import dataclasses
import http.client
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import numpy as np

from astropile import build_catalog, cross_match, open_catalog
from astropile.hdf5.needed import needed_ranges
from astropile.healpix import ang2pix, pix2ang
from astropile.schema import Column, Survey, Unit
from astropile.store.ranges import merge_ranges

LATENCY = 0.020
N_PARTITIONS, N_EACH, ORDER = 10, 50, 4
SHAPE = (5, 160, 160)
N_MANY, SMALL = 3000, (5, 64, 64)
BIG = ("FLUX", "IVAR", "MASK")


def batches():
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[: SHAPE[1], : SHAPE[2]]
    galaxy = (10 * np.exp(-((yy - 80) ** 2 + (xx - 80) ** 2) / 50)).astype("f4")
    pixels = ang2pix(30.0 * np.arange(N_PARTITIONS) + 7, np.full(N_PARTITIONS, 20.0), ORDER)
    for number, (ra, dec) in enumerate(zip(*pix2ang(pixels, ORDER), strict=True)):
        flux = rng.normal(0, 0.02, (N_EACH, *SHAPE)).astype("f4") + galaxy
        yield {
            "ID": number * N_EACH + np.arange(N_EACH),
            "RA": ra + rng.uniform(-0.1, 0.1, N_EACH),
            "DEC": dec + rng.uniform(-0.1, 0.1, N_EACH),
            "FLUX": flux,
            "IVAR": (1 / (0.02**2 + np.abs(flux) * 1e-3)).astype("f4"),
            "MASK": rng.random((N_EACH, *SHAPE)) < 0.01,
        }


SURVEY = Survey(
    name="stamps",
    project="Benchmarks",
    survey="STAMPS",
    release="1",
    subset="main",
    title="Stamps",
    description="Made-up stamps.",
    homepage="https://example.org",
    citation="none",
    licence="CC0-1.0",
    columns=(
        Column("ID", "int64", "Identifier."),
        Column("RA", "float64", "Right ascension.", unit="deg"),
        Column("DEC", "float64", "Declination.", unit="deg"),
        Column("FLUX", "float32", "Flux.", shape=SHAPE),
        Column("IVAR", "float32", "Inverse variance.", shape=SHAPE),
        Column("MASK", "bool", "Mask.", shape=SHAPE),
    ),
    aliases={"object_id": "ID", "observation_id": "ID", "ra": "RA", "dec": "DEC"},
    units=lambda _: [Unit("made", ())],
    read=lambda _: batches(),
)


def make(folder: Path) -> None:
    """Build the tree, and the same rows as Parquet with 8-row groups."""
    if (folder / "done").exists():
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    build_catalog(SURVEY, folder, folder / "stamps", order=ORDER, overwrite=True, progress=False)
    catalog = open_catalog(folder / "stamps")
    for number, shard in enumerate(catalog.shards):
        found = catalog.take(np.arange(shard.start, shard.start + shard.n_objects), BIG)
        flat = {n: v.reshape(len(v), -1).view("u1") for n, v in found.items()}
        table = pa.table(
            {
                name: pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(values.shape[1]), len(values), [None, pa.py_buffer(values)]
                )
                for name, values in flat.items()
            }
        )
        path = folder / f"{number}.parquet"
        pq.write_table(table, path, compression="zstd", row_group_size=8, use_dictionary=False)
    _make_peers(folder, catalog)
    build_catalog(
        dataclasses.replace(
            SURVEY,
            read=lambda _: many(),
            columns=tuple(
                dataclasses.replace(column, shape=SMALL) if column.shape else column
                for column in SURVEY.columns
            ),
        ),
        folder,
        folder / "many",
        order=ORDER,
        overwrite=True,
        progress=False,
    )
    (folder / "done").touch()


def _make_peers(folder: Path, catalog) -> None:
    """Lance and Zarr hold all rows, in the tree's order; the HATS partition the first 1,000."""
    import lance
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr

    found = catalog.take(np.arange(len(catalog)), BIG)
    table = pa.table(
        {
            name: pa.FixedSizeListArray.from_arrays(
                pa.array(values.reshape(-1).view("u1" if values.dtype == bool else values.dtype)),
                values[0].size,
            )
            for name, values in found.items()
        }
    )
    lance.write_dataset(table, str(folder / "bucket/stamps.lance"))
    group = zarr.open_group(str(folder / "stamps.zarr"), mode="w")
    for name, values in found.items():
        group.create_array(
            name, shape=values.shape, dtype=values.dtype, chunks=(1, *SHAPE), shards=(50, *SHAPE)
        )[:] = values
    twice = pa.concat_tables([table, table]).slice(0, 1000).combine_chunks()
    pq.write_table(twice, folder / "hats.parquet", compression="zstd", row_group_size=1000)


def many():
    """Two smaller stamps in each of 3,000 pixels, 200 at a time."""
    rng = np.random.default_rng(5)
    ra, dec = (np.repeat(x, 2) for x in pix2ang(np.arange(N_MANY), ORDER))
    for start in range(0, 2 * N_MANY, 200):
        part = slice(start, start + 200)
        small = dict.fromkeys(BIG, (200, *SMALL))
        flux = rng.normal(0, 1, small["FLUX"]).astype("f4")
        yield {
            "ID": np.arange(start, start + 200),
            "RA": (ra[part] + rng.uniform(-0.1, 0.1, 200)) % 360,
            "DEC": dec[part] + rng.uniform(-0.1, 0.1, 200),
            "FLUX": flux,
            "IVAR": 1 / (1 + np.abs(flux)),
            "MASK": rng.random(small["MASK"]) < 0.01,
        }


@contextlib.contextmanager
def served(folder: Path):
    command = [sys.executable, str(Path(__file__).with_name("bucket.py")), str(folder)]
    process = subprocess.Popen(
        [*command, "--latency", str(LATENCY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait()


class Floor:
    """The merged ranges of the rows, fetched by as many bare connections, not decoded."""

    def __init__(self, url, catalog, rows):
        self.url, self.jobs = url, []
        which = np.searchsorted([s.start for s in catalog.shards], rows, side="right") - 1
        for number in np.unique(which):
            shard = catalog.shards[number]
            table = catalog._table(shard)  # noqa: SLF001 - the floor knows all places
            inside = rows[which == number] - shard.start
            needed = needed_ranges(catalog.survey, table, BIG, inside, "")
            plan = merge_ranges(needed.starts, needed.lengths, gap=65536)
            relative = shard.path.relative_to(catalog.path.parent.parent)
            self.jobs += [
                (f"/{relative}", int(a), np.empty(n, "u1"))
                for a, n in zip(plan.starts, plan.lengths, strict=True)
            ]
        self.pool = ThreadPoolExecutor(len(self.jobs))
        host = url.removeprefix("http://")
        self.connections = [http.client.HTTPConnection(host) for _ in self.jobs]
        self.run()

    def _one(self, connection, job):
        path, start, out = job
        connection.request("GET", path, headers={"Range": f"bytes={start}-{start + len(out) - 1}"})
        response = connection.getresponse()
        view, done = out.data, 0
        while done < len(view):
            done += response.readinto(view[done:])

    def run(self):
        list(self.pool.map(self._one, self.connections, self.jobs))


def split(catalog, rows):
    which = np.searchsorted([s.start for s in catalog.shards], rows, side="right") - 1
    for number in np.unique(which):
        at = np.flatnonzero(which == number)
        yield int(number), at, rows[at] - catalog.shards[number].start


def room(n):
    kinds = {name: SURVEY[name].numpy_dtype for name in BIG}
    return {name: np.empty((n, *SHAPE), kind) for name, kind in kinds.items()}


def by_h5py(url, catalog, rows):
    import fsspec
    import h5py

    fs = fsspec.filesystem("http", skip_instance_cache=True)
    out = room(len(rows))

    def one(job):
        number, at, inside = job
        relative = catalog.shards[number].path.relative_to(catalog.path.parent.parent)
        address = f"{url}/{relative}"
        with (
            fs.open(address, block_size=2**20, cache_type="blockcache") as raw,
            h5py.File(raw) as file,
        ):
            for name in BIG:
                for to, row in zip(at, inside, strict=True):
                    out[name][to] = file[name][row]

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(one, split(catalog, rows)))
    return out


def by_parquet(url, catalog, rows):
    import fsspec
    import pyarrow.parquet as pq

    fs = fsspec.filesystem("http", skip_instance_cache=True)
    out = room(len(rows))

    def one(job):
        number, at, inside = job
        with fs.open(f"{url}/{number}.parquet", cache_type="none") as raw:
            file = pq.ParquetFile(raw, pre_buffer=True)
            for group in np.unique(inside // 8):
                table = file.read_row_group(int(group), list(BIG))
                for to, row in zip(at, inside, strict=True):
                    if row // 8 == group:
                        for name in BIG:
                            value = table[name][int(row % 8)].as_py()
                            out[name][to] = np.frombuffer(value, out[name].dtype).reshape(SHAPE)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(one, split(catalog, rows)))
    return out


def by_lance(dataset, rows):
    table = dataset.take(rows.tolist(), list(BIG))
    kinds = {name: SURVEY[name].numpy_dtype for name in BIG}
    return {
        name: table[name].combine_chunks().flatten().to_numpy().view(kinds[name]) for name in BIG
    }


def open_lance(url):
    import lance

    settings = {"aws_endpoint": url, "allow_http": "true", "aws_skip_signature": "true"}
    settings |= {"aws_region": "us-east-1", "aws_virtual_hosted_style_request": "false"}
    return lance.dataset("s3://bucket/stamps.lance", storage_options=settings)


def by_zarr(url, rows):
    import zarr

    group = zarr.open_group(f"{url}/stamps.zarr", mode="r")
    return {name: group[name].oindex[rows] for name in BIG}


def by_hats(url):
    import fsspec
    import pyarrow.parquet as pq

    fs = fsspec.filesystem("http", skip_instance_cache=True)
    with fs.open(f"{url}/hats.parquet", cache_type="none") as raw:
        table = pq.ParquetFile(raw, pre_buffer=True).read(list(BIG))
    return table.slice(7, 1)


def ten_of_many(url, local) -> None:
    """Match ten spectra's positions against 3,000 shards, fetch their stamps."""
    rows = np.linspace(3, 2 * N_MANY - 9, 10).astype(int)
    light = local.light(["RA", "DEC"])
    ra, dec = (light[name].to_numpy()[rows] for name in ("RA", "DEC"))
    cross_match({"ra": ra, "dec": dec}, local, radius_arcsec=1.0)  # compiles
    counts(url)
    begin = time.perf_counter()
    catalog = open_catalog(f"{url}/many", "main")
    pairs = cross_match({"ra": ra, "dec": dec}, catalog, radius_arcsec=1.0)
    found = catalog.take(pairs.right, BIG)
    seconds, count = time.perf_counter() - begin, counts(url)
    for name, values in local.take(rows, BIG).items():
        np.testing.assert_array_equal(found[name], values)
    needed = 10 * sum(s.path.stat().st_size for s in local.shards) / len(local) / 1e6
    print(
        f"10 spectra against {len(local.shards)} shards: {seconds:.2f} s,"
        f" {count['requests']} requests, {count['bytes'] / 1e6:.2f} MB;"
        f" ten rows are {needed:.2f} MB, the survey {needed * len(local) / 10:.0f} MB"
    )


def counts(url):
    with urlopen(f"{url}/-/counts") as answer:
        return json.load(answer)


def measure(url, call, repeat):
    counts(url)
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    found = counts(url)
    return statistics.median(times), found["requests"] / repeat, found["bytes"] / repeat / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--folder", type=Path, help="keep the data here")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    logging.getLogger("fsspec").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make(folder)
        url = stack.enter_context(served(folder))
        local = open_catalog(folder / "stamps/main")
        rng = np.random.default_rng(1)
        warm = open_catalog(f"{url}/stamps", "main")
        warm.take(np.arange(0, len(warm), N_EACH), BIG)
        opened = open_lance(url)
        print(f"{'':34}{'s':>8}{'requests':>10}{'MB':>8}{'x floor':>9}")
        for n_rows in (10, 100):
            each = n_rows // N_PARTITIONS
            rows = np.concatenate(
                [rng.choice(N_EACH, each, replace=False) + N_EACH * p for p in range(N_PARTITIONS)]
            )
            right = local.take(rows, BIG)
            floor = Floor(url, local, rows)
            methods = {
                "floor": (floor.run, args.repeat),
                "astropile, row tables at hand": (
                    lambda rows=rows: warm.take(rows, BIG),
                    args.repeat,
                ),
                "astropile, cold": (
                    lambda rows=rows: open_catalog(f"{url}/stamps", "main").take(rows, BIG),
                    args.repeat,
                ),
                "Parquet, 8-row groups, row known": (
                    lambda rows=rows: by_parquet(url, local, rows),
                    1,
                ),
                "h5py, 1 MiB block cache": (lambda rows=rows: by_h5py(url, local, rows), 1),
                "Lance, open": (lambda rows=rows: by_lance(opened, rows), args.repeat),
                "Lance, cold": (lambda rows=rows: by_lance(open_lance(url), rows), args.repeat),
                "Zarr v3, 50-row shards": (lambda rows=rows: by_zarr(url, rows), 1),
            }
            base = None
            print(f"{n_rows} rows in {N_PARTITIONS} partitions, {LATENCY * 1e3:.0f} ms")
            for name, (call, repeat) in methods.items():
                found = call()
                if found is not None:
                    for column in BIG:
                        values = np.reshape(found[column], right[column].shape)
                        np.testing.assert_array_equal(values, right[column])
                seconds, requests, megabytes = measure(url, call, repeat)
                base = base or seconds
                line = f"{seconds:>8.3f}{requests:>10.0f}{megabytes:>8.1f}{seconds / base:>9.2f}"
                print(f"  {name:32}{line}", flush=True)
            if n_rows == 10:
                seconds, requests, megabytes = measure(url, lambda: by_hats(url), 1)
                line = f"{10 * seconds:>8.3f}{10 * requests:>10.0f}{10 * megabytes:>8.0f}"
                print(f"  {'HATS, ten partitions (one, x 10)':32}{line}{10 * seconds / base:>9.2f}")
        ten_of_many(url, open_catalog(folder / "many"))


if __name__ == "__main__":
    main()
