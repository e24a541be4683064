"""Paths on the command line: of a folder or a URL, or of this machine alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from astropile.store.protocol import TreePath, is_url, tree_path


def any_tree(text: str) -> TreePath:
    """
    Read the path or URL of a tree.

    Parameters
    ----------
    text : str
        What was typed.

    Returns
    -------
    Path or RemotePath
        The folder.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is no URL that can be read; says why.
    """
    try:
        return tree_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def local_tree(text: str) -> Path:
    """
    Read the path of a file or folder on this machine.

    Parameters
    ----------
    text : str
        What was typed.

    Returns
    -------
    Path
        The path.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is a URL.
    """
    if is_url(text):
        raise argparse.ArgumentTypeError(f"a path on this machine is needed, not a URL: {text}")
    return Path(text)
