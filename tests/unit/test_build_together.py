"""However many build a tree together, and whatever becomes of them, the tree is the same."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.build.additions import add_to_catalog
from astropile.build.team import Job, Member
from astropile.errors import BuildError, SchemaError
from astropile.executors import processes
from treehash import hashes

TESTS = str(Path(toy.__file__).parent)


@pytest.fixture(scope="module")
def native(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    for number in range(6):
        # All in a few partitions, so that there is little to write but much to bring together.
        ra = np.linspace(10.0, 12.0, 8) + 40 * (number % 2)
        batch = toy.make_batch(8, seed=number, first_id=100 * number, ra=ra, dec=np.full(8, 5.0))
        if number == 4:
            batch["RA"][2] = np.nan
            batch["ID"][3] = 2**60 + 1  # that of another file
        toy.write_native(folder / f"{number}.npz", batch, lost=1)
    return folder


@pytest.fixture(scope="module")
def truth(native, tmp_path_factory):
    tree = tmp_path_factory.mktemp("truth") / "toy"
    report = build(native, tree)
    assert (report.n_read, report.n_written, report.n_rejected) == (54, 46, 8)
    return hashes(tree)


def build(native, tree, **options):
    options = {"tolerance": 0.2, "shard_nbytes": 200_000, **options}
    return build_catalog(toy.SURVEY, native, tree, **options)


def test_processes_give_the_same_bytes(native, truth, tmp_path):
    """Two processes, or the workers of an executor, write what one process alone writes."""
    report = build(native, tmp_path / "a/toy", n_workers=2)
    assert hashes(tmp_path / "a/toy") == truth
    assert (report.n_units, report.n_read, report.n_rejected) == (6, 54, 8)
    with ThreadPoolExecutor(1) as pool:
        build(native, tmp_path / "b/toy", executor=pool)
    assert hashes(tmp_path / "b/toy") == truth


def test_a_dask_cluster_gives_the_same_bytes(native, truth, tmp_path):
    """A Dask client is an executor too."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        build(native, tmp_path / "toy", executor=client)
    assert hashes(tmp_path / "toy") == truth


def with_faults(folder):
    """Files of every kind of fault; gives the identifiers in them, and how many are counted."""
    names, n_objects = [], 0
    for number in range(4):
        batch = toy.make_batch(20, seed=20 + number, first_id=20 * number)
        batch["RA"][3], batch["DEC"][5], batch["RA"][7] = np.nan, 91.0, -1.0
        if number:
            batch["ID"][9] = 2**60 + 1
        toy.write_native(folder / f"{number}.npz", batch, lost=number + 1)
        names += batch["ID"].tolist()
        n_objects += 20 + number + 1
    (folder / "9.npz").write_bytes((folder / "0.npz").read_bytes()[:1000])
    return names, n_objects + 1


@pytest.mark.parametrize("way", ["alone", "hands", "tasks", "added"])
def test_nothing_is_lost(tmp_path, way):
    """Objects read are objects written and objects rejected, whoever builds, counted by name."""
    names, n_objects = with_faults(tmp_path / "native")
    options = {"tolerance": 1.0, "progress": False}
    where = (toy.SURVEY, tmp_path / "native", tmp_path / "toy")
    if way == "hands":
        with ThreadPoolExecutor(2) as pool:
            report = build_catalog(*where, executor=pool, **options)
    elif way == "tasks":
        report = [build_catalog(*where, task=(i, 2), **options) for i in (2, 1)][-1]
    elif way == "added":
        first = tmp_path / "first"
        first.mkdir()
        for number in (0, 2):
            os.link(tmp_path / f"native/{number}.npz", first / f"{number}.npz")
        build_catalog(toy.SURVEY, first, tmp_path / "toy", **options)
        report = add_to_catalog(*where, **options)
    else:
        report = build_catalog(*where, **options)
    tree = open_catalog(tmp_path / "toy")
    lines = (tmp_path / "toy/main/manifest/rejected.jsonl").read_text().splitlines()
    rejected = [json.loads(line) for line in lines]
    assert report.n_read == n_objects == 91
    assert report.n_written == len(tree) == 65
    assert report.n_rejected == sum(entry["count"] for entry in rejected) == 26
    told = [int(entry["key"]) for entry in rejected if entry["key"].isdigit()]
    written = tree.light(["ID"])["ID"].to_pylist()
    assert sorted(written + told) == sorted(names)


def test_workers_agree_on_what_is_shared(native, tmp_path):
    """A wavelength grid that differs between workers stops the build as it does in one."""
    for path in native.iterdir():
        os.link(path, tmp_path / path.name)
    other = toy.make_batch(3, seed=4, first_id=9000)
    other["WAVE"] = other["WAVE"] + 0.1
    toy.write_native(tmp_path / "7.npz", other)
    said = r"'WAVE' in 7\.npz: expected one value for all objects, that of 0\.npz"
    with ThreadPoolExecutor(1) as pool, pytest.raises(SchemaError, match=said):
        build(tmp_path, tmp_path / "toy", executor=pool)
    assert not (tmp_path / "toy/main").exists()


def test_wrong_hands(native, tmp_path):
    """What cannot work is refused in a sentence."""
    for options, said in (
        ({"executor": 3}, "executor: expected a concurrent.futures.Executor.* found int"),
        ({"n_workers": 0}, "at least one worker is needed, not 0"),
        ({"task": (3, 2)}, "task 3 of 2 cannot be"),
        ({"task": (1, 2), "n_workers": 2}, "a task works alone"),
        ({"changed_inputs": "x"}, "changed_inputs is 'refuse' or 'read', not 'x'"),
    ):
        with pytest.raises(BuildError, match=said):
            build(native, tmp_path / "toy", **options)


def _die(code):
    os._exit(code)


def test_a_worker_that_dies_is_an_error(native):
    """A process that is killed, as for want of memory, ends the build with a sentence."""
    with pytest.raises(OSError, match="a worker process died"), processes(1) as pool:
        pool.submit(_die, 9).result()


TASK = """
import fcntl, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import toy
from astropile import build_catalog
from astropile.build import team
team.STALE_S, team.BEAT_S = 3.0, 0.5
if os.environ.get("NO_LOCKS"):
    fcntl.flock = lambda *_: None
task = None if sys.argv[4] == "-" else tuple(map(int, sys.argv[4].split("/")))
build_catalog(
    toy.SURVEY, sys.argv[2], sys.argv[3], shard_nbytes=200_000, task=task,
    overwrite=bool(os.environ.get("OVERWRITE")), tolerance=0.2,
)
"""


def start(native, tree, task, **env):
    return subprocess.Popen(
        [sys.executable, "-c", TASK, TESTS, str(native), str(tree), task],
        env={**os.environ, **env},
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process):
    """Wait for a process; give its exit status and its last words."""
    words = process.communicate()[1]
    return process.returncode, words


def test_tasks_share_a_build(native, truth, tmp_path):
    """Tasks of an array build together; one killed is made up for; late or again is no harm."""
    tree = tmp_path / "toy"
    killed = start(native, tree, "2/3", TOY_STOP="1 SIGKILL")
    assert end(killed)[0] == -signal.SIGKILL
    both = [start(native, tree, "1/3"), start(native, tree, "3/3"), start(native, tree, "3/3")]
    for task in both:
        code, words = end(task)
        assert code == 0, words
    assert hashes(tree) == truth
    # The one that was killed, run again after all is done.
    assert build(native, tree, task=(2, 3)).n_written == 46
    assert hashes(tree) == truth
    assert not list(tree.glob(".main.build*"))


def test_one_task_alone_does_all(native, truth, tmp_path):
    """No task waits for one that was never started."""
    build(native, tmp_path / "toy", task=(2, 4))
    assert hashes(tmp_path / "toy") == truth


def test_locks_that_lie(native, truth, tmp_path):
    """Where every lock is granted to everyone, three builds at once lose nothing."""
    tree = tmp_path / "toy"
    for turn in range(2):
        runs = [start(native, tree, "-", NO_LOCKS="1", OVERWRITE="1") for _ in range(3)]
        ends = [end(run) for run in runs]
        assert 0 in [code for code, _ in ends], ends
        assert all(code == 0 or "another build of it" in words for code, words in ends), ends
        assert hashes(tree / "main") == {
            name.removeprefix("main/"): value
            for name, value in truth.items()
            if name.startswith("main/")
        }, turn
    build(native, tree, overwrite=True)
    assert hashes(tree) == truth


def test_a_claim_is_taken_over_when_its_holder_is_gone(tmp_path, monkeypatch):
    """A claim that nobody touches any more keeps no job from being done."""
    monkeypatch.setattr("astropile.build.team.STALE_S", 0.3)
    folder = tmp_path / "claims"
    folder.mkdir()
    (folder / "job").write_text("2 of 2")
    done = []
    began = time.monotonic()
    job = Job("job", lambda: done.append(1), lambda: bool(done))
    assert list(Member(folder, 1, 2).run([job])) == [None]
    assert done == [1]
    assert time.monotonic() - began > 0.3
    # That of a process of the same number, killed and run again, at once.
    done.clear()
    (folder / "job").write_text("1 of 2")
    monkeypatch.setattr("astropile.build.team.STALE_S", 1e9)
    list(Member(folder, 1, 2).run([job]))
    assert done == [1]


def test_each_begins_with_its_share(tmp_path):
    """Two members that find all jobs open begin with different ones and leave none out."""
    order = {}
    for number in (1, 2):
        did = order[number] = []

        class Call:
            def __init__(self, name, did=did):
                self.name, self.did = name, did

            def __call__(self):
                self.did.append(self.name)

            def is_done(self):
                return self.name in self.did

        calls = [Call(name) for name in "abcde"]
        jobs = [Job(call.name, call, call.is_done) for call in calls]
        list(Member(tmp_path / str(number), number, 2).run(jobs))
    assert order == {1: list("acedb"), 2: list("bdeca")}
