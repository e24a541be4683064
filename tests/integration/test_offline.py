"""No request leaves the machine unless somebody gave a URL."""

import socket

import numpy as np
import pytest

import astropile
import toy
from astropile.gate import verify_file
from astropile.match import match_surveys
from astropile.verify import verify_tree
from hftrees import build, quiet  # noqa: F401


@pytest.fixture
def nobody(monkeypatch):
    """Refuse every connection and every question for an address; gives those that were asked."""
    asked = []

    def refuse(*words, **_):
        asked.append(words)
        raise OSError("no network here")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    return asked


def test_everything_local_asks_nobody(tmp_path, nobody):
    """From native files to a matched dataset, checked on the way: not one address is asked for."""
    sky = {"ra": np.linspace(10, 11, 6), "dec": np.full(6, 5.0)}
    tree = build(toy.SURVEY, toy.make_batch(6, seed=1, **sky), tmp_path)
    catalog = astropile.open_catalog(tree)
    assert astropile.validate_catalog(tree).ok
    assert verify_tree(catalog.path).ok
    assert verify_file(catalog.shards[0].path).ok
    assert len(astropile.load_dataset(tree)[0]["spectrum"]["flux"]) == toy.N_WAVE
    assert len(match_surveys(tree, tree, match_radius=1.0)) == 6
    assert nobody == []
