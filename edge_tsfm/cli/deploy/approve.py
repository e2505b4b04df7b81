"""``edge-tsfm deploy approve``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.renamed import renamed_option
from edge_tsfm.cli.deploy.options import (
    FILE,
    FOLDER,
    json_option,
    keys_option,
    old_name,
    open_repository,
    repository_argument,
    who_option,
)


@click.command()
@repository_argument
@click.argument("adapter", type=FILE)
@keys_option
@renamed_option("--ring", old="--channel", required=True, help="Ring of the monitors it is for.")
@click.option("--bundle", type=FOLDER, required=True, help="Bundle of the base it adapts.")
@click.option("--evaluation", type=FILE, required=True, help="What `edge-tsfm evaluate --json` wrote.")
@click.option("--field-evaluation", type=FILE, help="The same for the adapter now in the field, on the same windows.")
@click.option("--data-digest", help="SHA-256 of the training data, for the record.  [default: the evaluation names it]")
@who_option
@click.option("--why", default="", help="Why, for the record.")
@json_option
def command(repository: Path, adapter: Path, keys: tuple[Path, ...], as_json: bool, **facts: Any) -> None:
    """Judge an ADAPTER by the pinned gate, against the base and the adapter in the field; sign it if it passes.

    The evaluations must be of the runs that the adapters were exported from, on the same windows. In either case a
    change record is written (JSON and HTML). Exit status 3: refused. Monitors see nothing before `publish` or
    `rollout`.
    """
    from edge_tsfm.deploy.approve import approve as run

    opened = open_repository(repository, keys)
    with opened.locked():
        approval = run(opened, adapter, **facts)
    if as_json:
        facts = {("signed_file" if key == "file" else key): value for key, value in asdict(approval).items()}
        click.echo(json.dumps({**facts, **old_name(approval.ring)}))
        return
    click.echo(
        f"approved adapter {approval.adapter[:16]} for {approval.ring}: sequence {approval.sequence}, "
        f"{approval.size} bytes signed"
    )
    click.echo(f"record   {approval.record}")
