"""What a dataset says of itself: text, licence, citation and where its rows come from."""

from __future__ import annotations

from collections.abc import Sequence

import datasets

from astropile._version import __version__
from astropile.catalog import Catalog

MADE_BY = "Read with AstroPile"
"""How the description of a dataset says what made it."""


def info_of(catalog: Catalog) -> datasets.DatasetInfo:
    """
    Describe a subset.

    Parameters
    ----------
    catalog : Catalog
        The subset.

    Returns
    -------
    datasets.DatasetInfo
        The survey's description, citation, licence and homepage; the description goes on with
        provenance, conventions and acknowledgement, in Markdown.
    """
    survey = catalog.survey
    facts = {
        "Project": survey.project,
        "Survey": survey.survey,
        "Release": survey.release,
        "Subset": f"{survey.name}/{catalog.subset}, snapshot {catalog.snapshot}",
        "Homepage": survey.homepage,
        "Licence": survey.licence,
        "Acknowledgement": survey.acknowledgement,
        "Frame": survey.frame,
        "Epoch": "" if survey.epoch is None else f"J{survey.epoch}",
        "Wavelength": f"{survey.wavelength_medium} {survey.wavelength_frame}".strip(),
        "Times": survey.time_scale,
    }
    lines = [f"- {name}: {' '.join(value.split())}" for name, value in facts.items() if value]
    made = f"{MADE_BY} {__version__}."
    return datasets.DatasetInfo(
        description="\n".join([survey.description, "", f"{survey.title}:", "", *lines, "", made]),
        citation=survey.citation,
        homepage=survey.homepage,
        license=survey.licence,
        dataset_name=survey.name,
    )


def merged_info(
    infos: Sequence[datasets.DatasetInfo], intro: str = "", name: str | None = None
) -> datasets.DatasetInfo:
    """
    Describe what is made of several datasets.

    Parameters
    ----------
    infos : sequence of DatasetInfo
        What is said of each.
    intro : str
        How they were put together.
    name : str, optional
        What the whole is called.

    Returns
    -------
    datasets.DatasetInfo
        All descriptions, citations and licences, each once.
    """
    licences = {(info.dataset_name, info.license): info for info in infos if info.license}
    named = [f"{name}: {licence}" if name else str(licence) for name, licence in licences]
    homepages = dict.fromkeys(info.homepage for info in infos if info.homepage)
    return datasets.DatasetInfo(
        description="\n\n".join(_once([intro, *(info.description for info in infos)])),
        citation="\n\n".join(_once([info.citation for info in infos])),
        homepage=next(iter(homepages)) if len(homepages) == 1 else "",
        license="; ".join(named),
        dataset_name=name,
    )


def _once(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(text.strip() for text in texts if text and text.strip()))
