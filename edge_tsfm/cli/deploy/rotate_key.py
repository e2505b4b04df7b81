"""``edge-tsfm deploy rotate-key``."""

from __future__ import annotations

from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import json_option, keys_option, open_repository, repository_argument, say


@click.command()
@repository_argument
@click.argument("group", type=click.Choice(["root", "targets", "quality", "rollout", "online", "adapter"]))
@click.argument("old")
@keys_option
@click.option("--name", help="Create a new key file with this name.")
@click.option("--hsm-token", help="Use a key of the PKCS#11 token with this label (PYKCS11LIB names the module).")
@click.option("--hsm-key", type=click.IntRange(0), default=2, help="Its id on the token.")
@json_option
def command(
    repository: Path,
    group: str,
    old: str,
    keys: tuple[Path, ...],
    name: str | None,
    hsm_token: str | None,
    hsm_key: int,
    as_json: bool,
) -> None:
    """Replace the key OLD (first digits of its id) of a GROUP, re-sign everything it signed, and publish.

    Monitors follow automatically, through every root they missed. Refused if the remaining keys and the new one would
    be too few to sign. Adapter keys are in the monitors' settings and are changed there.
    """
    from edge_tsfm.deploy.setup import key_id
    from edge_tsfm.deploy.setup import rotate_key as run
    from edge_tsfm.deploy.signers import import_hsm_key, make_file_key

    if (name is None) == (hsm_token is None):
        raise click.UsageError("want one of --name and --hsm-token")
    opened = open_repository(repository, keys)
    with opened.locked():
        found = key_id(opened, group, old)
        new = make_file_key(opened.keys, name) if name else import_hsm_key(str(hsm_token), hsm_key)
        run(opened, group, found, new)
    say(
        as_json,
        {"group": group, "old": found, "new": new.keyid, "uri": new.uri},
        f"{group}: {new.keyid[:16]} in place of {old[:16]}",
    )
