"""What an error proposes exists: every option and command that a hint or a message names, on its own side."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from device_runtime import cli as device_cli
from edge_tsfm import cli as workstation_cli

ROOT = Path(__file__).resolve().parents[2]
GROUPS = {"edge-tsfm": workstation_cli.cli, "edge-tsfm-device": device_cli.cli}
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
COMMAND = re.compile(r"(?<!install )\b(edge-tsfm(?:-device)?) ([a-z][a-z-]*(?: [a-z][a-z-]*)?)")
# Programs of others, and their options.
OTHERS = ("pip install", "ray start", "git lfs", "optimum-cli", "ulimit", "accelerate launch")
READERS = ("train", "inspect", "evaluate", "forecast")  # what the readers' hints are shown by


def leaves(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command that does something: ``export adapter`` → its command."""
    if isinstance(command, click.Group):
        context = click.Context(command)
        verbs = list(command.commands) or list(command.list_commands(context))
        for verb in verbs:
            yield from leaves(command.get_command(context, verb), f"{name} {verb}".strip())
    else:
        yield name, command


def options(command: click.Command) -> set[str]:
    return {one for parameter in command.params for one in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}


COMMANDS = {program: dict(leaves(group)) for program, group in GROUPS.items()}


def texts(node: ast.AST) -> str:
    """All literal text below a node, a piece a line."""
    return "\n".join(
        part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)
    )


def told(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """What a user may be told when something is wrong: the arguments of every error raised, and all hints."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "hint":
            yield node.value.lineno, texts(node.value)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                yield argument.lineno, texts(argument)


def proposals() -> Iterator[pytest.param]:
    for package in ("device_runtime", "export", "edge_tsfm"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for line, text in told(ast.parse(path.read_text(encoding="utf-8"))):
                if OPTION.search(text) or COMMAND.search(text):
                    yield pytest.param(path, text, id=f"{path.relative_to(ROOT)}:{line}")


def audience(path: Path) -> dict[str, click.Command]:
    """The commands that may show what this module says: by its place."""
    parts = path.relative_to(ROOT).parts
    if parts[0] == "device_runtime":
        # The workstation's verify, forecast and deploy show what the runtime says, too: of itself, never of them.
        return COMMANDS["edge-tsfm-device"]
    ours = COMMANDS["edge-tsfm"]
    if parts[:2] == ("edge_tsfm", "cli"):
        named = path.stem.replace("_", " ")
        own = {name: command for name, command in ours.items() if name == named or name.startswith(f"{named} ")}
        return own or ours
    return ours


@pytest.mark.parametrize(("path", "text"), proposals())
def test_what_a_hint_names_exists(path: Path, text: str) -> None:
    if any(other in text for other in OTHERS):
        return
    commands = audience(path)
    for program, words in COMMAND.findall(text):
        known = COMMANDS[program]
        verbs = [name for name in known if name in (words, words.split()[0]) or name.startswith(f"{words} ")]
        assert verbs, f"no command {program} {words}"
        commands = {name: known[name] for name in verbs}
    for option in OPTION.findall(text):
        assert any(option in options(command) for command in commands.values()), f"no {option} in {sorted(commands)}"


def readers() -> list[pytest.param]:
    """What the readers of data propose."""
    others = {"beside.py", "simulate.py", "wards.py", "parts.py"}  # of forecast, simulate and split alone
    return [
        one
        for one in proposals()
        if one.values[0].parent == ROOT / "edge_tsfm" / "data" and one.values[0].name not in others
    ]


@pytest.mark.parametrize(("path", "text"), readers())
def test_what_a_reader_proposes_every_command_that_reads_data_takes(path: Path, text: str) -> None:
    for option in OPTION.findall(text):
        for verb in READERS:
            assert option in options(COMMANDS["edge-tsfm"][verb]), f"{verb} has no {option}"


def test_hints_are_found_at_all() -> None:
    found = [param.id for param in proposals()]
    assert len(found) > 60
    assert any(one.startswith("edge_tsfm/data/") for one in found)
    assert any(one.startswith("device_runtime/") for one in found)
