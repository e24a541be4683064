"""
The command ``astropile``: parse the command line, call one function, print what it gave.

Results go to standard output, everything else to standard error.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

from astropile._version import __version__
from astropile.cli.exit_codes import ExitCode
from astropile.cli.failures import UsageError, explain


class _Commands(Mapping[str, Any]):
    """The modules of the commands, imported when they are asked for: one command starts fast."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        return importlib.import_module(f"astropile.cli.{name}")

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


_COMMANDS: Final = _Commands(
    "demo",
    "surveys",
    "build",
    "get",
    "repair",
    "info",
    "show",
    "match",
    "rewrite",
    "snapshots",
    "stats",
    "validate",
    "verify",
)

_RESUME: Final = {
    "build": "the same command goes on where it was",
    "rewrite": "the same command goes on where it was",
    "demo": "the same command goes on with what is finished",
    "get": "the same command goes on where it was",
    "verify": "the same command goes on where it was",
    "stats": "the same command goes on where it was",
    "repair": "the same command goes on where it was",
}

_EPILOG: Final = """\
example:
  astropile demo demo/
  astropile info demo/hsc
  astropile match demo/hsc demo/decals -o hsc_x_decals --radius 1

exit status:
  0 done, 1 a bug, 2 wrong command line, 3 input refused, 4 damaged tree, 5 network,
  6 a file differs from its manifest, 7 disk, 8 forbidden by a policy, 130 interrupted
"""


class _Terminated(BaseException):
    """SIGTERM came."""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are exceptions, so that they are written like all others."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def make_parser(only: str | None = None) -> argparse.ArgumentParser:
    """
    Make the parser of the whole command.

    Parameters
    ----------
    only : str, optional
        The one command that is known to be given; by default all are there.

    Returns
    -------
    argparse.ArgumentParser
        With one sub-parser per command.
    """
    parser = _Parser(
        prog="astropile",
        description="Astronomical surveys as training data: build, fetch, check and match trees.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[_common(None)],
    )
    parser.add_argument("--version", action="version", version=f"astropile {__version__}")
    # Given before or after the command, a flag holds; unset after it, it keeps what was before.
    common = _common(argparse.SUPPRESS)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="commands", parser_class=_Parser
    )
    for name in _COMMANDS if only is None else [only]:
        module = _COMMANDS[name]
        one = commands.add_parser(
            name,
            help=module.HELP,
            description=module.DESCRIPTION,
            epilog=f"example:\n{module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )
        module.add_arguments(one)
    return parser


def _common(default: Any) -> _Parser:
    parser = _Parser(add_help=False)
    group = parser.add_argument_group("common options")
    unset = False if default is None else default

    def flag(*names: str, text: str) -> None:
        group.add_argument(*names, action="store_true", default=unset, help=text)

    flag("--json", text="write one JSON document to standard output")
    flag("-q", "--quiet", text="print nothing but errors (and JSON)")
    flag("-v", "--verbose", text="print more")
    flag("--no-progress", text="show no progress bars, which only a terminal gets anyway")
    flag("--debug", text="show the traceback of an error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Its arguments; by default those of the process.

    Returns
    -------
    int
        The exit status, an `ExitCode`.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    # What is known before the command line is understood.
    args = argparse.Namespace(command=None, debug="--debug" in words)
    try:
        with _terminable():
            _check_command(words)
            only = words[0] if words and words[0] in _COMMANDS else None
            args = make_parser(only).parse_args(words)
            _settle_bars(args)
            code = _COMMANDS[args.command].run(args)
            sys.stdout.flush()
            return int(code)
    except SystemExit as stop:
        return int(stop.code or 0) if isinstance(stop.code, int | None) else ExitCode.UNEXPECTED
    except KeyboardInterrupt:
        return _stopped(args, "interrupted", ExitCode.INTERRUPTED)
    except _Terminated:
        return _stopped(args, "terminated", ExitCode.TERMINATED)
    except BrokenPipeError:
        # Who reads the output has read enough. What is left must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the last place where anything is caught
        if args.debug:
            traceback.print_exc()
        failure = explain(error, args)
        _complain(f"error: {failure.message}")
        if failure.hint:
            _complain(f"hint: {failure.hint}")
        return failure.code


def _complain(text: str) -> None:
    print(f"astropile: {text}", file=sys.stderr)


def _stopped(args: argparse.Namespace, how: str, code: ExitCode) -> int:
    resume = _RESUME.get(args.command or "", "nothing was left half done; run it again")
    _complain(f"{how}; {resume}")
    return code


def _check_command(words: Sequence[str]) -> None:
    """Refuse an unknown command by naming the nearest."""
    word = next((word for word in words if not word.startswith("-")), None)
    if word in _COMMANDS or {"-h", "--help", "--version"} & set(words):
        return
    if word is None:
        raise UsageError("no command; see astropile --help")
    near = difflib.get_close_matches(word, list(_COMMANDS), n=1, cutoff=0.5)
    meant = f"; did you mean {near[0]!r}?" if near else "."
    raise UsageError(f"no command {word!r}{meant} Commands: {', '.join(_COMMANDS)}")


def _settle_bars(args: argparse.Namespace) -> None:
    """Bars only on a terminal; Hugging Face reads its switch when it is imported."""
    args.bars = sys.stderr.isatty() and not args.no_progress and not args.quiet
    if not args.bars:
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM, as batch systems send it, end a command as tidily as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: Any) -> NoReturn:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
