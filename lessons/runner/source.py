"""The format of a lesson: a Python file, in cells for notebooks (`# %%`), with the learner's parts between two marks.

    def slope(f, x, eps):
        \"\"\"...\"\"\"
        ### BEGIN SOLUTION: the central difference
        return (f(x + eps) - f(x - eps)) / (2 * eps)
        ### END SOLUTION

becomes for the learner

    def slope(f, x, eps):
        \"\"\"...\"\"\"
        # TODO: the central difference
        raise NotImplementedError("slope is not written yet")

The marks are nbgrader's. A hole is named after the function that it stands in; a method's with its class: `Scalar.backward`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass

ENCODING = "utf-8-sig"  # of a learner's file: some editors put a mark before its first letter
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
OPEN = "is not written yet"  # how the message of an open hole ends


@dataclass(frozen=True)
class Hole:
    """Lines first to last, the marks included, counted from 1."""

    name: str
    todo: str
    first: int
    last: int


def holes(text: str) -> list[Hole]:
    """The holes of a worked file, from top to bottom."""
    found: list[Hole] = []
    begin = 0
    functions = _functions(ast.parse(text))
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip().startswith(BEGIN):
            begin, todo = number, line.strip().removeprefix(BEGIN).strip(": ")
        elif line.strip() == END:
            around = [name for name, first, last in functions if first < begin and number <= last + 1]
            if not begin or not around:
                raise ValueError(f"line {number}: a solution begins with {BEGIN} and stands inside a function")
            found.append(Hole(around[-1], todo, begin, number))
            begin = 0
    if begin:
        raise ValueError(f"line {begin}: {BEGIN} without {END}")
    return found


def _functions(tree: ast.AST, prefix: str = "") -> list[tuple[str, int, int]]:
    """(name, first line, last line) of every function, outer before inner."""
    found = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if isinstance(node, ast.FunctionDef):
                found.append((prefix + node.name, node.lineno, node.end_lineno or node.lineno))
            found += _functions(node, f"{prefix}{node.name}.")
    return found


def with_holes(text: str) -> str:
    """What the learner starts from."""
    lines = text.splitlines()
    for hole in reversed(holes(text)):
        indent = re.match(r"\s*", lines[hole.first - 1])[0]  # type: ignore[index]
        lines[hole.first - 1 : hole.last] = [
            f"{indent}# TODO: {hole.todo}",
            f'{indent}raise NotImplementedError("{hole.name} {OPEN}")',
        ]
    return "\n".join(lines) + "\n"


def worked(text: str) -> str:
    """The worked file without the marks."""
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith((BEGIN, END))) + "\n"


def defined_twice(tree: ast.Module) -> dict[str, list[int]]:
    """{name: lines} of the functions that a file defines more than once: Python keeps the last."""
    lines: dict[str, list[int]] = {}
    for name, first, _ in _functions(tree):
        lines.setdefault(name, []).append(first)
    return {name: found for name, found in lines.items() if len(found) > 1}


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def definitions(tree: ast.Module, keep: Collection[str] = ()) -> list[ast.stmt]:
    """What a file defines: imports, functions, classes, constants. What it does with its own functions is left out.

    So these are left out: loops, bare expressions (`print(...)`), and whatever calls a function of the file's or uses what such a call
    gave; and what a call gives to variables in small letters that no function reads (a figure, a data set, a network to look at),
    unless they are among `keep`. Attributes that are given to the file's own classes stay, and so do loops that fill a list or a
    dictionary for functions to read.
    """
    return _without_unread(_apart(tree)[0], keep)


def left_out(tree: ast.Module) -> dict[str, int]:
    """{name: line} of the variables whose values come from the file's own functions, or from loops."""
    return {name: node.lineno for node in _apart(tree)[1] for name in _names(node)[1]}


def _apart(tree: ast.Module) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """The statements that do not use the file's own functions, and those that do."""
    own = {node.name for node in tree.body if isinstance(node, DEFINITIONS)}
    wanted = set().union(*(_foreign(node) for node in tree.body if isinstance(node, DEFINITIONS)))
    made: set[str] = set()  # names that hold something made here, not imported
    found: list[ast.stmt] = []
    others: list[ast.stmt] = []
    results: set[str] = set()  # names that hold what is left out
    for node in tree.body:
        if isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)):
            found.append(node)
            continue
        read, given = _names(node)
        if isinstance(node, ast.For):
            read -= _names(node.target)[1]  # it gives them anew
        called = {n.func.id for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        runs = isinstance(node, (ast.Expr, ast.For, ast.While)) and not _filled(node) & wanted & made
        if runs or called & own or read & results:
            others.append(node)
            results |= given
        else:
            found.append(node)
            results -= given
            made |= given
    return found, others


def _filled(node: ast.AST) -> set[str]:
    """The variables in which `node` changes something: `table[i] = ...`, `table.append(...)`, and not `figure.axes.plot(...)`."""
    targets = [n.value for n in ast.walk(node) if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store)]
    calls = [n.func.value for n in ast.walk(node) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)]
    return {n.id for n in targets + calls if isinstance(n, ast.Name)}


def _foreign(definition: ast.AST) -> set[str]:
    """The variables that a function or class reads and does not make itself."""
    read, given = _names(definition)
    return read - given - {n.arg for n in ast.walk(definition) if isinstance(n, ast.arg)}


def _names(node: ast.AST) -> tuple[set[str], set[str]]:
    """The variables that are read in `node`, and those that are given a value."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    return {n.id for n in names if isinstance(n.ctx, ast.Load)}, {n.id for n in names if isinstance(n.ctx, ast.Store)}


def _without_unread(statements: list[ast.stmt], keep: Collection[str]) -> list[ast.stmt]:
    """Without what calls give to small-letter variables that no function, and no statement that stays, reads."""
    read = set().union(*(_names(node)[0] for node in statements if isinstance(node, DEFINITIONS)))
    kept: list[ast.stmt] = []
    for node in reversed(statements):
        needs, given = _names(node)
        calls = any(isinstance(n, ast.Call) for n in ast.walk(node))
        wanted = given & read or given & set(keep) or any(name.isupper() for name in given)
        if isinstance(node, ast.Assign) and given and calls and not wanted:
            continue
        kept.append(node)
        read |= needs
    return kept[::-1]
