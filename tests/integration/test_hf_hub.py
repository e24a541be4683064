"""What is saved or pushed loads where astropile is not installed, bit for bit."""

import subprocess
import sys

import astropile
from digest import digest
from hftrees import environment, quiet, reload_elsewhere, trees  # noqa: F401
from hubserver import Hub

PUSH = """
import sys
import datasets
import astropile
datasets.disable_progress_bars()
left, right = map(astropile.load_dataset_builder, sys.argv[1:3])
matched = astropile.cross_match_datasets(left, right, match_radius=1.0)
matched.dataset.push_to_hub("my_name/left_meets_right", num_shards=2)
"""


def _whole(dataset):
    return digest(dataset.with_format("arrow")[:])


def test_saved_dataset_loads_elsewhere(trees, tmp_path):  # noqa: F811
    """save_to_disk gives the same bits to a process without astropile."""
    matched = astropile.cross_match_datasets(trees.left, trees.right).dataset
    matched.save_to_disk(tmp_path / "saved", num_shards=3)
    found = reload_elsewhere(tmp_path, "disk", tmp_path / "saved", HF_HUB_OFFLINE="1")
    assert found["n"] == len(matched) > 0
    assert found["digest"] == _whole(matched)
    assert found["features"] == repr(matched.features)
    assert found["units"] == {"ra": "deg", "dec": "deg", "separation": "arcsec"}


def test_pushed_dataset_loads_elsewhere(trees, tmp_path):  # noqa: F811
    """push_to_hub, then load_dataset from the Hub in a process without astropile."""
    with Hub() as hub:
        facts = {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PUSH, str(trees.left), str(trees.right)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment(tmp_path, **facts), "PYTHONPATH": _source()},
            check=False,
        )
        assert done.returncode == 0, done.stderr + str(hub.unknown)
        files = hub.files("my_name/left_meets_right")
        matched = astropile.cross_match_datasets(trees.left, trees.right).dataset
        assert sorted(files) == [
            "README.md",
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
        ]
        found = reload_elsewhere(tmp_path, "hub", "my_name/left_meets_right", **facts)
        assert hub.unknown == []
    assert found["n"] == len(matched)
    assert found["digest"] == _whole(matched)
    assert found["units"] == {"ra": "deg", "dec": "deg", "separation": "arcsec"}


def _source():
    from pathlib import Path

    return str(Path(astropile.__file__).parents[1])
