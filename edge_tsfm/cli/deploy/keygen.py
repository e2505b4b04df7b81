"""``edge-tsfm deploy keygen``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import FOLDER, json_option, say


@click.command()
@click.argument("folder", type=FOLDER)
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Make every key of a repository in FOLDER.

    Root, targets, quality and adapter keys belong on separate offline media; rollout and online keys on the publisher.
    Key files are not encrypted (mode 600): encrypt the media they are on, or take keys from an HSM with `rotate-key`.
    """
    from edge_tsfm.deploy.setup import keygen as run

    made = run(folder)
    say(
        as_json,
        {group: [{"uri": ref.uri, "keyid": ref.keyid} for ref in refs] for group, refs in made.items()},
        "\n".join(
            f"{group:<8} {', '.join(f'{ref.uri} ({ref.keyid[:12]})' for ref in refs)}" for group, refs in made.items()
        ),
    )
