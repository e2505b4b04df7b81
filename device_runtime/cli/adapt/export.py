"""``edge-tsfm-device adapt export``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from device_runtime.cli.device_options import config_option, device, who_option
from device_runtime.cli.options import json_option


@click.command()
@config_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Ed25519 key (PEM, PKCS#8) of this device: its signature is appended to the blob.",
)
@who_option
@json_option
def command(config_path: Path, out: Path, key: Path | None, who: str, as_json: bool) -> None:
    """Write the promoted adapter as a file, and beside it OUT.json, an in-toto statement.

    The statement says what the adapter is based on, and under which envelope and by which evidence it was promoted. It
    has counts and scores; no measured value leaves the monitor. Other monitors install the adapter only after the
    publisher has approved it.
    """
    from device_runtime.files import write_atomic
    from device_runtime.update.adapt_export import export

    with device(config_path, change=False) as (config, slots):
        data, statement = export(config, slots, key, who=who)
    write_atomic(out, data)
    beside = out.with_name(out.name + ".json")
    write_atomic(beside, json.dumps(statement, indent=1, sort_keys=True).encode() + b"\n")
    digest = statement["subject"][0]["digest"]["sha256"]
    if as_json:
        click.echo(
            json.dumps({"adapter": digest, "file": str(out), "statement": str(beside), "signed": key is not None})
        )
    else:
        click.echo(f"own adapter {digest[:16]}: {out}, {len(data)} bytes{', signed' if key else ''}; {beside}")
