"""Facts of a survey are checked when they are made."""

import dataclasses
import pickle

import numpy as np
import pytest

import toy
from astropile.facts import survey_from_json, survey_to_json
from astropile.schema import Column, Ragged, Record, column_names


def test_survey_survives_json():
    """A survey's facts are the same after a round trip through JSON."""
    heavy = Column("SERVICE", "int32", "Not worth a place in the catalogue.", light=False)
    survey = dataclasses.replace(toy.SURVEY, columns=(*toy.SURVEY.columns, heavy))
    assert survey_from_json(survey_to_json(survey), "here").columns == survey.columns
    back = survey_from_json(survey_to_json(toy.SURVEY), "here")
    assert back.columns == toy.SURVEY.columns
    assert dict(back.aliases) == dict(toy.SURVEY.aliases)
    assert survey_to_json(back) == survey_to_json(toy.SURVEY)


def test_survey_pickles():
    """A survey crosses to another process whole, with its functions."""
    back = pickle.loads(pickle.dumps(toy.SURVEY))
    assert back == toy.SURVEY
    assert back.read is toy.read


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"name": "no space"}, "named with letters"),
        ({"dtype": "object"}, "not among the dtypes"),
        ({"doc": " "}, "has no doc"),
        ({"shape": (0,)}, "neither a length"),
        ({"bits": {"BAD": 0}}, "only an integer has bits"),
        ({"shape": (3,), "light": True}, "is light"),
    ],
)
def test_column_facts_are_checked(facts, said):
    """A column whose facts are not of their form cannot be made."""
    with pytest.raises(ValueError, match=said):
        Column(**{"name": "FLUX", "dtype": "float32", "doc": "Flux.", **facts})


def test_survey_facts_are_checked():
    """A survey names columns that exist, once each, and its four required aliases."""
    with pytest.raises(ValueError, match="declares twice: ID"):
        dataclasses.replace(toy.SURVEY, columns=(*toy.SURVEY.columns, toy.SURVEY["ID"]))
    for name in ("_row", "ragged", "healpix"):
        with pytest.raises(ValueError, match="cannot be named"):
            dataclasses.replace(
                toy.SURVEY, columns=(*toy.SURVEY.columns, Column(name, "int64", "Taken."))
            )
    without = {k: v for k, v in toy.SURVEY.aliases.items() if k != "observation_id"}
    with pytest.raises(ValueError, match="'observation_id' must name one column"):
        dataclasses.replace(toy.SURVEY, aliases=without)
    with pytest.raises(ValueError, match="not declared: NOPE"):
        dataclasses.replace(
            toy.SURVEY, aliases={**toy.SURVEY.aliases, "spectrum": Record({"flux": "NOPE"})}
        )


def test_dimensions():
    """A dimension of a shared column is the tree's; any other name is ragged."""
    assert toy.SURVEY.tree_dims == ("wave",)
    assert toy.SURVEY.ragged_dims(toy.SURVEY["FLUX"]) == ()
    assert toy.SURVEY.ragged_dims(toy.SURVEY["STAMP"]) == ("row", "col")
    assert toy.SURVEY.resolve({"wave": 7})["FLUX"].shape == (7,)


def test_column_names_of_an_alias():
    """All the columns that an alias is made of are found, through every kind of source."""
    assert column_names(toy.SURVEY.aliases["image"]) == ("IMAGE", "IMAGE_MASK", "PSF", "A_G", "A_R")


def test_ragged():
    """Ragged values come back one by one in their own shapes."""
    arrays = [np.arange(6).reshape(3, 2), np.arange(3).reshape(3, 1), np.empty((3, 0), int)]
    ragged = Ragged.of(arrays, flat=True)
    assert ragged.values.tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    for found, array in zip(ragged, arrays, strict=True):
        np.testing.assert_array_equal(found, array)
    with pytest.raises(IndexError, match="row 3 of 3"):
        ragged[3]
