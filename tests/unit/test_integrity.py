"""A tree opened with verify=True: no byte is given out that its manifest does not vouch for."""

import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import FormatError
from astropile.hdf5.rows import dump_tables, load_tables
from astropile.schema import Ragged
from astropile.store.protocol import RemoteOptions
from astropile.testing.server import serve

N = 40
BLOCK = 16384
NAMES = ["ID", "FLUX", "IMAGE", "IMAGE_MASK", "LC_FLUX", "STAMP", "WAVE", "ra", "object_id"]


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Both layouts of the same survey, in one partition of two shards of many small blocks."""
    folder = tmp_path_factory.mktemp("trees")
    batch = toy.make_batch(N, seed=1, ra=np.full(N, 10.0), dec=np.full(N, 5.0))
    toy.write_native(folder / "native/a.npz", batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("astropile.manifest.BLOCK_NBYTES", BLOCK)
        for layout in ("compact", "fast"):
            build_catalog(
                toy.SURVEY,
                folder / "native",
                folder / layout,
                order=0,
                shard_nbytes=500_000,
                layout=layout,
            )
    return folder


@pytest.fixture(params=["compact", "fast"])
def tree(request, trees, tmp_path):
    """A copy to damage."""
    shutil.copytree(trees / request.param, tmp_path / "toy")
    return tmp_path / "toy"


@pytest.fixture(params=["disk", "http"])
def opened(request, tree):
    """Gives the tree, opened to be verified: on disk, and behind a URL."""
    if request.param == "disk":
        yield lambda: open_catalog(tree, verify=True)
        return
    with serve(tree.parent) as server:
        options = RemoteOptions(attempts=2)
        yield lambda: open_catalog(f"{server.url}/toy", "main", remote=options, verify=True)


def flip(path, place, bit=3):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def same(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        if isinstance(values, Ragged):
            assert [mine.tobytes() for mine in found[name]] == [v.tobytes() for v in values]
            assert [mine.shape for mine in found[name]] == [v.shape for v in values]
        else:
            assert found[name].dtype == values.dtype
            assert found[name].tobytes() == values.tobytes()


def place_of(catalog, path, row):
    """Say where the value of a row of the first shard starts."""
    place = catalog._table(catalog.shards[0]).places[path]
    if place.sizes is not None:
        return int(place.starts[row if path in ("FLUX", "IMAGE", "IMAGE_MASK") else 0])
    width = {"FLUX": 4 * toy.N_WAVE, "IMAGE": 6144, "ID": 8, "ra": 8}.get(path, 0)
    return int(place.starts[0]) + row * width


def test_everything_as_written(opened, trees):
    """A sound tree gives what it gives without the check, in any order, again and again."""
    catalog, expected = opened(), open_catalog(trees / "fast")
    for rows in ([5], [39, 0, 5, 5], range(N)):
        same(catalog.take(rows, NAMES), expected.take(rows, NAMES))


@pytest.mark.parametrize("name", ["ID", "ra", "FLUX", "IMAGE", "LC_FLUX", "STAMP", "WAVE"])
def test_one_flipped_bit(opened, tree, trees, name):
    """One flipped bit of a column is told with file, column, rows and what mends it."""
    sound, truth = open_catalog(tree), open_catalog(trees / "fast")
    shard = sound.shards[0]
    path = {"LC_FLUX": "ragged/LC_FLUX", "STAMP": "ragged/STAMP", "WAVE": "shared/WAVE"}
    place = place_of(sound, path.get(name, name), 7)
    flip(shard.path, place)
    with pytest.raises(FormatError) as caught:
        opened().take([7], [name])
    said = str(caught.value)
    assert shard.path.name in said
    assert f"column '{path.get(name, name)}'" in said
    assert "row" in said or name == "WAVE"
    assert "`astropile repair`" in said
    assert "\n" not in said
    # Rows whose bytes lie in other blocks are read, of this shard and of the other.
    block = place // BLOCK
    far = [
        row
        for row in range(shard.n_objects)
        if place_of(sound, "FLUX", row) // BLOCK > block
        or (place_of(sound, "FLUX", row) + 4 * toy.N_WAVE) // BLOCK < block
    ]
    assert len(far) > 2
    for rows, columns in ((far, ["FLUX"]), ([shard.n_objects, N - 1], NAMES[:-3])):
        same(opened().take(rows, columns), truth.take(rows, columns))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_flipped_bit(opened, tree, trees, data):
    """Wherever a bit of a shard is flipped: what is given is what was written, or it is refused."""
    truth = open_catalog(trees / "fast")
    path = data.draw(st.sampled_from([s.path for s in open_catalog(tree).shards]), label="shard")
    content = path.read_bytes()
    place, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    rows = data.draw(st.lists(st.integers(0, N - 1), min_size=1, max_size=5))
    columns = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    told = f"{path.name} `astropile repair`"
    try:
        flip(path, place, bit)
        same(opened().take(rows, columns), truth.take(rows, columns))
    except FormatError as error:
        told = str(error)
    finally:
        path.write_bytes(content)
    assert path.name in told
    assert "`astropile repair`" in told


@pytest.mark.parametrize("name", ["IMAGE", "FLUX", "STAMP"])
def test_zeroed_and_swapped(opened, tree, name):
    """Values that a crash left zero, or that changed places, are found in any layout (H07, H09)."""
    sound = open_catalog(tree)
    shard = sound.shards[0]
    content = shard.path.read_bytes()
    path = f"ragged/{name}" if name == "STAMP" else name
    start, length = place_of(sound, path, 7), 64
    other = place_of(sound, path, 12)
    zeroed, swapped = bytearray(content), bytearray(content)
    zeroed[start : start + length] = bytes(length)
    swapped[start : start + length] = content[other : other + length]
    swapped[other : other + length] = content[start : start + length]
    for damaged in (zeroed, swapped):
        if bytes(damaged) == content:
            continue
        shard.path.write_bytes(damaged)
        with pytest.raises(FormatError, match=rf"{shard.path.name}, column '{path}', row.*repair"):
            opened().take([7], [name])


def test_it_is_chosen(trees, tmp_path):
    """Without verify=True a flipped bit of a fast tree is given out, as the documentation says."""
    shutil.copytree(trees / "fast", tmp_path / "toy")
    catalog = open_catalog(tmp_path / "toy")
    assert not catalog.verify
    flip(catalog.shards[0].path, place_of(catalog, "IMAGE", 7))
    before = open_catalog(trees / "fast").take([7], ["IMAGE"])["IMAGE"]
    assert (catalog.take([7], ["IMAGE"])["IMAGE"] != before).sum() == 1


def take_row(catalog):
    return catalog.take([7], ["IMAGE"])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_copies_verify_too(opened, tree, method):
    """A pickled catalog, and one that went to another process, verifies what it reads."""
    sound = open_catalog(tree)
    flip(sound.shards[0].path, place_of(sound, "IMAGE", 7))
    catalog = opened()
    assert pickle.loads(pickle.dumps(catalog)).verify
    with ProcessPoolExecutor(1, get_context(method)) as pool:
        told = pool.submit(take_row, catalog).exception()
    assert isinstance(told, FormatError)
    assert "`astropile repair`" in str(told)


def test_mapped(trees, tmp_path):
    """Rows that are mapped rather than read are hashed before they are given."""
    shutil.copytree(trees / "fast", tmp_path / "toy")
    sound = open_catalog(tmp_path / "toy", verify=True)
    shard = sound.shards[0]
    found = sound.mapped(0, shard.n_objects, ["IMAGE"])["IMAGE"]
    assert found.tobytes() == sound.take(range(shard.n_objects), ["IMAGE"])["IMAGE"].tobytes()
    flip(shard.path, place_of(sound, "IMAGE", 7))
    told = open_catalog(tmp_path / "toy", verify=True)
    with pytest.raises(FormatError, match=rf"'IMAGE', rows 5 to {shard.n_objects - 1}.*repair"):
        told.mapped(5, shard.n_objects, ["IMAGE"])


def test_datasets(opened, tree):
    """A dataset of a tree opened to be verified is, and so is what a worker makes of it."""
    datasets = pytest.importorskip("datasets")
    from astropile import load_dataset
    from astropile.hf.builder import load_dataset_builder

    sound = open_catalog(tree)
    flip(sound.shards[0].path, place_of(sound, "FLUX", 7))
    catalog = opened()
    options = {"columns": ["spectrum"], "verify": True}
    dataset = load_dataset(str(catalog.path), **options)
    copied = pickle.loads(pickle.dumps(dataset))
    hf = datasets.load_dataset("astropile", data_dir=str(catalog.path), split="train", **options)
    builder = load_dataset_builder(str(catalog.path), **options)
    for one in (dataset, copied, hf):
        with pytest.raises(FormatError, match="`astropile repair`"):
            one[7]
        assert len(one[N - 1]["spectrum"]["flux"]) == toy.N_WAVE
    with pytest.raises(FormatError, match="`astropile repair`"):
        list(builder.as_streaming_dataset("train"))


def test_row_tables(opened, tree):
    """Row tables that are whole but not those of the manifest are refused, and missing ones."""
    path = next((tree / "main/rows").iterdir())
    tables = load_tables(path.read_bytes(), "here")
    path.write_bytes(dump_tables([tables[0], tables[0]]))
    with pytest.raises(FormatError, match=r"row tables of the manifest.*repair"):
        opened().take([0], ["ID"])
    path.unlink()
    with pytest.raises(FormatError, match=r"row tables.*no such file"):
        opened().take([0], ["ID"])


def test_no_manifest(opened, tree):
    """A tree without the manifest of a partition cannot be verified, and says so."""
    for path in (tree / "main/manifest").glob("healpix=*"):
        path.unlink()
    with pytest.raises(FormatError, match="the manifest of a partition"):
        opened().take([0], ["ID"])


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_cost(trees, layout):
    """A block is fetched whole once; from then on a row costs its own bytes."""
    with serve(trees) as server:
        catalog = open_catalog(f"{server.url}/{layout}", "main", verify=True)
        local = open_catalog(trees / layout)
        catalog.take([3], ["IMAGE"])
        server.clear()
        same(catalog.take([3], ["IMAGE"]), local.take([3], ["IMAGE"]))
        assert server.n_bytes < 8000
        server.clear()
        catalog.take(range(N), ["IMAGE"])
        catalog.take(range(N))
        whole = sum(shard.path.stat().st_size for shard in local.shards)
        assert server.n_bytes < 2 * whole
        server.clear()
        same(catalog.take([9, 8]), local.take([9, 8]))
        assert server.n_bytes < whole / 4


@pytest.mark.parametrize("layout", ["compact", "fast"])
def test_bounded_memory(trees, layout, monkeypatch):
    """Rows whose blocks are too many to be held at once are read in parts, to the same values."""
    monkeypatch.setattr("astropile.remote.HASHED_NBYTES", 2 * BLOCK)
    local = open_catalog(trees / layout)
    rows = np.random.default_rng(0).integers(0, N, 30)
    expected = local.take(rows, NAMES)
    with serve(trees) as server:
        url = f"{server.url}/{layout}"
        catalog = open_catalog(url, "main", verify=True)
        assert len(catalog._parts(rows, NAMES)) > 3
        same(catalog.take(rows, NAMES), expected)
        room = {"IMAGE": np.empty_like(expected["IMAGE"])}
        catalog = open_catalog(url, "main", verify=True)
        found = catalog.take(rows, NAMES, out=room)
        assert found["IMAGE"] is room["IMAGE"]
        same(found, expected)
        catalog = open_catalog(url, "main", verify=True)
        with pytest.raises(ValueError, match="expected 30 rows, found 31"):
            catalog.take(rows, NAMES, out={"ID": np.empty(31, "i8")})
