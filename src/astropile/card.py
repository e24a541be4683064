"""The README of a survey's data folder: a dataset card, made from what its subsets say."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from astropile.layout import README_FILE, ROOT_FILE
from astropile.manifest import Root, read_root
from astropile.publish import publish_bytes
from astropile.schema import Column, Survey, column_names

_SIZES: Final = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
    (10**9, "100M<n<1B"),
    (10**12, "1B<n<10B"),
)
"""Size categories of Hugging Face's dataset cards."""


def size_category(n_objects: int) -> str:
    """
    Give the size category of Hugging Face's dataset cards.

    Parameters
    ----------
    n_objects : int
        Number of rows.

    Returns
    -------
    str
        Such as ``"1K<n<10K"``.
    """
    return next((name for limit, name in _SIZES if n_objects < limit), _SIZES[-1][1])


def refresh_card(data_dir: Path) -> None:
    """
    Write the README of a data folder if it is not what its subsets say.

    Parameters
    ----------
    data_dir : Path
        The data folder.
    """
    # Two builds that end at once must each see the other's subset.
    descriptor = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # Some file systems have no locks.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        for left_over in data_dir.glob(f".{README_FILE}.*.part"):
            left_over.unlink(missing_ok=True)
        # And where locks do not hold, who writes last looks once more.
        while not _is_current(data_dir):
            with contextlib.suppress(FileNotFoundError):  # Taken for left over by another.
                publish_bytes(data_dir / README_FILE, card_text(data_dir).encode())
    finally:
        os.close(descriptor)


def _is_current(data_dir: Path) -> bool:
    readme = data_dir / README_FILE
    return readme.is_file() and readme.read_bytes() == card_text(data_dir).encode()


def card_text(data_dir: Path) -> str:
    """
    Give the README that a data folder should have.

    Parameters
    ----------
    data_dir : Path
        The data folder, with at least one subset.

    Returns
    -------
    str
        The text.
    """
    # A subset that is being made stands in a folder whose name starts with a dot.
    folders = (path.parent for path in sorted(data_dir.glob(f"*/{ROOT_FILE}")))
    roots = [read_root(folder) for folder in folders if not folder.name.startswith(".")]
    survey = roots[0].survey
    n_objects = sum(root.n_objects for root in roots)
    size = size_category(n_objects)
    configs = "".join(
        f"- config_name: {root.subset}\n  data_files: {root.subset}/healpix=*/*.hdf5\n"
        for root in roots
    )
    lines = [
        "---",
        f"pretty_name: {survey.title}",
        "license: " + (survey.licence.lower() if is_spdx(survey.licence) else "other"),
        f"size_categories:\n- {size}",
        "tags:\n- astronomy\n- astropile",
        f"configs:\n{configs}---",
        "",
        f"# {survey.title}",
        "",
        survey.description,
        "",
        "```python",
        "import astropile",
        "",
        f'dataset = astropile.load_dataset("{survey.name}", "{roots[0].subset}")',
        "```",
        "",
    ]
    for root in roots:
        lines += _subset_lines(root)
    return "\n".join(lines).rstrip("\n") + "\n"


def is_spdx(licence: str) -> bool:
    """
    Tell an SPDX identifier of one licence from terms in words.

    Parameters
    ----------
    licence : str
        What a survey states.

    Returns
    -------
    bool
        Whether it is one.
    """
    return " " not in licence and licence.lower().startswith(
        ("cc-by", "cc0", "mit", "bsd-", "apache-", "gpl-", "lgpl-")
    )


def _subset_lines(root: Root) -> list[str]:
    return [
        f"## `{root.subset}`",
        "",
        (
            f"{root.n_objects} objects in {len(root.partitions)} partitions of HEALPix order "
            f"{root.order} (NESTED), layout {root.layout}."
        ),
        "",
        *survey_lines(root.survey),
    ]


def survey_lines(survey: Survey) -> list[str]:
    """
    Describe a survey's facts, columns and standard names in Markdown.

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    list of str
        Lines, ending with an empty one.
    """
    facts = {
        "Project": survey.project,
        "Survey": survey.survey,
        "Release": survey.release,
        "Homepage": survey.homepage,
        "Licence": survey.licence,
        "Acknowledgement": survey.acknowledgement,
        "Frame": survey.frame,
        "Epoch": "" if survey.epoch is None else f"J{survey.epoch}",
        "Wavelength": f"{survey.wavelength_medium} {survey.wavelength_frame}".strip(),
        "Times": survey.time_scale,
    }
    lines = [f"- {name}: {_cell(value)}" for name, value in facts.items() if value]
    lines += ["", "Citation:", "", "```", survey.citation.strip(), "```", ""]
    columns, names = schema_rows(survey)
    lines += ["### Columns", "", "| column | type | unit | what |", "|---|---|---|---|", *columns]
    lines += ["", "### Standard names", "", "| standard | from |", "|---|---|", *names]
    return [*lines, ""]


def schema_rows(survey: Survey) -> tuple[list[str], list[str]]:
    """
    Write the rows of a survey's schema table (rule M5 of the format).

    Parameters
    ----------
    survey : Survey
        The survey.

    Returns
    -------
    columns, names : list of str
        One line of Markdown for each native column, and for each standard name.
    """
    columns = [
        f"| `{column.name}` | {_type(column)} | {_cell(column.unit)} | {_what(column)} |"
        for column in survey.columns
    ]
    names = []
    for name, source in survey.aliases.items():
        origin = ", ".join(f"`{column}`" for column in column_names(source)) or "a constant"
        names.append(f"| `{name}` | {origin} |")
    return columns, names


def _type(column: Column) -> str:
    shape = ", ".join(str(size) for size in column.shape)
    shared = ", one for all" if column.shared else ""
    return f"{column.dtype} ({shape}){shared}" if shape else f"{column.dtype}{shared}"


def _what(column: Column) -> str:
    derived = " *Derived.*" if column.derived else ""
    bits = ", ".join(f"{bit} {name}" for name, bit in column.bits.items())
    return _cell(column.doc) + derived + (f" Bits: {bits}." if bits else "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
