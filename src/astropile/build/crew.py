"""
Who does the jobs of a build: this process, an executor, or one of several tasks.

Whoever does a job, it gives the same bytes; so a crew only settles who does what.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from astropile.build.ingest import Reading, Whole, group_units, read_group
from astropile.build.plan import Plan, reading_of
from astropile.build.spool import Spool
from astropile.build.team import Job, Member
from astropile.build.writing import Writing, write_one
from astropile.errors import BuildError
from astropile.executors import KINDS, n_workers_of, processes, run_jobs, submit_of
from astropile.publish import publish_bytes
from astropile.schema import Unit
from astropile.subset import has_partition


class Crew(Protocol):
    """Those who do the jobs of a build."""

    n_workers: int
    """How many jobs are done side by side."""

    def run(self, jobs: Sequence[Job], *, here: bool = False) -> Iterator[Any]:
        """Have jobs done, `here` if they must be in this process; give what they return."""
        ...


class Alone:
    """One process that does all jobs, one after another."""

    n_workers = 1

    def run(self, jobs: Sequence[Job], *, here: bool = False) -> Iterator[Any]:
        """
        Do the jobs.

        Parameters
        ----------
        jobs : sequence of Job
            The jobs.
        here : bool
            Of no matter.

        Yields
        ------
        object
            What each returned.
        """
        del here
        for job in jobs:
            if not job.is_done():
                yield job.call()


class Hands:
    """
    The workers of an executor do the jobs.

    Parameters
    ----------
    executor : Executor or dask.distributed.Client
        The executor.
    where : str
        The subset that is built, for messages.

    Raises
    ------
    BuildError
        If it is no executor.
    """

    def __init__(self, executor: Any, where: str) -> None:
        submit = submit_of(executor)
        if submit is None:
            raise BuildError(where, f"executor: expected {KINDS}, found {type(executor).__name__}")
        self._submit = submit
        self.n_workers = n_workers_of(executor)

    def run(self, jobs: Sequence[Job], *, here: bool = False) -> Iterator[Any]:
        """
        Have the jobs done.

        Parameters
        ----------
        jobs : sequence of Job
            The jobs.
        here : bool
            Do them in this process.

        Yields
        ------
        object
            What each returned, as they end.
        """
        todo = [job.call for job in jobs if not job.is_done()]
        if here:
            for call in todo:
                yield call()
            return
        for _, result in run_jobs(todo, self._submit, self.n_workers):
            yield result


class Team:
    """
    One of several processes, started each by itself, that do the jobs together.

    Parameters
    ----------
    folder : Path
        Where claims lie.
    number, total : int
        Which this one is, from 1, of how many.
    """

    def __init__(self, folder: Path, number: int, total: int) -> None:
        self._member = Member(folder, number, total)
        self.n_workers = total

    def run(self, jobs: Sequence[Job], *, here: bool = False) -> Iterator[Any]:
        """
        Do the jobs that no other does, and wait for the others'.

        Parameters
        ----------
        jobs : sequence of Job
            All jobs, the same for all.
        here : bool
            Of no matter.

        Yields
        ------
        object
            What those done here returned.
        """
        del here
        yield from self._member.run(jobs)


@contextlib.contextmanager
def make_crew(
    plan: Plan, room: Path, n_workers: int, executor: Any, task: tuple[int, int] | None
) -> Iterator[Crew]:
    """
    Bring together who does the jobs.

    Parameters
    ----------
    plan : Plan
        What is built.
    room : Path
        The folder of the build.
    n_workers : int
        Processes to start.
    executor : Executor or dask.distributed.Client or None
        Who does them instead.
    task : tuple of int or None
        Which task, of how many, this process is.

    Yields
    ------
    Crew
        Who does them.

    Raises
    ------
    BuildError
        If what is asked for cannot be.
    """
    if n_workers < 1:
        raise BuildError(str(plan.final), f"at least one worker is needed, not {n_workers}")
    if executor is not None:
        yield Hands(executor, str(plan.final))
    elif task is not None:
        yield Team(room / "claims", *task)
    elif n_workers > 1:
        with processes(n_workers) as pool:
            yield Hands(pool, str(plan.final))
    else:
        yield Alone()


def read_all_units(
    plan: Plan, room: Path, crew: Crew, *, bars: bool
) -> tuple[Spool, dict[str, int]]:
    """
    Read every unit that is not yet in the spool.

    Parameters
    ----------
    plan : Plan
        What is built.
    room : Path
        The folder of the build.
    crew : Crew
        Who reads.
    bars : bool
        Show a progress bar.

    Returns
    -------
    spool : Spool
        All units.
    sizes : dict of str to int
        Lengths of the tree's dimensions.

    Raises
    ------
    SchemaError
        If a batch is not what the survey declares, or a shared column differs.
    OSError
        If the disk fails.
    """
    reading = reading_of(plan, room)
    reading.folder.mkdir(exist_ok=True)
    Spool.clean(reading.folder)
    done = reading.spool(plan.units)
    whole = Whole(plan.survey)
    whole.add(done)
    read = {key for key, unit in done.units.items() if not unit["failed"]}
    todo = [unit for unit in plan.units if unit.key not in read]
    with tqdm(total=len(todo), desc="read", unit="unit", disable=not bars, leave=False) as bar:
        jobs = list(_read_jobs(plan, reading, read, crew, whole))
        for n_units in crew.run(jobs):
            bar.update(n_units)
    spool = reading.spool(plan.units)
    missing = [unit for unit in plan.units if unit.key not in spool.units]
    if missing:
        raise BuildError(
            str(plan.final),
            f"{len(missing)} units changed while they were read, first {missing[0].key}",
        )
    whole = Whole(plan.survey)
    whole.add(spool)
    return spool, whole.sizes


def _read_jobs(
    plan: Plan, reading: Reading, read: set[str], crew: Crew, whole: Whole
) -> Iterator[Job]:
    """Cut what is to be read into jobs: for a team the same ones in each of its processes."""
    together = isinstance(crew, Team)
    units = [unit for unit in plan.units if together or unit.key not in read]
    for group in group_units(units, crew.n_workers):
        name = hashlib.sha256(
            json.dumps([[unit.key, plan.inputs[unit.key]] for unit in group]).encode()
        ).hexdigest()[:32]
        done = reading.folder / f"{name}.done"
        todo = tuple(unit for unit in group if unit.key not in read)
        if together:
            yield Job(name, partial(_read_share, reading, todo, done), done.exists)
        elif isinstance(crew, Alone):
            yield Job(name, partial(_read_here, reading, todo, whole), _never)
        else:
            yield Job(name, partial(_read_away, reading, todo), _never)


def _never() -> bool:
    return False


def _read_here(reading: Reading, units: Sequence[Unit], whole: Whole) -> int:
    """Read units, compared at once with all before."""
    read_group(reading, units, whole)
    return len(units)


def _read_away(reading: Reading, units: Sequence[Unit]) -> int:
    """Read units; they are compared with the others when all are read."""
    read_group(reading, units)
    return len(units)


def _read_share(reading: Reading, units: Sequence[Unit], done: Path) -> int:
    if units:
        read_group(reading, units)
    publish_bytes(done, b"")
    return len(units)


def forget_failures(room: Path) -> None:
    """
    Let units that could not be read be tried again by the next tasks.

    Parameters
    ----------
    room : Path
        The folder of the build.
    """
    for path in (room / "spool").glob("*.done"):
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _IsWritten:
    """Whether a partition is written."""

    store: Path
    ipix: int

    def __call__(self) -> bool:
        return has_partition(self.store, self.ipix)


def partition_jobs(writing: Writing, partitions: Sequence[tuple[int, int, int]]) -> list[Job]:
    """
    Make a job of each partition.

    Parameters
    ----------
    writing : Writing
        What is written.
    partitions : sequence of tuple
        Pixel, first object and last object + 1 of each.

    Returns
    -------
    list of Job
        The jobs.
    """
    return [
        Job(
            f"{writing.store.name}-{ipix}",
            partial(write_one, writing, ipix, first, last),
            _IsWritten(writing.store, ipix),
        )
        for ipix, first, last in partitions
    ]
