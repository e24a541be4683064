"""The first pass of a build: read every unit of input, check it, keep it in the spool."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from astropile._version import __version__
from astropile.batch import check_batch
from astropile.build.spool import Spool, SpoolWriter
from astropile.errors import BuildError, NativeFileError, SchemaError
from astropile.facts import survey_to_json
from astropile.hdf5.writer import check_attributes
from astropile.manifest import dump_json
from astropile.schema import Rejected, Survey, Unit

GROUP_NBYTES: Final = 64 * 2**20
"""Units are read and kept together while they are smaller than this, as they lie."""

GROUP_UNITS: Final = 256
"""So many at most."""

_Shared: TypeAlias = dict[str, tuple[bytes, str]]
"""For each shared column its bytes, and the unit they were first met in."""


def check_declaration(survey: Survey, where: str) -> None:
    """
    Find out before anything is read whether a survey can be written.

    Parameters
    ----------
    survey : Survey
        The survey.
    where : str
        The tree to be built, for messages.

    Raises
    ------
    BuildError
        If a unit does not parse, a description is too long for the file, or a fact is not one
        that JSON has.
    """
    from astropy import units

    for column in survey.columns:
        try:
            units.Unit(column.unit)
        except (ValueError, TypeError) as error:
            reason = f"unit {column.unit!r} of column {column.name!r} does not parse"
            raise BuildError(where, reason) from error
    try:
        dump_json(survey_to_json(survey))
        check_attributes(survey)
    except ValueError as error:
        raise BuildError(where, f"survey {survey.name!r} cannot be written: {error}") from error


def reader_hash(survey: Survey) -> str:
    """
    Hash the code that reads a survey's native files.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    str
        SHA-256 of the modules of its functions, and of all modules beside a built-in survey.
    """
    digest = hashlib.sha256(__version__.encode())
    files: set[Path] = set()
    for function in (survey.units, survey.read):
        module = sys.modules.get(getattr(function, "__module__", ""))
        path = getattr(module, "__file__", None)
        if path is not None:
            files.add(Path(path))
            if module is not None and module.__name__.startswith("astropile.surveys."):
                files.update(Path(path).parent.glob("*.py"))
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Reading:
    """
    What the first pass needs: whole in every process that takes part.

    Parameters
    ----------
    survey : Survey
        The survey, its tree's dimensions not yet resolved.
    native : Path
        The folder of native files.
    folder : Path
        The spool's folder.
    """

    survey: Survey
    native: Path
    folder: Path

    def spool(self, units: Sequence[Unit], also: Collection[str] = ()) -> Spool:
        """
        Open what was read of files that are still the same.

        Parameters
        ----------
        units : sequence of Unit
            The units that count.
        also : collection of str
            Keys of others that are read from no file of the survey, and count as they are.

        Returns
        -------
        Spool
            Readings of these, also of those that failed.
        """
        now = {unit.key: inputs_of(unit, self.native) for unit in units}
        paths = {unit.key: unit.paths for unit in units}

        def accept(entry: Mapping[str, Any]) -> bool:
            key = entry["key"]
            return key in also or (
                key in now and not differences(entry["inputs"], now[key], paths[key])
            )

        return Spool(self.folder, accept=accept)


def group_units(units: Sequence[Unit], n_workers: int = 1) -> list[list[Unit]]:
    """
    Cut the list of units into runs that are read, and kept, as one.

    Parameters
    ----------
    units : sequence of Unit
        The units.
    n_workers : int
        How many workers share them.

    Returns
    -------
    list of list of Unit
        Runs of at most `GROUP_UNITS` units, of about `GROUP_NBYTES` of input; shorter where each
        worker would have less than four.
    """
    most = max(1, min(GROUP_UNITS, len(units) // (4 * n_workers) if n_workers > 1 else GROUP_UNITS))
    groups: list[list[Unit]] = [[]]
    n_bytes = 0
    for unit in units:
        if len(groups[-1]) >= most or n_bytes >= GROUP_NBYTES:
            groups.append([])
            n_bytes = 0
        groups[-1].append(unit)
        n_bytes += sum(path.stat().st_size for path in unit.paths if path.exists())
    return groups if units else []


def read_group(reading: Reading, units: Sequence[Unit], whole: Whole | None = None) -> str | None:
    """
    Read some units into a segment of the spool.

    Memory: one batch of `Survey.read` and 16 MiB.

    Parameters
    ----------
    reading : Reading
        What is read, and where to.
    units : sequence of Unit
        The units.
    whole : Whole, optional
        What all units so far agree on; these must agree with it and are added.

    Returns
    -------
    str or None
        Name of the segment; None if it would be empty.

    Raises
    ------
    SchemaError
        If a batch is not what the survey declares, or a shared column differs. Units read to
        their end before are kept, as after any other error.
    OSError
        If the disk fails.
    """
    reading.folder.mkdir(parents=True, exist_ok=True)
    whole = whole or Whole(reading.survey)
    writer = SpoolWriter(reading.folder, whole.names)
    try:
        for unit in units:
            _read_unit(reading, unit, whole, writer)
        return writer.close()
    except BaseException:
        writer.stop()
        raise


def _read_unit(reading: Reading, unit: Unit, whole: Whole, writer: SpoolWriter) -> None:
    rejected: list[Rejected] = []
    failed = False
    before = inputs_of(unit, reading.native)
    sizes = dict(whole.sizes)
    own: _Shared = {}
    try:
        for item in reading.survey.read(unit):
            if isinstance(item, Rejected):
                rejected.append(item)
            else:
                batch = check_batch(reading.survey, item, sizes, unit.key)
                whole.note(batch, own, unit.key)
                writer.add_batch(batch)
        inputs = with_hashes(before, unit)
        _check_same(unit, reading.native, before)
    except (NativeFileError, EOFError) as error:
        # Nothing of a unit that failed is kept, so nothing of it counts.
        writer.drop_unit()
        failed, inputs = True, with_hashes(before, unit)
        rejected = [Rejected(unit.key, f"unusable input: {error}")]
    else:
        whole.merge(own, unit.key)
        whole.sizes = sizes
    writer.finish_unit(unit.key, inputs=inputs, rejected=rejected, sizes=sizes, failed=failed)


def _check_same(unit: Unit, native: Path, before: Mapping[str, Any]) -> None:
    if inputs_of(unit, native) != before:
        raise NativeFileError(unit.key, "files that stay as they are", "a change while reading")


class Whole:
    """
    What must be the same in all units of a build: tree dimensions and shared columns.

    Parameters
    ----------
    survey : Survey
        The survey.

    Attributes
    ----------
    names : list of str
        The shared columns.
    sizes : dict of str to int
        Lengths of the tree's dimensions.
    """

    def __init__(self, survey: Survey) -> None:
        self.names = [column.name for column in survey.columns if column.shared]
        self.sizes: dict[str, int] = {}
        self._survey = survey
        self._shared: _Shared = {}
        self._met: dict[str, str] = {}

    def note(self, batch: Mapping[str, Any], own: _Shared, unit: str) -> None:
        """
        Compare the shared columns of a batch with those of its unit so far.

        Parameters
        ----------
        batch : mapping
            The batch.
        own : dict
            What the unit has so far; added to.
        unit : str
            Its key.
        """
        _agree(own, {name: (np.asarray(batch[name]).tobytes(), unit) for name in self.names}, unit)

    def merge(self, own: _Shared, unit: str) -> None:
        """
        Compare a unit that was read to its end with all before it.

        Parameters
        ----------
        own : dict
            What `note` gathered.
        unit : str
            Its key.
        """
        _agree(self._shared, own, unit)

    def add(self, spool: Spool) -> None:
        """
        Compare all units of a spool with one another and with all before.

        Parameters
        ----------
        spool : Spool
            Units that were read.

        Raises
        ------
        SchemaError
            If two differ.
        """
        for key in sorted(spool.units):
            entry = spool.units[key]
            if not entry["failed"]:
                self._add_sizes(entry["sizes"], key)
            for block in sorted({block for block, *_ in entry["spans"]}):
                own: _Shared = {}
                self.note({name: spool.column(block, name) for name in self.names}, own, key)
                self.merge(own, key)

    def _add_sizes(self, sizes: Mapping[str, int], unit: str) -> None:
        for name, size in sizes.items():
            first = self.sizes.setdefault(name, size)
            where = self._met.setdefault(name, unit)
            if size != first:
                column = next(c.name for c in self._survey.columns if name in c.shape)
                raise SchemaError(
                    column, f"{name} of length {first}, that of {where}", f"{size}", unit
                )


def _agree(before: _Shared, now: _Shared, unit: str) -> None:
    for name, (content, _) in now.items():
        first, where = before.setdefault(name, (content, unit))
        if content != first:
            raise SchemaError(
                name, f"one value for all objects, that of {where}", "another value", unit
            )


def inputs_of(unit: Unit, native: Path) -> dict[str, Any]:
    """
    Say what a unit is read from, so that a change is noticed.

    Parameters
    ----------
    unit : Unit
        The unit.
    native : Path
        The folder of native files.

    Returns
    -------
    dict
        ``files``: path, size and time of change of each; ``options``: a hash.
    """
    files = []
    for path in unit.paths:
        below = path.relative_to(native).as_posix() if path.is_relative_to(native) else path.name
        stat = path.stat() if path.exists() else None
        files.append(
            {
                "path": below,
                "size": None if stat is None else stat.st_size,
                "mtime_ns": None if stat is None else stat.st_mtime_ns,
            }
        )
    text = json.dumps(dict(unit.options), sort_keys=True, default=repr)
    return {"files": files, "options": hashlib.sha256(text.encode()).hexdigest()}


def with_hashes(inputs: Mapping[str, Any], unit: Unit) -> dict[str, Any]:
    """
    Add the SHA-256 of each file to what `inputs_of` says.

    Parameters
    ----------
    inputs : mapping
        What it said.
    unit : Unit
        The unit.

    Returns
    -------
    dict
        The same, with ``sha256`` of each file; None for what is no file.
    """
    files = [
        {**entry, "sha256": _hash_of(path)}
        for entry, path in zip(inputs["files"], unit.paths, strict=True)
    ]
    return {**inputs, "files": files}


def _hash_of(path: Path) -> str | None:
    """Hash a file; one that many units are read from is hashed once in a process."""
    if not path.is_file():
        return None
    stat = path.stat()
    # Who sets the time of change back cannot set the one of the inode.
    return _hash_once(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=1024)
def _hash_once(path: Path, _state: tuple[int, ...]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], paths: Sequence[Path]
) -> list[str]:
    """
    Say how the files of a unit differ from what they were.

    A file of another time of change is hashed, where it is known what it was.

    Parameters
    ----------
    before, now : mapping
        What `inputs_of` or `with_hashes` said then, and what `inputs_of` says now.
    paths : sequence of Path
        The files now.

    Returns
    -------
    list of str
        What differs; empty if nothing does.
    """
    found = [] if before["options"] == now["options"] else ["other options"]
    were = {entry["path"]: entry for entry in before["files"]}
    for entry, path in zip(now["files"], paths, strict=True):
        was = were.pop(entry["path"], None)
        if was is None:
            found.append(f"{entry['path']} is new")
        elif was["size"] != entry["size"]:
            found.append(f"{entry['path']} had {_size(was)}, has {_size(entry)}")
        elif was["mtime_ns"] != entry["mtime_ns"] and (was.get("sha256") != _hash_of(path)):
            found.append(f"{entry['path']} was changed")
    return found + [f"{path} is no longer there" for path in were]


def _size(entry: Mapping[str, Any]) -> str:
    return "no size" if entry["size"] is None else f"{entry['size']} bytes"
