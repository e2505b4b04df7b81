"""Write the man pages of both commands, one for each verb, from their own help (click-man).

python distribution/manpages.py --out dist/man
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import click
from click_man.core import generate_man_page
from wheels import TREE, released

from device_runtime import __version__
from device_runtime import cli as device
from edge_tsfm import cli as workstation

COMMANDS = {"edge-tsfm-device": device.cli, "edge-tsfm": workstation.cli}


def write(name: str, command: click.Command, folder: Path, parent: click.Context | None = None) -> None:
    """Write the page of ``command`` and of every verb below it."""
    context = click.Context(command, info_name=name, parent=parent)
    page = context.command_path.replace(" ", "-")
    verbs: dict[str, click.Command] = {}
    if isinstance(command, click.Group):
        names = {verb: command.get_command(context, verb) for verb in command.list_commands(context)}
        verbs = {verb: found for verb, found in names.items() if found is not None and not found.hidden}
        command.commands = verbs  # click-man lists what is loaded, and verbs load only when they run
    for described in (command, *verbs.values()):
        described.short_help = first_sentence(described.help or "")
    text = tidy(generate_man_page(context, version=f"edge-tsfm {__version__}"))
    text = text.replace(f'"{context.command_path.upper()}"', f'"{page.upper()}"', 1)
    (folder / f"{page}.1").write_text(text + ending(command, parent), encoding="utf-8")
    for verb, found in verbs.items():
        write(verb, found, folder, context)


def first_sentence(text: str) -> str:
    """Return the first sentence of a help text, for the line that says what a command is for."""
    return re.split(r"\.(?:\s|$)", " ".join(text.split()), maxsplit=1)[0]


def tidy(text: str) -> str:
    """Convert the parts of a help text that click-man copies unchanged to roff."""
    text = text.replace("\b\n", "").replace("`", "")  # click's mark for lines that are not to be filled
    return re.sub(r"^(?=['.](?!(?:TH|SH|PP|B|TP)\b))", r"\\&", text, flags=re.MULTILINE)


def ending(command: click.Command, parent: click.Context | None) -> str:
    """Return the exit statuses at the end of the help, and the references."""
    root = parent.find_root().command if parent else command
    statuses = (root.epilog or "").removeprefix("Exit status: ")
    others = [context_name(parent)] if parent else sorted(COMMANDS)
    pages = ", ".join(f"\\fB{other}\\fP(1)".replace("-", r"\-") for other in others)
    return f".SH EXIT STATUS\n{statuses}\n.SH SEE ALSO\n{pages}\n"


def context_name(context: click.Context) -> str:
    """Return the name of a command's page."""
    return context.command_path.replace(" ", "-")


def main() -> None:
    """Write the pages of both commands, or of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TREE / "dist" / "man", help="folder for the pages")
    parser.add_argument("--command", choices=COMMANDS, action="append", help="default: both")
    given = parser.parse_args()
    os.environ["SOURCE_DATE_EPOCH"] = released()  # click-man dates a page with it
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.command or COMMANDS:
        write(name, COMMANDS[name], given.out)


if __name__ == "__main__":
    main()
