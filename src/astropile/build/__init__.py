"""
From a survey's native files to a tree.

Two passes. The first reads every unit of input, checks it and keeps it in a spool on disk. The
second sorts the objects along the sky and writes partition after partition, each from the spool.
Units and partitions may be done by several processes: what each makes follows from its input
alone. The subset is brought together aside and takes its final name when it is whole. A build
that was stopped goes on where it was when the same call is made again.

Memory of each worker: one batch of `Survey.read` and 16 MiB in the first pass; in the second one
shard twice, however large the partition. Of the one that leads: about 100 bytes per object for
their order, 500 per unit of input, and a million rows of light columns.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from astropile.build.crew import (
    Crew,
    Team,
    forget_failures,
    make_crew,
    partition_jobs,
    read_all_units,
)
from astropile.build.placing import Rules, place
from astropile.build.plan import (
    SHARD_NBYTES,
    TOLERANCE,
    BuildReport,
    Plan,
    check_choice,
    check_inputs,
    is_built,
    is_built_of,
    make_plan,
    make_rules,
    report_of,
    told_apart,
)
from astropile.build.spool import Spool
from astropile.build.team import Job
from astropile.build.writing import (
    LightRows,
    Writing,
    close_placed,
    input_lines,
    write_catalogue,
    write_lists,
)
from astropile.card import refresh_card
from astropile.errors import BuildError
from astropile.schema import Survey
from astropile.subset import Assembly, Pattern, say_done, take_final_name, was_refused, work_folder

__all__ = ["SHARD_NBYTES", "TOLERANCE", "BuildReport", "build_catalog"]


def build_catalog(
    survey: str | Survey,
    native_path: str | os.PathLike[str],
    tree: str | os.PathLike[str],
    *,
    subset: str | None = None,
    release: str | None = None,
    order: int = 4,
    layout: Literal["compact", "fast"] = "compact",
    shard_nbytes: int = SHARD_NBYTES,
    duplicates: Literal["reject", "error"] = "reject",
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    progress: bool | None = None,
    n_workers: int = 1,
    executor: Any = None,
    task: tuple[int, int] | None = None,
    changed_inputs: Literal["refuse", "read"] = "refuse",
) -> BuildReport:
    """
    Build a subset of a tree from a survey's native files.

    Parameters
    ----------
    survey : str or Survey
        The survey.
    native_path : path
        Folder of its native files.
    tree : path
        The survey's data folder; the subset is made in it.
    subset : str, optional
        Name of the subset; by default the survey's own.
    release : str, optional
        Release that the files are of, where it is not the one the survey declares: the files
        do not always tell.
    order : int
        HEALPix order of the partitions.
    layout : {"compact", "fast"}
        Compressed object by object, or not compressed.
    shard_nbytes : int
        Size, before compression, above which a partition is split into shards [bytes].
    duplicates : {"reject", "error"}
        What to do with a second object of the same ``observation_id``.
    tolerance : float
        Largest share of objects rejected for a fault, and of units that cannot be read, 0 to 1,
        before the build is refused.
    overwrite : bool
        Replace a subset that is there.
    progress : bool, optional
        Show progress bars on standard error; by default where that is a terminal.
    n_workers : int
        How many processes read units, and then write partitions, side by side. Whatever the
        number, the tree is the same, byte for byte.
    executor : Executor or dask.distributed.Client, optional
        Who does it instead; its workers see the same folders by the same names.
    task : tuple of int, optional
        ``(i, n)``: this call is the i-th, from 1, of n that build the same subset together, each
        in a process of its own, on one machine or several that share the folders.
    changed_inputs : {"refuse", "read"}
        What to do if native files are not as they were when an interrupted build began: refuse
        to go on, or read again what changed.

    Returns
    -------
    BuildReport
        What was done.

    Raises
    ------
    BuildError
        If the subset is there already, another build of it runs, nothing could be read, too
        much was rejected, or an interrupted build had other parameters or inputs.
    SchemaError
        If a survey's `read` gives what the survey does not declare.
    OSError
        If the disk fails. In every case nothing stands under the final name.
    """
    plan = make_plan(
        survey,
        native_path,
        tree,
        subset=subset,
        release=release,
        order=order,
        layout=layout,
        shard_nbytes=shard_nbytes,
    )
    rules = make_rules(plan, duplicates, tolerance)
    check_choice(plan, "changed_inputs", changed_inputs, ("refuse", "read"))
    share: frozenset[str] = frozenset()
    if task is not None:
        _check_task(plan, task, n_workers, executor)
        share = frozenset(unit.key for unit in plan.units[task[0] - 1 :: task[1]])
        if is_built(plan, share):
            return report_of(plan)
    if plan.final.exists() and not overwrite:
        refresh_card(plan.final.parent)
        raise BuildError(
            str(plan.final),
            f"it exists already{told_apart(plan)}; overwrite it, or name another subset",
        )
    plan.final.parent.mkdir(parents=True, exist_ok=True)
    bars = sys.stderr.isatty() if progress is None else progress
    changes_refused = changed_inputs == "refuse" and not was_refused(plan.final)
    try:
        with (
            work_folder(plan.final, plan.parameters, shared=task is not None) as room,
            make_crew(plan, room, n_workers, executor, task) as crew,
        ):
            check_inputs(plan, room, refuse=changes_refused)
            _Build(plan, room, rules, crew, bars=bars).run(overwrite=overwrite)
    except (OSError, BuildError):
        # The others of this build may have ended it while this one was at it.
        if task is None or not is_built(plan, share):
            raise
    finally:
        close_placed()
    refresh_card(plan.final.parent)
    return report_of(plan)


def _check_task(plan: Plan, task: tuple[int, int], n_workers: int, executor: Any) -> None:
    number, total = task
    if not 1 <= number <= total:
        raise BuildError(str(plan.final), f"task {number} of {total} cannot be")
    if n_workers != 1 or executor is not None:
        raise BuildError(str(plan.final), "a task works alone: give it no workers, no executor")


class _Build:
    """The two passes of a build, by whatever hands."""

    def __init__(self, plan: Plan, room: Path, rules: Rules, crew: Crew, *, bars: bool) -> None:
        self._plan, self._room, self._rules, self._crew = plan, room, rules, crew
        self._bars = bars

    def run(self, *, overwrite: bool) -> None:
        spool, sizes = read_all_units(self._plan, self._room, self._crew, bars=self._bars)
        resolved = self._plan.survey.resolve(sizes)
        pattern = Pattern(resolved, self._plan.final.name, self._plan.order, self._plan.layout)
        path = self._room / f"placed-{_key(spool)}.json"

        def placing() -> None:
            try:
                place(resolved, pattern.order, spool, self._rules).save(path)
            except BuildError:
                # The next run tries once more to read what could not be read.
                forget_failures(self._room)
                raise

        self._each([Job(path.stem, partial(placing), path.exists)], here=True)
        writing = Writing(pattern, self._plan.shard_nbytes, self._room / "spool", path)
        placed = writing.open()
        bar = tqdm(
            total=len(placed.objects),
            desc="write",
            unit="object",
            disable=not self._bars,
            leave=False,
        )
        with bar:
            for n_objects in self._crew.run(partition_jobs(writing, placed.partitions())):
                bar.update(n_objects)

        def ending() -> None:
            tree = self._room / f"tree-{uuid.uuid4().hex}"
            assembly = Assembly(tree, pattern)
            for ipix, *_ in placed.partitions():
                assembly.adopt(writing.store, ipix)
            write_catalogue(tree, pattern, LightRows(placed, writing.shard_nbytes))
            write_lists(tree, input_lines(spool.units), placed.rejected)
            built = self._plan.built(len(spool.units))
            assembly.finish(built=built, expected=len(placed.objects))
            say_done(self._plan.final, tree)
            take_final_name(tree, self._plan.final, overwrite=overwrite, durable=False)

        def is_done() -> bool:
            # What a crew of its own has made is never there before; of a team another may end it.
            inputs = input_lines(spool.units)
            return isinstance(self._crew, Team) and is_built_of(self._plan, inputs)

        self._each([Job("publish", partial(ending), is_done)], here=True)

    def _each(self, jobs: list[Job], *, here: bool) -> None:
        for _ in self._crew.run(jobs, here=here):
            pass


def _key(spool: Spool) -> str:
    """Name what was read: of what files, and whether it could be."""
    told = [
        [key, unit["failed"], unit["inputs"]["options"], input_lines({key: unit})]
        for key, unit in sorted(spool.units.items())
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
