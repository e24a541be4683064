"""The row table: found from the file, kept beside it, and read back as it was."""

import numpy as np
import pyarrow as pa
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import FormatError
from astropile.hdf5.rows import Place, RowTable, dump_tables, load_tables, table_of, table_of_image


def same(mine, theirs):
    assert (mine.file_size, mine.head, mine.n_objects) == (
        theirs.file_size,
        theirs.head,
        theirs.n_objects,
    )
    assert mine.places.keys() == theirs.places.keys()
    for name, place in theirs.places.items():
        assert mine.places[name].starts.tolist() == place.starts.tolist()
        assert mine.places[name].chunk_rows == place.chunk_rows
        assert (mine.places[name].sizes is None) == (place.sizes is None)
        if place.sizes is not None:
            assert mine.places[name].sizes.tolist() == place.sizes.tolist()
    assert mine.offsets.keys() == theirs.offsets.keys()
    for name, offsets in theirs.offsets.items():
        assert mine.offsets[name].tolist() == offsets.tolist()


@pytest.fixture(scope="module", params=["compact", "fast"])
def tree(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    toy.write_native(folder / "native/a.npz", toy.make_batch(25, seed=1))
    build_catalog(
        toy.SURVEY,
        folder / "native",
        folder / "toy",
        order=0,
        shard_nbytes=90_000,
        layout=request.param,
    )
    return folder / "toy"


def test_kept_as_found(tree):
    """What lies beside the data says of each shard what the shard itself says."""
    catalog = open_catalog(tree)
    assert len(catalog.shards) > len(catalog.root.partitions)
    for partition in catalog.root.partitions:
        path = catalog.path / "rows" / f"healpix={partition.ipix}.arrow"
        tables = load_tables(path.read_bytes(), "here")
        shards = [shard for shard in catalog.shards if shard.ipix == partition.ipix]
        assert len(tables) == len(shards)
        for table, shard in zip(tables, shards, strict=True):
            same(table, table_of(shard.path))
            for found in (table, table_of(shard.path, sums=True)):
                content = shard.path.read_bytes()
                for place in found.places.values():
                    if place.sizes is not None:
                        ends = place.starts + place.sizes
                        sums = [int.from_bytes(content[end - 4 : end], "big") for end in ends]
                        assert place.sums.tolist() == sums
            same(table, table_of_image(memoryview(shard.path.read_bytes())))


def test_made_where_missing(tree, tmp_path):
    """Without row tables the same values are read."""
    catalog = open_catalog(tree)
    expected = catalog.take(np.arange(25), ["ID", "IMAGE"])
    aside = tmp_path / "rows"
    (catalog.path / "rows").rename(aside)
    try:
        found = open_catalog(tree).take(np.arange(25), ["ID", "IMAGE"])
    finally:
        aside.rename(catalog.path / "rows")
    assert found["ID"].tobytes() == expected["ID"].tobytes()
    assert found["IMAGE"].tobytes() == expected["IMAGE"].tobytes()


def example():
    return RowTable(
        10**6,
        123456789,
        3,
        {
            "A": Place(np.array([512])),
            "B": Place(
                np.array([10, 20, 40]), np.array([10, 20, 5]), 1, np.array([2**32 - 1, 0, 7])
            ),
            "ragged/C": Place(np.array([-1])),
        },
        {
            "ragged/x.offsets": np.array([0, 2, 2, 5]),
            "ragged/a.b.offsets": np.array([0, 6, 6, 10]),
            "ragged/a.b.shape": np.array([[2, 3], [0, 1], [2, 2]]),
        },
    )


def test_round_trip():
    """Tables come back as they were, several of them in order."""
    other = RowTable(1, 2, 0, {}, {})
    found = load_tables(dump_tables([example(), other]), "here")
    same(found[0], example())
    same(found[1], other)


def test_same_bytes():
    """The same table is written as the same bytes."""
    assert dump_tables([example()]) == dump_tables([example()])


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", b"<!DOCTYPE html>", bytes(1000)])
def test_something_else(content):
    """What is no row table is refused with the file's name."""
    with pytest.raises(FormatError, match="here"):
        load_tables(content, "here")


def test_another_arrow_file():
    """An Arrow file with other columns is refused."""
    sink = pa.BufferOutputStream()
    table = pa.table({"name": [1], "length": [2]})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(FormatError, match="here"):
        load_tables(sink.getvalue(), "here")


def test_any_flipped_bit():
    """A table with a flipped bit is refused, or says what it said before."""
    content = dump_tables([example()])
    caught = 0
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        try:
            found = load_tables(bytes(damaged), "here")
        except FormatError:
            caught += 1
        else:
            for table in found:
                same(table, example())
    assert caught > 100
