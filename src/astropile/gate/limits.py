"""How much a file of unknown origin may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Limits:
    """
    What a file may have at most. The default ones hold every file that AstroPile writes.

    Parameters
    ----------
    objects : int
        Datasets and groups of a file.
    depth : int
        Groups within groups.
    attributes : int
        Attributes of one dataset or group.
    attribute_nbytes : int
        Bytes of one attribute.
    metadata_nbytes : int
        Bytes of everything that is not data: headers, indexes, heaps.
    chunks : int
        Chunks of a file.
    chunk_nbytes : int
        Bytes that one chunk unpacks to.
    light_nbytes : int
        Bytes of the columns that are held in memory whole: positions and identifiers.
    ratio : int
        How many times as large as stored a chunk may say it is; deflate never does more than 1032.
    text_nbytes : int
        Bytes of one text.
    """

    objects: int = 4096
    depth: int = 8
    attributes: int = 256
    attribute_nbytes: int = 2**20
    metadata_nbytes: int = 128 * 2**20
    chunks: int = 4 * 2**20
    chunk_nbytes: int = 64 * 2**20
    light_nbytes: int = 2**30
    ratio: int = 1100
    text_nbytes: int = 65536


DEFAULT: Final = Limits()
