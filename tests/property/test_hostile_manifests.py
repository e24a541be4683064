"""Manifests from outside, whatever stands in them: our errors, and nothing outside the folder."""

import contextlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toy
from astropile.build import build_catalog
from astropile.download.tree import get_tree
from astropile.errors import AstroPileError, FormatError
from astropile.layout import check_path
from astropile.manifest import parse_manifest, parse_root
from astropile.verify import verify_tree

EVIL = [
    "../../evil",
    "/tmp/evil",
    "a\\..\\evil",
    "C:\\evil",
    "001-of-001.hdf5\0",
    "001-of-001.hdf5\n",
    "NUL",
    "con.hdf5",
    "x" * 300,
    "héalpix",
    "file:///etc/passwd",
    "http://evil.invalid/",
    -1,
    2**70,
    1.5,
    True,
    None,
    [],
    {},
    "d41d8cd98f00b204e9800998ecf8427e",
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    batch = toy.make_batch(4, seed=1, ra=[10, 10, 200, 200.1], dec=[5, 5.1, -40, -40])
    toy.write_native(folder / "native/a.npz", batch)
    build_catalog(toy.SURVEY, folder / "native", folder / "tree", order=1)
    return folder / "tree/main"


def places(values, path=()):
    """Every place in a JSON document."""
    yield path
    if not isinstance(values, dict | list):
        return
    for key, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield from places(value, (*path, key))


def put(values, path, value):
    if not path:
        return value
    *first, last = path
    inner = values
    for key in first:
        inner = inner[key]
    inner[last] = value
    return values


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | json_values.map(lambda v: json.dumps(v).encode()))
def test_any_bytes(content):
    """Any bytes are refused as what they are not: no other error comes out."""
    for parse in (parse_manifest, parse_root):
        with pytest.raises(FormatError):
            parse(content, "a manifest")


@pytest.mark.parametrize(
    "content",
    [
        b'{"format": "1.0", "format": "1.0"}',
        b'{"format": "1.0", "order": 1e400}',
        b'{"format": "1.0", "order": NaN}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 5000,
    ],
)
def test_what_json_does_not_have(content):
    """Keys that stand twice, numbers that are none, and endless nesting are refused."""
    for parse in (parse_manifest, parse_root):
        with pytest.raises(FormatError):
            parse(content, "a manifest")


@settings(max_examples=300)
@given(st.text(max_size=40) | st.sampled_from([e for e in EVIL if isinstance(e, str)]))
def test_paths(path):
    """A path that is accepted stays inside whatever folder it is put in, under its own name."""
    try:
        assert check_path(path) == path
    except ValueError:
        return
    base = Path("/base/folder")
    assert (base / path).resolve().is_relative_to(base)
    assert all(word not in ("", ".", "..") and len(word) < 256 for word in path.split("/"))
    assert path.isascii()
    assert path.isprintable()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_changed_manifests(tree, data):
    """A changed manifest ends in our error or in a sound tree; nothing is made beside it."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        source, dest = base / "source", base / "in/dest"
        shutil.copytree(tree, source)
        names = [source / "astropile.json", *sorted((source / "manifest").glob("healpix=*.json"))]
        path = data.draw(st.sampled_from(names))
        values = json.loads(path.read_text())
        at = data.draw(st.sampled_from(list(places(values))))
        new = data.draw(st.sampled_from(EVIL) | json_values)
        path.write_text(json.dumps(put(values, at, new)))
        try:
            get_tree(str(source), dest)
        except AstroPileError:
            assert not list(dest.glob("[!.]*/astropile.json"))
        else:
            (made,) = dest.glob("[!.]*/astropile.json")
            assert verify_tree(made.parent).ok
        assert {p.name for p in base.iterdir()} <= {"source", "in"}
        with contextlib.suppress(AstroPileError):
            verify_tree(source, state=base / "state")
