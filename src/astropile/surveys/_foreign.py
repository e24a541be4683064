"""
Read native files that are HDF5 in a process of their own.

They come from elsewhere, and the HDF5 library does what they say: see
`docs/explanation/untrusted-files.md`. The process may write no file, has little memory and time,
and is ended when it does not answer; what is left of it is an error.
"""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from astropile.errors import NativeFileError, UntrustedFileError
from astropile.gate.source import open_regular

MEMORY_NBYTES: Final = 2**30
"""So much memory the process may take, beyond what it starts with and one batch three times."""

ANSWER_S: Final = 300
"""An answer comes within so much time, slow disks included [s]."""

_LINE_NBYTES: Final = 2**22


class ForeignFile:
    """
    An HDF5 file of somebody else's, open in another process; a context manager.

    Parameters
    ----------
    path : Path
        The file.
    batch_nbytes : int
        At most so many bytes are read at a time.

    Raises
    ------
    NativeFileError
        If it is no regular file or no HDF5 file, here and from every method if it cannot be read.
    """

    def __init__(self, path: Path, batch_nbytes: int = 0) -> None:
        self.path = path
        try:
            os.close(open_regular(path))
        except (OSError, UntrustedFileError) as error:
            raise self._unusable(str(error)) from error
        kept = {name: text for name, text in os.environ.items() if not name.startswith("HDF5_")}
        program = Path(__file__).with_name("_foreign_child.py")
        memory = MEMORY_NBYTES + 3 * batch_nbytes
        self._child = subprocess.Popen(  # noqa: S603 Our own program.
            [sys.executable, "-P", str(program), str(memory), str(ANSWER_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        self._rest = b""
        try:
            self.names = frozenset(self._ask(open=str(path.resolve()))["names"])
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                pipe.close()

    def shape(self, name: str) -> tuple[int, ...]:
        """
        Give the shape of a dataset.

        Parameters
        ----------
        name : str
            The dataset, of the root group.

        Returns
        -------
        tuple of int
            Its shape.
        """
        if name not in self.names:
            raise NativeFileError(
                str(self.path), f"dataset {name!r}", f"datasets {sorted(self.names)}"
            )
        return tuple(int(length) for length in self._ask(name=name)["shape"])

    def read(self, name: str, rows: slice) -> NDArray[Any]:
        """
        Read some rows.

        Parameters
        ----------
        name : str
            The dataset.
        rows : slice
            First row, and last row + 1.

        Returns
        -------
        ndarray, shape (rows.stop - rows.start, ...)
            Numbers in the file's own dtype, text of any kind as bytes.
        """
        told = self._ask(name=name, start=rows.start, stop=rows.stop)
        dtype, shape = np.dtype(told["dtype"]), tuple(told["shape"])
        if dtype.kind not in "iufbS" or shape[:1] != (rows.stop - rows.start,):
            raise self._unusable(f"{name!r} of type {dtype}, shape {shape}")
        content = bytearray(dtype.itemsize * math.prod(shape))
        self._receive_into(content)
        return np.frombuffer(content, dtype).reshape(shape)

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(question).encode() + b"\n")
        except BrokenPipeError:
            raise self._ended() from None
        deadline = time.monotonic() + ANSWER_S
        while b"\n" not in self._rest and len(self._rest) < _LINE_NBYTES:
            self._rest += self._some(_LINE_NBYTES - len(self._rest), deadline)
        line, ended, self._rest = self._rest.partition(b"\n")
        if not ended:
            raise self._unusable("names without end")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise self._unusable(str(answer["error"]))
        return answer

    def _receive_into(self, content: bytearray) -> None:
        deadline = time.monotonic() + ANSWER_S
        at = min(len(self._rest), len(content))
        content[:at], self._rest = self._rest[:at], self._rest[at:]
        while at < len(content):
            some = self._some(len(content) - at, deadline)
            content[at : at + len(some)] = some
            at += len(some)

    def _some(self, most: int, deadline: float) -> bytes:
        assert self._child.stdout is not None
        ready, _, _ = select.select(
            [self._child.stdout], [], [], max(0, deadline - time.monotonic())
        )
        if not ready:
            raise self._unusable(f"one that is not read within {ANSWER_S} s")
        some = os.read(self._child.stdout.fileno(), min(most, 2**20))
        if not some:
            raise self._ended()
        return some

    def _ended(self) -> NativeFileError:
        status = self._child.wait()
        return self._unusable(f"one that ends the process that reads it ({status})")

    def _unusable(self, found: str) -> NativeFileError:
        return NativeFileError(str(self.path), "a whole HDF5 file", found)
