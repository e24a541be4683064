"""The documentation is true: its examples run, its links lead somewhere, its tables are current."""

import contextlib
import doctest
import fcntl
import io
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import astropile
from astropile.cli.exit_codes import ExitCode
from astropile.cli.main import _COMMANDS, main, make_parser
from astropile.cli.survey_pages import survey_pages
from astropile.demo import FIELD, SEED, SURVEYS, targets
from astropile.simulate import decals, desi, hsc, manga, sdss
from astropile.simulate.galaxies import make_galaxies

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
N_GALAXIES = 10
WRITERS = {"hsc": hsc, "decals": decals, "sdss": sdss, "desi": desi, "manga": manga}

_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>not run: .+?|output) -->\n\n?)?^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_RUN = {"python", "sh"}
_SHOWN = {"", "text", "json", "toml"}


@dataclass(frozen=True)
class Block:
    """One block of code, or of what code prints."""

    language: str
    text: str
    note: str
    line: int


def blocks_of(page):
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            found["note"] or "",
            content.count("\n", 0, found.start("text")) + 1,
        )
        for found in _BLOCK.finditer(content)
    ]


def pages_with(languages):
    return [page for page in PAGES if any(block.language in languages for block in blocks_of(page))]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, worker_id):
    """Native files and trees as `astropile demo demo/` leaves them, of fewer galaxies."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "prepared"
    # Several workers share one: the first builds it.
    with (folder.parent / "prepared.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            aside = folder.with_name("prepared.part")
            galaxies = make_galaxies(N_GALAXIES, seed=SEED, **FIELD)
            for name in SURVEYS:
                chosen = galaxies.select(targets(name, galaxies))
                native = aside / "demo" / "native" / name
                WRITERS[name].write(native, chosen, seed=SEED)
                astropile.build_catalog(name, native, aside / "demo" / name, progress=False)
            aside.rename(folder)
    return folder


@pytest.fixture
def place(prepared, tmp_path, monkeypatch):
    """An own copy to work in; files are linked, since trees are never written in place."""
    for path in prepared.iterdir():
        shutil.copytree(path, tmp_path / path.name, copy_function=os.link)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", pages_with(_RUN), ids=name_of)
def test_examples_run(page, place, capsys):
    """Blocks run in order, each page in one namespace; what they print is as the page says."""
    namespace = {"__name__": "page"}
    printed = ""
    for block in blocks_of(page):
        where = f"{name_of(page)}:{block.line}"
        if block.note == "output":
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            good = doctest.OutputChecker().check_output(block.text, printed, flags)
            assert good, f"{where} says\n{block.text}\nand it is\n{printed}"
        elif block.language in _RUN and not block.note:
            printed = _run(block, where, namespace)
    capsys.readouterr()


def _run(block, where, namespace):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if block.language == "python":
            # Tracebacks name the line of the page.
            code = "\n" * (block.line - 1) + block.text
            exec(compile(code, where, "exec"), namespace)
        else:
            for line in _command_lines(block.text):
                if line[0] == "make":
                    assert f"\n{line[1]}:" in (ROOT / "Makefile").read_text(), where
                    continue
                assert line[0] == "astropile", f"{where}: say why {line[0]!r} is not run"
                assert main(line[1:]) == 0, f"{where}: {shlex.join(line)}"
    return out.getvalue()


def _command_lines(text):
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_of_a_known_language(page):
    """A block runs, is shown, or says why it does neither."""
    for block in blocks_of(page):
        assert block.language in _RUN | _SHOWN, f"{name_of(page)}:{block.line}"
        if block.note.startswith("not run:"):
            assert len(block.note) > 25, f"{name_of(page)}:{block.line}: why is it not run?"
    content = page.read_text(encoding="utf-8")
    assert content.count("\n```") == 2 * len(blocks_of(page)), "a block is not closed"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    """Links within the documentation name files that exist."""
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{name_of(page)}: {target}"


def test_every_page_can_be_found():
    """From the index, by links."""
    start = ROOT / "docs" / "index.md"
    found, todo = set(), [start]
    while todo:
        page = todo.pop()
        if page in found:
            continue
        found.add(page)
        for target in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                todo.append((page.parent / target).resolve())
    lost = {page for page in PAGES if page.is_relative_to(ROOT / "docs")} - found
    assert not lost, sorted(map(name_of, lost))


def test_the_surveys_pages_are_current():
    """As `astropile surveys --write-docs docs/surveys` writes them."""
    pages = survey_pages()
    folder = ROOT / "docs" / "surveys"
    assert {path.name for path in folder.glob("*.md")} == set(pages)
    stale = [
        name for name, text in pages.items() if (folder / name).read_text(encoding="utf-8") != text
    ]
    assert not stale, "run: astropile surveys --write-docs docs/surveys"


def test_the_exit_statuses_are_documented():
    """Every one, with its number, and none that is not."""
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert listed == {int(code) for code in ExitCode}


def test_every_command_and_option_is_documented():
    """The page of the command names each command and its options."""
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    parser = make_parser()
    (commands,) = (a for a in parser._actions if getattr(a, "choices", None))
    for name in _COMMANDS:
        assert f"## astropile {name}" in page
        section = page.split(f"## astropile {name}", 1)[1].split("\n## ", 1)[0]
        for action in commands.choices[name]._actions:
            for option in action.option_strings:
                if option.startswith("--") and option not in {
                    *("--help", "--json", "--quiet", "--verbose", "--no-progress", "--debug"),
                }:
                    assert f"`{option}" in section, f"{name}: {option}"


def test_decisions_are_numbered_without_gaps():
    """Each has the same three parts and is about half a page."""
    pages = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for part in ("## Context", "## Choice", "## Turned down"):
            assert part in text, f"{page.name}: {part}"
        assert len(text.split()) < 420, page.name


def test_the_project_speaks_of_itself_alone():
    """No page mentions the machine it was written on."""
    for page in PAGES:
        assert not re.search(r"(?<![\w.])/(?:work|tmp|root)/", page.read_text(encoding="utf-8")), (
            page
        )
