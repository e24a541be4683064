"""The examples do what they promise, in their short form."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("datasets")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "examples"
N_STEPS = 240


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(
        "images_and_spectra", EXAMPLES / "images_and_spectra.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("images_and_spectra")


@pytest.fixture(scope="module")
def trained(example, folder):
    """A run that was stopped after 50 steps, within an epoch of three, and gone on with."""
    size = {"n_fields": 1, "n_steps": N_STEPS}
    assert example.run(folder, **size, stop_after=50) is None
    return example.run(folder, **size)


def test_the_loss_falls_and_unseen_sky_is_recognised(example, trained):
    """The loss falls by half; on test sky most images find their spectrum among five."""
    assert len(trained.losses) == N_STEPS
    # Untrained it is that of choosing one of a batch at random.
    assert trained.losses[0] == pytest.approx(np.log(example.BATCH_SIZE), abs=0.1)
    assert np.mean(trained.losses[-20:]) < trained.losses[0] / 2
    assert len(trained.test_ranks) >= 40
    assert trained.test_top5 > 0.5
    assert trained.chance < 0.15
    assert trained.smallest_separation_arcsec > 13


@pytest.mark.real
def test_real_pairs_are_ranked_among_all_real_spectra(example, trained, folder, real_data):
    """Two spectra of a star and one of a galaxy with images take places among 87."""
    model = example.Pairs()
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    model.load_state_dict(state["model"])
    scales = example.Scales((0.06, 0.03, 0.03, 0.05, 0.16), 31.0)
    found, n_spectra = example.ask_real(model, scales, folder / "real", real_data)
    assert n_spectra == 87
    assert sorted(kind for kind, _ in found) == ["GALAXY", "STAR", "STAR"]
    assert all(0 <= rank < n_spectra for _, rank in found)


def test_a_stopped_run_goes_on_with_the_very_batch(example, trained, folder, monkeypatch):
    """Steps after a checkpoint have the losses that they have without a stop, bit for bit."""
    (folder / "checkpoint.pt").unlink()
    assert example.run(folder, n_fields=1, n_steps=N_STEPS, stop_after=58) is None
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    assert state["losses"] == trained.losses[:58]


def test_the_picture_of_a_run_is_drawn(example, trained, folder):
    """The plot is a PNG of the stated size."""
    pytest.importorskip("matplotlib")
    example.draw(trained, folder / "training.png")
    header = (folder / "training.png").read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(header[16:20]) == 990
