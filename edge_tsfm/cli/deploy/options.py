"""What the verbs of ``edge-tsfm deploy`` share: their options, the repository, and how they say what was done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from edge_tsfm.deploy.controller import Stage
    from edge_tsfm.deploy.repository import Repository

F = TypeVar("F", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
repository_argument = click.argument("repository", type=FOLDER)
ring_argument = click.argument("ring")
keys_option = click.option(
    "--keys",
    type=FOLDER,
    multiple=True,
    envvar="EDGE_TSFM_KEYS",
    help="Folder of key files; repeatable, for two people with a USB stick each.  [default: REPOSITORY/keys]",
)
who_option = click.option("--who", required=True, help="Who decides, for the record.")
why_option = click.option("--why", required=True, help="Why, for the records.")
plan_option = click.option("--plan", type=FILE, help="Stages as TOML.  [default: 1 %, 10 %, all]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def on_a_ring(function: F) -> F:
    """Add REPOSITORY, RING and --keys."""
    return repository_argument(ring_argument(keys_option(function)))


def for_the_record(function: F) -> F:
    """Add --who, --why and --json."""
    return who_option(why_option(json_option(function)))


def open_repository(repository: Path, keys: tuple[Path, ...]) -> Repository:
    """Open a repository."""
    from edge_tsfm.deploy.repository import Repository

    return Repository(repository, keys[0] if keys else None, more_keys=keys[1:])


def old_name(ring: str) -> dict[str, str]:
    """Return a ring under the key that it had in JSON in the last release."""
    return {"channel": ring}


def say(as_json: bool, value: dict[str, Any], text: str) -> None:
    """Print what was done, for machines or for people."""
    click.echo(json.dumps(value) if as_json else text)


def read_stages(path: Path | None) -> tuple[Stage, ...]:
    """Read a plan, or take the default one."""
    from device_runtime.files import read_bounded
    from edge_tsfm.deploy.controller import DEFAULT_PLAN, MAX_PLAN, read_plan

    return DEFAULT_PLAN if path is None else read_plan(read_bounded(path, MAX_PLAN), str(path))
