"""
Read HDF5 files that others wrote: a program of its own, started by `astropile.surveys._foreign`.

The HDF5 library can crash, run for ever, or read and write other files because of what is in a
file. Here it can do that to nobody but this process, which may write no file and has little memory
and time; before data is read, it is looked at whether it lies in the file itself.

Asked by lines of JSON on standard input; answers are lines of JSON on standard output, with
the bytes of the values after them.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

_FILTERS: Final = {1: "deflate", 2: "shuffle", 3: "Fletcher-32", 32000: "LZF"}
"""What chunks may be packed with: all of it in the library, nothing loaded."""

_RATIO: Final = 1100
"""How many times as large as the file all values may be; deflate never does more than 1032."""


def main(memory: int, seconds: int) -> None:
    """Answer until nobody asks any more."""
    _limit(memory)
    file: Any = None
    for line in sys.stdin.buffer:
        used = resource.getrusage(resource.RUSAGE_SELF)
        _set(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)
        asked = json.loads(line)
        values = None
        try:
            if "open" in asked:
                file = h5py.File(asked["open"], "r")
                answer: dict[str, Any] = {"names": [str(name) for name in file]}
            elif "start" in asked:
                values = _values(file, asked["name"], asked["start"], asked["stop"])
                answer = {"dtype": values.dtype.str, "shape": values.shape}
            else:
                answer = {"shape": _dataset(file, asked["name"]).shape}
        except MemoryError:
            answer = {"error": f"data that do not fit into {memory >> 20} MiB"}
        except Exception as error:  # noqa: BLE001 Whatever the library says of a bad file.
            answer = {"error": str(error)}
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        if values is not None:
            sys.stdout.buffer.write(values.tobytes())
        sys.stdout.buffer.flush()


def _limit(memory: int) -> None:
    with contextlib.suppress(OSError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        memory += int(pages) * resource.getpagesize()
        _set(resource.RLIMIT_AS, memory)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_FSIZE, 0)
    with contextlib.suppress(ValueError, RuntimeError):
        while True:
            h5py.h5pl.remove(0)


def _set(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(what, (most if hard < 0 else min(most, hard), hard))


def _dataset(file: Any, name: str) -> Any:
    """Give a dataset whose values lie in the file."""
    link = file.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        raise TypeError(f"{name!r} as a link to elsewhere")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise TypeError(f"no dataset {name!r}")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"{name!r} with values outside of the file")
    facts = dataset.id.get_create_plist()
    filters = {facts.get_filter(number)[0] for number in range(facts.get_nfilters())}
    if filters - set(_FILTERS):
        raise ValueError(f"{name!r} packed with a filter other than {', '.join(_FILTERS.values())}")
    n_bytes = dataset.dtype.itemsize * int(np.prod(dataset.shape, dtype=object))
    if n_bytes > _RATIO * os.fstat(file.id.get_vfd_handle()).st_size or (
        n_bytes and not dataset.id.get_storage_size()
    ):
        raise ValueError(f"{name!r} of {n_bytes} bytes, most of which are not there")
    return dataset


def _values(file: Any, name: str, start: int, stop: int) -> NDArray[Any]:
    values = np.asarray(_dataset(file, name)[start:stop])
    if values.dtype.kind == "O":
        # Text of any length.
        values = np.array([_text(value) for value in values.flat], "S").reshape(values.shape)
    if values.dtype.kind not in "iufbS":
        raise TypeError(f"{name!r} of type {values.dtype}")
    return np.ascontiguousarray(values)


def _text(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise TypeError(f"values of type {type(value).__name__}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
