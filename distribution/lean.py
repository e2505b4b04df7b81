"""Leave out of the monitor's wheel what only readers of the code need: comments and docstrings.

What stays is the same program, statement by statement and line by line: `lean` compares the two, so a traceback from a
monitor points at the lines of the repository. The docstrings of commands are their help texts, and stay whole; those of
classes keep their first line, which spares `dataclasses` from composing one at every start (docs/adr/0033).
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
COMMANDS = {"command", "group"}  # click's decorators


def thin(package: Path) -> None:
    """Make every module of ``package`` lean."""
    for path in sorted(package.rglob("*.py")):
        path.write_text(lean(path.read_text(encoding="utf-8"), str(path)), encoding="utf-8")


def lean(source: str, name: str) -> str:
    """Return a module without comments and docstrings, with every statement where it was.

    ``name`` is the module's in an error. Raises `SystemExit` if the result would not be the same program.
    """
    left = _without_docstrings(_without_comments(source))
    if _program(left) != _program(source):
        raise SystemExit(f"lean.py: error: {name}: what is left is another program")
    return left


def _without_comments(source: str) -> str:
    """Remove every comment."""
    lines = source.splitlines(keepends=True)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip() + "\n"
    return "".join(lines)


def _without_docstrings(source: str) -> str:
    """Replace each docstring by what is kept of it, and the lines that this saves by empty ones."""
    lines = source.encode().splitlines(keepends=True)  # the syntax tree counts columns in bytes
    for owner, doc in _docstrings(ast.parse(source)):
        first, last = doc.lineno - 1, (doc.end_lineno or doc.lineno) - 1
        before, after = lines[first][: doc.col_offset], lines[last][doc.end_col_offset :]
        saved = b"\n" * (last - first)
        lines[first : last + 1] = [before + repr(_kept(owner, doc)).encode() + after, *saved.splitlines(keepends=True)]
    return b"".join(lines).decode()


def _docstrings(tree: ast.Module) -> Iterator[tuple[Documented, ast.Expr]]:
    """Yield each docstring that is not a help text, and what it documents; of one line there is at most one."""
    for node in ast.walk(tree):
        if not isinstance(node, Documented) or ast.get_docstring(node) is None or _is_command(node):
            continue
        if isinstance(doc := node.body[0], ast.Expr):
            yield node, doc


def _is_command(node: Documented) -> bool:
    """Return whether click takes a function's docstring as the help of a command."""
    called = [one.func if isinstance(one, ast.Call) else one for one in getattr(node, "decorator_list", ())]
    return any(isinstance(one, ast.Attribute) and one.attr in COMMANDS for one in called)


def _kept(owner: Documented, doc: ast.Expr) -> str:
    """Return what is kept of a docstring."""
    if not isinstance(owner, ast.ClassDef):
        return ""
    return str(ast.literal_eval(doc.value)).strip().splitlines()[0]


def _program(source: str) -> tuple[str, list[tuple[int, int]]]:
    """Return what a module does, and where each part of it begins."""
    tree = ast.parse(source)
    for _, doc in _docstrings(tree):
        doc.value = ast.copy_location(ast.Constant(value=""), doc.value)
    return ast.dump(tree), [
        (node.lineno, node.col_offset) for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr)
    ]
