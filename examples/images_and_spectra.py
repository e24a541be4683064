"""
Train a model that knows which spectrum belongs to which image, and ask it about real objects.

    python examples/images_and_spectra.py FOLDER [--quick] [--data DIR]

A small CLIP: one network turns an image into a point, another turns a spectrum into a point, and
both learn to put an object's two points together and those of different objects apart. The sky
is simulated, from native files of SDSS imaging and spectroscopy on; where real SDSS files are at
hand, the trained model is asked about them. Everything is kept in FOLDER: a run that was stopped
goes on where it was, at the very batch. See docs/how-to/train-a-model.md.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import astropile
from astropile.samples import collate
from astropile.simulate import sdss, sdss_imaging
from astropile.simulate.galaxies import BANDS, Galaxies, make_galaxies
from astropile.splits import SkySplits, audit_splits, split_match
from astropile.splits.sky import member_positions
from astropile.statistics import compute_statistics
from astropile.streams import Stream
from astropile.transforms.images import Image, arcsinh_stretch, crop, draw_orientations, fill_bad
from astropile.transforms.images import orient as turn
from astropile.transforms.spectra import log_grid, rebin

SEED = 7
PIXELS = 32
"""Side of the images that the model sees: 13 arcseconds of the 51 that are stored."""
GRID = log_grid(3900.0, 9100.0, 1e-3)
"""Wavelengths of the spectra that the model sees [Angstrom]: ten SDSS pixels in one."""
BATCH_SIZE = 32
LEARNING_RATE = 2e-3
PLAN = SkySplits(
    {"train": 0.6, "validation": 0.2, "test": 0.2}, order=11, seed=SEED, guard_arcsec=13.0
)
"""Blocks of 1.7 arcminutes, for so small a sky; no image of a set shows the sky of another."""
COLUMNS = {
    "sdss_imaging": ["image.array", "image.mask"],
    "sdss": ["spectrum.flux", "spectrum.ivar", "spectrum.mask", "spectrum.lambda"],
}


# -- from native files to a match


def simulate(native: Path, n_fields: int, n_galaxies: int) -> None:
    """Write fields of galaxies along Stripe 82, as SDSS would have published them."""
    skies = [
        make_galaxies(n_galaxies, seed=SEED + k, ra=38.0 + 0.4 * k, dec=0.0, radius_deg=0.08)
        for k in range(n_fields)
    ]
    for k, sky in enumerate(skies):
        sdss_imaging.write(native / "sdss_imaging", sky, seed=SEED + k, field=18 + k)
    parts = {name: np.concatenate([getattr(sky, name) for sky in skies]) for name in vars(skies[0])}
    sdss.write(native / "sdss", Galaxies(**parts), seed=SEED, only_plates=True)


def build(folder: Path, natives: dict[str, Path], **options: Any) -> dict[str, Path]:
    """Make a tree of each survey's native files, unless it is there."""
    trees = {survey: folder / survey for survey in natives}
    for survey, tree in trees.items():
        if not tree.is_dir():
            report = astropile.build_catalog(survey, natives[survey], tree, **options)
            print(f"{survey}: {report.n_written} objects, {report.n_rejected} rejected")
    return trees


def match(trees: dict[str, Path]) -> Any:
    """Find the image of each spectrum."""
    return astropile.cross_match_datasets(*map(str, trees.values()), match_radius=1.0)


# -- what the model is given


@dataclass(frozen=True)
class Scales:
    """Where the stretch of images (per band) and of spectra turns from linear to logarithmic."""

    image: tuple[float, ...]
    spectrum: float


def measure_scales(trees: dict[str, Path], matched: Any, rows: np.ndarray) -> Scales:
    """Take the scales from rows of the training set alone."""

    def field_of(survey: str, name: str) -> Any:
        catalog = astropile.open_catalog(trees[survey])
        own = np.asarray(matched.catalog[f"row_{survey}"])[rows]
        return compute_statistics(catalog, [name], rows=own, sample=min(1.0, 200 / len(own)))[name]

    bands = field_of("sdss_imaging", "image.array").channels
    quartiles = [bands[band].quantile([0.25, 0.75]) for band in BANDS[:5]]
    median = field_of("sdss", "spectrum.flux").total.quantile(0.5)
    # Most pixels of a stamp are sky: their quartiles tell its noise.
    return Scales(tuple(0.7413 * float(b - a) for a, b in quartiles), float(median))


def prepare(
    batch: dict[str, Any], scales: Scales, rng: np.random.Generator | None = None
) -> dict[str, Tensor]:
    """Make tensors of a batch; with `rng`, images turned and mirrored at random."""
    whole = collate(batch, pad=dict.fromkeys(("spectrum", "sdss.spectrum"), ()))
    # Of a match, records are within their survey's; of a tree, at the top.
    records = whole.get("sdss_imaging", {}) | whole.get("sdss", whole)
    found = {}
    if "image" in records:
        image = Image(records["image"]["array"], mask=records["image"]["mask"] != 0)
        image = arcsinh_stretch(fill_bad(crop(image, PIXELS)), scales.image)
        if rng is not None:
            image = turn(image, draw_orientations(len(image.flux), rng))
        found["image"] = torch.from_numpy(np.ascontiguousarray(image.flux, "f4"))
    if "spectrum" in records:
        flux, ivar, mask, wave = (
            records["spectrum"][name] for name in ("flux", "ivar", "mask", "lambda")
        )
        on_grid = rebin(
            flux.values, ivar.values, mask.values, wave=wave.values, padding=flux.mask, grid=GRID
        )
        stretched = np.arcsinh(on_grid.flux / scales.spectrum)
        channels = np.stack([stretched, ~on_grid.mask], axis=1).astype("f4")
        found["spectrum"] = torch.from_numpy(channels)
    return found


# -- the model


def image_network(width: int) -> nn.Module:
    """Map images (n, 5, 32, 32) to points."""
    return nn.Sequential(
        *(nn.Conv2d(5, 16, 3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.GELU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(4)),
        *(nn.Flatten(), nn.Linear(512, width), nn.GELU(), nn.Linear(width, width)),
    )


def spectrum_network(width: int) -> nn.Module:
    """Map spectra (n, 2, wavelengths) to points."""
    return nn.Sequential(
        *(nn.Conv1d(2, 16, 9, stride=4), nn.GELU()),
        *(nn.Conv1d(16, 32, 9, stride=4), nn.GELU(), nn.AdaptiveAvgPool1d(8)),
        *(nn.Flatten(), nn.Linear(256, width), nn.GELU(), nn.Linear(width, width)),
    )


class Pairs(nn.Module):
    """Two networks into one space, and how sharply nearness in it counts."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.image, self.spectrum = image_network(width), spectrum_network(width)
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def points(self, name: str, values: Tensor) -> Tensor:
        return nn.functional.normalize(getattr(self, name)(values), dim=1)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Cross entropy of choosing each image's spectrum among the batch's, and the reverse."""
        images, spectra = (self.points(name, batch[name]) for name in ("image", "spectrum"))
        likeness = self.sharpness.exp() * images @ spectra.T
        own = torch.arange(len(likeness))
        choose = nn.functional.cross_entropy
        return (choose(likeness, own) + choose(likeness.T, own)) / 2


@torch.no_grad()
def ranks(model: Pairs, stream: Any) -> np.ndarray:
    """Tell how many spectra of a set each image prefers to its own: 0 is best."""
    batches = list(stream)
    images, spectra = (
        torch.cat([model.points(name, batch[name]) for batch in batches])
        for name in ("image", "spectrum")
    )
    likeness = images @ spectra.T
    return (likeness > likeness.diagonal()[:, None]).sum(1).numpy()


def top5(found: np.ndarray) -> float:
    """Share of images whose spectrum is among the five that they prefer."""
    return float((found < 5).mean())


# -- training


@dataclass
class Training:
    """A run: what is trained on what, how far it is, and where that is kept."""

    model: Pairs
    stream: Stream
    validation: Stream
    n_steps: int
    checkpoint: Path
    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimiser = torch.optim.AdamW(self.model.parameters(), LEARNING_RATE)
        if self.checkpoint.is_file():
            self._restore(torch.load(self.checkpoint, weights_only=True))
            print(f"going on at step {len(self.losses)}: {self.stream}")

    def run(self, n_steps: int | None = None, every: int = 20) -> None:
        """Train to the last step or, to be gone on with, for so many."""
        last = min(self.n_steps, len(self.losses) + (n_steps or self.n_steps))
        for batch in self._batches(last):
            # From fast to standing still, along a cosine: a function of the step alone.
            rate = LEARNING_RATE * (1 + math.cos(math.pi * len(self.losses) / self.n_steps)) / 2
            self.optimiser.param_groups[0]["lr"] = rate
            self.optimiser.zero_grad()
            loss = self.model.loss(batch)
            loss.backward()
            self.optimiser.step()
            self.losses.append(loss.item())
            step = len(self.losses)
            if step % every == 0 or step == self.n_steps:
                self.scores.append((step, top5(ranks(self.model, self.validation))))
                print(f"step {step:4d}: loss {loss:.3f}, validation top-5 {self.scores[-1][1]:.2f}")
            if step % every == 0 or step == last:
                self._save()

    def _batches(self, last: int) -> Iterator[dict[str, Tensor]]:
        while len(self.losses) < last:
            for batch in self.stream:
                yield batch
                if len(self.losses) == last:
                    return

    def _save(self) -> None:
        """Keep all that the next step depends on: weights, moments, and the stream's place."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "stream": self.stream.state_dict(),
            "losses": self.losses,
            "scores": self.scores,
        }
        aside = self.checkpoint.with_suffix(".part")
        torch.save(state, aside)
        aside.replace(self.checkpoint)

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.stream.load_state_dict(state["stream"])
        self.losses, self.scores = state["losses"], state["scores"]


# -- real objects


@torch.no_grad()
def ask_real(
    model: Pairs, scales: Scales, folder: Path, data: Path
) -> tuple[list[tuple[str, int]], int]:
    """Rank the true spectrum of each real pair among all real spectra; say what each object is."""
    native = dict.fromkeys(COLUMNS, data / "spectra" / "sdss")
    # Some of these files are broken or of other kinds on purpose.
    trees = build(folder, native, tolerance=1.0, release="several")
    matched = match(trees)
    make = partial(prepare, scales=scales)
    images = {"sdss_imaging": COLUMNS["sdss_imaging"]}
    pairs = Stream(matched, images, batch_size=BATCH_SIZE, shuffle=None, transform=make)
    spectra = Stream(
        trees["sdss"],
        COLUMNS["sdss"],
        batch_size=BATCH_SIZE,
        shuffle=None,
        transform=make,
    )
    all_spectra = torch.cat([model.points("spectrum", batch["spectrum"]) for batch in spectra])
    likeness = torch.cat([model.points("image", batch["image"]) for batch in pairs]) @ all_spectra.T
    rows = np.asarray(matched.catalog["row_sdss"], np.int64)
    better = likeness > likeness.gather(1, torch.from_numpy(rows)[:, None])
    classes = astropile.open_catalog(trees["sdss"]).take(rows, ["CLASS"])["CLASS"]
    kinds = [name.decode().strip() for name in classes.tolist()]
    return list(zip(kinds, better.sum(1).tolist(), strict=True)), len(all_spectra)


# -- all of it


@dataclass(frozen=True)
class Result:
    """What came out."""

    losses: list[float]
    scores: list[tuple[int, float]]
    test_ranks: list[int]
    n_validation: int
    smallest_separation_arcsec: float
    real_ranks: list[tuple[str, int]]
    n_real_spectra: int

    @property
    def test_top5(self) -> float:
        return top5(np.array(self.test_ranks))

    @property
    def chance(self) -> float:
        return 5 / len(self.test_ranks)


def run(
    folder: Path,
    *,
    n_fields: int = 4,
    n_galaxies: int = 300,
    n_steps: int = 800,
    data: Path | None = None,
    stop_after: int | None = None,
) -> Result | None:
    """Do everything; None if it stopped before the last step, to be gone on with."""
    # So small a network trains fastest on one core, while the other reads.
    torch.set_num_threads(1)
    native = folder / "native"
    if not native.is_dir():
        simulate(native.with_name("native.part"), n_fields, n_galaxies)
        native.with_name("native.part").rename(native)
    trees = build(folder, {name: native / name for name in COLUMNS}, layout="fast")
    matched = match(trees)
    sets = PLAN.assign_match(member_positions(matched.catalog))
    audit = audit_splits(split_match(matched, PLAN), radius_arcsec=PLAN.guard_arcsec)
    print(f"{len(matched.catalog)} pairs: {sets.counts}\n{audit}")

    scales = measure_scales(trees, matched, sets.rows("train"))
    stream = partial(Stream, matched, COLUMNS, seed=SEED, threads=2)
    make = partial(prepare, scales=scales)
    held_out = {
        name: stream(batch_size=BATCH_SIZE, rows=sets.rows(name), shuffle=None, transform=make)
        for name in ("validation", "test")
    }
    torch.manual_seed(SEED)
    training = Training(
        Pairs(),
        stream(
            batch_size=BATCH_SIZE,
            rows=sets.rows("train"),
            last="drop",
            transform=lambda batch, rng: make(batch, rng=rng),
        ),
        held_out["validation"],
        n_steps,
        folder / "checkpoint.pt",
    )
    training.run(stop_after)
    if len(training.losses) < n_steps:
        return None
    real = ask_real(training.model, scales, folder / "real", data) if data else ([], 0)
    result = Result(
        training.losses,
        training.scores,
        ranks(training.model, held_out["test"]).tolist(),
        held_out["validation"].n_rows,
        audit.separation_arcsec,
        *real,
    )
    (folder / "result.json").write_text(json.dumps(asdict(result)))
    return result


def draw(result: Result, path: Path) -> None:
    """Plot the loss, the score on validation sky, and where true spectra rank on test sky."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(np.arange(1, len(result.losses) + 1), result.losses, lw=0.8)
    left.set(xlabel="step", ylabel="loss", title="training")
    middle.plot(*zip(*result.scores, strict=True), "o-", ms=3)
    middle.axhline(5 / result.n_validation, color="grey", ls="--", label="chance")
    middle.set(xlabel="step", ylabel="true spectrum in the first 5", ylim=(0, 1))
    middle.set_title(f"validation sky, {result.n_validation} pairs")
    n = len(result.test_ranks)
    share = (np.arange(n) + 1) / n
    right.plot(share, np.searchsorted(np.sort(result.test_ranks), np.arange(n), "right") / n)
    right.plot([0, 1], [0, 1], color="grey", ls="--", label="chance")
    for _, rank in result.real_ranks:
        right.axvline((rank + 1) / result.n_real_spectra, color="C3", lw=1)
    if result.real_ranks:
        right.plot([], [], color="C3", label=f"{len(result.real_ranks)} real pairs")
    right.set(xlabel="first part of all spectra", ylabel="true spectrum in it")
    right.set_title(f"test sky, {n} pairs")
    for axes in (middle, right):
        axes.legend(loc="lower right", frameon=False)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small sky and few steps")
    parser.add_argument("--data", type=Path, help="real files: SDSS in DIR/spectra/sdss")
    chosen = parser.parse_args()
    size = {"n_fields": 1, "n_steps": 240} if chosen.quick else {}
    begun = time.perf_counter()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    result = run(chosen.folder, **size, data=chosen.data)
    assert result is not None
    print(
        f"test sky: true spectrum in the first 5 of {len(result.test_ranks)} for "
        f"{result.test_top5:.0%} of images, by chance {result.chance:.0%}"
    )
    for kind, rank in result.real_ranks:
        print(f"real {kind}: true spectrum is number {rank + 1} of {result.n_real_spectra}")
    draw(result, chosen.folder / "training.png")
    print(f"{chosen.folder / 'training.png'}   {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
