"""Modules of the monitor's wheel: without comments and docstrings, and otherwise the same, line by line."""

import ast
import importlib.util
from pathlib import Path
from types import CodeType, ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = '''"""What the module is for.

At length."""

import click  # why


class Point:
    """A point.

    With more to say.
    """

    x: int = 0
    """Metres, from the left: é."""

    def far(self) -> int:  # not near
        """Say how far.

        Raises `ValueError`.
        """
        text = """kept  # kept"""
        return len(text)

    def empty(self) -> None:
        """Do nothing."""


@click.command()
@click.option("--out")
def command(out: str) -> None:
    """Help of a command.

    Its second paragraph.
    """


@command.command
def other() -> None:
    """Help, too."""


def é() -> None: """One line."""  # what ruff would not leave
'''


@pytest.fixture(scope="module")
def lean() -> ModuleType:
    """Load the script as its neighbours do, from its folder."""
    spec = importlib.util.spec_from_file_location("lean", ROOT / "distribution" / "lean.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_statement_stays_in_its_place(lean: ModuleType) -> None:
    left = lean.lean(SOURCE, "a.py")
    assert left.count("\n") == SOURCE.count("\n")
    for gone in ("# why", "# not near", "At length", "With more", "Say how far", "Raises", "Do nothing", "One line"):
        assert gone not in left
    for kept in ("'A point.'", '"""kept  # kept"""', "Help of a command.", "Its second paragraph.", "Help, too."):
        assert kept in left
    old, new = (ast.parse(text) for text in (SOURCE, left))
    functions = [
        [(one.name, one.lineno) for one in ast.walk(t) if isinstance(one, ast.FunctionDef)] for t in (old, new)
    ]
    assert functions[0] == functions[1]


def test_another_program_is_refused(lean: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lean, "_without_comments", lambda source: source.replace("x: int = 0", "x: int = 1"))
    with pytest.raises(SystemExit, match=r"a\.py: what is left is another program"):
        lean.lean(SOURCE, "a.py")


def test_every_module_of_the_device_compiles_to_the_same_code(lean: ModuleType) -> None:
    """CPython itself drops docstrings with -OO: what it then compiles must not differ by a byte in any function."""
    for path in sorted((ROOT / "device_runtime").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        before, after = (
            compile(text, path.name, "exec", optimize=2) for text in (source, lean.lean(source, path.name))
        )
        assert operations(before) == operations(after), path


def operations(code: CodeType) -> list[object]:
    """Return name, operations and lines of a code object and of those in it."""
    found: list[object] = [(code.co_qualname, code.co_code, list(code.co_lines()))]
    for one in code.co_consts:
        if isinstance(one, CodeType):
            found += operations(one)
    return found
