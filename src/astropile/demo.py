"""
The whole way on a small sky: native files, trees, validation, matches, pictures.

The same galaxies are written as HSC, DECaLS, SDSS, DESI and MaNGA would have published them, each
with its own depth and targets; what is done with them afterwards is what one does with real
files. Where real survey files are at hand, they go the same way.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile._version import __version__
from astropile.build import build_catalog
from astropile.catalog import Catalog, open_catalog
from astropile.errors import BuildError
from astropile.findings import FORMAT_RULES
from astropile.matched import save_match
from astropile.publish import local_path, publish_bytes
from astropile.simulate.galaxies import BANDS, Galaxies, make_galaxies
from astropile.surveys import get_survey
from astropile.validate import validate_catalog

N_GALAXIES: Final = 30
SEED: Final = 20
FIELD: Final = {"ra": 149.40, "dec": 2.10}
"""Centre of the simulated field [deg]: the border of two partitions runs through it."""

RADIUS_ARCSEC: Final = 1.0
MARKER: Final = ".astropile-demo.json"

SURVEYS: Final = ("hsc", "decals", "sdss", "desi", "manga")
PAIRS: Final = (("hsc", "decals"), ("sdss", "desi"), ("hsc", "desi"), ("manga", "sdss"))

REAL_TREES: Final = {
    "sdss_imaging": "spectra/sdss",
    "sdss": "spectra/sdss",
    "desi": "spectra/desi",
    "hsc_stamps": "images/hsc",
    "hst": "images/hst",
    "manga": "ifu/manga",
}
"""Survey to the folder of its real files, below the folder of all of them."""

REAL_RELEASES: Final = {"desi": "several", "manga": "DR15", "sdss": "several"}
"""Releases of the real files, where they are not the ones that the surveys declare."""

REAL_PAIRS: Final = (("sdss_imaging", "sdss"), ("hsc_stamps", "hst"), ("sdss", "desi"))


@dataclass(frozen=True)
class TreeMade:
    """
    A tree of the demo.

    Parameters
    ----------
    path : Path
        Its folder.
    n_objects, n_rejected : int
        Objects taken and not taken.
    problems : tuple of str
        Rules of the format that it breaks.
    remarks : tuple of str
        Values that cannot be true: so the survey's files have them.
    reused : bool
        Whether an earlier run had built it.
    seconds : float
        Time it took.
    """

    path: Path
    n_objects: int
    n_rejected: int
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    reused: bool
    seconds: float


@dataclass(frozen=True)
class MatchMade:
    """
    A matched sample of the demo.

    Parameters
    ----------
    path : Path
        Its folder.
    n_pairs : int
        Pairs found.
    median_arcsec : float or None
        Median separation [arcsec].
    seconds : float
        Time it took.
    """

    path: Path
    n_pairs: int
    median_arcsec: float | None
    seconds: float


@dataclass
class DemoReport:
    """
    What a demo left behind.

    Parameters
    ----------
    folder : Path
        Where.
    trees : list of TreeMade
        Trees, valid if they have no problems.
    matches : list of MatchMade
        Matched samples.
    figures : list of Path
        Pictures.
    skipped : list of str
        What was left out, and why.
    next_commands : list of str
        What to try now.
    seconds : float
        Time it took.
    """

    folder: Path
    trees: list[TreeMade] = field(default_factory=list)
    matches: list[MatchMade] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    next_commands: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run_demo(
    folder: str | os.PathLike[str],
    *,
    real_data: str | os.PathLike[str] | None = None,
    n_galaxies: int = N_GALAXIES,
    progress: bool | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> DemoReport:
    """
    Simulate a small sky, build and match its surveys, draw the objects.

    Parameters
    ----------
    folder : path
        Where everything goes. A folder of an earlier demo: what is finished is used again.
    real_data : path, optional
        Folder of real survey files, laid out as `REAL_TREES` says.
    n_galaxies : int
        How many galaxies.
    progress : bool, optional
        Show progress bars on standard error; by default where that is a terminal.
    say : callable
        Is told, line by line, what was done.

    Returns
    -------
    DemoReport
        What was made.

    Raises
    ------
    BuildError
        If the folder is not empty and not that of a demo of this version and size.
    """
    begun = time.monotonic()
    demo = _Demo(local_path(folder), progress=progress, say=say)
    demo.claim(n_galaxies)
    galaxies = make_galaxies(n_galaxies, seed=SEED, **FIELD)
    say(
        f"{n_galaxies} simulated galaxies around RA {FIELD['ra']:.2f}, Dec {FIELD['dec']:.2f}, "
        f"as {len(SURVEYS)} surveys would have published them"
    )
    for name in SURVEYS:
        native = demo.simulate(name, galaxies.select(targets(name, galaxies)))
        demo.build(name, native, demo.folder / name)
    demo.draw_field([demo.folder / name for name in SURVEYS])
    for left, right in PAIRS:
        demo.match(demo.folder / left, demo.folder / right, demo.folder / "matched")
    if real_data is not None:
        demo.real(local_path(real_data))
    demo.report.next_commands = _next_commands(demo.folder)
    demo.report.seconds = time.monotonic() - begun
    return demo.report


def targets(survey: str, galaxies: Galaxies) -> NDArray[np.intp]:
    """
    Choose the galaxies that a survey has.

    Parameters
    ----------
    survey : str
        One of `SURVEYS`.
    galaxies : Galaxies
        The sky.

    Returns
    -------
    ndarray of int
        Rows: SDSS and DESI take what is brighter than their limits in r, 17.77 and 19.5; MaNGA
        some nearby ones; the images of HSC and DECaLS miss a few each.
    """
    n = len(galaxies)
    r_mag = galaxies.mag[:, BANDS.index("r")]
    match survey:
        case "hsc":
            return np.arange(n)[: n - n // 10]
        case "decals":
            return np.arange(n)[n // 10 :]
        case "sdss":
            return np.flatnonzero(r_mag < 17.77)
        case "desi":
            return np.flatnonzero((r_mag > 16.5) & (r_mag < 19.5))
        case "manga":
            bright = np.flatnonzero(r_mag < 17.77)
            return np.sort(bright[np.argsort(galaxies.z[bright])[: max(1, n // 10)]])
    raise ValueError(f"no simulated survey {survey!r}")


class _Demo:
    """A demo on its way."""

    def __init__(self, folder: Path, *, progress: bool | None, say: Callable[[str], None]) -> None:
        self.folder, self.progress, self.say = folder, progress, say
        self.report = DemoReport(folder)
        self.new: set[Path] = set()
        """Trees that this run has built: what is made of others is finished."""

    def claim(self, n_galaxies: int) -> None:
        """Take the folder: a new one, or that of the same demo before."""
        marker = self.folder / MARKER
        plan = {"version": __version__, "n_galaxies": n_galaxies, "seed": SEED, **FIELD}
        if marker.is_file():
            try:
                before = json.loads(marker.read_bytes())
            except ValueError:
                before = None
            if before != plan:
                raise BuildError(
                    str(self.folder), "it holds another demo; remove it, or name another folder"
                )
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            raise BuildError(
                str(self.folder), "it is not empty and no demo made it; name another folder"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        publish_bytes(marker, json.dumps(plan).encode())

    def simulate(self, name: str, galaxies: Galaxies) -> Path:
        """Write a survey's native files, aside until they are whole."""
        native = self.folder / "native" / name
        if not native.is_dir():
            aside = native.with_name(f".{name}.writing")
            shutil.rmtree(aside, ignore_errors=True)
            module = importlib.import_module(f"astropile.simulate.{name}")
            options = {"side": 16} if name == "manga" else {}
            module.write(aside, galaxies, seed=SEED, **options)
            aside.rename(native)
        return native

    def build(
        self,
        name: str,
        native: Path,
        tree: Path,
        tolerance: float = 0.0,
        release: str | None = None,
    ) -> None:
        """Build a tree and validate it."""
        begun = time.monotonic()
        subset = get_survey(name).subset
        reused = (tree / subset).is_dir()
        if not reused:
            build_catalog(
                name, native, tree, release=release, tolerance=tolerance, progress=self.progress
            )
            self.new.add(tree)
        checked = validate_catalog(tree, subset, progress=self.progress)
        catalog = open_catalog(tree, subset)
        rejected, reason = _count_rejected(catalog)
        made = TreeMade(
            catalog.path,
            len(catalog),
            rejected,
            tuple(str(p) for p in checked.problems if p.rule in FORMAT_RULES),
            tuple(str(p) for p in checked.problems if p.rule not in FORMAT_RULES),
            reused,
            time.monotonic() - begun,
        )
        self.report.trees.append(made)
        self.say(
            f"  {tree.name:<13} {len(catalog):4d} objects, {rejected} rejected, "
            f"{len(catalog.root.partitions)} partitions, "
            f"{'valid' if not made.problems else f'{len(made.problems)} PROBLEMS'}"
            f"{', from an earlier run' if reused else ''}   {made.seconds:.1f} s"
        )
        if reason:
            self.say(f"  {'':<13} rejected: {reason}")
        label = tree.relative_to(self.folder).as_posix().replace("/", "_")
        self.picture(label, lambda: _draw_object(catalog), again=not reused)

    def match(self, left: Path, right: Path, folder: Path) -> None:
        """Match two trees, save the pairs, draw some of them."""
        from astropile.hf import cross_match_datasets, load_dataset_builder

        begun = time.monotonic()
        catalogs = open_catalog(left), open_catalog(right)
        one, other = (
            load_dataset_builder(data_dir=str(catalog.path.parent), config_name=catalog.subset)
            for catalog in catalogs
        )
        matched = cross_match_datasets(one, other, match_radius=RADIUS_ARCSEC)
        path = folder / f"{left.name}_x_{right.name}"
        again = left in self.new or right in self.new
        if again or not path.is_dir():
            save_match(matched, path, overwrite=True)
        separation = np.asarray(matched.catalog["separation"], float)
        median = float(np.median(separation)) if len(separation) else None
        made = MatchMade(path, len(separation), median, time.monotonic() - begun)
        self.report.matches.append(made)
        apart = "" if median is None else f", median separation {median:.3f}″"
        self.say(f"  {path.name:<28} {made.n_pairs:4d} pairs{apart}   {made.seconds:.1f} s")
        prefix = "real_" if folder.parent != self.folder else ""
        if len(separation):
            label = f"{prefix}{path.name}"
            self.picture(label, lambda: _draw_matches(matched, catalogs), again=again)
        if len(separation) >= 3:
            label = f"{prefix}{path.name}_separations"
            self.picture(label, lambda: _draw_separations(matched, catalogs), again=again)

    def real(self, data: Path) -> None:
        """Do the same with real files, those that are there."""
        self.say(f"real survey files in {data}")
        folder = self.folder / "real"
        built = []
        for name, below in REAL_TREES.items():
            if not (data / below).is_dir():
                self.report.skipped.append(f"{name}: no folder {data / below}")
                self.say(f"  {name:<13} skipped: no folder {below}")
                continue
            # Some of these files are broken or of other kinds on purpose.
            release = REAL_RELEASES.get(name)
            self.build(name, data / below, folder / name, tolerance=1.0, release=release)
            built.append(name)
        for left, right in REAL_PAIRS:
            if left in built and right in built:
                self.match(folder / left, folder / right, folder / "matched")

    def draw_field(self, trees: Sequence[Path]) -> None:
        """Draw where the objects of all surveys are."""
        again = not self.new.isdisjoint(trees)
        self.picture("field", lambda: _draw_field(trees), again=again)

    def picture(self, name: str, draw: Callable[[], Any], *, again: bool) -> None:
        """Write a picture, if it is not there or shows what was made anew."""
        from astropile.plot import save_figure

        path = self.folder / "figures" / f"{name}.png"
        if again or not path.is_file():
            path.parent.mkdir(exist_ok=True)
            save_figure(draw(), path)
        self.report.figures.append(path)


# --------------------------------------------------------------------------------------
# Pictures


def _draw_object(catalog: Catalog) -> Any:
    """Draw the object of a tree that has most to see."""
    from astropile.plot import Side, draw_object
    from astropile.view import standard_records

    example = standard_records(catalog.standard([_showable(catalog)]))[0]
    return draw_object(Side(catalog.survey, example))


def _draw_matches(matched: Any, catalogs: Sequence[Catalog]) -> Any:
    """Draw the first pairs."""
    from astropile.plot import Matched, Side, draw_matches

    names = _names(matched)
    dataset = matched.dataset.with_format("astropile")
    rows = []
    for number in range(min(3, len(dataset))):
        pair = dataset[number]
        sides = [
            Side(catalog.survey, pair[name]) for name, catalog in zip(names, catalogs, strict=True)
        ]
        rows.append(Matched(tuple(sides), float(pair["separation"])))
    return draw_matches(rows, " and ".join(names))


def _draw_separations(matched: Any, catalogs: Sequence[Catalog]) -> Any:
    """Draw how far apart the positions of all pairs are."""
    from astropile.plot import draw_separations

    table, (left, right) = matched.catalog, _names(matched)
    east = (table[f"ra_{right}"] - table[f"ra_{left}"] + 180) % 360 - 180
    north = table[f"dec_{right}"] - table[f"dec_{left}"]
    flat = np.asarray(east * np.cos(np.deg2rad(table[f"dec_{left}"])), float)
    offsets = (flat * 3600, np.asarray(north, float) * 3600)
    one, other = (f"{catalog.survey.survey} {catalog.survey.release}" for catalog in catalogs)
    separation = np.asarray(table["separation"], float)
    return draw_separations((one, other), offsets, separation, RADIUS_ARCSEC)


def _names(matched: Any) -> tuple[str, str]:
    return matched.catalog.meta["left"]["name"], matched.catalog.meta["right"]["name"]


def _draw_field(trees: Sequence[Path]) -> Any:
    from astropile.plot import draw_sky

    catalogs = [open_catalog(tree) for tree in trees]
    positions = {catalog.survey.survey: catalog.positions() for catalog in catalogs}
    return draw_sky(positions, "the simulated field")


def _showable(catalog: Catalog) -> int:
    """Choose the spectrum of the best signal to noise with a redshift; else the brightest."""
    from astropile.view import standard_records, view_names

    names = [name for name in ("z", "mag", "spectrum") if name in view_names(catalog.survey)]
    if not names:
        return len(catalog) - 1
    rows = standard_records(catalog.standard(np.arange(len(catalog)), names))
    return max(range(len(rows)), key=lambda number: _worth(rows[number]))


def _worth(row: Mapping[str, Any]) -> tuple[bool, float]:
    def number(name: str) -> float:
        return np.nan if row.get(name) is None else float(row[name])

    worth = -number("mag")
    if spectrum := row.get("spectrum"):
        flux, ivar = (np.asarray(spectrum[name], float) for name in ("flux", "ivar"))
        good = np.isfinite(flux) & (ivar > 0)
        worth = float(np.median(flux[good] * np.sqrt(ivar[good]))) if good.any() else np.nan
    return bool(np.isfinite(number("z"))), worth if np.isfinite(worth) else -np.inf


def _count_rejected(catalog: Catalog) -> tuple[int, str]:
    """Count what was rejected, and say the most frequent reason."""
    from astropile.layout import MANIFEST_DIR, REJECTED_FILE

    path = catalog.path / MANIFEST_DIR / REJECTED_FILE
    with path.open(encoding="utf-8") as lines:
        reasons = Counter[str]()
        for entry in map(json.loads, lines):
            reasons[str(entry["reason"])] += int(entry["count"])
    return reasons.total(), reasons.most_common(1)[0][0] if reasons else ""


def _next_commands(folder: Path) -> list[str]:
    desi = open_catalog(folder / "desi")
    object_id = desi.light(["object_id"])["object_id"][0].as_py()
    return [
        f"astropile info {folder}/hsc",
        f"astropile show {folder}/desi {object_id} -o desi.png",
        f"astropile match {folder}/manga {folder}/decals -o manga_x_decals --radius 1",
    ]
