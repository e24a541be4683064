"""What stands against sharing a match is told with it, and said before it is pushed."""

import warnings

import datasets
import pytest

import astropile
from astropile.errors import LicenceWarning
from hftrees import quiet, trees  # noqa: F401


@pytest.fixture(scope="module")
def matched(trees):  # noqa: F811
    """A survey matched with a list of which nobody knows the terms."""
    ra, dec = astropile.open_catalog(trees.left).positions()
    return astropile.cross_match_datasets(trees.left, {"ra": ra[:4], "dec": dec[:4]}).dataset


def test_what_is_kept_says_its_terms(matched, tmp_path):
    """A copy of one's own is written without a warning; it still says what it may not be."""
    few = matched.select([0, 1]).map(lambda row: {"twice": 2 * row["ra"]}, keep_in_memory=True)
    made = {"whole": matched, "few": few, "dict": datasets.DatasetDict({"train": few})}
    for name, data in made.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error", LicenceWarning)
            data.save_to_disk(tmp_path / name)
        back = datasets.load_from_disk(tmp_path / name)
        first = back["train"] if name == "dict" else back
        assert "Before this is shared: table: licence not known" in first.info.description


def test_what_is_pushed_warns_first(matched, monkeypatch):
    """`push_to_hub` warns before anything is sent: nothing answers where it would go."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    few = matched.select([0, 1])
    for data in (matched, few, datasets.DatasetDict({"train": few})):
        with (
            pytest.warns(LicenceWarning, match="Before this is shared: table"),
            pytest.raises(Exception, match="refused"),
        ):
            data.push_to_hub("my_name/match", token="hf_test")


def test_a_match_of_open_surveys_says_nothing(trees, monkeypatch):  # noqa: F811
    """Two surveys whose licences allow sharing are pushed without a warning."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    open_match = astropile.cross_match_datasets(trees.left, trees.right).dataset
    warnings.simplefilter("error", LicenceWarning)
    with pytest.raises(Exception, match="refused"):
        open_match.select([0]).push_to_hub("my_name/match", token="hf_test")
