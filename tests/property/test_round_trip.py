"""Whatever a survey declares comes back as it went in."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import toy
from astropile import build_catalog, open_catalog, validate_catalog
from astropile.findings import FORMAT_RULES
from astropile.hdf5.reader import ShardReader
from astropile.schema import Column, Unit

DTYPES = ["bool", "int8", "uint16", "int64", "uint64", "float32", "float64", "S5"]


@st.composite
def tables(draw):
    """Columns of any dtype and shape, and values for them."""
    n = draw(st.integers(1, 8))
    columns, values = [], {}
    for number in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(DTYPES))
        shape = draw(
            st.sampled_from([(), (3,), (1200,), (2, 700), ("n",), ("n", 2), (2, "n"), ("a", "b")])
        )
        name = f"COL{number}"
        columns.append(Column(name, dtype, "A column.", shape=shape))
        values[name] = (dtype, shape)
    lengths = {
        dim: draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)) for dim in ("n", "a", "b")
    }
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    batch = {}
    for name, (dtype, shape) in values.items():
        arrays = []
        for row in range(n):
            size = tuple(lengths[d][row] if isinstance(d, str) else d for d in shape)
            kind = np.dtype(dtype)
            count = int(np.prod(size, dtype=int)) * kind.itemsize
            raw = rng.integers(0, 256, count, dtype=np.uint8)
            if kind.kind == "b":
                raw &= 1
            if kind.kind == "S":
                raw = (raw % 26 + 97).astype(np.uint8)
            arrays.append(
                raw.tobytes() and np.frombuffer(raw.tobytes(), kind).reshape(size)
                if count
                else np.empty(size, kind)
            )
        ragged = any(isinstance(d, str) for d in shape)
        batch[name] = arrays if ragged else np.array(arrays, dtype).reshape(n, *shape)
    ra = draw(hnp.arrays(float, n, elements=st.floats(0, 360)))
    dec = draw(hnp.arrays(float, n, elements=st.floats(-90, 90)))
    batch.update(ID=np.arange(n), RA=ra, DEC=dec)
    return columns, batch


@given(
    tables(),
    st.sampled_from([0, 3, 11]),
    st.sampled_from([1, 5000, 10**9]),
    st.sampled_from(["compact", "fast"]),
    st.data(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_round_trip(table, order, shard_nbytes, layout, data):
    """Every bit of every column comes back, in both layouts, at any order and shard size.

    The bytes that the row table leads to are those that the HDF5 library gives.
    """
    columns, batch = table
    survey = dataclasses.replace(
        toy.SURVEY,
        columns=(*toy.SURVEY.columns[:3], *columns),
        aliases={"object_id": "ID", "observation_id": "ID", "ra": "RA", "dec": "DEC"},
        units=lambda _: [Unit("all", ())],
        read=lambda _: [batch],
    )
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "toy"
        report = build_catalog(
            survey, folder, tree, order=order, shard_nbytes=shard_nbytes, layout=layout
        )
        assert report.n_written == len(batch["ID"])
        catalog = open_catalog(tree)
        found = catalog.take(np.arange(len(catalog)))
        for column in columns:
            for row, number in enumerate(found["ID"]):
                mine, theirs = found[column.name][row], batch[column.name][number]
                mine, theirs = np.asarray(mine), np.asarray(theirs)
                assert mine.shape == theirs.shape
                if column.dtype == "S5":
                    assert mine.tolist() == theirs.tolist()
                else:
                    assert mine.tobytes() == theirs.tobytes()
        # What is drawn at random means nothing.
        assert validate_catalog(tree, rules=FORMAT_RULES).problems == ()
        rows = data.draw(st.lists(st.integers(0, len(catalog) - 1), max_size=10))
        some = catalog.take(rows)
        for number, row in enumerate(rows):
            shard = next(s for s in reversed(catalog.shards) if s.start <= row)
            with ShardReader(shard.path, catalog.survey) as reader:
                for column in columns:
                    slow = reader.read(column.name, np.array([row - shard.start]))[0]
                    fast = np.asarray(some[column.name][number])
                    assert fast.dtype == slow.dtype
                    assert fast.shape == slow.shape
                    assert fast.tobytes() == np.ascontiguousarray(slow).tobytes()
