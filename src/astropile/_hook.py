"""Run something once a package has been imported, without importing it."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one package as everyone else does, and remembers to call back."""

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name, self._then = name, then

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """
        Find the package through the other finders.

        Parameters
        ----------
        fullname : str
            Name of the module being imported.
        path, target : object
            As for any finder.

        Returns
        -------
        ModuleSpec or None
            Its spec; None for any other module.
        """
        del path, target
        if fullname != self._name or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            sys.meta_path.insert(0, self)
            return None
        # The loader stays of its own class: resources and sources are found through it.
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            self._then()

        loader.exec_module = exec_module
        return spec


def when_imported(name: str, then: Callable[[], None]) -> None:
    """
    Call back once a package has been imported; at once if it already is.

    Parameters
    ----------
    name : str
        The package.
    then : callable
        Takes nothing.
    """
    module = sys.modules.get(name)
    if module is None:
        sys.meta_path.insert(0, _Finder(name, then))
    elif not getattr(module.__spec__, "_initializing", False):
        then()
