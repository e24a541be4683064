"""The pages under `docs/surveys/`, made from the surveys' declarations."""

from __future__ import annotations

import inspect
import sys
from typing import Final

from astropile.card import survey_lines
from astropile.schema import Survey
from astropile.surveys import get_survey, list_surveys

_KINDS: Final = {
    "image": "images",
    "spectrum": "spectra",
    "spaxels": "IFU cubes",
    "lightcurve": "light curves",
}
_NOTE: Final = "<!-- Written by `astropile surveys --write-docs docs/surveys`. -->"


def kinds_of(survey: Survey) -> tuple[str, ...]:
    """
    Say what a survey holds.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    tuple of str
        ``images``, ``spectra``, ``IFU cubes``, ``light curves``; ``catalogue`` if none.
    """
    kinds = tuple(kind for name, kind in _KINDS.items() if name in survey.aliases)
    return kinds or ("catalogue",)


def survey_pages() -> dict[str, str]:
    """
    Write the page of every survey, and their index.

    Returns
    -------
    dict of str to str
        File name to Markdown.
    """
    surveys = [get_survey(name) for name in list_surveys()]
    pages = {f"{survey.name}.md": _page(survey) for survey in surveys}
    return {"index.md": _index(surveys), **pages}


def _index(surveys: list[Survey]) -> str:
    lines = [
        _NOTE,
        "",
        "# Surveys",
        "",
        (
            "What `astropile build` can read. Each page says which files a survey publishes, "
            "which columns a tree holds, and where its standard names come from."
        ),
        "",
        "| name | survey | release | subset | holds |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| [{s.name}]({s.name}.md) | {s.title} | {s.release} | `{s.subset}` "
        f"| {', '.join(kinds_of(s))} |"
        for s in surveys
    ]
    return "\n".join([*lines, ""])


def _page(survey: Survey) -> str:
    lines = [
        _NOTE,
        "",
        f"# {survey.title}",
        "",
        survey.description,
        "",
        "<!-- not run: the survey's own files are not part of this repository -->",
        "",
        "```sh",
        f"astropile build {survey.name} NATIVE_PATH {survey.name}",
        "```",
        "",
    ]
    native = _native_files(survey)
    if native:
        lines += ["## How it is read", "", native, ""]
    lines += ["## What a tree holds", "", f"- Default subset: `{survey.subset}`"]
    lines += survey_lines(survey)
    return "\n".join(lines).rstrip("\n") + "\n"


def _native_files(survey: Survey) -> str:
    """Give what the survey's module says of the files it reads, below its first line."""
    places = (f"astropile.surveys.{survey.name}", getattr(survey.read, "__module__", ""))
    module = next((sys.modules[name] for name in places if name in sys.modules), None)
    text = inspect.cleandoc(module.__doc__ or "") if module else ""
    _, _, rest = text.partition("\n\n")
    return rest.replace("``", "`").strip()
