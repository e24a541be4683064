"""
Arithmetic on columns, written as text: read, never executed.

Allowed: column names (dots included), numbers, ``+ - * / **``, comparisons, parentheses and
the functions in `FUNCTIONS`. Where the arithmetic has no answer (the logarithm of a negative
flux) the result is NaN.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "abs": np.abs,
    "arcsinh": np.arcsinh,
    "exp": np.exp,
    "isfinite": np.isfinite,
    "log": np.log,
    "log10": np.log10,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "sqrt": np.sqrt,
    "where": np.where,
}
"""Functions a formula may call."""

_N_ARGUMENTS: Final = {"maximum": 2, "minimum": 2, "where": 3}
"""All others take one."""

_MAX_DEPTH: Final = 50

_CONSTANTS: Final = {"pi": math.pi, "nan": math.nan}

_BINARY: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARE: Final[Mapping[type[ast.cmpop], Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


@lru_cache(maxsize=256)
def _parse(expression: str) -> ast.expr:
    if len(expression) > 2000:
        raise ValueError(f"a formula has at most 2000 characters, not {len(expression)}")
    try:
        return ast.parse(expression, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ValueError(f"not a formula: {expression!r}") from error


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return None if head is None else f"{head}.{node.attr}"
    return None


def names_in(expression: str) -> tuple[str, ...]:
    """
    List the columns a formula names, in order, each once.

    Parameters
    ----------
    expression : str
        The formula.

    Returns
    -------
    tuple of str
        Column names.

    Raises
    ------
    ValueError
        If the text is not a formula.

    Examples
    --------
    >>> names_in("22.5 - 2.5 * log10(FLUX_R / MW_TRANSMISSION_R)")
    ('FLUX_R', 'MW_TRANSMISSION_R')
    """
    found: dict[str, None] = {}

    def walk(node: ast.expr, depth: int = 0) -> None:
        if depth > _MAX_DEPTH:
            raise ValueError(f"a formula nests at most {_MAX_DEPTH} deep")
        match node:
            case ast.Name() | ast.Attribute():
                name = _dotted(node)
                if name is None:
                    raise ValueError(f"not allowed in a formula: {ast.unparse(node)!r}")
                if name not in _CONSTANTS:
                    found.setdefault(name)
            case ast.Call(func=ast.Name(id=function), args=args, keywords=[]) if (
                function in FUNCTIONS
            ):
                wanted = _N_ARGUMENTS.get(function, 1)
                if len(args) != wanted:
                    raise ValueError(
                        f"in a formula {function} takes {wanted} arguments, not {len(args)}"
                    )
                for arg in args:
                    walk(arg, depth + 1)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                walk(left, depth + 1)
                walk(right, depth + 1)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                walk(operand, depth + 1)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                walk(left, depth + 1)
                walk(right, depth + 1)
            case ast.Constant(value=bool()):
                raise ValueError(f"not allowed in a formula: {ast.unparse(node)!r}")
            case ast.Constant(value=int() | float()):
                pass
            case _:
                raise ValueError(f"not allowed in a formula: {ast.unparse(node)!r}")

    walk(_parse(expression))
    return tuple(found)


def rename_in(expression: str, new_name: Callable[[str], str]) -> str:
    """
    Give columns other names in a formula.

    Parameters
    ----------
    expression : str
        The formula.
    new_name : callable
        Gives the new name of a column.

    Returns
    -------
    str
        The same formula of the columns under their new names.

    Raises
    ------
    ValueError
        If the text is not a formula, or a new name is not one that a formula can have.

    Examples
    --------
    >>> rename_in("22.5 - 2.5 * log10(FLUX_R)", lambda name: f"desi.{name}")
    '22.5 - 2.5 * log10(desi.FLUX_R)'
    """
    columns = frozenset(names_in(expression))

    class Renamer(ast.NodeTransformer):
        def _renamed(self, node: ast.expr) -> ast.expr:
            name = _dotted(node)
            return ast.Name(new_name(name)) if name in columns else node

        visit_Name = visit_Attribute = _renamed  # noqa: N815 - names that ast gives

    # The tree that was parsed is kept for the next who asks.
    tree = Renamer().visit(ast.parse(expression, mode="eval").body)
    renamed = ast.unparse(tree)
    wanted = tuple(new_name(name) for name in names_in(expression))
    if names_in(renamed) != wanted:
        raise ValueError(f"no names for a formula: {', '.join(wanted)}")
    return renamed


def evaluate(expression: str, values: Mapping[str, Any], dtype: str | None = None) -> NDArray[Any]:
    """
    Work out a formula on arrays, in float64.

    Parameters
    ----------
    expression : str
        The formula.
    values : mapping of str to array_like
        An array for each column the formula names, all of shapes that broadcast.
    dtype : str, optional
        Dtype of the result.

    Returns
    -------
    ndarray
        The result; NaN where there is none.

    Raises
    ------
    ValueError
        If the text is not a formula.
    KeyError
        If a column is missing from `values`.

    Examples
    --------
    >>> evaluate("22.5 - 2.5 * log10(flux)", {"flux": np.array([1.0, 100.0, -1.0])})
    array([22.5, 17.5,  nan])
    """
    columns = {name: np.asarray(values[name]) for name in names_in(expression)}
    columns = {
        name: array if array.dtype == bool else array.astype(np.float64)
        for name, array in columns.items()
    }

    def work(node: ast.expr) -> Any:
        match node:
            case ast.Name() | ast.Attribute():
                name = _dotted(node)
                assert name is not None
                return _CONSTANTS[name] if name in _CONSTANTS else columns[name]
            case ast.Call(func=ast.Name(id=function), args=args):
                return FUNCTIONS[function](*(work(arg) for arg in args))
            case ast.BinOp(left=left, op=op, right=right):
                return _BINARY[type(op)](work(left), work(right))
            case ast.UnaryOp(op=op, operand=operand):
                value = np.asarray(work(operand), np.float64)
                return -value if isinstance(op, ast.USub) else value
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return _COMPARE[type(op)](work(left), work(right))
            case ast.Constant(value=int() | float() as value):
                return np.float64(value)
        raise AssertionError("names_in has let through what evaluate does not know")

    with np.errstate(all="ignore"):
        result = np.asarray(work(_parse(expression)))
        result = np.where(np.isinf(result), np.nan, result) if result.dtype != bool else result
        return result if dtype is None else result.astype(dtype)
