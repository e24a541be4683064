"""Fetching: what comes is what was there, whatever happens on the way."""

import contextlib
import filecmp
import hashlib
import http.server
import json
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import toy
from astropile.build import build_catalog
from astropile.catalog import open_catalog
from astropile.cli.main import main
from astropile.download.folder import Folder
from astropile.download.listing import get_listed
from astropile.download.room import check_room
from astropile.download.selection import Selection
from astropile.download.single import get_file
from astropile.download.transfer import Patience
from astropile.download.tree import get_tree
from astropile.errors import DownloadError, IntegrityError, StoreError, TreeNotFoundError
from astropile.regions import Cone
from astropile.store.protocol import RemoteOptions
from astropile.testing.server import Fault, serve
from astropile.validate import validate_catalog
from astropile.verify import verify_tree

QUICK = Patience(attempts=2, give_up=5, max_wait=0.01)
PATIENT = Patience(attempts=6, give_up=20, max_wait=0.01)
BLOCK = 2**16
CONE = Cone(100, 20, 150_000)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    toy.write_native(folder / "native/a.npz", toy.make_batch(40, seed=1))
    build_catalog(toy.SURVEY, folder / "native", folder / "tree", order=1)
    return folder / "tree"


@pytest.fixture(scope="module")
def body():
    return np.random.default_rng(5).bytes(400_000)


@pytest.fixture
def one(tmp_path, body):
    """A folder with one file, and the hashes of its blocks."""
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "a.hdf5").write_bytes(body)
    blocks = [
        hashlib.sha256(body[at : at + BLOCK]).hexdigest() for at in range(0, len(body), BLOCK)
    ]
    facts = {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body), "blocks": blocks}
    return folder, facts


def names_below(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def same_files(one, other):
    names = names_below(one)
    assert names == names_below(other)
    assert filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def test_whole_tree(tree, tmp_path):
    """A subset that was fetched is the one at its source, byte for byte, and nothing beside it."""
    with serve(tree) as server:
        report = get_tree(f"{server.url}/main", tmp_path / "got")
    same_files(tree, tmp_path / "got")
    assert report.is_done
    assert report.plan.n_objects == 40
    assert report.plan.n_unhashed == 0
    sizes = [p.stat().st_size for p in (tree / "main").rglob("*") if p.is_file()]
    manifests = [p.stat().st_size for p in (tree / "main/manifest").glob("healpix=*")]
    root = (tree / "main/astropile.json").stat().st_size
    assert report.plan.n_bytes == sum(sizes) - sum(manifests) - root
    assert not [p for p in (tmp_path / "got").rglob("*") if p.name.startswith(".")]


@pytest.mark.parametrize("form", ["folder", "file:", "memory:"])
def test_sources(tree, tmp_path, form):
    """A folder, a file: URL and a store of fsspec are sources as a web server is."""
    source = {"folder": str(tree), "file:": tree.as_uri(), "memory:": "memory://get/tree"}[form]
    if form == "memory:":
        import fsspec

        fsspec.filesystem("memory").put(str(tree), "/get/tree", recursive=True)
    get_tree(source, tmp_path / "got", subset="main")
    same_files(tree, tmp_path / "got")


def test_partitions_of_a_region(tree, tmp_path):
    """The partitions that a cone touches come as they are, and make a valid subset."""
    report = get_tree(str(tree), tmp_path, selection=Selection(region=CONE))
    got = tmp_path / "main"
    source, part = open_catalog(tree), open_catalog(tmp_path)
    rows = source.cone(100, 20, 150_000)
    assert 0 < len(rows) <= len(part) < len(source)
    assert set(source.light(["ID"])["ID"].take(rows).to_pylist()) <= set(
        part.light(["ID"])["ID"].to_pylist()
    )
    for folder in ("manifest", "rows"):
        for path in (got / folder).glob("healpix=*"):
            assert path.read_bytes() == (tree / "main" / folder / path.name).read_bytes()
    for path in got.glob("healpix=*/*.hdf5"):
        assert path.read_bytes() == (tree / "main" / path.relative_to(got)).read_bytes()
    assert validate_catalog(tmp_path).ok
    assert verify_tree(got).ok
    assert part.root.parent == source.snapshot
    assert report.plan.n_partitions == len(part.root.partitions)


def test_rows_of_a_region(tree, tmp_path):
    """Only the objects of a cone: each is bit for bit the one at the source."""
    with serve(tree) as server:
        get_tree(f"{server.url}/main", tmp_path, selection=Selection(region=CONE, only_rows=True))
    source, part = open_catalog(tree), open_catalog(tmp_path)
    rows = source.cone(100, 20, 150_000)
    assert validate_catalog(tmp_path).ok
    assert len(part) == len(rows)
    found, wanted = part.take(np.arange(len(part))), source.take(rows)
    for name, values in wanted.items():
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(found[name], values)
        else:
            for k in range(len(rows)):
                np.testing.assert_array_equal(found[name][k], values[k])
    assert part.root.built["part"]["of"] == source.snapshot


def test_sizes_that_vary_are_told(tree, tmp_path):
    """The size said before a row is fetched counts columns whose shape varies."""
    source = open_catalog(tree)
    stamps = source.take(np.arange(len(source)), ["STAMP"])["STAMP"]
    sizes = [stamps[row].nbytes for row in range(len(source))]
    row = int(np.argmax(sizes))
    ids = [str(source.take([row], ["ID"])["ID"][0])]
    plans = [
        get_tree(
            str(tree),
            tmp_path,
            selection=Selection(ids=ids, columns=columns, only_rows=True),
            dry_run=True,
        ).plan
        for columns in (["Z"], ["Z", "STAMP"])
    ]
    assert plans[1].n_bytes - plans[0].n_bytes == sizes[row] > 0


def test_ids_and_columns(tree, tmp_path):
    """Objects by their identifiers, with some columns: those alone, and what places an object."""
    source = open_catalog(tree)
    ids = source.light(["ID"])["ID"].to_pylist()[5:8]
    chosen = Selection(ids=[str(i) for i in ids], columns=["FLUX", "z"], only_rows=True)
    get_tree(str(tree), tmp_path, selection=chosen)
    part = open_catalog(tmp_path)
    assert set(part.light(["ID"])["ID"].to_pylist()) == set(ids)
    assert set(part.survey.column_names) == {"ID", "RA", "DEC", "Z", "FLUX"}
    np.testing.assert_array_equal(part.take([0])["FLUX"], source.take([5])["FLUX"])
    assert validate_catalog(tmp_path).ok
    with pytest.raises(DownloadError, match="1 of 1 identifiers are not in it"):
        get_tree(str(tree), tmp_path / "no", selection=Selection(ids=["7"]))


def test_nothing_chosen(tree, tmp_path):
    """A region without objects is refused; nothing is made."""
    chosen = Selection(pixels=[46], region=Cone(100, 20, 1))
    with pytest.raises(DownloadError):
        get_tree(str(tree), tmp_path / "got", selection=chosen)
    assert not (tmp_path / "got").exists()


def test_dry_run(tree, tmp_path, capsys):
    """A dry run says how much it is, and writes nothing."""
    assert main(["get", str(tree), str(tmp_path / "got"), "--dry-run", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["n_objects"] == 40
    assert said["is_done"] is False
    assert not (tmp_path / "got").exists()


def test_does_not_ask_in_a_pipe(tree, tmp_path, capsys):
    """Without a terminal nobody is asked, and the size is still said."""
    assert main(["get", str(tree), str(tmp_path / "got")]) == 0
    assert "40 objects" in capsys.readouterr().err
    same_files(tree, tmp_path / "got")


def test_goes_on(tree, tmp_path):
    """A download that failed has no final name; the next asks for no shard again that came."""
    last = max((tree / "main").glob("healpix=*/*.hdf5")).relative_to(tree).as_posix()

    def fault(ask):
        return Fault(status=503) if ask.key == last else None

    with serve(tree, fault=fault) as server, pytest.raises(StoreError, match="503"):
        get_tree(f"{server.url}/main", tmp_path / "got", patience=QUICK, threads=1)
    assert not (tmp_path / "got/main").exists()
    begun = {p.name for p in (tmp_path / "got").rglob("*.hdf5")}
    assert begun
    there = {
        f"main/{p.parent.name}/{p.name}"
        for p in (tmp_path / "got").rglob("*.hdf5")
        if not p.name.startswith(".")
    }
    with serve(tree) as server:
        get_tree(f"{server.url}/main", tmp_path / "got", patience=QUICK)
        assert not there & {ask.key for ask in server.asked}
    same_files(tree, tmp_path / "got")


def test_cut_connections(tree, tmp_path):
    """Connections that break in the middle of every file cost only what had not come."""

    def fault(ask):
        return Fault(cut=1000) if ask.number == 0 and ask.key.endswith(".hdf5") else None

    with serve(tree, fault=fault) as server:
        get_tree(f"{server.url}/main", tmp_path / "got", patience=PATIENT)
    same_files(tree, tmp_path / "got")


def test_only_a_bad_block_comes_again(one, tmp_path, body):
    """A bit that flipped on the way costs one block more, not the file."""
    folder, facts = one
    flipped = bytearray(body)
    flipped[200_000] ^= 1

    def fault(ask):
        return Fault(content=bytes(flipped)) if ask.number == 0 else None

    with serve(folder, fault=fault) as server:
        get_file(f"{server.url}/a.hdf5", tmp_path / "a.hdf5", patience=PATIENT, **facts)
        ranges = [(ask.start, ask.end) for ask in server.asked]
    assert ranges == [(None, None), (3 * BLOCK, 4 * BLOCK)]
    assert (tmp_path / "a.hdf5").read_bytes() == body


def test_wrong_for_good(one, tmp_path, body):
    """Bytes that stay other than promised are refused, by block; what stood there stays."""
    folder, facts = one
    (tmp_path / "a.hdf5").write_bytes(b"old")
    with (
        serve(folder, fault=lambda _: Fault(content=body[:-1] + b"?")) as server,
        pytest.raises(IntegrityError, match="block 6 of 7"),
    ):
        get_file(f"{server.url}/a.hdf5", tmp_path / "a.hdf5", patience=PATIENT, **facts)
    assert (tmp_path / "a.hdf5").read_bytes() == b"old"


@pytest.mark.parametrize("known", ["hash", "size", "nothing"])
def test_without_blocks(one, tmp_path, body, known):
    """Without hashes of blocks a file goes on where it broke off, of the version begun."""
    folder, facts = one
    given = {"hash": ["sha256", "size"], "size": ["size"], "nothing": []}[known]

    def fault(ask):
        return Fault(cut=150_000) if ask.number == 0 else None

    with serve(folder, fault=fault) as server:
        report = get_file(
            f"{server.url}/a.hdf5",
            tmp_path / "b.hdf5",
            patience=PATIENT,
            **{name: facts[name] for name in given},
        )
        again = server.asked[1]
    assert again.start
    assert again.headers["if-range"]
    assert report.is_hashed == (known == "hash")
    assert (tmp_path / "b.hdf5").read_bytes() == body
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["b.hdf5"]


def test_replaced_on_the_way(one, tmp_path, body):
    """A file that was replaced meanwhile is begun anew, not continued."""
    folder, _ = one

    def fault(ask):
        if ask.number:
            (folder / "a.hdf5").write_bytes(body[::-1])
            return None
        return Fault(cut=150_000)

    with serve(folder, fault=fault) as server:
        get_file(f"{server.url}/a.hdf5", tmp_path / "b.hdf5", patience=PATIENT)
    assert (tmp_path / "b.hdf5").read_bytes() == body[::-1]


def test_links_in_the_way(one, tmp_path, body):
    """Neither a planted link nor a second name of a file is written through."""
    folder, facts = one
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    for plant in (os.symlink, os.link):
        dest = tmp_path / plant.__name__
        dest.mkdir()
        plant(victim, dest / ".a.hdf5.part")
        (dest / ".a.hdf5.lock").symlink_to(victim)
        get_file(str(folder / "a.hdf5"), dest / "a.hdf5", **facts)
        assert (dest / "a.hdf5").read_bytes() == body
        assert victim.read_bytes() == b"precious"
    dest.joinpath("out").symlink_to(tmp_path)
    with Folder(dest) as opened, pytest.raises(DownloadError, match="a link or no folder"):
        opened.write("out/evil", b"x")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "nul"])
def test_names_that_lead_out(tmp_path, path):
    """No name leads out of the folder."""
    with Folder(tmp_path / "in") as opened, pytest.raises(ValueError, match="inside a subset"):
        opened.write(path, b"x")
    assert names_below(tmp_path) == []


def test_many_at_once(one, tmp_path, body):
    """Several that fetch the same file all end well, with one file."""
    folder, facts = one
    with serve(folder, latency=0.01) as server, ThreadPoolExecutor(6) as pool:
        fetch = partial(get_file, f"{server.url}/a.hdf5", tmp_path / "c.hdf5", **facts)
        reports = [job.result() for job in [pool.submit(fetch) for _ in range(6)]]
    assert sum(report.is_new for report in reports) == 1
    assert (tmp_path / "c.hdf5").read_bytes() == body


def test_garbage_left_over(one, tmp_path, body):
    """What an earlier run left is used block by block, as far as it is sound."""
    folder, facts = one
    left = bytearray(body[:300_000])
    left[1000] ^= 1
    (tmp_path / ".d.hdf5.part").write_bytes(left)
    with serve(folder) as server:
        get_file(f"{server.url}/a.hdf5", tmp_path / "d.hdf5", **facts)
        ranges = [(ask.start, ask.end) for ask in server.asked]
    assert ranges == [(0, BLOCK), (4 * BLOCK, 400_000)]
    assert (tmp_path / "d.hdf5").read_bytes() == body


def test_no_room(tmp_path):
    """What does not fit on the disk is not begun."""
    with pytest.raises(OSError, match="are free"):
        check_room(tmp_path / "not/there", 2**62)


def rewrite_root(folder, **facts):
    path = folder / "astropile.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


def test_older_and_other_snapshots(tree, tmp_path):
    """A source that is older than what is there, or another, does not take its place unasked."""
    get_tree(str(tree), tmp_path)
    snapshot = open_catalog(tree).snapshot
    for facts, said in (
        ({"snapshot": "0" * 64, "parent": snapshot}, "older"),
        ({"snapshot": "0" * 64, "parent": None}, "does not continue"),
    ):
        rewrite_root(tmp_path / "main", **facts)
        with pytest.raises(DownloadError, match=said):
            get_tree(str(tree), tmp_path)
        assert json.loads((tmp_path / "main/astropile.json").read_text())["snapshot"] == "0" * 64
    get_tree(str(tree), tmp_path, overwrite=True)
    same_files(tree, tmp_path)


def test_part_and_whole(tree, tmp_path):
    """A part is not taken for the whole, nor one part for another."""
    get_tree(str(tree), tmp_path, selection=Selection(region=CONE))
    for other in (Selection(), Selection(region=CONE, only_rows=True)):
        with pytest.raises(DownloadError, match="a part of a snapshot is there"):
            get_tree(str(tree), tmp_path, selection=other)
    get_tree(str(tree), tmp_path, selection=Selection(region=CONE))


def test_mixed_snapshots(tree, tmp_path):
    """Manifests that are not those of the snapshot are refused before any file takes a name."""
    path = min((tree / "main/manifest").glob("healpix=*.json"))
    other = json.dumps(json.loads(path.read_text())).encode()

    def fault(ask):
        return Fault(content=other) if ask.key == path.relative_to(tree).as_posix() else None

    with serve(tree, fault=fault) as server, pytest.raises(IntegrityError, match="manifests of"):
        get_tree(f"{server.url}/main", tmp_path / "got")
    assert not (tmp_path / "got").exists()


@contextlib.contextmanager
def only_to(port, monkeypatch):
    """Fail on a connection to anything else."""
    real = socket.socket.connect

    def connect(self, address):
        if self.family != socket.AF_UNIX:
            assert address[:2] == ("127.0.0.1", port), f"a connection to {address}"
        return real(self, address)

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket, "getaddrinfo", only_numbers(socket.getaddrinfo))
        yield


def only_numbers(real):
    def getaddrinfo(host, *args, **kwargs):
        assert host == "127.0.0.1", f"a look-up of {host}"
        return real(host, *args, **kwargs)

    return getaddrinfo


def test_asks_nobody_else(tree, tmp_path, monkeypatch):
    """Whatever addresses stand in its files, nothing but the URL given is asked."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tree, copy)
    urls = {"url": "http://evil.invalid/", "mirrors": ["file:///etc/passwd", "ftp://10.0.0.1/"]}
    rewrite_root(copy / "main", **urls)
    with serve(copy) as server, only_to(server.server_port, monkeypatch):
        get_tree(f"{server.url}/main", tmp_path / "got")
        assert verify_tree(f"{server.url}/main").ok
    same_files(copy / "main/catalog", tmp_path / "got/main/catalog")


def test_redirects(one, tmp_path, body):
    """A redirect to another host is followed only where it is allowed, and without secrets."""
    folder, facts = one
    with serve(folder) as other:

        def fault(_):
            return Fault(status=302, headers={"Location": f"{other.url}/a.hdf5"})

        with serve(folder, fault=fault) as server:
            headers = {"Authorization": "Bearer secret"}
            fetch = partial(get_file, f"{server.url}/a.hdf5", tmp_path / "e.hdf5", **facts)
            with pytest.raises(StoreError, match="redirect"):
                fetch(remote=RemoteOptions(headers=headers))
            assert other.asked == []
            host = other.url.removeprefix("http://")
            fetch(remote=RemoteOptions(headers=headers, allowed_hosts=(host,)))
            assert server.asked[-1].headers["authorization"] == "Bearer secret"
            assert "authorization" not in other.asked[0].headers
    assert (tmp_path / "e.hdf5").read_bytes() == body


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_listed(tree, tmp_path):
    """Without manifests the files that a server lists come, and it is said that none is hashed."""
    folder = tree / "main"
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(_Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/"
        report = get_listed(url, tmp_path / "got")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    same_files(folder, tmp_path / "got")
    assert report.plan.n_unhashed == report.plan.n_files == len(names_below(folder))
    # Pixel 5 of order 4 lies in no folder of order 1 but the one that has its name.
    assert get_listed(str(folder), tmp_path / "no", dry_run=True).is_done is False


def test_trees_of_old(tmp_path):
    """A tree of format 1.0 comes as it is; of its catalogue no hashes are known."""
    golden = Path(__file__).parents[1] / "golden/1.0"
    folders = [path.parent for path in golden.rglob("astropile.json")]
    assert folders
    report = get_tree(str(folders[0]), tmp_path)
    same_files(folders[0], tmp_path / folders[0].name)
    assert report.plan.n_unhashed > 0


def test_no_tree(tmp_path):
    """What is no tree is said to be none, and how to name a subset."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(TreeNotFoundError, match="no subset"):
        get_tree(str(tmp_path / "empty"), tmp_path / "got")
    with pytest.raises(DownloadError, match="no such folder"):
        get_tree(str(tmp_path / "none"), tmp_path / "got")
