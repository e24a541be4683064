"""
Make of a match a tree of its own, valid like any other and matched again like any other.

A row of the tree is a row of the match. Of every side it has all native columns, read from
where they lie and written a shard at a time; where a side has no part, a flag says so. What it
was made of, and under which terms, is in the tree.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from astropile.build import build_catalog
from astropile.card import refresh_card
from astropile.catalog import Catalog
from astropile.errors import BuildError, FormatError, LicenceWarning, MatchError
from astropile.healpix import ang2pix
from astropile.layout import ROOT_FILE, check_subset
from astropile.manifest import read_root, root_file
from astropile.match.contents import Content, hash_of_rows
from astropile.match.merged import (
    absent_values,
    entry_column,
    entry_counts,
    licence_flags,
    merged_survey,
    namespace,
)
from astropile.match.sample import MatchedSample
from astropile.publish import exchange, local_path, publish_bytes, sync_folder
from astropile.schema import Column, Ragged, Unit

if TYPE_CHECKING:
    from astropile.build import BuildReport

SHARD_NBYTES: Final = 512 * 2**20
"""A partition is split into shards of at most about this size, before compression."""

SUBSET: Final = "matched"
"""Name of the subset, if none is given."""

MATCH: Final = "match"
"""In `astropile.json`, under ``built``: how the rows were matched, and of which sources."""

BATCH_NBYTES: Final = 32 * 2**20
"""About how much is read at a time."""

MOST_ROWS: Final = 8192
"""So many rows are read at a time at most."""

Ints = NDArray[np.int64]


def save_tree(
    sample: MatchedSample,
    tree: str | os.PathLike[str],
    *,
    subset: str = SUBSET,
    order: int | None = None,
    layout: Literal["compact", "fast"] = "compact",
    shard_nbytes: int = SHARD_NBYTES,
    overwrite: bool = False,
    progress: bool | None = None,
) -> BuildReport:
    """
    Package the matched objects as a tree of their own.

    Parameters
    ----------
    sample : MatchedSample
        What `match_surveys` gave.
    tree : path
        The data folder; the subset is made in it.
    subset : str
        Name of the subset.
    order : int, optional
        HEALPix order of the partitions; by default that of the first side.
    layout, shard_nbytes, overwrite, progress
        As for `build_catalog`.

    Returns
    -------
    BuildReport
        What was done.

    Raises
    ------
    MatchError
        If there is no row, a row has no position, a table has a column that a tree cannot hold,
        or names of the sides come to the same.
    BuildError
        If the subset is there already, another build of it runs, or an interrupted one was of
        another match.
    OSError
        If the disk fails. In every case nothing stands under the final name.

    Warns
    -----
    LicenceWarning
        If the terms of a source forbid commercial use or derivatives, or are not known. That is
        written into the tree too.

    Notes
    -----
    Column ``FLUX`` of side ``desi`` is the column ``desi.FLUX``, its standard name ``spectrum``
    is ``spectrum_desi``, as in a dataset with ``flat=True``; names of sides with other characters
    than letters, digits and underscores get underscores. Values, units, descriptions, bits and
    the polarity of masks stay as they are. Of the match there are ``ra``, ``dec`` (mean
    direction), ``separation`` or ``separation_<side>`` [arcsec], and for each side
    ``has_<side>``, ``row_<side>`` (its row number in the source, -1 for none) and
    ``n_rows_<side>`` (in how many rows of this tree the same object is). Where a side has no
    part its columns hold NaN, 0, False, empty text, nothing in ragged columns, and all bad in
    masks; its lists of records (images, spaxels) are empty in the standard view.
    ``observation_id`` joins those of the sides.

    Memory is that of a build: one shard twice, and some hundred bytes for each row. Where it was
    stopped, the same call goes on.
    """
    if not len(sample):
        raise MatchError("the match", "at least one row", "none")
    if not (np.isfinite(sample.ra) & np.isfinite(sample.dec)).all():
        n_bad = int(np.count_nonzero(~(np.isfinite(sample.ra) & np.isfinite(sample.dec))))
        raise MatchError("the match", "a position in each row", f"{n_bad} rows without one")
    final = local_path(tree) / check_subset(subset)
    if final.exists() and not overwrite:
        raise BuildError(str(final), "it exists already; overwrite it, or name another subset")
    job = _Job(sample, subset)
    flags = licence_flags(job.licences)
    if flags:
        warnings.warn(f"{final}: {'; '.join(flags)}", LicenceWarning, stacklevel=2)
    aside = final.with_name(f".{subset}.{job.fingerprint[:16]}.matching")
    aside.mkdir(parents=True, exist_ok=True)
    report = build_catalog(
        job.survey,
        aside,
        aside,
        subset=subset,
        order=sample.order if order is None else order,
        layout=layout,
        shard_nbytes=shard_nbytes,
        duplicates="error",
        tolerance=0.0,
        # One that a run completed and could not name any more.
        overwrite=True,
        progress=progress,
    )
    root = read_root(report.path)
    root = dataclasses.replace(root, built={**root.built, MATCH: job.origin(flags)})
    publish_bytes(report.path / ROOT_FILE, root_file(root))
    replace_folder(report.path, final, overwrite=overwrite)
    for left_over in final.parent.glob(f".{subset}.*.matching"):
        shutil.rmtree(left_over, ignore_errors=True)
    refresh_card(final.parent)
    return dataclasses.replace(report, path=final)


def replace_folder(made: Path, final: Path, *, overwrite: bool) -> None:
    """
    Give a finished folder its name; one that has it goes, and comes back if that fails.

    Parameters
    ----------
    made : Path
        The folder, on the same file system.
    final : Path
        Its name.
    overwrite : bool
        Replace a folder that has it.

    Raises
    ------
    BuildError
        If there is one and it is not to be replaced.
    """
    replaced = final.with_name(f".{final.name}.replaced")
    if not final.exists():
        made.rename(final)
    elif not overwrite:
        raise BuildError(str(final), "it was made by another meanwhile")
    elif exchange(made, final):
        shutil.rmtree(made, ignore_errors=True)
    else:
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
        try:
            made.rename(final)
        except OSError:
            replaced.rename(final)
            raise
    sync_folder(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def read_sources(catalog: Catalog) -> dict[str, Any]:
    """
    Read of a tree of matched objects what it was made of.

    Parameters
    ----------
    catalog : Catalog
        A tree that `save_tree` made.

    Returns
    -------
    dict
        ``match``: how it was matched. ``sources``: for each side its name, its survey, release,
        subset and snapshot, its licence, and how many of its objects there are.

    Raises
    ------
    FormatError
        If it is no such tree.
    """
    told = catalog.root.built.get(MATCH)
    if not isinstance(told, dict) or set(told) != {MATCH, "sources"}:
        raise FormatError(str(catalog.path), "a tree made of a match", "another")
    return told


class _Job:
    """A match on its way into a tree: the declaration, and the values row by row."""

    def __init__(self, sample: MatchedSample, subset: str) -> None:
        self._sample = sample
        names = [namespace(name) for name in sample.sides]
        if len(set(names)) < len(names):
            raise MatchError("names of the sides", "names that differ", ", ".join(sample.sides))
        sides = dict(zip(names, sample.sides.values(), strict=True))
        self._contents: dict[str, Content] = {n: side.content() for n, side in sides.items()}
        self._absent = {name: absent_values(content) for name, content in self._contents.items()}
        self._rows = dict(zip(names, sample.rows.values(), strict=True))
        self._own = self._own_columns()
        observed = self._own["observation_id"]
        if len(np.unique(observed)) < len(observed):
            raise MatchError("identifiers of the pairs", "each once", "one twice")
        self._order = np.lexsort((observed, ang2pix(sample.ra, sample.dec, 29)))
        self.licences = {n: str(c.facts["licence"]) for n, c in self._contents.items()}
        declared = merged_survey(
            self._contents,
            self._declared(),
            subset=subset,
            matched=self._sentence(),
            partial={name for name, rows in self._rows.items() if (rows < 0).any()},
        )
        self.survey = dataclasses.replace(declared, units=lambda _: self.units(), read=self._read)
        self.fingerprint = hash_of_rows(*self._rows.values(), *self._own.values())

    def _sentence(self) -> str:
        meta = self._sample.catalog.meta
        first, *others = self._contents
        by = ", ".join(f"{n} by {column}" for n, column in meta.get("on", {}).items())
        moved = ", ".join(f"{n} of {when}" for n, when in meta.get("epochs", {}).items())
        words = [
            f"find {meta['find']}",
            f"join {meta['join']}",
            f"anchor {meta['anchor']}" if meta.get("anchor") else "",
            f"matched by identifier: {by}" if by else "",
            f"moved to where they were seen: {moved}" if moved else "",
        ]
        return (
            f"Objects of {first} with those of {' and '.join(others)} within "
            f"{meta['match_radius_arcsec']:g} arcsec ({'; '.join(word for word in words if word)})."
        )

    # -- columns of the match itself

    def _own_columns(self) -> dict[str, NDArray[Any]]:
        sample, table = self._sample, self._sample.catalog
        objects, observed = self._identifiers()
        own: dict[str, NDArray[Any]] = {
            "object_id": objects,
            "observation_id": observed,
            "ra": sample.ra,
            "dec": sample.dec,
            **sample.separations,
        }
        if "chance_probability" in table.colnames:
            chance = table["chance_probability"]
            own["chance_probability"] = np.ma.filled(np.ma.asarray(chance), np.nan)
        for name, rows in self._rows.items():
            there = rows >= 0
            counts = np.zeros(len(rows), np.int64)
            _, where, times = np.unique(rows[there], return_inverse=True, return_counts=True)
            counts[there] = times[where]
            own |= {f"has_{name}": there, f"row_{name}": rows, f"n_rows_{name}": counts}
            if not there.all():
                for n_entries in entry_counts(self._contents[name]):
                    repeated = np.repeat(there[:, None], n_entries, axis=1)
                    own[entry_column(name, n_entries)] = repeated
        return own

    def _identifiers(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make identifiers of those of the sides: of the first there is, and of all together."""
        table = self._sample.catalog
        objects = observed = np.zeros(len(self._sample), "U1")
        for name, (key, side) in zip(self._rows, self._sample.sides.items(), strict=True):
            rows = self._rows[name]
            there = rows >= 0
            numbers = np.char.add("row", rows.astype(np.str_))
            shown = [numbers, numbers]
            if side.tree_rows:
                columns = (table[f"{one}_{key}"] for one in ("object_id", "observation_id"))
                shown = [np.ma.getdata(np.ma.asarray(c)).astype(np.str_) for c in columns]
            objects = np.where((objects == "") & there, shown[0], objects)
            part = np.char.add(f"{name}:", shown[1])
            joint = np.where(observed == "", part, np.char.add(np.char.add(observed, "|"), part))
            observed = np.where(there, joint, observed)
        return np.char.encode(objects, "utf-8"), np.char.encode(observed, "utf-8")

    def _declared(self) -> list[Column]:
        columns = []
        for name, values in self._own.items():
            doc, unit = self._doc(name)
            dtype = f"S{values.dtype.itemsize}" if values.dtype.kind == "S" else str(values.dtype)
            shape = values.shape[1:]
            columns.append(Column(name, dtype, doc, shape=shape, unit=unit, derived=True))
        return columns

    def _doc(self, name: str) -> tuple[str, str]:
        start, _, side = name.partition("_")
        anchor = self._sample.catalog.meta.get("anchor")
        match start:
            case "object":
                return "The object_id of the first side that has a part.", ""
            case "observation":
                return "The observation_id of every side that has a part.", ""
            case "ra" | "dec":
                what = "Right ascension" if start == "ra" else "Declination"
                return f"{what}, ICRS: mean direction of the objects of the row.", "deg"
            case "separation":
                between = f"object of {anchor} and that of {side}" if side else "two objects"
                return f"Angle between the {between}; NaN where one has no part.", "arcsec"
            case "chance":
                return "Probability that an unrelated object lies as near, from the density.", ""
            case "has":
                if self._own[name].ndim > 1:
                    return (
                        f"The same as has_{side.rpartition('_')[0]}, for each entry of lists.",
                        "",
                    )
                return f"Whether {side} has a part in the row.", ""
            case "row":
                return f"Row number of the object in the source {side}, -1 for none.", ""
        _, _, side = side.partition("_")
        return f"In how many rows of this tree the object of {side} is; 0 for none.", ""

    # -- rows

    def units(self) -> list[Unit]:
        """Cut the rows, in the order of the tree, into pieces that are read one after another."""
        step = self._batch_rows()
        snapshots = [c.facts.get("snapshot", c.facts.get("fingerprint")) for c in self._each()]
        units = []
        for number, first in enumerate(range(0, len(self._order), step)):
            chosen = self._order[first : first + step]
            options = {
                "first": first,
                "last": first + len(chosen),
                "rows": hash_of_rows(*(rows[chosen] for rows in self._rows.values())),
                "snapshots": snapshots,
            }
            units.append(Unit(f"{number:08d}", (), options))
        return units

    def _each(self) -> list[Content]:
        return list(self._contents.values())

    def _batch_rows(self) -> int:
        n_bytes = 0.0
        for name, content in self._contents.items():
            there = self._rows[name][self._rows[name] >= 0]
            few = (
                np.unique(there[np.linspace(0, len(there) - 1, 8).astype(int)])
                if len(there)
                else there
            )
            if len(few):
                n_bytes += sum(map(_nbytes, content.read(few).values())) / len(few)
        return int(np.clip(BATCH_NBYTES / max(n_bytes, 1.0), 1, MOST_ROWS))

    def _read(self, unit: Unit) -> Iterator[Mapping[str, Any]]:
        chosen = self._order[unit.options["first"] : unit.options["last"]]
        batch: dict[str, Any] = {name: values[chosen] for name, values in self._own.items()}
        for name, content in self._contents.items():
            rows = self._rows[name][chosen]
            there = rows >= 0
            found = content.read(rows[there])
            for column in content.columns:
                values = found[column.name]
                if not column.shared and not there.all():
                    values = _spread(values, there, self._absent[name][column.name])
                batch[f"{name}.{column.name}"] = values
        yield batch

    # -- what the tree says of itself

    def origin(self, flags: tuple[str, ...]) -> dict[str, Any]:
        """Say how the rows were matched, and what they were made of."""
        meta = self._sample.catalog.meta
        keys = ("match_radius_arcsec", "find", "join", "anchor", "on", "epochs", "summary")
        how = {key: meta[key] for key in keys if meta.get(key) is not None}
        how |= {"n_rows": len(self._sample), "licence_flags": list(flags)}
        sources = []
        contents = zip(self._contents.items(), self._sample.sides.values(), strict=True)
        for (name, content), side in contents:
            rows = self._rows[name]
            counts = {
                "n_objects": len(side),
                "n_matched": len(np.unique(rows[rows >= 0])),
                "n_rows": int(np.count_nonzero(rows >= 0)),
            }
            told = {key: content.described.get(key, "") for key in ("citation", "acknowledgement")}
            sources.append({"name": name, **content.facts, **counts, **told})
        return {MATCH: how, "sources": sources}


def _nbytes(values: Any) -> int:
    if isinstance(values, np.ndarray):
        return values.nbytes
    if isinstance(values, Ragged):
        return values.values.nbytes
    return sum(value.nbytes for value in values)


def _spread(values: Any, there: NDArray[np.bool_], absent: NDArray[Any]) -> Any:
    """Put values where their side has a part, and what stands for none everywhere else."""
    if isinstance(values, np.ndarray):
        whole = np.empty((len(there), *absent.shape), values.dtype)
        whole[~there] = absent
        whole[there] = values
        return whole
    parts = iter(values)
    return [next(parts) if part else absent for part in there]
