"""``edge-tsfm-device providers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import json_option


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@json_option
def command(bundle: Path | None, as_json: bool) -> None:
    """List the execution providers of this device: built in, or a plugin that is installed; and their devices.

    With a BUNDLE also whether it is proven with each, in its default options.
    """
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.listed import listed

    found = listed(None if bundle is None else Bundle.open(bundle))
    if as_json:
        click.echo(json.dumps(found))
        return
    for one in found:
        click.echo(f"{one['provider']}  {_said(one)}")


def _said(one: dict[str, Any]) -> str:
    """Say one provider's state in a line."""
    if one["problem"]:
        return f"{one['package']} {one['version']}: {one['problem']}"
    what = f"{one['package']} {one['version']}" + (f", {one['device']}" if one["device"] else "")
    return what + (f": {one['proof']}" if one["proof"] else "")
