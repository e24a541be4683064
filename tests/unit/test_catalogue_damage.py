"""A damaged catalogue is refused: no wrong value comes out, and the file is named."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import toy
from astropile import build_catalog, open_catalog
from astropile.cli.exit_codes import ExitCode
from astropile.cli.main import main
from astropile.errors import FormatError
from astropile.hats import read_hats
from astropile.match.files import PositionFiles
from astropile.regions import Box

N = 60


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damage")
    toy.write_native(folder / "native/a.npz", toy.make_batch(N, seed=1))
    build_catalog(toy.SURVEY, folder / "native", folder / "toy", order=0, progress=False)
    return folder / "toy"


@pytest.fixture
def tree(built, tmp_path):
    return shutil.copytree(built, tmp_path / "toy")


def a_file(tree):
    return sorted((tree / "main" / "catalog").rglob("Npix=*.parquet"))[3]


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def page_bit(path, name):
    """A bit inside the values of a column, where its page's sum covers it."""
    column = next(
        c
        for c in map(pq.read_metadata(path).row_group(0).column, range(99))
        if c.path_in_schema == name
    )
    start = column.dictionary_page_offset or column.data_page_offset
    return 8 * (start + column.total_compressed_size - 3)


def test_no_flipped_bit_changes_a_value(tree):
    """After any one bit flipped, the light columns are refused or still right."""
    catalog, path = open_catalog(tree), a_file(tree)
    right, content = catalog.light(), path.read_bytes()
    refused = 0
    for bit in np.random.default_rng(4).choice(8 * len(content), 80, replace=False).tolist():
        flip(path, bit)
        try:
            assert catalog.light().equals(right), f"bit {bit}"
        except FormatError:
            refused += 1
        path.write_bytes(content)
    assert refused > 20


def test_ways_to_read_a_damaged_page(tree):
    """All of them name the file: whole columns, a region, and SQL."""
    pytest.importorskip("duckdb")
    catalog, path = open_catalog(tree), a_file(tree)
    flip(path, page_bit(path, "ra"))
    for read in (
        lambda: catalog.light(["ra"]),
        lambda: catalog.within(Box(0, 360, -90, 90)),
        lambda: catalog.query("ra > 3"),
        lambda: catalog.sql("SELECT max(ra) FROM catalog"),
    ):
        with pytest.raises(FormatError, match=path.name):
            read()
    assert len(catalog.light(["dec"])) == N


@pytest.mark.parametrize("damage", ["missing", "short", "empty", "column", "rows"])
def test_a_file_that_is_not_what_it_should_be(tree, damage):
    """Missing, cut short, without a column or with other rows: refused by every reader."""
    pytest.importorskip("duckdb")
    catalog, path = open_catalog(tree), a_file(tree)
    with pq.ParquetFile(path) as file:
        table = file.read()
    match damage:
        case "missing":
            path.unlink()
        case "short":
            path.write_bytes(path.read_bytes()[:-20])
        case "empty":
            path.write_bytes(b"")
        case "column":
            pq.write_table(table.drop(["Z"]), path)
        case "rows":
            pq.write_table(pa.concat_tables([table, table]), path)
    for read in (
        lambda: catalog.light(["Z"]),
        lambda: catalog.query("Z > 0.5"),
    ):
        with pytest.raises(FormatError, match=path.name):
            read()


def test_the_command_says_so(tree, capsys):
    """`show` and `match` exit with the status of a broken format."""
    path = a_file(tree)
    flip(path, page_bit(path, "ra"))
    flip(path, page_bit(path, "object_id"))
    flip(path, page_bit(path, "observation_id"))
    for command in (
        ["show", str(tree), "7"],
        ["match", str(tree), str(tree), "-o", str(tree.parent / "pairs")],
    ):
        assert main(command) == ExitCode.DAMAGED, command
    assert "Traceback" not in capsys.readouterr().err


def test_a_catalogue_without_sums_is_read(tree):
    """As written before pages had sums."""
    right = open_catalog(tree).light()
    for path in (tree / "main" / "catalog").rglob("Npix=*.parquet"):
        with pq.ParquetFile(path) as file:
            table = file.read()
        pq.write_table(table, path, write_page_checksum=False)
    assert open_catalog(tree).light().equals(right)
    assert len(read_hats(tree / "main" / "catalog", None)) == N


def test_a_match_of_partitions_notices(tree):
    """The reader that matches take their positions from names the file."""
    path = a_file(tree)
    flip(path, page_bit(path, "ra"))
    files = PositionFiles(tree / "main" / "catalog")
    with pytest.raises(FormatError, match=path.name):
        files.take(np.arange(N))
    files.close()
