"""The first pass of a build: read every unit of input, check it, keep it in the spool."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tqdm import tqdm

from astropile._version import __version__
from astropile.batch import check_batch
from astropile.errors import BuildError, NativeFileError, SchemaError
from astropile.facts import survey_to_json
from astropile.hdf5.writer import check_attributes
from astropile.manifest import dump_json
from astropile.schema import Rejected, Survey, Unit
from astropile.spool import Spool, SpoolWriter

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


def read_units(
    survey: Survey, units: list[Unit], native: Path, folder: Path, *, bars: bool
) -> dict[str, int]:
    """
    Read every unit that is not yet in the spool.

    Parameters
    ----------
    survey : Survey
        The survey.
    units : list of Unit
        Its pieces of input.
    native : Path
        The folder they are in.
    folder : Path
        The spool's folder.
    bars : bool
        Show a progress bar.

    Returns
    -------
    dict of str to int
        Lengths of the tree's dimensions.

    Raises
    ------
    SchemaError
        If a batch is not what the survey declares, or a shared column differs.
    OSError
        If the disk fails.
    """
    folder.mkdir(exist_ok=True)
    Spool.clean(folder)
    done = Spool(folder)
    kept = {unit.key for unit in units if _is_done(done.units.get(unit.key), unit, native)}
    todo = [unit for unit in units if unit.key not in kept]
    whole = _Whole(survey)
    for key in sorted(kept):
        whole.sizes.update(done.units[key]["sizes"])
        for block, *_ in done.units[key]["spans"]:
            own: _Shared = {}
            whole.note({name: done.column(block, name) for name in whole.names}, own, key)
            whole.merge(own, key)
    del done
    writer = SpoolWriter(folder, whole.names)
    try:
        for unit in tqdm(todo, desc="read", unit="unit", disable=not bars, leave=False):
            rejected: list[Rejected] = []
            failed = False
            inputs = inputs_of(unit, native)
            sizes = dict(whole.sizes)
            own = {}
            try:
                for item in survey.read(unit):
                    if isinstance(item, Rejected):
                        rejected.append(item)
                    else:
                        batch = check_batch(survey, item, sizes, unit.key)
                        whole.note(batch, own, unit.key)
                        writer.add_batch(batch)
            except (NativeFileError, EOFError) as error:
                # Nothing of a unit that failed is kept, so nothing of it counts.
                writer.drop_unit()
                failed = True
                rejected = [Rejected(unit.key, f"unusable input: {error}")]
            else:
                whole.merge(own, unit.key)
                whole.sizes = sizes
            writer.finish_unit(
                unit.key, inputs=inputs, rejected=rejected, sizes=whole.sizes, failed=failed
            )
        writer.close()
    except BaseException:
        writer.stop()
        raise
    return whole.sizes


class _Whole:
    """What must be the same in all units of a build: tree dimensions and shared columns."""

    def __init__(self, survey: Survey) -> None:
        self.names = [column.name for column in survey.columns if column.shared]
        self.sizes: dict[str, int] = {}
        self._shared: _Shared = {}

    def note(self, batch: Mapping[str, Any], own: _Shared, unit: str) -> None:
        """Compare the shared columns of a batch with those of its unit so far."""
        _agree(own, {name: (np.asarray(batch[name]).tobytes(), unit) for name in self.names}, unit)

    def merge(self, own: _Shared, unit: str) -> None:
        """Compare a unit that was read to its end with all before it."""
        _agree(self._shared, own, unit)


def _agree(before: _Shared, now: _Shared, unit: str) -> None:
    for name, (content, _) in now.items():
        first, where = before.setdefault(name, (content, unit))
        if content != first:
            raise SchemaError(
                name, f"one value for all objects, that of {where}", "another value", unit
            )


def _is_done(before: Mapping[str, Any] | None, unit: Unit, native: Path) -> bool:
    """Tell whether a unit was read, to its end, from files that are still the same."""
    return (
        before is not None and not before["failed"] and before["inputs"] == inputs_of(unit, native)
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
