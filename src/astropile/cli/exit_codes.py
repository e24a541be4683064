"""What the command's exit status says. `docs/command-line.md` has the same table."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """One number per kind of ending."""

    OK = 0
    """Done."""
    UNEXPECTED = 1
    """An error nobody foresaw: a bug. `--debug` shows where."""
    USAGE = 2
    """The command line cannot be understood: an unknown command, option, survey or value."""
    REFUSED = 3
    """The input cannot be used, or what is asked for is not there; nothing was changed.
    Of validate: the files are whole, what they say cannot be true."""
    DAMAGED = 4
    """A tree breaks the format."""
    NETWORK = 5
    """A server could not be reached or failed."""
    INTEGRITY = 6
    """A file is not the one its manifest describes."""
    DISK = 7
    """The disk is full or failing, or a quota or limit of the system is reached."""
    POLICY = 8
    """A rule of the user or of a licence forbids it."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C; the same command goes on or starts afresh."""
    TERMINATED = 143
    """Stopped by SIGTERM; likewise."""
