"""Native HDF5 files that mean harm do none: they are read in a process that may do little."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from astropile.errors import NativeFileError
from astropile.surveys import _foreign
from astropile.surveys._foreign import ForeignFile

SECRET = np.frombuffer(b"a secret that is not in the file" * 8, "u1")
ROWS = slice(0, 4)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "secret").write_bytes(SECRET.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = SECRET
    return tmp_path / "bad.h5"


def external_storage(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (256,), "u1", external=[(path.parent / "secret", 0, 256)])


def external_link(path):
    with h5py.File(path, "w") as file:
        file["x"] = h5py.ExternalLink(path.parent / "other.h5", "x")


def soft_link(path):
    with h5py.File(path, "w") as file:
        file["x"] = h5py.SoftLink("/y")


def virtual(path):
    layout = h5py.VirtualLayout((256,), "u1")
    layout[:] = h5py.VirtualSource(path.parent / "other.h5", "x", shape=(256,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("x", layout)


def terabytes(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (2**43,), "u1", chunks=(2**20,))


def unknown_filter(path):
    with h5py.File(path, "w") as file:
        facts = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        facts.set_chunk((256,))
        facts.set_filter(4242, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((256,))
        h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, space, facts)


def references(path):
    with h5py.File(path, "w") as file:
        file["y"] = np.arange(4)
        file.create_dataset("x", (4,), h5py.ref_dtype)[:] = file["y"].ref


def group(path):
    with h5py.File(path, "w") as file:
        file.create_group("x")


def bomb(path):
    """One chunk of 3 GiB of zeros."""
    with h5py.File(path, "w") as file:
        facts = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        facts.set_chunk((3 * 2**30,))
        facts.set_deflate(1)
        space = h5py.h5s.create_simple((3 * 2**30,))
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.STD_U8LE, space, facts)
        made.write_direct_chunk((0,), b"\x78\x01" + bytes(2**22))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (external_storage, "'x' with values outside of the file"),
        (external_link, "'x' as a link to elsewhere"),
        (soft_link, "'x' as a link to elsewhere"),
        (virtual, "'x' with values outside of the file"),
        (terabytes, "most of which are not there"),
        (unknown_filter, "'x' packed with a filter other than"),
        (references, "values of type Reference"),
        (group, "no dataset 'x'"),
        (bomb, "'x' of 3221225472 bytes, most of|do not fit into|[Uu]nable|[Cc]an't"),
    ],
)
def test_refused_in_a_sentence(path, make, said):
    """What lies outside of the file, or is not there, is neither read nor made up."""
    make(path)
    with ForeignFile(path) as file, pytest.raises(NativeFileError, match=said) as caught:
        file.read("x", ROWS)
    assert "secret that" not in str(caught.value)


def test_too_many_names(path, monkeypatch):
    """An answer of any length is not waited for."""
    with h5py.File(path, "w") as file:
        for number in range(300):
            file.create_group(f"group {number}")
    monkeypatch.setattr(_foreign, "_LINE_NBYTES", 1000)
    with pytest.raises(NativeFileError, match="names without end"):
        ForeignFile(path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_nobody_waits_for_what_is_no_file(path, make):
    """A pipe or a folder is refused, not waited for."""
    make(path)
    with pytest.raises(NativeFileError, match=r"found .*a regular file, found a (pipe|folder)"):
        ForeignFile(path)


def test_the_environment_loads_no_code(path, monkeypatch):
    """Variables that make the library load plugins do not reach it."""
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(4)
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(path.parent))
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "BEST_EFFORT")
    with ForeignFile(path) as file:
        environment = Path(f"/proc/{file._child.pid}/environ")
        if environment.exists():
            assert b"HDF5_" not in environment.read_bytes()
        assert file.read("x", slice(1, 3)).tolist() == [1, 2]


def test_a_process_that_dies_or_sleeps_is_an_error(path, monkeypatch):
    """Whatever becomes of the process, its file is one that cannot be used, in bounded time."""
    with h5py.File(path, "w") as file:
        file["x"] = np.arange(4)
    with ForeignFile(path) as file:
        file._child.kill()
        with pytest.raises(NativeFileError, match="one that ends the process that reads it"):
            file.shape("x")
    with ForeignFile(path) as file:
        monkeypatch.setattr(_foreign, "ANSWER_S", 0.2)
        os.kill(file._child.pid, signal.SIGSTOP)
        with pytest.raises(NativeFileError, match=r"not read within 0\.2 s"):
            file.shape("x")
    assert file._child.returncode is not None


def test_it_may_write_no_file_and_has_little_memory(tmp_path):
    """The limits hold in the process that reads: no bytes to a file, no large arrays."""
    folder = str(Path(_foreign.__file__).parent)
    program = (
        f"import sys; sys.path.append({folder!r}); import _foreign_child as child, numpy, signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "child._limit(2**28)\n"
        "try:\n    numpy.ones(2**30)\n"
        "except MemoryError:\n    print('no memory')\n"
        f"try:\n    open({str(tmp_path / 'new')!r}, 'wb', 0).write(b'x')\n"
        "except OSError:\n    print('no file')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert "no file" in ended.stdout
    if sys.platform == "linux":
        assert "no memory" in ended.stdout


def test_a_fuzzed_file_is_an_error_or_has_values(tmp_path):
    """Bytes changed at random give values or a sentence, and nothing of this process dies."""
    whole = tmp_path / "whole.h5"
    with h5py.File(whole, "w") as file:
        file.create_dataset("x", data=np.arange(64.0), chunks=(16,), compression="gzip")
        file.create_dataset("t", data=["a", "bc"] * 32, dtype=h5py.string_dtype())
    rng = np.random.default_rng(1)
    content = np.fromfile(whole, "u1")
    said = []
    for number in range(12):
        changed = content.copy()
        changed[rng.integers(0, len(changed), 40)] = rng.integers(0, 256, 40)
        path = tmp_path / f"{number}.h5"
        changed.tofile(path)
        try:
            with ForeignFile(path) as file:
                for name in ("x", "t"):
                    assert len(file.read(name, ROWS)) == 4
        except NativeFileError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in one for one in said)
