"""
Compare what is read with the manifest: every block of a file is hashed before it is believed.

A block is hashed when something of it is first read after opening, and remembered as a byte of
memory. What is given out are the very bytes that were hashed.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from astropile.errors import FormatError
from astropile.store.local import LocalFile
from astropile.store.protocol import TreePath

_MEND: Final = ": it was damaged, `astropile repair` mends it"
_N_LOCKS: Final = 64
_DIGEST_NBYTES: Final = 32

_scratch = threading.local()


@dataclass(frozen=True)
class Blocks:
    """
    The blocks of one shard: what each must be, and which were found to be so.

    Safe to use from several threads.

    Parameters
    ----------
    path : str
        The file, for messages.
    size : int
        Its size in bytes.
    block_nbytes : int
        Bytes of each block but the last.
    digests : bytes
        The SHA-256 of every block, one after another.
    sound : bytearray
        1 for each block that was found to be as written, changed here.
    """

    path: str
    size: int
    block_nbytes: int
    digests: bytes
    sound: bytearray

    def overlapping(self, start: int, length: int) -> range:
        """
        List the blocks that some bytes lie in.

        Parameters
        ----------
        start, length : int
            First byte, and how many.

        Returns
        -------
        range
            Their numbers.
        """
        return range(start // self.block_nbytes, -(-(start + length) // self.block_nbytes))

    def span(self, number: int) -> tuple[int, int]:
        """
        Say where a block lies.

        Parameters
        ----------
        number : int
            The block.

        Returns
        -------
        tuple of int
            Its first byte, and one past its last.
        """
        first = number * self.block_nbytes
        return first, min(first + self.block_nbytes, self.size)

    def widened(
        self, starts: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """
        Widen ranges to whole blocks where these were not hashed yet.

        Parameters
        ----------
        starts, lengths : ndarray, shape (n,), int64
            Ranges of the file.

        Returns
        -------
        starts, lengths : ndarray, shape (m,), int64
            Ranges that hold them, those without length left out.
        """
        some = lengths > 0
        starts, ends = starts[some], (starts + lengths)[some]
        unknown = np.frombuffer(bytes(self.sound), np.uint8) == 0
        first, last = starts // self.block_nbytes, (ends - 1) // self.block_nbytes
        starts = np.where(unknown[first], first * self.block_nbytes, starts)
        whole = np.minimum((last + 1) * self.block_nbytes, self.size)
        ends = np.where(unknown[last], whole, ends)
        return starts, ends - starts

    def check(self, number: int, content: Any) -> None:
        """
        Hash a block and remember that it is as written.

        Parameters
        ----------
        number : int
            The block.
        content : bytes-like
            All of it.

        Raises
        ------
        FormatError
            If it is not as the manifest says.
        """
        at = number * _DIGEST_NBYTES
        if hashlib.sha256(content).digest() != self.digests[at : at + _DIGEST_NBYTES]:
            first, end = self.span(number)
            raise FormatError(
                self.path,
                f"bytes {first} to {end - 1} as its manifest has them",
                f"others{_MEND}",
            )
        self.sound[number] = 1


class Integrity:
    """
    What the manifests say of a subset's files, and which blocks of them were found to be so.

    Parameters
    ----------
    subset : str
        Where the subset is, for messages.
    """

    def __init__(self, subset: str) -> None:
        self._subset = subset
        self._manifests: dict[int, list[tuple[int, int, bytes]]] = {}
        self._sound: dict[tuple[int, int], bytearray] = {}

    def learn(self, ipix: int, manifest: Mapping[str, Any]) -> None:
        """
        Keep the hashes of a partition's files: 8 MB of memory for each TB.

        Parameters
        ----------
        ipix : int
            Pixel of the partition.
        manifest : mapping
            What `parse_manifest` gave.
        """
        block_nbytes = int(manifest["block_size"])
        self._manifests[ipix] = [
            (entry["size"], block_nbytes, bytes.fromhex("".join(entry["blocks"])))
            for entry in manifest["shards"]
        ]

    def clear(self) -> None:
        """Forget everything."""
        self._manifests.clear()
        self._sound.clear()

    def blocks(self, ipix: int, index: int, path: str, size: int) -> Blocks:
        """
        Give the blocks of a shard.

        Parameters
        ----------
        ipix : int
            Pixel of its partition.
        index : int
            Which of the partition's shards it is, from 1.
        path : str
            The file, for messages.
        size : int
            Its size as its row table says.

        Returns
        -------
        Blocks
            The blocks.

        Raises
        ------
        FormatError
            If its manifest has no such file, or one of another size.
        """
        entries = self._manifests[ipix]
        found = entries[index - 1][0] if index <= len(entries) else -1
        if found != size:
            said = "no such file" if found < 0 else f"{found} bytes"
            raise FormatError(path, f"{size} bytes in the manifest of {self._subset}", said)
        _, block_nbytes, digests = entries[index - 1]
        n_blocks = math.ceil(size / block_nbytes)
        sound = self._sound.setdefault((ipix, index), bytearray(n_blocks))
        return Blocks(path, size, block_nbytes, digests, sound)


def check_tables(path: TreePath, content: bytes | None, manifest: Mapping[str, Any]) -> None:
    """
    Make sure that row tables are those of a manifest.

    Parameters
    ----------
    path : Path or RemotePath
        The file.
    content : bytes or None
        What is in it; None where there is none.
    manifest : mapping
        What `parse_manifest` gave.

    Raises
    ------
    FormatError
        If they are not, or there are none.
    """
    if content is None:
        raise FormatError(str(path), "the row tables of the manifest", f"no such file{_MEND}")
    if hashlib.sha256(content).hexdigest() != manifest["rows"]["sha256"]:
        raise FormatError(str(path), "the row tables of the manifest", f"others{_MEND}")


class CheckedFile:
    """
    A local file whose blocks are hashed when something of them is first read.

    Parameters
    ----------
    file : LocalFile
        The file.
    blocks : Blocks
        Its blocks.
    """

    def __init__(self, file: LocalFile, blocks: Blocks) -> None:
        self._file, self._blocks = file, blocks
        # Threads that want the same block wait for the one that hashes it.
        self._locks = [threading.Lock() for _ in range(_N_LOCKS)]

    def expect(self, starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
        """
        Hear which ranges will be read next.

        Parameters
        ----------
        starts, lengths : ndarray, shape (n,), int64
            First byte and length of each.
        """
        self._file.expect(*self._blocks.widened(starts, lengths))

    def read_into(self, start: int, out: Any) -> None:
        """
        Read bytes from a place on, once their blocks are known to be as written.

        Parameters
        ----------
        start : int
            First byte.
        out : writable bytes-like
            Filled whole.

        Raises
        ------
        FormatError
            If the file ends before, or a block is not as its manifest says.
        """
        view = memoryview(out).cast("B")
        for number in self._blocks.overlapping(start, len(view)):
            first, end = self._blocks.span(number)
            begin = max(start, first)
            part = view[begin - start : end - start]
            if not self._read_hashed(number, begin, part):
                self._file.read_into(begin, part)

    def _read_hashed(self, number: int, begin: int, part: memoryview) -> bool:
        """Read part of a block that is not known yet; False where it is."""
        if self._blocks.sound[number]:
            return False
        with self._locks[number % _N_LOCKS]:
            if self._blocks.sound[number]:
                return False
            first, end = self._blocks.span(number)
            content = part if len(part) == end - first else _room(end - first)
            self._file.read_into(first, content)
            self._blocks.check(number, content)
            if content is not part:
                part[:] = content[begin - first : begin - first + len(part)]
        return True

    def view(self, start: int, length: int) -> memoryview:
        """
        Map bytes of the file into memory, once their blocks are known to be as written.

        Parameters
        ----------
        start, length : int
            First byte, and how many.

        Returns
        -------
        memoryview
            The bytes; they stay when the file is closed.

        Raises
        ------
        FormatError
            If a block is not as its manifest says.
        """
        for number in self._blocks.overlapping(start, length):
            if not self._blocks.sound[number]:
                first, end = self._blocks.span(number)
                self._blocks.check(number, self._file.view(first, end - first))
        return self._file.view(start, length)


def _room(n_bytes: int) -> memoryview:
    """Give memory of this thread, until it is asked for again."""
    memory = getattr(_scratch, "memory", None)
    if memory is None or len(memory) < n_bytes:
        memory = _scratch.memory = np.empty(n_bytes, np.uint8)
    return memory.data[:n_bytes]
