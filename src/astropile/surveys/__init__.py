"""
Find a survey by name.

Each survey is one value, ``SURVEY``, in its own module, imported when asked for. Other
packages add theirs through the entry-point group ``astropile.surveys``.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from typing import Final

from astropile.errors import UnknownSurveyError
from astropile.schema import Survey

GROUP: Final = "astropile.surveys"

_BUILT_IN: Final = {
    "decals": "astropile.surveys.decals",
    "desi": "astropile.surveys.desi",
    "hsc": "astropile.surveys.hsc",
    "hsc_stamps": "astropile.surveys.hsc_stamps",
    "hst": "astropile.surveys.hst",
    "hst_galsim": "astropile.surveys.hst_galsim",
    "legacysurvey": "astropile.surveys.legacysurvey",
    "manga": "astropile.surveys.manga",
    "sdss": "astropile.surveys.sdss",
    "sdss_imaging": "astropile.surveys.sdss_imaging",
}


def list_surveys() -> tuple[str, ...]:
    """
    Name every survey that can be built, sorted.

    Returns
    -------
    tuple of str
        Names `get_survey` knows.

    Examples
    --------
    >>> "hsc" in list_surveys()
    True
    """
    plugged = {point.name for point in entry_points(group=GROUP)}
    return tuple(sorted(plugged | set(_BUILT_IN)))


def get_survey(name: str | Survey) -> Survey:
    """
    Give the survey of a name.

    Parameters
    ----------
    name : str or Survey
        The name; a `Survey` is given back as it is.

    Returns
    -------
    Survey
        The survey.

    Raises
    ------
    UnknownSurveyError
        If no survey has that name.

    Examples
    --------
    >>> get_survey("hsc").release
    'PDR3'
    """
    if isinstance(name, Survey):
        return name
    if name in _BUILT_IN:
        survey = importlib.import_module(_BUILT_IN[name]).SURVEY
    else:
        found = [point for point in entry_points(group=GROUP) if point.name == name]
        if not found:
            raise UnknownSurveyError(name, list_surveys())
        survey = found[0].load()
    if not isinstance(survey, Survey):
        raise TypeError(f"survey {name!r} is {type(survey).__name__}, not a Survey")
    return survey
