"""
Time loaders of shuffled batches of images, and how long a training step waits for them.

    python benchmarks/train_loader.py [--rows 2048] [--repeats 5] [--folder DIR] [--json FILE]

Images are 5x160x160 float32, batches of 256 of them tensors of PyTorch. Runs are whole epochs
that take turns; before anything is timed each loader has to give every image that was written
exactly once. Peers that are not installed are left out: `pip install webdataset mosaicml-streaming`
in an environment of their own, for the second asks for other releases of much else.

Then a network is trained, of the size of ResNet-18 in bf16 where there is a GPU and a small one
elsewhere, on the batches of a loader and on one batch that stays where it is: what the first
takes longer is the share of the time that it waits.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from common import Result, Run, finish, has, show, take_turns
from read_rows import STAMP, Maps, as_table, build, from_table, h5py_batched, stamps, v1_loop

from astropile import load_dataset, open_catalog
from astropile.streams import Stream
from astropile.streams.torch import StreamLoader, to_device

SIZE = 256
"""Rows of a batch."""
V1_ROWS = 8
"""Few enough for v1's loop."""

Loader = Callable[[np.ndarray], Iterable[torch.Tensor]]
"""
Gives the batches of an epoch. The rows are in the order of the epoch; loaders that shuffle by
themselves take their seed from them.
"""


# -- loaders


def cut(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[i : i + SIZE] for i in range(0, len(rows), SIZE))


class Ours:
    """A stream, with its memory used again and again, as a training loop has it."""

    def __init__(self, tree: Any, workers: int = 0, **options: Any) -> None:
        self.stream = Stream(tree, ["FLUX"], batch_size=SIZE, format="torch", **options)
        self.loader = StreamLoader(self.stream, num_workers=workers) if workers else self.stream

    def __call__(self, rows: np.ndarray) -> Iterator[torch.Tensor]:
        del rows
        return (batch["FLUX"] for batch in self.loader)


def by_dataset(dataset: Any, workers: int, rows: np.ndarray) -> Iterator[torch.Tensor]:
    """A dataset of `datasets` in PyTorch's own loader, asked for whole batches at once."""
    batches = [part.tolist() for part in cut(rows)]
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=None, sampler=batches, num_workers=workers
    )
    return (_stacked(batch["FLUX"]) for batch in loader)


def _stacked(images: Any) -> torch.Tensor:
    return images if isinstance(images, torch.Tensor) else torch.stack(images)


def by_memmap(maps: Maps, room: np.ndarray, rows: np.ndarray) -> Iterator[torch.Tensor]:
    for part in cut(rows):
        out = room[: len(part)]
        np.take(maps.maps["FLUX"], part, axis=0, out=out, mode="clip")
        yield torch.from_numpy(out)


def by_h5py(path: Path, rows: np.ndarray, *, chunked: bool) -> Iterator[torch.Tensor]:
    for part in cut(rows):
        yield torch.from_numpy(h5py_batched(path, ["FLUX"], part, chunked=chunked)["FLUX"])


def by_v1_loop(path: Path, rows: np.ndarray) -> Iterator[torch.Tensor]:
    for part in cut(rows):
        yield torch.from_numpy(v1_loop(path, ["FLUX"], part)["FLUX"])


def by_lance(dataset: Any, like: dict[str, np.ndarray], rows: np.ndarray) -> Iterator[torch.Tensor]:
    for part in cut(rows):
        yield torch.from_numpy(from_table(dataset.take(part.tolist(), ["FLUX"]), like)["FLUX"])


def write_webdataset(folder: Path, flux: np.ndarray) -> str:
    import webdataset

    folder.mkdir()
    for number, part in enumerate(cut(np.arange(len(flux)))):
        with webdataset.TarWriter(str(folder / f"{number:04d}.tar")) as tar:
            for row in part:
                tar.write({"__key__": f"{row:08d}", "flux.npy": flux[row]})
    return f"{folder}/{{0000..{number:04d}}}.tar"


def by_webdataset(urls: str, workers: int, rows: np.ndarray) -> Iterator[torch.Tensor]:
    """Shards in random order, and a buffer of 512 images in which they are mixed."""
    import webdataset

    found = webdataset.WebDataset(urls, shardshuffle=100, seed=int(rows[0]))
    found = found.shuffle(512).decode().to_tuple("flux.npy").batched(SIZE, partial=True)
    loader = webdataset.WebLoader(found, batch_size=None, num_workers=workers)
    return (torch.as_tensor(batch[0]) for batch in loader)


def write_mds(folder: Path, flux: np.ndarray) -> None:
    from streaming import MDSWriter

    columns = {"flux": "ndarray:float32:" + ",".join(map(str, STAMP))}
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for image in flux:
            writer.write({"flux": image})


def by_mds(folder: Path, workers: int, rows: np.ndarray) -> Iterator[torch.Tensor]:
    from streaming import StreamingDataset

    found = StreamingDataset(
        local=str(folder), batch_size=SIZE, shuffle=True, shuffle_seed=int(rows[0])
    )
    loader = torch.utils.data.DataLoader(found, SIZE, num_workers=workers)
    return (batch["flux"] for batch in loader)


def importable(package: str) -> bool:
    """Some peers are there and cannot be used: for want of another package, or its release."""
    if not has(package):
        return False
    try:
        importlib.import_module(package)
    except (ImportError, RuntimeError) as error:
        print(f"  {package} is left out: {error}")
        return False
    return True


def loaders(
    folder: Path, made: dict[str, Any], flux: np.ndarray, workers: int
) -> dict[str, Loader]:
    """List ours first, then the others that are installed."""
    fast, compact = made["fast"], made["compact"]
    paths = {"fast": fast.shards[0].path, "compact": compact.shards[0].path}
    maps = Maps(paths["fast"], {"FLUX": flux})
    found: dict[str, Loader] = {
        "astropile fast": Ours(fast.path, workers),
        "astropile fast, mapped": Ours(open_catalog(fast.path, memory_map=True), workers),
        "astropile compact": Ours(compact.path, workers),
        "astropile fast, in blocks": Ours(fast.path, workers, shuffle="blocks"),
        "numpy memmap": partial(by_memmap, maps, np.empty((SIZE, *STAMP), "f4")),
        "h5py, batched": partial(by_h5py, paths["fast"], chunked=False),
        "h5py, v1's loop": partial(by_v1_loop, paths["fast"]),
    }
    if has("datasets"):
        import datasets

        datasets.disable_progress_bars()
        for name, tree in (("fast", fast), ("compact", compact)):
            ours = load_dataset(tree.path, columns=["FLUX"]).with_format("astropile-torch")
            found[f"Dataset of {name}, DataLoader"] = partial(by_dataset, ours, workers)
        own = datasets.load_dataset(
            "hdf5", data_files=[str(paths["fast"])], split="train", cache_dir=str(folder / "arrow")
        )
        own = own.select_columns(["FLUX"]).with_format("torch")
        found["datasets' Arrow, torch"] = partial(by_dataset, own, workers)
    if has("lance"):
        import lance

        lance.write_dataset(as_table({"FLUX": flux}), str(folder / "stamps.lance"))
        dataset = lance.dataset(str(folder / "stamps.lance"))
        found["Lance take"] = partial(by_lance, dataset, {"FLUX": flux})
    if importable("webdataset"):
        urls = write_webdataset(folder / "tar", flux)
        found["WebDataset"] = partial(by_webdataset, urls, workers)
    if importable("streaming"):
        write_mds(folder / "mds", flux)
        found["MosaicML streaming"] = partial(by_mds, folder / "mds", workers)
    return found


# -- what is measured


def sums(images: np.ndarray) -> np.ndarray:
    """Give each image a number that depends on every bit of it and its place."""
    weights = np.random.default_rng(0).integers(1, 2**63, np.prod(STAMP), np.uint64)
    bits = np.ascontiguousarray(images).reshape(len(images), -1).view(np.uint32)
    return np.array([(row * weights).sum(dtype=np.uint64) for row in bits])


class PeakMemory:
    """The most memory of this process alone in a block of code; no pages of mapped files."""

    def __enter__(self) -> Self:
        self.before = self.peak = self._now()
        self.over = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.watcher.join()

    @property
    def megabytes(self) -> float:
        return (self.peak - self.before) / 1e3

    def _watch(self) -> None:
        while not self.over.wait(0.005):
            self.peak = max(self.peak, self._now())

    def _now(self) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def check(found: dict[str, Loader], flux: np.ndarray) -> dict[str, float]:
    """Every loader gives every image once; tell the memory that its first epoch takes [MB]."""
    expected = np.sort(sums(flux))
    megabytes = {}
    rows = np.random.default_rng(1).permutation(len(flux))
    for name, loader in found.items():
        few = name == "h5py, v1's loop"
        with PeakMemory() as memory:
            got = _epoch_sums(loader, rows[:V1_ROWS] if few else rows)
        megabytes[name] = memory.megabytes
        wanted = np.sort(sums(flux[rows[:V1_ROWS]])) if few else expected
        if not np.array_equal(np.sort(got), wanted):
            raise SystemExit(f"{name}: an epoch is not what was written")
    return megabytes


def _epoch_sums(loader: Loader, rows: np.ndarray) -> np.ndarray:
    found = []
    for batch in loader(rows):
        if batch.dtype != torch.float32 or batch.shape[1:] != STAMP:
            raise SystemExit(f"a batch is {batch.dtype} of shape {tuple(batch.shape)}")
        found.append(sums(batch.numpy()))
    return np.concatenate(found)


def spend(loader: Loader, rows: np.ndarray) -> None:
    for _ in loader(rows):
        pass


def epochs(
    found: dict[str, Loader], megabytes: dict[str, float], n: int, repeats: int
) -> list[Result]:
    """Whole epochs, in turns, warm."""
    rng = np.random.default_rng(2)
    runs: dict[str, Run] = {name: partial(spend, loader) for name, loader in found.items()}
    results = take_turns(
        f"epochs of {n} images, shuffled batches of {SIZE} to torch, warm",
        runs,
        lambda: rng.permutation(n),
        unit="ms/image",
        scale=lambda seconds, rows: 1e3 * seconds / len(rows),
        repeats=repeats,
        fewer={"h5py, v1's loop": V1_ROWS},
    )
    measured = []
    for result in results:
        extra = {**result.extra, "images/s": 1e3 / result.value, "MB": megabytes[result.name]}
        measured.append(replace(result, section="rates and memory", extra=extra))
    show(measured)
    return measured


# -- training


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            *(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()),
            *(nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out)),
        )
        self.around = nn.Identity() if stride == 1 else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.inner(x) + self.around(x))


def network(width: int, blocks: tuple[int, ...]) -> nn.Module:
    """ResNet-18 for five bands with ``64, (2, 2, 2, 2)``."""
    layers: list[nn.Module] = [nn.Conv2d(5, width, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for depth, n in enumerate(blocks):
        n_in, n_out = width * 2 ** max(depth - 1, 0), width * 2**depth
        layers.append(Block(n_in, n_out, 2 if depth else 1))
        layers += [Block(n_out, n_out, 1) for _ in range(n - 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n_out, 1))


class Step:
    """A training step, of the mean of each image as truth."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        on_gpu = device.type == "cuda"
        self.model = network(64, (2, 2, 2, 2)) if on_gpu else network(8, (1, 1))
        self.model = self.model.to(device, memory_format=torch.channels_last)
        self.optimiser = torch.optim.SGD(self.model.parameters(), 1e-3)

    def __call__(self, images: torch.Tensor) -> None:
        truth = images.mean((1, 2, 3))[:, None]
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = (self.model(images) - truth).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def seconds_per_step(step: Step, batches: Iterable[torch.Tensor], n: int) -> tuple[float, float]:
    """Give the time of a step, and that spent in asking for its batch."""
    asked = 0.0
    iterator = iter(batches)
    step(next(iterator))
    step.wait()
    begun = time.perf_counter()
    for _ in range(n):
        before = time.perf_counter()
        batch = next(iterator)
        asked += time.perf_counter() - before
        step(batch)
    step.wait()
    return (time.perf_counter() - begun) / n, asked / n


def training(made: dict[str, Any], maps: Maps, n_rows: int, repeats: int) -> list[Result]:
    """Train on what loaders give and on a batch that is there, in turns."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step = Step(device)
    n = 50 if device.type == "cuda" else 6
    rng = np.random.default_rng(3)
    room = np.empty((SIZE, *STAMP), "f4")

    def of_stream(tree: Any) -> Iterator[torch.Tensor]:
        # Whole batches alone, so that every step is as much work.
        options = {"last": "drop", "pin_memory": device.type == "cuda", "prefetch": 3}
        stream = Stream(tree.path, ["FLUX"], batch_size=SIZE, format="torch", **options)
        endless = itertools.chain.from_iterable(itertools.repeat(stream))
        return (batch["FLUX"] for batch in to_device(endless, device))

    def of_memmap() -> Iterator[torch.Tensor]:
        while True:
            rows = rng.permutation(n_rows)[: n_rows // SIZE * SIZE]
            for batch in by_memmap(maps, room, rows):
                yield batch.to(device)

    resident = torch.from_numpy(np.array(maps.maps["FLUX"][:SIZE])).to(device)
    sources: dict[str, Callable[[], Iterator[torch.Tensor]]] = {
        "one batch that stays": lambda: itertools.repeat(resident),
        "astropile fast": lambda: of_stream(made["fast"]),
        "astropile compact": lambda: of_stream(made["compact"]),
        "numpy memmap, not ahead": of_memmap,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for _ in range(repeats):
        for name in rng.permutation(list(sources)).tolist():
            found[name].append(seconds_per_step(step, sources[name](), n))
    least = float(np.median([whole for whole, _ in found["one batch that stays"]]))
    results = []
    for name, times in found.items():
        whole, asked = np.median(times, axis=0).tolist()
        shares = {"waits": max(0.0, 1 - least / whole), "asks": asked / whole}
        results.append(
            Result(f"training on {device}", name, 1e3 * whole, "ms/step", whole / least, 0, shares)
        )
    show(results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0, help="processes of loaders that can")
    parser.add_argument("--folder", default=None, help="where files are made; a disk, not memory")
    parser.add_argument("--json", default=None, metavar="FILE", help="- for standard output")
    parser.add_argument("--only", nargs="*", default=["loaders", "training"])
    chosen = parser.parse_args()
    if chosen.rows < 2 * SIZE:
        parser.error(f"--rows: at least {2 * SIZE}")
    results: list[Result] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        folder = Path(name)
        data = {"FLUX": stamps(chosen.rows)["FLUX"]}
        made = build(folder, data, {"FLUX": "float32"}, {})
        flux = data["FLUX"][made["order"]]
        if "loaders" in chosen.only:
            found = loaders(folder, made, flux, chosen.workers)
            megabytes = check(found, flux)
            results += epochs(found, megabytes, chosen.rows, chosen.repeats)
        if "training" in chosen.only:
            maps = Maps(made["fast"].shards[0].path, {"FLUX": flux})
            results += training(made, maps, chosen.rows, chosen.repeats)
    finish(results, chosen.json)


if __name__ == "__main__":
    main()
