"""Sides of a match behind URLs, and HATS catalogues matched in parts."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.table import Table

import astropile
from astropile.errors import MatchError, TreeNotFoundError
from astropile.match import (
    as_positions,
    cross_match,
    cross_match_many,
    match_many,
    match_surveys,
    read_pairs,
    save_pairs,
)
from astropile.testing.server import serve
from hatsfolders import make_hats, scatter
from hftrees import quiet, trees  # noqa: F401

RADIUS = 3600.0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with files of one table and a HATS catalogue, plain and in a collection."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(3)
    ra, dec = scatter(rng, 300, RADIUS, kind="clumps")
    table = Table({"id": np.arange(300) + 2**60, "ra": ra, "dec": dec})
    table.write(folder / "t.csv")
    table.write(folder / "t.ecsv")
    table.write(folder / "t.fits")
    table.write(folder / "t.vot", format="votable")
    table.write(folder / "t.parquet")
    make_hats(folder / "hats", *scatter(rng, 400, RADIUS, kind="clumps"))
    (folder / "collection.properties").write_text("hats_primary_table_url=hats\n")
    return folder


@pytest.fixture(scope="module")
def server(place):
    with serve(place) as served:
        yield served


def same_pairs(found, expected):
    for name in ("left", "right", "separation_arcsec"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert len(expected)


@pytest.mark.parametrize("name", ["t.csv", "t.ecsv", "t.fits", "t.vot", "t.parquet"])
def test_files_behind_a_url(place, server, name):
    """Every format gives the positions and identifiers that the file on disk gives."""
    near, far = as_positions(place / name), as_positions(f"{server.url}/{name}")
    np.testing.assert_array_equal(far.ra, near.ra)
    np.testing.assert_array_equal(far.dec, near.dec)
    assert far.name == "t"
    assert far.table().column("id").to_pylist() == (np.arange(300) + 2**60).tolist()


def test_files_through_fsspec(place):
    """A store of fsspec, as its URL names it."""
    far = as_positions(f"local://{place}/t.csv")
    np.testing.assert_array_equal(far.ra, as_positions(place / "t.csv").ra)


@pytest.mark.parametrize("path", ["/hats", ""])
def test_hats_behind_a_url(place, server, path):
    """A catalogue, or the collection it is in: rows in the same order, and the same pairs."""
    near, far = as_positions(place / "hats"), as_positions(f"{server.url}{path}")
    np.testing.assert_array_equal(far.ra, near.ra)
    assert far.table().column("object_id").equals(near.table().column("object_id"))
    found = cross_match(f"{server.url}{path}", f"{server.url}/t.csv", radius_arcsec=RADIUS)
    same_pairs(found, cross_match(near, as_positions(place / "t.csv"), radius_arcsec=RADIUS))


@pytest.mark.parametrize("path", ["nothing.csv", "nothing"])
def test_urls_of_nothing(server, path):
    """Named, and said what was looked for."""
    with pytest.raises(TreeNotFoundError, match="nothing"):
        as_positions(f"{server.url}/{path}")


@pytest.mark.parametrize("find", ["nearest", "mutual", "all"])
def test_hats_folders_in_parts(place, tmp_path, find):
    """In little memory, with an executor and with a work folder: as matched whole."""
    other, *_ = make_hats(
        tmp_path / "other", *scatter(np.random.default_rng(9), 200, RADIUS, kind="clumps")
    )
    sides, options = (place / "hats", other), {"radius_arcsec": RADIUS, "find": find}
    whole = cross_match(*map(as_positions, sides), **options)
    same_pairs(cross_match(*sides, **options, work_dir=tmp_path / "work"), whole)
    with ThreadPoolExecutor(2) as executor:
        same_pairs(cross_match(*sides, **options, executor=executor, memory_bytes=2**20), whole)
    written = save_pairs(*sides, tmp_path / "pairs.parquet", **options)
    same_pairs(read_pairs(written.path), whole)


def test_trees_behind_a_url_in_parts(trees, tmp_path):  # noqa: F811
    """Their pairs are written, or matched by an executor, as those of the trees on disk."""
    near = [astropile.open_catalog(folder) for folder in (trees.left, trees.right)]
    whole = cross_match(*near, radius_arcsec=1.0)
    with serve(near[0].path) as served:
        far = astropile.open_catalog(served.url)
        written = save_pairs(far, near[1], tmp_path / "pairs.parquet", radius_arcsec=1.0)
        same_pairs(read_pairs(written.path), whole)
        assert [path.name for path in tmp_path.iterdir()] == ["pairs.parquet"]
        with ThreadPoolExecutor(2) as executor:
            same_pairs(cross_match(far, near[1], radius_arcsec=1.0, executor=executor), whole)


def test_tables_are_not_matched_in_parts(place, trees, tmp_path):  # noqa: F811
    """An executor or a work folder is refused for them, not ignored."""
    with ThreadPoolExecutor(1) as executor:
        for options in ({"executor": executor}, {"work_dir": tmp_path}):
            with pytest.raises(MatchError, match="found t, a table in memory"):
                cross_match(place / "t.csv", place / "hats", radius_arcsec=1.0, **options)
        with pytest.raises(MatchError, match="executor: expected whole trees"):
            match_surveys(place / "t.csv", trees.left, executor=executor)
    with pytest.raises(MatchError, match="found t, a table in memory"):
        save_pairs(place / "hats", place / "t.csv", tmp_path / "x.parquet", radius_arcsec=1.0)


def test_a_match_with_a_url_as_a_dataset(trees, place, server):  # noqa: F811
    """The rows of a file behind a URL stand beside those of a tree."""
    ra, dec = astropile.open_catalog(trees.left).positions()
    Table({"key": np.arange(5), "ra": ra[:5], "dec": dec[:5]}).write(place / "mine.csv")
    catalog, dataset = astropile.cross_match_datasets(f"{server.url}/mine.csv", trees.left)
    assert sorted(row["key"] for row in dataset["mine"]) == list(range(5))
    assert len(catalog) == 5


@pytest.mark.parametrize("join", ["inner", "left", "outer"])
def test_many_surveys_on_two_workers_of_dask(two_workers, trees, packed, join):  # noqa: F811
    """Three trees at once, any anchor, any order of the others: as in this process."""
    for anchor in packed:
        options = {"anchor": anchor, "radius_arcsec": 3600.0 * 5, "join": join}
        positions = {name: catalog.positions() for name, catalog in packed.items()}
        expected = match_many(positions, **options)
        for order in (list(packed), list(packed)[::-1]):
            catalogs = {name: packed[name] for name in order}
            found = cross_match_many(catalogs, **options, executor=two_workers)
            for name in packed:
                np.testing.assert_array_equal(found.rows[name], expected.rows[name])
        told = match_surveys(
            *packed.values(),
            names=list(packed),
            match_radius=3600.0 * 5,
            anchor=anchor,
            join=join,
            executor=two_workers,
        )
        for name in packed:
            np.testing.assert_array_equal(told.rows[name], expected.rows[name])


@pytest.fixture(scope="module")
def packed(trees):  # noqa: F811
    """Three trees by name, of which two are the same."""
    left, right = (astropile.open_catalog(one) for one in (trees.left, trees.right))
    return {"a": left, "b": right, "c": left}
