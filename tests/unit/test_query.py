"""Questions in SQL over the light columns: right rows, and no way out of the catalogue."""

import dataclasses
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.errors import MissingExtraError, QueryError, UnknownColumnError
from astropile.schema import Column, Constant, Formula

pytest.importorskip("duckdb")


def survey():
    """The toy survey with names that differ in capital letters only, dots, and a number missing."""
    aliases = dict(toy.SURVEY.aliases)
    aliases["mag"] = Formula("22.5 - 2.5 * log10(FLUX_R) - A_R", unit="mag", doc="r.")
    aliases["kind"] = Constant("galaxy's")
    aliases["weight"] = Constant(0.5)
    aliases["bright"] = Formula("forced.i_mag < 21", dtype="bool", doc="Is it bright.")
    return dataclasses.replace(
        toy.SURVEY,
        columns=(
            *toy.SURVEY.columns,
            Column("MAG", "float32", "Another magnitude."),
            Column("forced.i_mag", "float64", "A magnitude with a dot."),
            Column("Forced.I_Mag", "float64", "The same in capitals."),
            Column("HIDDEN", "int32", "Not in the catalogue.", light=False),
        ),
        aliases=aliases,
        read=read,
    )


def read(unit):
    for batch in toy.read(unit):
        n = len(batch["ID"])
        batch["MAG"] = np.linspace(15, 25, n).astype("f4")
        batch["forced.i_mag"] = np.linspace(25, 15, n)
        batch["Forced.I_Mag"] = np.linspace(0, 1, n)
        batch["HIDDEN"] = np.arange(n, dtype="i4")
        batch["Z"][::5] = np.nan
        yield batch


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("query")
    toy.write_native(folder / "native/a.npz", toy.make_batch(60, seed=1))
    crowd = toy.make_batch(40, seed=2, first_id=100, ra=np.full(40, 10.0), dec=np.full(40, 5.0))
    toy.write_native(folder / "native/b.npz", crowd)
    build_catalog(survey(), folder / "native", folder / "toy", shard_nbytes=200_000)
    return open_catalog(folder / "toy")


@pytest.fixture(scope="module")
def light(catalog):
    columns = {name: catalog.light([name])[name].to_numpy() for name in catalog.light_columns}
    with np.errstate(all="ignore"):
        columns["mag"] = np.float32(
            22.5 - 2.5 * np.log10(columns["FLUX_R"].astype("f8")) - columns["A_R"].astype("f8")
        )
    return columns


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("Z > 0.5", lambda c: c["Z"] > 0.5),
        ("z > 0.5 and mag < 19", lambda c: (c["Z"] > 0.5) & (c["mag"] < 19)),
        ("z is null", lambda c: np.isnan(c["Z"])),
        ("mag IS NULL", lambda c: np.isnan(c["mag"])),
        ("MAG < 20", lambda c: c["MAG"] < 20),
        ("catalog.MAG < 20 -- a remark", lambda c: c["MAG"] < 20),
        ("native_MAG < 20", lambda c: c["MAG"] < 20),
        ("forced.i_mag < 18", lambda c: c["forced.i_mag"] < 18),
        ('"forced.i_mag" < 18', lambda c: c["forced.i_mag"] < 18),
        ("Forced.I_Mag < 0.2", lambda c: c["Forced.I_Mag"] < 0.2),
        ("bright", lambda c: c["forced.i_mag"] < 21),
        ("not GOOD", lambda c: ~c["GOOD"].astype(bool)),
        ("NAME LIKE 'näme 1%'", lambda c: np.char.startswith(c["NAME"].astype(str), "näme 1")),
        ("dec between 5 and 5", lambda c: c["dec"] == 5),
        ("RA = 10", lambda c: c["ra"] == 10),
        ("kind = 'galaxy''s' and weight = 0.5", lambda c: c["dec"] > -99),
        ("z > (select avg(z) from catalog)", lambda c: c["Z"] > np.nanmean(c["Z"].astype("f8"))),
        (f"object_id = {2**60 + 8}", lambda c: c["ID"] == 2**60 + 8),
        ("false", lambda c: c["dec"] > 99),
        ("_row_number % 7 = 3", lambda c: np.arange(100) % 7 == 3),
        ("Z > 0.5) OR (Z < 0.1", lambda c: (c["Z"] > 0.5) | (c["Z"] < 0.1)),
    ],
)
def test_query(catalog, light, where, expected):
    """A condition gives the rows for which the same comparison of arrays holds."""
    found = catalog.query(where)
    assert found.dtype == np.int64
    assert found.tolist() == np.flatnonzero(expected(light)).tolist()


def test_row_numbers(catalog, light):
    """Row numbers lead to the objects they stand beside, in partitions of several shards too."""
    assert any(len(p.n_objects) > 1 for p in catalog.root.partitions)
    table = catalog.sql("SELECT _row_number, object_id, healpix FROM catalog")
    rows = table["_row_number"].to_numpy()
    assert sorted(rows.tolist()) == list(range(100))
    taken = catalog.take(rows, ["object_id", "healpix"])
    for name, values in taken.items():
        assert table[name].to_numpy().tolist() == values.tolist()


def test_sql(catalog, light):
    """Full SQL gives Arrow tables: names, types, numbers as stored, NaN as null."""
    table = catalog.sql(
        "WITH near AS (SELECT * FROM catalog WHERE dec = 5) "
        "SELECT healpix, count(*) AS n, max(Z) AS z_max, any_value(NAME) AS name "
        "FROM near GROUP BY healpix ORDER BY n DESC"
    )
    assert isinstance(table, pa.Table)
    assert table["n"].to_pylist() == [40]
    assert table["z_max"].to_pylist() == [float(np.nanmax(light["Z"][light["dec"] == 5]))]
    every = catalog.sql("FROM catalog SELECT * ORDER BY _row_number")
    for name in ("ID", "mag", "forced.i_mag", "Z", "NAME", "GOOD", "ra"):
        mine = every["z" if name == "Z" else name].to_numpy()
        theirs = light[name]
        if theirs.dtype.kind == "f":
            assert mine.dtype == theirs.dtype
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine.tolist() == theirs.tolist()
    assert every["z"].null_count == int(np.isnan(light["Z"]).sum())
    assert every.schema.field("bright").type == pa.bool_()
    joined = catalog.sql(
        "SELECT a.object_id FROM catalog a JOIN catalog b ON a.object_id = b.object_id"
    )
    assert len(joined) == 100
    assert catalog.sql("SELECT i FROM range(3) AS t(i)")["i"].to_pylist() == [0, 1, 2]


def test_only_what_is_needed_is_read(catalog, light, monkeypatch):
    """A question reads the columns it names; one that may need more reads all."""
    read = []
    real = type(catalog)._relation
    monkeypatch.setattr(
        type(catalog), "_relation", lambda self, schema: read.append(schema) or real(self, schema)
    )
    place = ["healpix", "_shard", "_row"]
    catalog.query("mag < 20")
    assert read.pop().names == [*place, "FLUX_R", "A_R"]
    assert catalog.sql("SELECT count(*) FROM catalog").to_pydict() == {"count_star()": [100]}
    assert read.pop().names == ["healpix"]
    n = catalog.sql("SELECT GOOD, count(*) AS n FROM catalog GROUP BY GOOD HAVING n > 1 ORDER BY n")
    assert len(n) == 2
    assert read.pop().names == ["GOOD"]
    for statement in (
        "SELECT c FROM catalog c",
        "SELECT catalog FROM catalog",
        "FROM catalog",
        "SELECT COLUMNS('Z|forced.*') FROM catalog",
    ):
        table = catalog.sql(statement)
        assert len(table) == 100
        assert len(read.pop().names) > 10
    assert len(catalog.sql("SELECT c FROM catalog c")["c"][0].as_py()) > 10
    read.clear()
    both = catalog.sql("SELECT a.Z FROM catalog a JOIN catalog b USING (object_id, ra, dec)")
    assert len(both) >= 100
    assert set(read.pop().names) == {"Z", "object_id", "ra", "dec"}
    with pytest.raises(UnknownColumnError):
        catalog.query("MAGG < 1")
    assert read == []


def test_behind_a_url(catalog, light):
    """A tree behind a URL is asked in the same way, and only the columns needed come over."""
    from astropile.testing.server import serve

    with serve(catalog.path.parent.parent) as server:
        far = open_catalog(f"{server.url}/toy", "main")
        assert far.query("mag < 20").tolist() == catalog.query("mag < 20").tolist()
        question = "SELECT healpix, count(*) AS n FROM catalog GROUP BY healpix ORDER BY healpix"
        assert far.sql(question).equals(catalog.sql(question))
        server.clear()
        with pytest.raises(UnknownColumnError):
            far.query("MAGG < 1")
        assert server.asked == []


def test_query_columns(catalog):
    """What can be asked is listed: common, standard and native names, none that is not light."""
    names = catalog.query_columns
    assert names[:6] == ("_row_number", "object_id", "observation_id", "ra", "dec", "healpix")
    assert {"z", "Z", "mag", "MAG", "forced.i_mag", "Forced.I_Mag", "kind"} <= set(names)
    assert not {"HIDDEN", "FLUX", "image", "spectrum"} & set(names)


@pytest.mark.parametrize(
    ("where", "near"),
    [
        ("i_cmodel_mag < 21", "no column 'i_cmodel_mag'"),
        ("FLUX_S > 1 and Z > 2", "no column 'FLUX_S' in toy/main; did you mean 'FLUX_R'"),
        ("redshift.z > 1", "no column 'redshift.z'"),
        ("HIDDEN = 1", "no column 'HIDDEN'"),
    ],
)
def test_unknown_column(catalog, where, near):
    """A name that is not there is refused, and the nearest one named."""
    with pytest.raises(UnknownColumnError, match=near):
        catalog.query(where)
    with pytest.raises(UnknownColumnError, match=near):
        catalog.sql(f"SELECT max(dec) FROM catalog WHERE {where}")


@pytest.mark.parametrize(
    ("where", "said"),
    [
        (" ", "condition"),
        ("z >", "syntax error"),
        ("z > 1 ORDER BY z", "syntax error"),
        ("true) LIMIT (1", "one condition"),
        ("true) UNION SELECT (1", "one condition"),
        ("true); DROP VIEW catalog; SELECT (1", "SELECT"),
        ("NAME > 1", "Could not convert|[Cc]annot compare"),
        ("sum(z) > 1", "WHERE clause cannot contain aggregates"),
    ],
)
def test_no_condition(catalog, where, said):
    """What is not one condition is refused in one line that quotes it."""
    with pytest.raises(QueryError, match=said) as caught:
        catalog.query(where)
    assert "\n" not in str(caught.value)


HOSTILE = [
    "COPY (SELECT 1) TO '{file}'",
    "COPY catalog TO '{file}'",
    "ATTACH '{file}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "SET memory_limit = '100GB'",
    "RESET lock_configuration",
    "PRAGMA database_list",
    "CREATE TABLE t AS SELECT 1",
    "DROP VIEW catalog",
    "EXPORT DATABASE '{folder}'",
    "CALL duckdb_settings()",
    "SELECT 1; COPY (SELECT 1) TO '{file}'",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM read_json('{secret}')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM '{parquet}'",
    "SELECT * FROM 'http://127.0.0.1:9/a.parquet'",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table(['catalog'])",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM parquet_metadata('{parquet}')",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM secret_frame",
    "SELECT (SELECT count(*) FROM read_text('{secret}'))",
    "WITH a AS (SELECT * FROM read_text('{secret}')) SELECT * FROM a",
    "SELECT getenv('HOME')",
    "SELECT * FROM sqlite_scan('{file}', 't')",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_shut_in(catalog, tmp_path, statement):
    """A statement that writes, or reaches for files, settings or Python's values, is refused."""
    secret_frame = pa.table({"a": [1]})
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    parquet = next((catalog.path / "catalog").rglob("Npix=*.parquet"))
    before = sorted(tmp_path.rglob("*"))
    text = statement.format(
        file=tmp_path / "out.csv", folder=tmp_path, secret=secret, parquet=parquet
    )
    with pytest.raises(QueryError):
        catalog.sql(text)
    assert sorted(tmp_path.rglob("*")) == before
    assert len(secret_frame) == 1
    assert len(catalog.query("true")) == 100


def test_memory_is_bounded(catalog, tmp_path, monkeypatch):
    """A question larger than its memory is put aside on disk or refused, and leaves nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    large = "SELECT count(*) FROM (SELECT DISTINCT i, hash(i) FROM range(4000000) t(i))"
    assert len(catalog.sql(large, memory_nbytes=2**26)) == 1
    with pytest.raises(QueryError, match="more than 16777216 bytes of memory"):
        catalog.sql("SELECT list(i) FROM range(9000000) t(i)", memory_nbytes=2**24)
    assert list(tmp_path.iterdir()) == []


def test_without_duckdb(catalog, monkeypatch):
    """Where DuckDB is not installed, the extra to install is named."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(MissingExtraError, match=r"astropile\[query\]"):
        catalog.query("true")


def test_not_imported_before_it_is_asked():
    """Opening trees does not import DuckDB."""
    code = (
        "import astropile.catalog, sys; assert not {'duckdb', 'mocpy', 'pandas'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
