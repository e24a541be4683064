"""
Several processes that know each other only by a folder do the jobs of a build together.

Who does a job says so by a claim, a file that only one can make; it is touched while the work
goes on. A claim is a help, not the safety: a job done twice gives the same bytes twice. So a
process may be killed, run again, run twice, or come late: the others take over what it left.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

BEAT_S: Final = 5.0
"""A claim is touched so often [s]."""

STALE_S: Final = 60.0
"""A claim not touched for so long is of a process that is no more [s]."""

_POLL_S: Final = 0.5


@dataclass(frozen=True)
class Job:
    """
    Something to be done once at least.

    Parameters
    ----------
    name : str
        Its name, that of a file.
    call : partial
        Does it.
    is_done : callable
        Whether it is done, by whomever.
    """

    name: str
    call: partial[Any]
    is_done: Callable[[], bool]


@dataclass(frozen=True)
class Member:
    """
    One of several processes that share the jobs.

    Parameters
    ----------
    folder : Path
        Where the claims lie.
    number, total : int
        Which process, from 1, of how many: each begins with its own share.
    """

    folder: Path
    number: int
    total: int

    def run(self, jobs: Sequence[Job]) -> Iterator[Any]:
        """
        See to it that all jobs are done: do what nobody does, wait for the others.

        Parameters
        ----------
        jobs : sequence of Job
            All of them, in the same order in every process.

        Yields
        ------
        object
            What the jobs done here returned.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        seen: dict[str, tuple[object, float]] = {}
        left = self._order(jobs)
        while left:
            others = []
            for job in left:
                if job.is_done():
                    continue
                claim = self.folder / job.name
                if self._take(claim, seen):
                    with self._beating(claim):
                        yield job.call()
                else:
                    others.append(job)
            left = others
            if left:
                time.sleep(_POLL_S)

    def _order(self, jobs: Sequence[Job]) -> list[Job]:
        """Put the own share first, then those of the others, each from its end."""
        own = list(jobs[self.number - 1 :: self.total])
        for step in range(1, self.total):
            own += list(jobs[(self.number - 1 + step) % self.total :: self.total])[::-1]
        return own

    def _take(self, claim: Path, seen: dict[str, tuple[object, float]]) -> bool:
        """Claim a job, or take over that of a process that is no more."""
        token = f"{self.number} of {self.total}"
        aside = self.folder / f".{uuid.uuid4().hex}"
        aside.write_text(token)
        try:
            try:
                os.link(aside, claim)
            except FileExistsError:
                pass
            except OSError:
                # No links on this file system.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                    return True
            else:
                return True
            # Over a network a link may be made and the answer lost.
            if aside.stat().st_nlink == 2 or self._is_left(claim, token, seen):
                aside.replace(claim)
                return True
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _is_left(self, claim: Path, token: str, seen: dict[str, tuple[object, float]]) -> bool:
        try:
            stat = claim.stat()
            holder = claim.read_text()
        except FileNotFoundError:
            return False
        # Its state is compared with itself: clocks of other machines may be wrong.
        state = (stat.st_mtime_ns, stat.st_ino)
        before, since = seen.setdefault(claim.name, (state, time.monotonic()))
        if before != state:
            seen[claim.name] = (state, time.monotonic())
            return False
        return holder == token or time.monotonic() - since > STALE_S

    @contextlib.contextmanager
    def _beating(self, claim: Path) -> Iterator[None]:
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(BEAT_S):
                with contextlib.suppress(OSError):
                    os.utime(claim)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError):
                claim.unlink()
            raise
        finally:
            ended.set()
            thread.join()
