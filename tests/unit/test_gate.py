"""What others wrote is let in or refused by name, in bounded time and memory, with its status."""

import hashlib
import io
import json
import os
import re
import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pyarrow as pa
import pytest

import gatefiles
from astropile.cli.main import main
from astropile.errors import FormatError, UntrustedFileError
from astropile.gate import Limits, check_structure, verify_file
from astropile.gate.checksums import fletcher32, lookup3
from astropile.gate.contents import read_rows, values_of
from astropile.gate.limits import DEFAULT
from astropile.gate.source import Source
from astropile.gate.structure import read_structure
from gatefiles import N, columns, image

SECRET = "TOPSECRET-8d1f"


def place_of(content, name, number):
    with h5py.File(io.BytesIO(content)) as file:
        info = file[name].id.get_chunk_info(number)
    return info.byte_offset, info.size


def flipped(content, name, number, off=20):
    changed = bytearray(content)
    changed[place_of(content, name, number)[0] + off] ^= 4
    return bytes(changed)


def swapped(content):
    (a, size), (b, _) = place_of(content, "flux", 0), place_of(content, "flux", 1)
    changed = bytearray(content)
    changed[a : a + size], changed[b : b + size] = content[b : b + size], content[a : a + size]
    return bytes(changed)


def zeroed(content):
    start, size = place_of(content, "flux", 0)
    return content[:start] + bytes(size) + content[start + size :]


def flipped_header(content):
    with h5py.File(io.BytesIO(content)) as file:
        start = h5py.h5o.get_info(file["flux"].id).addr
    changed = bytearray(content)
    changed[start + 30] ^= 1
    return bytes(changed)


def never_closed(content):
    head = bytearray(content[:48])
    head[11] = 5
    head[44:] = lookup3(bytes(head[:44])).to_bytes(4, "little")
    return bytes(head) + content[48:]


def filtered(file, name, number, packed, shape=(N, 256), *, sums=True):
    """A column of chunks of 1 KiB whose bytes are given, under any filter."""
    create = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    create.set_chunk((1, shape[1]))
    create.set_filter(number, h5py.h5z.FLAG_OPTIONAL, ())
    if sums:
        create.set_fletcher32()
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space, create)
    ends = fletcher32(packed).to_bytes(4, "little") if sums else b""
    for row in range(shape[0]):
        dataset.write_direct_chunk((row, 0), packed + ends)


def replaced(name, values, **kwargs):
    def edit(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values, chunks=values.shape, fletcher32=True, **kwargs)
        file[name].attrs.update(attributes)

    return edit


def changed(name, row, value):
    values = columns()[name]
    values[row] = value
    return replaced(name, values)


def virtual(source):
    def edit(file):
        layout = h5py.VirtualLayout((N,), "f8")
        layout[:] = h5py.VirtualSource(source, "x", (N,))
        del file["ra"]
        file.create_virtual_dataset("ra", layout, fillvalue=0)

    return edit


def external(file):
    del file["object_id"]
    place = [("secret.txt", 0, 7 * N)]
    file.create_dataset("object_id", shape=(N,), dtype="S7", external=place)


def link(name, target):
    def edit(file):
        if name in file:
            del file[name]
        file[name] = target

    return edit


def loop(file):
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def cycle(file):
    file.create_group("g")["up"] = file["/"]


def deep(file):
    group = file
    for _ in range(50):
        group = group.create_group("d")


def named(*names):
    return lambda file: [
        file.create_dataset(name, data=np.zeros(N), chunks=(N,), fletcher32=True) for name in names
    ]


def typed(kind):
    return lambda file: file.create_dataset("odd", shape=(N,), dtype=kind)


def bit_field(file):
    space = h5py.h5s.create_simple((N,))
    h5py.h5d.create(file.id, b"odd", h5py.h5t.STD_B8LE, space)


def committed(file):
    file["kind"] = np.dtype("f4")


def pickled(file):
    file.attrs["note"] = np.void(b"\x80\x04cposix\nsystem\n(S'touch pwned'\ntR.")


GOOD = image()
BOMB = zlib.compress(bytes(100 * 2**20), 9)
DIGEST = hashlib.sha256(GOOD).hexdigest()

CASES = [
    # case, bytes or edit, promised SHA-256, status, what the message says
    ("good", GOOD, None, 0, "12 objects, 10 columns, sound"),
    ("good, of its hash", GOOD, DIGEST.upper(), 0, "sound"),
    ("H01 a byte short", GOOD[:-1], None, 4, "short by 1 bytes"),
    ("H01 half", GOOD[: len(GOOD) // 2], DIGEST, 4, "short by"),
    ("H01 bytes too many", GOOD + b"more", None, 4, "4 more after its end"),
    ("H02 empty", b"", None, 4, "an empty file"),
    ("H03 a web page", b"\n<!DOCTYPE HTML><title>Log in", None, 4, "web page (HTML)"),
    ("H04 no checksums", image(chunked=False), None, 3, "flux: no checksum"),
    ("H04 a flipped bit", flipped(image(chunked=True), "flux", 1), DIGEST, 6, "SHA-256"),
    ("H05 gzip", flipped(GOOD, "image", 1), None, 4, "image: rows 5 to 9"),
    (
        "H05 gzip without Fletcher-32",
        flipped(image(fletcher32=False, compression="gzip"), "flux", 1),
        None,
        4,
        "flux: rows 5 to 9",
    ),
    ("H06 Fletcher-32", flipped(GOOD, "flux", 1), None, 4, "flux: rows 5 to 9"),
    ("H07 swapped chunks", swapped(GOOD), DIGEST, 6, "SHA-256"),
    ("H08 a flipped bit of a header", flipped_header(GOOD), None, 4, "flux: expected intact"),
    ("H09 a zeroed chunk", zeroed(GOOD), DIGEST, 6, "SHA-256"),
    ("H10 external storage", external, None, 3, "object_id: expected data in the file itself"),
    ("H12 external link", link("ra", h5py.ExternalLink("other.h5", "/x")), None, 3, "hard links"),
    ("H13 link to a pipe", link("x", h5py.ExternalLink("pipe", "/x")), None, 3, "hard links only"),
    ("H14 virtual", virtual("other.h5"), None, 3, "ra: expected data in the file itself"),
    ("H14 virtual of nothing", virtual("nowhere.h5"), None, 3, "virtual storage"),
    ("H15 links in a loop", loop, None, 3, "a soft link 'a'"),
    ("H15 a cycle", cycle, None, 3, "g/up: expected each object under one name"),
    ("H15 a link to nothing", link("z", h5py.SoftLink("/nothing")), None, 3, "a soft link 'z'"),
    (
        "H16 8 TB declared",
        lambda f: f.create_dataset(
            "cube", (N, 10**6, 10**5), "f8", chunks=(1, 1, 1000), fletcher32=True
        ),
        None,
        3,
        "cube: expected all data stored",
    ),
    (
        "H16 2^62 rows",
        lambda f: f.create_dataset("big", (2**62,), "u1", chunks=(1024,), fletcher32=True),
        None,
        3,
        "big: expected a shape of fewer than 2^62 values",
    ),
    (
        "H17 a chunk of 256 MiB",
        lambda f: f.create_dataset("cube", (N, 2**28), "u1", chunks=(1, 2**28), fletcher32=True),
        None,
        3,
        "cube: expected chunks of at most 67108864 bytes",
    ),
    (
        "H18 a chunk that inflates to more",
        lambda f: filtered(f, "cube", 1, BOMB, (1, 2**16)),
        None,
        4,
        "cube: row 0: it inflates to more than 262144 bytes",
    ),
    (
        "H19 no Zstandard frame",
        lambda f: filtered(f, "cube", 32015, b"\x28\xb5\x2f\xfd\x60\x00\x03" + b"\xff" * 3),
        None,
        4,
        "cube: row 0: it is no Zstandard frame",
    ),
    (
        "H19 a whole Zstandard frame",
        lambda f: filtered(f, "cube", 32015, pa.compress(bytes(1024), "zstd", asbytes=True)),
        None,
        0,
        "11 columns, sound",
    ),
    (
        "H19 Zstandard of another size",
        lambda f: filtered(f, "cube", 32015, pa.compress(bytes(999), "zstd", asbytes=True)),
        None,
        4,
        "cube: row 0: it unpacks to other than 1024 bytes",
    ),
    (
        "H19 Zstandard without a checksum",
        lambda f: filtered(
            f, "cube", 32015, pa.compress(bytes(1024), "zstd", asbytes=True), sums=False
        ),
        None,
        3,
        "cube: no checksum",
    ),
    ("H20 a filter", lambda f: filtered(f, "odd", 62000, b"x"), None, 3, "odd: expected no filt"),
    ("H21 a pickle", pickled, None, 0, "sound"),
    (
        "H22 not UTF-8",
        replaced("name", np.array([b"\xff\xfe"] * N, h5py.string_dtype("utf-8", 6))),
        None,
        4,
        "name: rows 0 to 11: b'\\xff\\xfe' is not UTF-8",
    ),
    ("H22 text of any length", typed(h5py.string_dtype()), None, 3, "odd: expected integers"),
    ("H22 an escape", named("a\x1b[31mred"), None, 3, "'a\\x1b[31mred'"),
    ("H22 right to left", named("rtl\u202egnp.exe"), None, 3, "names of letters"),
    ("H22 a name that is no text", named(b"\xff\xfe"), None, 3, "'\\xff\\xfe'"),
    ("H22 a path", named("x/.."), None, 3, "names of letters"),
    ("H24 references", typed(h5py.ref_dtype), None, 3, "odd: expected integers"),
    ("H24 regions", typed(h5py.regionref_dtype), None, 3, "found a reference"),
    ("H24 compound", typed([("a", "i4"), ("b", "f4")]), None, 3, "found a compound type"),
    ("H24 an enumeration", typed(h5py.enum_dtype({"A": 0, "B": 1})), None, 3, "an enumeration"),
    ("H24 opaque", typed("V4"), None, 3, "found an opaque type"),
    ("H24 a bit field", bit_field, None, 3, "found a bit field"),
    ("H24 arrays", typed(np.dtype(("f4", (3,)))), None, 3, "found an array type"),
    ("H24 long double", typed("longdouble"), None, 3, "found a float of 16 bytes"),
    ("H24 a committed type", committed, None, 3, "kind: expected groups and columns"),
    (
        "H25 many groups",
        lambda f: [f.create_group(f"g/n{i}") for i in range(4200)],
        None,
        3,
        "at most 4096 datasets and groups",
    ),
    ("H25 deep", deep, None, 3, "groups at most 8 deep"),
    (
        "H25 many attributes",
        lambda f: [f["ra"].attrs.create(f"n{i}", 1) for i in range(300)],
        None,
        3,
        "ra: expected at most 256 attributes",
    ),
    ("H26 its writer died", never_closed(GOOD), None, 4, "its writer died"),
    ("S01 a row short", replaced("dec", np.zeros(N - 1)), None, 3, "dec: 11 rows, but ra has 12"),
    ("S01 a single value", lambda f: f.create_dataset("one", data=3), DIGEST, 6, "SHA-256"),
    ("S02 no ra", lambda f: f.pop("ra"), None, 3, "ra: missing"),
    ("S02 no dec", lambda f: f.pop("dec"), None, 3, "dec: missing"),
    ("S02 no object_id", lambda f: f.pop("object_id"), None, 3, "object_id: missing"),
    ("S02 no healpix", lambda f: f.pop("healpix"), None, 3, "healpix: missing"),
    ("S02 radians", lambda f: f["ra"].attrs.update(unit="rad"), None, 3, "found 'rad'"),
    ("S02 hours", lambda f: f["ra"].attrs.update(unit="hourangle"), None, 3, "expected unit deg"),
    ("S03 not a number", changed("ra", 2, np.nan), None, 3, "ra: row 2: expected 0 <= ra < 360"),
    ("S03 360.5", changed("ra", 2, 360.5), None, 3, "found 360.5"),
    ("S03 -1", changed("ra", 2, -1.0), None, 3, "ra: row 2"),
    ("S03 91", changed("dec", 2, 91.0), None, 3, "dec: row 2: expected -90 <= dec <= 90"),
    ("S03 infinite", changed("dec", 2, np.inf), None, 3, "dec: row 2"),
    ("S04 another pixel", changed("healpix", 1, 0), None, 3, "healpix: row 1: expected the pixel"),
    ("S04 RING", lambda f: f.attrs.update(healpix_order="ring"), None, 3, "found RING"),
    ("S04 another nside", lambda f: f.attrs.update(healpix_nside=32), None, 3, "at order 5"),
    ("S04 no nside", lambda f: f.attrs.pop("healpix_nside"), None, 0, "sound"),
    ("S05 one twice", changed("object_id", 1, b"obj0000"), None, 3, "'obj0000' more than once"),
    ("S08 big-endian", replaced("ra", columns()["ra"].astype(">f8")), None, 0, "sound"),
]


@pytest.fixture
def folder(tmp_path):
    """Where hostile files would reach to."""
    (tmp_path / "secret.txt").write_text(f"{SECRET}\n" * 64)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.full(N, 42.0)
        file.attrs["s"] = SECRET
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("content", "sha256", "status", "says"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_cases(folder, capfd, content, sha256, status, says):
    """Each file ends with its status and a sentence that names the matter, and touches nothing."""
    path = folder / "given.hdf5"
    path.write_bytes(content if isinstance(content, bytes) else image(edit=content))
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    hashed = ["--sha256", sha256] if sha256 else []
    assert main(["verify", str(path), *hashed]) == status
    out, err = capfd.readouterr()
    assert says in out
    assert not err
    assert SECRET not in out
    assert all(c.isprintable() or c == "\n" for c in out)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "a pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "a device"),
    ],
    ids=["pipe", "device"],
)
def test_not_a_file(tmp_path, capsys, make, kind):
    """What is no regular file is refused, and nobody waits for it (H13)."""
    make(tmp_path / "given.hdf5")
    assert main(["verify", str(tmp_path / "given.hdf5")]) == 3
    assert f"expected a regular file, found {kind}" in capsys.readouterr().out
    assert verify_file(tmp_path).problems[0].message == "expected a regular file, found a folder"


def test_missing(tmp_path, capsys):
    """A name that stands for nothing is refused in one line."""
    assert main(["verify", str(tmp_path / "none.hdf5")]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_a_hash_that_is_none(tmp_path, capsys):
    """A hash that cannot be one is a wrong command line."""
    (tmp_path / "a.hdf5").write_bytes(GOOD)
    assert main(["verify", str(tmp_path / "a.hdf5"), "--sha256", "abc"]) == 2
    assert "64 hexadecimal digits" in capsys.readouterr().err


def test_strict_json(tmp_path, capsys):
    """A position that is no number is reported in JSON that any parser reads (S09)."""
    (tmp_path / "a.hdf5").write_bytes(image(edit=changed("ra", 2, np.nan)))
    assert main(["verify", str(tmp_path / "a.hdf5"), "--json"]) == 3

    def refuse(text):
        raise AssertionError(text)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["problems"] == [
        {"kind": "refused", "where": "ra", "message": "row 2: expected 0 <= ra < 360, found nan"}
    ]
    assert (found["ok"], found["n_objects"], found["sha256"]) == (False, N, None)


def test_memory_of_a_bomb(tmp_path):
    """A chunk of 256 KiB that was packed from 100 MiB takes no more than itself (H18)."""
    path = tmp_path / "bomb.hdf5"
    path.write_bytes(image(edit=lambda f: filtered(f, "cube", 1, BOMB, (1, 2**16))))
    verify_file(path)
    tracemalloc.start()
    try:
        assert not verify_file(path).ok
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", sorted(gatefiles.good_images()))
def test_values_are_those_of_hdf5(tmp_path, name):
    """Whatever way HDF5 lays columns out, every value and attribute is the one HDF5 reads."""
    path = tmp_path / "a.hdf5"
    path.write_bytes(gatefiles.good_images()[name])
    assert verify_file(path).problems == ()
    with Source(path, DEFAULT) as source, h5py.File(path) as file:
        structure = read_structure(source)
        found = {column.name: column for column in structure.datasets}
        names = []
        file.visititems(lambda at, one: names.append(at) if isinstance(one, h5py.Dataset) else None)
        assert sorted(found) == sorted(names)
        for at, column in found.items():
            assert values_of(source, column).tolist() == file[at][()].tolist()
            rows = np.arange(0, column.shape[0], 3)
            assert read_rows(source, column, rows).tolist() == file[at][rows].tolist()
            assert set(column.attributes) == set(file[at].attrs)
        for at, value in file.attrs.items():
            wanted = value.decode() if isinstance(value, bytes) else value
            assert structure.attributes[at] == wanted


def test_unlimited_columns_of_old_files(tmp_path):
    """Columns that can grow are read where HDF5 1.8 indexes them, else refused by name."""
    grown = {"shape": (N,), "maxshape": (None,), "dtype": "i4", "chunks": (5,), "fletcher32": True}

    def edit(file):
        file.create_dataset("grown", **grown)[:] = np.arange(N)

    for style, problems in (("v108", 0), ("old", 0), ("latest", 1)):
        (tmp_path / "a.hdf5").write_bytes(image(style, edit))
        found = verify_file(tmp_path / "a.hdf5").problems
        assert len(found) == problems
    assert "an extensible array" in str(found[0])


def test_data_counted_once(tmp_path):
    """Columns that lie on top of one another are refused: little stored, much declared (H16)."""

    def edit(file):
        file["a"], file["b"] = np.arange(50_000), np.arange(50_000)

    content = image("old", edit)
    with h5py.File(io.BytesIO(content)) as file:
        a, b = (file[name].id.get_offset() for name in "ab")
    assert b + 400_000 == len(content)
    content = content.replace(struct.pack("<Q", b), struct.pack("<Q", a))
    content = content.replace(struct.pack("<Q", len(content)), struct.pack("<Q", b))
    (tmp_path / "a.hdf5").write_bytes(content[:b])
    with h5py.File(tmp_path / "a.hdf5") as file:
        assert file["b"][7] == 7
    with pytest.raises(UntrustedFileError, match="data that is stored, found more than the file"):
        check_structure(tmp_path / "a.hdf5")


def test_checksums_are_those_of_hdf5():
    """Fletcher-32 is what HDF5 appends to a chunk; lookup3 has its published value."""
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 4, 719, 720, 721, 722, 70001, 200003):
        for values in (
            rng.integers(0, 256, n, dtype="u1"),
            np.full(n, 255, "u1"),
            np.zeros(n, "u1"),
        ):
            with h5py.File(io.BytesIO(), "w") as file:
                dataset = file.create_dataset("x", data=values, chunks=(n,), fletcher32=True)
                stored = dataset.id.read_direct_chunk((0,))[1]
            assert fletcher32(values.tobytes()) == int.from_bytes(stored[-4:], "little")
    assert lookup3(b"Four score and seven years ago") == 0x17770551


def test_a_column_too_large_to_hold(tmp_path):
    """Positions that take more memory than allowed are refused, not read."""
    (tmp_path / "a.hdf5").write_bytes(GOOD)
    report = verify_file(tmp_path / "a.hdf5", limits=Limits(light_nbytes=50))
    assert re.search("at most 50 bytes", str(report.problems[0]))


def test_damage_is_raised_by_name(tmp_path):
    """Who asks for the structure alone gets the error of the package."""
    (tmp_path / "a.hdf5").write_bytes(GOOD[:100])
    with pytest.raises(FormatError, match="short by"):
        check_structure(tmp_path / "a.hdf5")
