"""What a download will do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Plan:
    """
    What a download will fetch.

    Parameters
    ----------
    source, dest : str
        From where, and the subset's final folder.
    mode : {"whole", "partitions", "rows", "listed"}
        Every file; those of some partitions; objects, which are written anew; or what a
        source without manifests lists.
    snapshot : str
        Snapshot of the source.
    n_objects, n_partitions : int
        What it holds.
    n_files, n_bytes : int
        What is fetched, manifests left out; of rows about as much.
    n_unhashed : int
        Files among them whose hashes nobody knows.
    """

    source: str
    dest: str
    mode: Literal["whole", "partitions", "rows", "listed"]
    snapshot: str
    n_objects: int
    n_partitions: int
    n_files: int
    n_bytes: int
    n_unhashed: int


@dataclass(frozen=True)
class GetReport:
    """
    What a download did.

    Parameters
    ----------
    plan : Plan
        What was to be fetched.
    is_done : bool
        False where it was only planned, or not agreed to.
    n_bytes_fetched : int
        What came from the source in this run, manifests included.
    """

    plan: Plan
    is_done: bool
    n_bytes_fetched: int = 0
