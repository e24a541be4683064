"""What stands against sharing a match is said before it is written or pushed."""

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


def test_a_match_of_unknown_terms_warns_when_it_is_written(matched, tmp_path):
    """Unknown terms warn on `save_to_disk`, of what was made of the match too; each time once."""
    few = matched.select([0, 1]).map(lambda row: {"twice": 2 * row["ra"]}, keep_in_memory=True)
    made = {"whole": matched, "few": few, "dict": datasets.DatasetDict({"train": few})}
    for name, data in made.items():
        with pytest.warns(LicenceWarning, match="table: licence not known"):
            data.save_to_disk(tmp_path / name)
        assert len(datasets.load_from_disk(tmp_path / name)) > 0


def test_what_is_pushed_warns_first(matched, monkeypatch):
    """`push_to_hub` warns before anything is sent: nothing answers where it would go."""
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    with (
        pytest.warns(LicenceWarning, match="Before this is shared: table"),
        pytest.raises(Exception, match="refused"),
    ):
        matched.push_to_hub("my_name/match", token="hf_test")


def test_a_match_of_open_surveys_says_nothing(trees, tmp_path):  # noqa: F811
    """Two surveys whose licences allow sharing are written without a warning."""
    open_match = astropile.cross_match_datasets(trees.left, trees.right).dataset
    with warnings.catch_warnings():
        warnings.simplefilter("error", LicenceWarning)
        open_match.select([0]).save_to_disk(tmp_path / "open")
