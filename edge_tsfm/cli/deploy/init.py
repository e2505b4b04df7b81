"""``edge-tsfm deploy init``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import FILE, json_option, keys_option, repository_argument, say


@click.command()
@repository_argument
@keys_option
@click.option("--gate", type=FILE, required=True, help="Acceptance bounds, pinned from now on.")
@json_option
def command(repository: Path, keys: tuple[Path, ...], gate: Path, as_json: bool) -> None:
    """Make an update REPOSITORY and publish it empty. The gate's hash is signed into it.

    Needs the threshold of keys of every group, only this once, and the keys.json that `keygen` wrote in the first
    --keys.
    """
    from edge_tsfm.deploy.setup import init as run

    made = run(repository, keys[0] if keys else repository / "keys", gate, more_keys=keys[1:])
    root = made.metadata / "1.root.json"
    say(
        as_json,
        {"public": str(made.folder / "public"), "root": str(root), "gate": made.config["gate"]},
        f"{made.folder / 'public'}: serve this folder; give each monitor {root} as root.json\n"
        f"gate {made.config['gate'][:16]} is pinned",
    )
