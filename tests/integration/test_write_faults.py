"""The command build meets full disks and signals: it says so, and the same command goes on."""

import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import toy
from treehash import hashes

TESTS = Path(toy.__file__).parent


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    for number in range(3):
        ra = np.full(30, 10.0 + 50 * number)
        batch = toy.make_batch(30, seed=number, first_id=100 * number, ra=ra, dec=np.full(30, 5.0))
        toy.write_native(folder / f"{number}.npz", batch)
    return folder


def build(native, tree, *options, limit=None, **env):
    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, str(TESTS / "toybuild.py"), str(native), str(tree), *options],
        preexec_fn=limited if limit else None,
        env={**os.environ, **env},
        capture_output=True,
        check=False,
        text=True,
    )


@pytest.fixture(scope="module")
def truth(native, tmp_path_factory):
    tree = tmp_path_factory.mktemp("truth") / "toy"
    assert build(native, tree).returncode == 0
    return hashes(tree)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"limit": 10_000}, 7),
        ({"limit": 500_000}, 7),
        ({"TOY_STOP": "2 SIGTERM"}, 143),
        ({"TOY_STOP": "2 SIGINT"}, 130),
        ({"TOY_STOP": "2 SIGKILL"}, -9),
    ],
    ids=["full at once", "full later", "SIGTERM", "SIGINT", "SIGKILL"],
)
def test_stopped_then_run_again(native, truth, tmp_path, how, code):
    """A build that meets a full disk or a signal says so, leaves no tree, and can go on."""
    tree = tmp_path / "toy"
    ended = build(native, tree, **how)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tree / "main").exists()
    assert build(native, tree).returncode == 0
    assert hashes(tree) == truth


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", ["--layout compact", "--layout fast", "--workers 2"])
def test_the_kit_of_faults(native, options):
    """Kills, limits, three writers, and errors injected into each kind of system call."""
    kit = Path(os.environ.get("ASTROPILE_FAULT_KIT", "")) / "acceptance_write.py"
    if not os.environ.get("ASTROPILE_FAULT_KIT") or not kit.is_file():
        pytest.skip("ASTROPILE_FAULT_KIT does not name a folder with acceptance_write.py")
    words = [sys.executable, str(TESTS / "toybuild.py"), str(native)]
    command = f"{shlex.join(words)} {{out}} --overwrite {options}"
    inject = ["--inject"] if shutil.which("strace") else []
    ended = subprocess.run(
        [sys.executable, str(kit), "--cmd", command, *inject],
        capture_output=True,
        check=False,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    assert "ALL PASS" in ended.stdout
