"""What is saved or pushed loads where astropile is not installed, bit for bit, card and all."""

import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from huggingface_hub import DatasetCard

import astropile
import toy
from astropile.hf.hub_card import complete_card
from digest import digest
from hftrees import N_LEFT, environment, quiet, reload_elsewhere, trees  # noqa: F401
from hubserver import Hub

PUSH = """
import sys
import datasets
import astropile
datasets.disable_progress_bars()
left, right = map(astropile.load_dataset_builder, sys.argv[1:3])
matched = astropile.cross_match_datasets(left, right, match_radius=1.0).dataset
matched.push_to_hub("my_name/left_meets_right", num_shards=2)
left.as_dataset().push_to_hub("my_name/dict", "nearby")
left.as_dataset("train").select(range(9)).push_to_hub("my_name/dict", "far")
stream = astropile.load_dataset(sys.argv[1], streaming=True)
stream.select_columns(["ra", "image"]).push_to_hub("my_name/stream")
datasets.Dataset.from_dict({"a": [1]}).push_to_hub("my_name/other")
"""


def _whole(dataset):
    return digest(dataset.with_format("arrow")[:])


@pytest.fixture(scope="module")
def hub(trees, tmp_path_factory):  # noqa: F811
    """A stand-in of the Hub to which datasets were pushed; and the environment to reach it."""
    folder = tmp_path_factory.mktemp("push")
    with Hub() as server:
        facts = {"HF_ENDPOINT": server.url, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PUSH, str(trees.left), str(trees.right)],
            capture_output=True,
            text=True,
            cwd=folder,
            env={
                **environment(folder, **facts),
                "PYTHONPATH": str(Path(astropile.__file__).parents[1]),
            },
            check=False,
        )
        assert done.returncode == 0, done.stderr + str(server.unknown)
        yield server, facts
        assert server.unknown == []


def _card(hub, repo):
    return DatasetCard(hub[0].files(f"my_name/{repo}")["README.md"].decode())


def test_saved_dataset_loads_elsewhere(trees, tmp_path):  # noqa: F811
    """save_to_disk gives the same bits to a process without astropile."""
    matched = astropile.cross_match_datasets(trees.left, trees.right).dataset
    matched.save_to_disk(tmp_path / "saved", num_shards=3)
    found = reload_elsewhere(tmp_path, "disk", tmp_path / "saved", HF_HUB_OFFLINE="1")
    assert found["n"] == len(matched) > 0
    assert found["digest"] == _whole(matched)
    assert found["features"] == repr(matched.features)
    assert found["units"] == {"ra": "deg", "dec": "deg", "separation": "arcsec"}


def test_pushed_dataset_loads_elsewhere(hub, trees, tmp_path):  # noqa: F811
    """push_to_hub, then load_dataset from the Hub in a process without astropile."""
    server, facts = hub
    matched = astropile.cross_match_datasets(trees.left, trees.right).dataset
    assert sorted(server.files("my_name/left_meets_right")) == [
        "README.md",
        "data/train-00000-of-00002.parquet",
        "data/train-00001-of-00002.parquet",
    ]
    found = reload_elsewhere(tmp_path, "hub", "my_name/left_meets_right", **facts)
    assert found["n"] == len(matched)
    assert found["digest"] == _whole(matched)
    assert found["units"] == {"ra": "deg", "dec": "deg", "separation": "arcsec"}


def test_card_of_a_match_says_what_both_surveys_ask_for(hub, trees):  # noqa: F811
    """Licences, citations, provenance with snapshots, units; size and configs for machines."""
    card = _card(hub, "left_meets_right")
    assert card.data.license == "other"
    assert card.data.pretty_name == "left_meets_right"
    assert card.data.tags == ["astronomy", "astropile"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.to_dict()["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "data/train-*"}]}
    ]
    assert "toy: CC-BY-4.0; other: CC-BY-4.0" in card.text
    assert toy.SURVEY.citation in card.text
    for tree in (trees.left, trees.right):
        catalog = astropile.open_catalog(tree)
        assert f"- Subset: {catalog.survey.name}/main, snapshot {catalog.snapshot}" in card.text
    assert "- Survey: TOY\n" in card.text
    assert "- Survey: OTHER\n" in card.text
    assert "| `separation` | float64 | arcsec |" in card.text
    assert "| `toy.image[].array` | float32 (24, 32) | nanomaggy |" in card.text
    assert "within 1 arcsec" in card.text


def test_card_has_a_part_for_each_configuration(hub):
    """Two pushes to one repository: both are described, and the size is that of both."""
    card = _card(hub, "dict")
    assert card.data.license == "cc-by-4.0"
    assert card.text.count("## Configuration `nearby`") == 1
    assert card.text.count("## Configuration `far`") == 1
    assert 'datasets.load_dataset("my_name/dict", "far")' in card.text
    infos = {info["config_name"]: info for info in card.data.to_dict()["dataset_info"]}
    assert {name: info["splits"][0]["num_examples"] for name, info in infos.items()} == {
        "nearby": N_LEFT,
        "far": 9,
    }


def test_card_of_a_stream_and_of_other_data(hub):
    """A stream keeps what its survey says; what is not from a tree is left as it is."""
    card = _card(hub, "stream")
    assert card.data.license == "cc-by-4.0"
    assert "| `ra` | float64 | deg |" in card.text
    assert "object_id" not in card.text
    assert _card(hub, "other").text.strip() == ""


def test_own_words_on_a_card_stay(hub, trees):  # noqa: F811
    """Completed once more, a card is the same; text and licence that someone wrote are kept."""
    info = astropile.load_dataset(trees.left).info
    text = hub[0].files("my_name/dict")["README.md"].decode()
    assert complete_card(text, info, "my_name/dict", "far") == text
    mine = text.replace("license: cc-by-4.0", "license: mit").replace("# dict", "# Mine\n\nHello.")
    again = complete_card(mine, info, "my_name/dict", "far")
    assert "license: mit" in again
    assert "# Mine\n\nHello." in again


def test_saved_dataset_says_what_the_survey_says(trees, tmp_path):  # noqa: F811
    """Description, citation, licence and homepage come back from disk, after map and select too."""
    left = astropile.load_dataset(trees.left)
    few = left.select([1, 2]).map(lambda row: {"twice": 2 * row["z"]}, keep_in_memory=True)
    few.save_to_disk(tmp_path / "saved")
    info = datasets.load_from_disk(tmp_path / "saved").info
    assert info.description == left.info.description
    assert info.description.startswith(toy.SURVEY.description)
    assert (info.citation, info.license) == (toy.SURVEY.citation, "CC-BY-4.0")
    assert info.homepage == toy.SURVEY.homepage
