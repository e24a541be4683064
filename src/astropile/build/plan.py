"""
What is to be built of what: decided, and compared with what was begun or built before.

Nothing is read of a native file here but its size, its time of change, and, where that differs
from what it was, its hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from astropile.build.ingest import (
    Reading,
    check_declaration,
    differences,
    inputs_of,
    reader_hash,
    with_hashes,
)
from astropile.build.placing import Rules
from astropile.build.spool import Spool
from astropile.errors import BuildError, FormatError, TreeNotFoundError
from astropile.facts import survey_to_json
from astropile.healpix import check_order
from astropile.layout import INPUTS_FILE, MANIFEST_DIR, REJECTED_FILE, check_subset
from astropile.manifest import Root, dump_json, parse_json, read_manifest, read_root
from astropile.publish import local_path, publish_bytes
from astropile.schema import Survey, Unit
from astropile.surveys import get_survey

SHARD_NBYTES: Final = 512 * 2**20
"""A partition is split into shards of at most about this size, before compression."""

TOLERANCE: Final = 0.1
"""Largest share of objects that may be rejected for a fault before a build is refused."""

_SHOWN: Final = 3


@dataclass(frozen=True)
class BuildReport:
    """
    What a build did.

    Parameters
    ----------
    path : Path
        Folder of the subset.
    n_units : int
        Pieces of input.
    n_read, n_written, n_rejected : int
        Objects; the first is the sum of the others.
    reasons : mapping of str to int
        Why objects were rejected, and how many for each.
    n_partitions, n_shards : int
        Folders and files written.
    n_bytes : int
        Size of the shards.
    """

    path: Path
    n_units: int
    n_read: int
    n_written: int
    n_rejected: int
    reasons: Mapping[str, int]
    n_partitions: int
    n_shards: int
    n_bytes: int


@dataclass(frozen=True)
class Plan:
    """
    What is to be built of what.

    Parameters
    ----------
    survey : Survey
        The survey, of the release that the files are of.
    native : Path
        Folder of its native files.
    final : Path
        The subset's final folder.
    order : int
        HEALPix order of the partitions.
    layout : str
        Layout of the shards.
    shard_nbytes : int
        Size above which a partition is split into shards [bytes].
    units : tuple of Unit
        All pieces of input.
    parent : str
        The snapshot that they are added to; empty where a subset is built from nothing.
    """

    survey: Survey
    native: Path
    final: Path
    order: int
    layout: str
    shard_nbytes: int
    units: tuple[Unit, ...]
    parent: str = ""

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What an interrupted build must have had in common to be gone on with."""
        return {
            "survey": hashlib.sha256(dump_json(survey_to_json(self.survey))).hexdigest(),
            "reader": reader_hash(self.survey),
            "native_path": str(self.native.resolve()),
            "subset": self.final.name,
            "order": self.order,
            "layout": self.layout,
            "shard_nbytes": self.shard_nbytes,
            **({"parent": self.parent} if self.parent else {}),
        }

    @cached_property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """What each unit is read from, as `inputs_of` says it."""
        return {unit.key: inputs_of(unit, self.native) for unit in self.units}

    def built(self, n_units: int) -> dict[str, Any]:
        """
        Say with what a subset was built, the same on every machine.

        Parameters
        ----------
        n_units : int
            Pieces of input.

        Returns
        -------
        dict
            What `astropile.json` says of it.
        """
        return {
            "survey": self.parameters["survey"],
            "reader": self.parameters["reader"],
            "shard_size": self.shard_nbytes,
            "n_units": n_units,
        }


def make_plan(
    survey: str | Survey,
    native_path: str | os.PathLike[str],
    tree: str | os.PathLike[str],
    *,
    subset: str | None,
    release: str | None,
    order: int,
    layout: str,
    shard_nbytes: int,
) -> Plan:
    """
    Check what is asked for and list the units of input.

    Parameters
    ----------
    survey : str or Survey
        As for `astropile.build_catalog`, like all others.
    native_path : path
        Folder of native files.
    tree : path
        The survey's data folder.
    subset : str or None
        Name of the subset.
    release : str or None
        Release of the files.
    order : int
        HEALPix order of the partitions.
    layout : str
        Layout of the shards.
    shard_nbytes : int
        Largest size of a shard.

    Returns
    -------
    Plan
        What is to be built.

    Raises
    ------
    BuildError
        If it cannot be.
    """
    chosen = get_survey(survey)
    if release is not None:
        chosen = dataclasses.replace(chosen, release=release)
    native = local_path(native_path, "native files are read from this machine, not from URLs")
    data_dir = local_path(tree)
    final = data_dir / check_subset(subset or chosen.subset)
    order = check_order(order)
    where = str(final)
    if layout not in ("compact", "fast"):
        raise BuildError(where, f"a layout is 'compact' or 'fast', not {layout!r}")
    if shard_nbytes < 1:
        raise BuildError(where, f"a shard has at least one byte, not {shard_nbytes}")
    if not native.exists():
        raise BuildError(where, f"no native files: {native} does not exist")
    if data_dir.exists() and not data_dir.is_dir():
        raise BuildError(where, f"{data_dir} is a file, not a folder")
    check_declaration(chosen, where)
    units = tuple(chosen.units(native))
    if not units:
        raise BuildError(where, f"no file of survey {chosen.name!r} below {native}")
    doubled = [key for key, count in Counter(unit.key for unit in units).items() if count > 1]
    if doubled:
        raise BuildError(where, f"two units of input have one name: {doubled[0]!r}")
    return Plan(chosen, native, final, order, layout, shard_nbytes, units)


def make_rules(plan: Plan, duplicates: str, tolerance: float) -> Rules:
    """
    Check what is to be taken.

    Parameters
    ----------
    plan : Plan
        What is built.
    duplicates : str
        What to do with a second object of one identifier.
    tolerance : float
        Largest share of rejected objects.

    Returns
    -------
    Rules
        The rules.

    Raises
    ------
    BuildError
        If they make no sense.
    """
    if not 0 <= tolerance <= 1:
        raise BuildError(str(plan.final), f"tolerance is a share from 0 to 1, not {tolerance}")
    check_choice(plan, "duplicates", duplicates, ("reject", "error"))
    return Rules(str(plan.final), duplicates, tolerance)


def check_choice(plan: Plan, name: str, chosen: str, known: tuple[str, ...]) -> None:
    """
    Refuse a word that is not one of those known.

    Parameters
    ----------
    plan : Plan
        What is built.
    name, chosen : str
        The argument, and the word.
    known : tuple of str
        Words that it can be.

    Raises
    ------
    BuildError
        If it is none of them.
    """
    if chosen not in known:
        words = " or ".join(map(repr, known))
        raise BuildError(str(plan.final), f"{name} is {words}, not {chosen!r}")


def check_inputs(plan: Plan, room: Path, *, refuse: bool) -> None:
    """
    Compare the native files with those that a build began with; write them down if it begins.

    Parameters
    ----------
    plan : Plan
        What is built.
    room : Path
        The folder of the build.
    refuse : bool
        Refuse to go on if they differ; else what changed will be read again.

    Raises
    ------
    BuildError
        If they differ and that is refused: it says in what.
    """
    noted = room / "inputs.json"
    if noted.exists() and refuse:
        before = json.loads(noted.read_bytes())
        before.update(
            (key, unit["inputs"])
            for key, unit in Spool(room / "spool").units.items()
            if key in before and _same_sizes(unit["inputs"], before[key])
        )
        changed = changes(before, plan)
        if changed:
            raise BuildError(
                str(plan.final),
                f"an interrupted build had other inputs ({_listed(changed)}); build with those, "
                "or have what changed read again (--changed-inputs read)",
            )
        return
    publish_bytes(noted, json.dumps(plan.inputs).encode())


def _same_sizes(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    pairs = [[(entry["path"], entry["size"]) for entry in who["files"]] for who in (one, other)]
    return pairs[0] == pairs[1]


def changes(before: Mapping[str, Mapping[str, Any]], plan: Plan) -> list[str]:
    """
    Say how native files differ from what they were.

    Parameters
    ----------
    before : mapping
        For each unit its files as they were.
    plan : Plan
        What is built now.

    Returns
    -------
    list of str
        What differs.
    """
    found = []
    for unit in plan.units:
        was = before.get(unit.key)
        if was is None:
            found.append(f"unit {unit.key} is new")
        else:
            found += differences(was, plan.inputs[unit.key], unit.paths)
    known = {unit.key for unit in plan.units}
    return found + [f"unit {key} is no longer there" for key in before if key not in known]


def _listed(changed: Sequence[str]) -> str:
    more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
    return "; ".join(changed[:_SHOWN]) + more


def is_built(plan: Plan, hashed: Collection[str] = ()) -> bool:
    """
    Tell whether the subset that is there was built of the same with the same.

    Parameters
    ----------
    plan : Plan
        What is to be built.
    hashed : collection of str
        Keys of units whose files are hashed, which takes as long as to read them.

    Returns
    -------
    bool
        Whether it is: of the same release by the same code with the same parameters, of files of
        the same names and sizes, and the same SHA-256 where that was asked for.
    """
    return _published(plan) is not None and not _differing(plan, hashed)


def is_built_of(plan: Plan, inputs: Sequence[Mapping[str, Any]]) -> bool:
    """
    Tell whether the subset that is there was built of what has just been read.

    Parameters
    ----------
    plan : Plan
        What is built.
    inputs : sequence of mapping
        The files that were read, as `astropile.build.writing.input_lines` lists them.

    Returns
    -------
    bool
        Whether it lists these, each with this SHA-256.
    """
    return is_built(plan) and read_list(plan.final, INPUTS_FILE) == list(inputs)


def told_apart(plan: Plan) -> str:
    """
    Say in what the subset that is there differs from what is to be built.

    Parameters
    ----------
    plan : Plan
        What is to be built.

    Returns
    -------
    str
        Part of a sentence; empty where nothing is known.
    """
    root = _published(plan)
    if root is None or not root.built:
        return ""
    differing = _differing(plan)
    if not differing:
        return ", built of files of the same names and sizes with the same parameters"
    return f", built otherwise ({_listed(differing)})"


def _published(plan: Plan) -> Root | None:
    try:
        return read_root(plan.final)
    except (TreeNotFoundError, FormatError):
        return None


def _differing(plan: Plan, hashed: Collection[str] = ()) -> list[str]:
    root = _published(plan)
    assert root is not None
    now = {**plan.built(len(plan.units)), "order": plan.order, "layout": plan.layout}
    was = {**root.built, "order": root.order, "layout": root.layout}
    found = [
        f"{key} was another" if len(str(was.get(key))) == 64 else f"{key} was {was.get(key)}"
        for key in now
        if was.get(key) != now[key]
    ]
    before: dict[str, list[dict[str, Any]]] = {}
    for entry in read_list(plan.final, INPUTS_FILE):
        before.setdefault(entry["unit"], []).append(entry)
    for unit in plan.units:
        inputs = plan.inputs[unit.key]
        were = {entry["path"]: entry for entry in before.pop(unit.key, [])}
        now = with_hashes(inputs, unit) if unit.key in hashed and not found else inputs
        for entry in now["files"]:
            was = were.pop(entry["path"], {})
            if not was:
                found.append(f"{entry['path']} is new")
            elif was["size"] != entry["size"]:
                found.append(f"{entry['path']} had {was['size']} bytes, has {entry['size']}")
            elif "sha256" in entry and entry["sha256"] != was.get("sha256"):
                found.append(f"{entry['path']} was changed")
        found += [f"{path} is no longer among the files" for path in were]
    return found + [f"unit {key} is no longer there" for key in before]


def read_list(subset_path: Path, name: str) -> list[dict[str, Any]]:
    """
    Read a list of a build.

    Parameters
    ----------
    subset_path : Path
        Folder of the subset.
    name : str
        ``inputs.jsonl`` or ``rejected.jsonl``.

    Returns
    -------
    list of dict
        Its lines.

    Raises
    ------
    FormatError
        If it is not such a list.
    """
    path = subset_path / MANIFEST_DIR / name
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [parse_json(line, str(path)) for line in file]


def report_of(plan: Plan) -> BuildReport:
    """
    Report on the subset that is there.

    Parameters
    ----------
    plan : Plan
        What was built.

    Returns
    -------
    BuildReport
        What it holds, and what was left out.
    """
    root = read_root(plan.final)
    reasons: Counter[str] = Counter()
    for entry in read_list(plan.final, REJECTED_FILE):
        reasons[entry["reason"]] += entry["count"]
    n_rejected = sum(reasons.values())
    shards = [
        entry["size"]
        for partition in root.partitions
        for entry in read_manifest(plan.final, partition.ipix)["shards"]
    ]
    return BuildReport(
        path=plan.final,
        n_units=int(root.built.get("n_units", 0)),
        n_read=root.n_objects + n_rejected,
        n_written=root.n_objects,
        n_rejected=n_rejected,
        reasons=dict(reasons.most_common()),
        n_partitions=len(root.partitions),
        n_shards=len(shards),
        n_bytes=sum(shards),
    )


def reading_of(plan: Plan, room: Path) -> Reading:
    """
    Say what the first pass needs.

    Parameters
    ----------
    plan : Plan
        What is built.
    room : Path
        The folder of the build.

    Returns
    -------
    Reading
        What is read, and where to.
    """
    return Reading(plan.survey, plan.native, room / "spool")
