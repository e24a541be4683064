"""A match packaged as a tree of its own: bit for bit, valid, opened and matched again."""

import dataclasses
import warnings

import numpy as np
import pytest

import astropile
import toy
from astropile.errors import BuildError, FormatError, LicenceWarning, MatchError
from astropile.match import match_surveys
from astropile.match.contents import TreeContent
from astropile.match.package import read_sources, save_tree
from astropile.match.sides import TreeSide
from hftrees import build, quiet, trees  # noqa: F401


@pytest.fixture(autouse=True)
def no_licence_flags():
    """Fail where a licence is flagged that states everything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", LicenceWarning)
        yield


@pytest.fixture(scope="module")
def sample(trees):  # noqa: F811
    """Everything of both toy trees: pairs, and objects of either without one."""
    return match_surveys(trees.left, trees.right, match_radius=1.0, join="outer")


@pytest.fixture(scope="module")
def packaged(sample, tmp_path_factory):
    """The same as a tree in several shards; gives the subset's folder."""
    folder = tmp_path_factory.mktemp("packaged") / "both"
    return save_tree(sample, folder, order=1, shard_nbytes=300_000, progress=False).path


class StoppingContent(TreeContent):
    """Objects of a tree, stopped by the user once many are read."""

    def read(self, rows):
        if len(rows) > 10:
            raise KeyboardInterrupt
        return super().read(rows)


class StoppingSide(TreeSide):
    """A tree of which these come."""

    def content(self):
        return StoppingContent(self.tree)


def same(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == expected.tobytes()


def test_every_value_is_the_source_s(trees, sample, packaged):  # noqa: F811
    """Each native value of each side, ragged and shared ones too, is its source's to the bit."""
    tree = astropile.open_catalog(packaged)
    assert len(tree) == len(sample) > 60
    everyone = tree.take(np.arange(len(tree)))
    for name, folder in (("toy", trees.left), ("other", trees.right)):
        source = astropile.open_catalog(folder)
        there, rows = everyone[f"has_{name}"], everyone[f"row_{name}"]
        assert set(rows[there].tolist()) == set(range(len(source)))
        np.testing.assert_array_equal(rows >= 0, there)
        native = source.take(rows[there])
        for column in source.survey.columns:
            found, expected = everyone[f"{name}.{column.name}"], native[column.name]
            if column.shared:
                same(found, expected)
                continue
            places = np.flatnonzero(there)
            for place, row in zip(places, range(len(places)), strict=True):
                same(found[int(place)], expected[row])


def test_the_rows_are_those_of_the_match(sample, packaged):
    """Row numbers, separations and mean positions are those of the catalogue, row by row."""
    tree = astropile.open_catalog(packaged)
    found = tree.take(np.arange(len(tree)), ["row_toy", "row_other", "separation", "ra", "dec"])
    order = np.lexsort((found["row_other"], found["row_toy"]))
    expected = np.lexsort((sample.rows["other"], sample.rows["toy"]))
    for side in ("toy", "other"):
        same(found[f"row_{side}"][order], sample.rows[side][expected])
    same(found["separation"][order], sample.separations["separation"][expected])
    same(found["ra"][order], sample.ra[expected])


def test_what_is_absent_is_said(packaged):
    """Where a side has no part: NaN, zero, empty text, nothing ragged, and a mask all bad."""
    tree = astropile.open_catalog(packaged)
    found = tree.take(np.arange(len(tree)))
    absent = np.flatnonzero(~found["has_other"])
    assert len(absent)
    assert np.isnan(found["other.IMAGE"][absent]).all()
    assert (found["other.ID"][absent] == 0).all()
    assert (found["other.NAME"][absent] == b"").all()
    assert all(len(found["other.LC_FLUX"][int(row)]) == 0 for row in absent)
    assert all(found["other.STAMP"][int(row)].shape == (3, 0, 0) for row in absent)
    shown = tree.standard(absent, ["image_other", "image_toy"]).to_pylist()
    for row in shown:
        assert row["image_other"] == []
        assert len(row["image_toy"]) == 2
    assert (found["other.IMAGE_MASK"][absent] == 0b11).all()
    assert (found["n_rows_other"][absent] == 0).all()


def test_units_bits_and_views_of_a_side_stay(trees, packaged):  # noqa: F811
    """Declarations are the source's under other names, and so is the standard view."""
    tree, source = astropile.open_catalog(packaged), astropile.open_catalog(trees.left)
    for column in source.survey.columns:
        kept = tree.survey[f"toy.{column.name}"]
        for fact in ("dtype", "doc", "unit", "bits", "shared", "derived"):
            assert getattr(kept, fact) == getattr(column, fact)
    rows = np.flatnonzero(tree.light(["has_toy"])["has_toy"].to_numpy())
    numbers = tree.take(rows, ["row_toy"])["row_toy"]
    for name in ("mag", "image", "spectrum", "lightcurve", "z"):
        left = tree.standard(rows, [f"{name}_toy"]).column(0)
        right = source.standard(numbers, [name]).column(0)
        assert left.combine_chunks().equals(right.combine_chunks())


def test_the_tree_is_valid_and_opens(trees, packaged):  # noqa: F811
    """`validate_catalog` finds nothing; `load_dataset` shows both sides beside each other."""
    assert sound(packaged, trees.left)
    dataset = astropile.load_dataset(packaged)
    assert {"image_toy", "image_other", "separation", "has_toy"} <= set(dataset.column_names)
    row = next(row for row in dataset if row["has_toy"] and row["has_other"])
    assert row["separation"] < 1
    assert len(row["spectrum_toy"]["flux"]) == len(row["spectrum_other"]["flux"])


def test_it_is_matched_again(trees, packaged, tmp_path):  # noqa: F811
    """With a third survey, and packaged again: names nest, values are the first source's."""
    third = dataclasses.replace(toy.SURVEY, name="third", survey="THIRD")
    folder = build(third, {**trees.batch_left}, tmp_path / "c")
    again = match_surveys(packaged, folder, match_radius=1.0, find="mutual")
    path = save_tree(again, tmp_path / "three", progress=False).path
    assert sound(path, trees.left)
    tree = astropile.open_catalog(path)
    first = astropile.open_catalog(trees.left)
    found = tree.take(np.arange(len(tree)), ["toy_x_other.toy.IMAGE", "toy_x_other.row_toy"])
    there = found["toy_x_other.row_toy"] >= 0
    expected = first.take(found["toy_x_other.row_toy"][there], ["IMAGE"])
    same(found["toy_x_other.toy.IMAGE"][there], expected["IMAGE"])
    sources = read_sources(tree)["sources"]
    assert [source["name"] for source in sources] == ["toy_x_other", "third"]
    assert sources[0]["snapshot"] == astropile.open_catalog(packaged).snapshot


@pytest.mark.parametrize("copied", [False, True])
def test_one_object_in_several_rows_is_no_copy(tmp_path, copied):
    """A spectrum that serves two rows is not taken for another's; a copied one is, in either."""
    sky = {"ra": [10.0, 50.0, 90.0], "dec": [5.0, 5.0, 5.0]}
    one = toy.make_batch(3, seed=1, **sky)
    two = toy.make_batch(4, seed=2, ra=[10.0, 10.0001, 50.0, 90.0], dec=[5.0] * 4)
    if copied:
        one["FLUX"][2] = one["FLUX"][0]
    other = dataclasses.replace(toy.SURVEY, name="other", survey="OTHER")
    left, right = build(toy.SURVEY, one, tmp_path / "a"), build(other, two, tmp_path / "b")
    matched = match_surveys(right, left, match_radius=1.0, find="nearest")
    assert sorted(matched.rows["toy"].tolist()) == [0, 1, 1, 2]
    once = save_tree(matched, tmp_path / "once", progress=False).path
    matched = match_surveys(once, left, match_radius=1.0, find="nearest")
    twice = save_tree(matched, tmp_path / "twice", progress=False).path
    assert repeated(once) == ({"spectrum_toy.flux"} if copied else set())
    found = {"spectrum_toy.flux", "spectrum_toy_other_x_toy.flux"}
    assert repeated(twice) == (found if copied else set())


def repeated(path):
    """Fields of which two observations have the same."""
    report = astropile.validate_catalog(path, rules=["N9"])
    return {problem.where for problem in report.problems}


def test_provenance_of_every_source(trees, packaged):  # noqa: F811
    """Survey, release, subset, snapshot, licence, counts and the way of matching are there."""
    tree = astropile.open_catalog(packaged)
    told = read_sources(tree)
    assert told["match"]["match_radius_arcsec"] == 1.0
    assert (told["match"]["find"], told["match"]["join"]) == ("nearest", "outer")
    for source, folder in zip(told["sources"], (trees.left, trees.right), strict=True):
        original = astropile.open_catalog(folder)
        assert source["snapshot"] == original.snapshot
        assert source["release"] == original.survey.release
        assert source["n_objects"] == source["n_matched"] == len(original)
        assert source["citation"] == original.survey.citation
        assert original.snapshot[:12] in tree.survey.description
    readme = (packaged.parent / "README.md").read_text()
    assert toy.SURVEY.citation in readme
    assert "within 1 arcsec" in readme
    with pytest.raises(FormatError, match="expected a tree made of a match, found another"):
        read_sources(astropile.open_catalog(trees.left))


def sound(path, source):
    """Whether a tree has no fault that its source has not: one toy object lies at (0, 0)."""
    known = {problem.rule for problem in astropile.validate_catalog(source).problems}
    problems = astropile.validate_catalog(path).problems
    found = [str(problem) for problem in problems if problem.rule not in known]
    assert found == []
    return True


def test_licences_that_forbid_are_flagged(trees, tmp_path):  # noqa: F811
    """NC, ND and unknown terms warn, and stand in the tree and its README."""
    closed = dataclasses.replace(toy.SURVEY, name="des", licence="CC-BY-NC-ND-4.0")
    folder = build(closed, trees.batch_right, tmp_path / "d")
    found = match_surveys(trees.left, folder)
    assert found.catalog.meta["licence_flags"] == [
        "des: no commercial use, no derivatives (CC-BY-NC-ND-4.0)"
    ]
    with pytest.warns(LicenceWarning, match="des: no commercial use, no derivatives"):
        path = save_tree(found, tmp_path / "flagged", progress=False).path
    assert astropile.open_catalog(path).survey.licence == "CC-BY-4.0 AND CC-BY-NC-ND-4.0"
    readme = (tmp_path / "flagged" / "README.md").read_text()
    assert "license: other" in readme
    assert "Before you share this: des: no commercial use" in readme
    mine = match_surveys(trees.left, {"ra": [10.0], "dec": [5.0]}, join="left")
    with pytest.warns(LicenceWarning, match="table: licence not known"):
        save_tree(mine, tmp_path / "unknown", progress=False)


def test_tables_with_gaps(trees, tmp_path):  # noqa: F811
    """A table's numbers, text, lists and gaps are in the tree; what cannot be is refused."""
    ra, dec = astropile.open_catalog(trees.left).positions()
    import pyarrow as pa

    table = pa.table(
        {
            "my id": pa.array([2**62 + 1, None, 3]),
            "name": pa.array(["ä", None, "longer"]),
            "mag": pa.array([1.5, None, 2.5]),
            "list": pa.array([[1.0], [], [2.0, 3.0]], pa.list_(pa.float32())),
            "pair": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.int16(), 2)),
            "RA": ra[:3],
            "DEC": dec[:3],
        }
    )
    found = match_surveys(table, trees.left)
    with pytest.warns(LicenceWarning):
        path = save_tree(found, tmp_path / "t", progress=False).path
    assert sound(path, trees.left)
    values = astropile.open_catalog(path).take(np.arange(3))
    at = np.argsort(values["row_table"])
    same(values["table.my_id"][at], np.array([2**62 + 1, 0, 3]))
    same(values["table.my_id.null"][at], np.array([False, True, False]))
    assert values["table.name"][at].tolist() == ["ä".encode(), b"", b"longer"]
    same(values["table.name.null"][at], np.array([False, True, False]))
    np.testing.assert_array_equal(values["table.mag"][at], [1.5, np.nan, 2.5])
    assert [values["table.list"][int(row)].tolist() for row in at] == [[1], [], [2, 3]]
    same(values["table.pair"][at], np.array([[1, 2], [3, 4], [5, 6]], "i2"))
    nested = table.append_column("deep", pa.array([{"a": 1}] * 3))
    with pytest.raises(MatchError, match="column 'deep' of table: expected numbers, text"):
        save_tree(match_surveys(nested, trees.left), tmp_path / "n", progress=False)


def test_nothing_half_made(sample, packaged, tmp_path):
    """An existing subset stays, no rows are refused; a stopped run goes on to the same bytes."""
    with pytest.raises(BuildError, match="exists already"):
        save_tree(sample, packaged.parent, subset=packaged.name)
    empty = dataclasses.replace(
        sample,
        rows={name: rows[:0] for name, rows in sample.rows.items()},
        ra=sample.ra[:0],
        dec=sample.dec[:0],
    )
    with pytest.raises(MatchError, match="at least one row"):
        save_tree(empty, tmp_path / "e")
    options = {"order": 1, "shard_nbytes": 300_000, "progress": False}
    stopping = {**sample.sides, "other": StoppingSide(sample.sides["other"].tree)}
    with pytest.raises(KeyboardInterrupt):
        save_tree(dataclasses.replace(sample, sides=stopping), tmp_path / "both", **options)
    assert not (tmp_path / "both" / "matched").exists()
    again = save_tree(sample, tmp_path / "both", **options).path
    files = sorted(path.relative_to(packaged) for path in packaged.rglob("*") if path.is_file())
    for file in files:
        assert (again / file).read_bytes() == (packaged / file).read_bytes(), file
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["README.md", "matched"]
