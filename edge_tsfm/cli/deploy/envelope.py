"""``edge-tsfm deploy envelope``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edge_tsfm.cli.deploy.options import (
    FILE,
    FOLDER,
    json_option,
    keys_option,
    open_repository,
    repository_argument,
    ring_argument,
    say,
    who_option,
    why_option,
)


@click.command()
@repository_argument
@ring_argument
@keys_option
@click.option("--file", "source", type=FILE, help="TOML file: who may enable what, rules and plan.")
@click.option("--bundle", type=FOLDER, help="Bundle of the base, with its learning graphs.")
@click.option("--evidence", type=FILE, help="What `edge-tsfm adapt-eval --json` wrote.")
@click.option("--withdraw", is_flag=True, help="Withdraw the ring's envelope.")
@who_option
@why_option
@json_option
def command(
    repository: Path,
    ring: str,
    keys: tuple[Path, ...],
    source: Path | None,
    bundle: Path | None,
    evidence: Path | None,
    withdraw: bool,
    who: str,
    why: str,
    as_json: bool,
) -> None:
    """Set what the monitors of a RING may learn by themselves: judge the evidence, and sign the envelope if it passes.

    The evidence must be for exactly the rules in the file, on this base; for more than shadow, on test patients and
    within the bounds (docs/guides/adaptation-quality.md). In either case a record is written. Exit status 3: refused.
    Monitors see nothing before `publish`. With --withdraw they drop what they learnt at their next poll.
    """
    from edge_tsfm.deploy import envelope as envelopes

    if withdraw == (source is not None) or (not withdraw and (bundle is None or evidence is None)):
        raise click.UsageError("want either --file, --bundle and --evidence, or --withdraw")
    opened = open_repository(repository, keys)
    with opened.locked():
        if withdraw:
            path = envelopes.withdraw_envelope(opened, ring=ring, who=who, why=why)
            say(
                as_json,
                {"ring": ring, "withdrawn": True, "record": str(path)},
                f"{ring}: envelope withdrawn\nrecord   {path}",
            )
            return
        assert source is not None
        assert bundle is not None
        assert evidence is not None
        permit = envelopes.approve_envelope(
            opened, source, ring=ring, bundle=bundle, evidence=evidence, who=who, why=why
        )
    said = f"{ring}: envelope {permit.sequence} allows {permit.most}, {permit.size} bytes signed"
    say(as_json, asdict(permit), f"{said}\nrecord   {permit.record}")
