"""Documents that a test reads stay true: links lead somewhere, commands exist, options too."""

import re
from pathlib import Path

import click
import pytest

from device_runtime import cli as device_cli
from edge_tsfm import cli as workstation_cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/*.md"))
    if ".venv" not in path.parts and "build" not in path.parts
)
COMMAND = re.compile(r"^(?:\$ )?(edge-tsfm(?:-device)?) ([^\n#|]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_code_blocks_exist_with_the_options_they_are_shown_with(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for program, rest in COMMAND.findall(block.replace("\\\n", " ")):
            check(program, rest.split(), f"{page.name}: {program} {rest}")


def check(program: str, words: list[str], where: str) -> None:
    group = device_cli.cli if program.endswith("device") else workstation_cli.cli
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words.pop(0))
        assert found is not None, where
        command = found
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {
        "--help",
        "-h",
        "--version",
    }
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known, f"{where}: no option {word}"


@pytest.mark.parametrize("module", [workstation_cli, device_cli], ids=["edge-tsfm", "edge-tsfm-device"])
def test_every_verb_loads_and_has_help(module) -> None:
    context = click.Context(module.cli)
    for verb in module.VERBS:
        command = module.cli.get_command(context, verb)
        assert command is not None
        assert command.help, verb


def test_every_verb_is_in_the_documents() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    missing = [
        f"edge-tsfm {verb}"
        for verb in workstation_cli.VERBS
        if f"edge-tsfm {verb}" not in text and f"make {verb}" not in text
    ]
    assert not missing


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "results").glob("study_*.toml")), ids=lambda path: path.stem)
def test_studies_in_the_results_can_be_asked_for(path: Path) -> None:
    from edge_tsfm.research.study.cells import final_cells
    from edge_tsfm.research.study.config import load_study

    assert final_cells(load_study(path, "data.csv"), {})


@pytest.mark.parametrize(
    "path", sorted((ROOT / "docs" / "results").glob("pretrain_*.toml")), ids=lambda path: path.stem
)
def test_pre_training_in_the_results_can_be_asked_for(path: Path) -> None:
    from edge_tsfm.research.pretraining.config import read_config

    assert read_config(path).name
