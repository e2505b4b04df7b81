"""``edge-tsfm-device tuf-conformance``: the client protocol of theupdateframework/tuf-conformance (CLIENT-CLI.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.group()
@click.option("--metadata-url", default="", help="Where metadata are.")
@click.option("--metadata-dir", type=click.Path(path_type=Path, file_okay=False), required=True, help="The cache.")
@click.option("--target-name", "target_names", multiple=True, help="Target to fetch.")
@click.option("--target-base-url", default="", help="Where targets are.")
@click.option("--target-dir", type=click.Path(path_type=Path, file_okay=False), help="Where targets go.")
@click.pass_context
def command(ctx: click.Context, /, **options: object) -> None:
    """Speak the protocol of the public TUF conformance suite with the agent's own client and limits."""
    ctx.obj = options


@command.command()
@click.argument("root", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def init(options: dict[str, Path], root: Path) -> None:
    """Trust ROOT from now on."""
    from device_runtime.agent_conformance import init as run

    sys.exit(run(options["metadata_dir"], root.read_bytes()))


@command.command()
@click.pass_obj
def refresh(options: dict[str, object]) -> None:
    """Read the top-level roles."""
    from device_runtime.agent_conformance import refresh as run

    sys.exit(run(Path(str(options["metadata_dir"])), str(options["metadata_url"])))


@command.command()
@click.pass_obj
def download(options: dict[str, object]) -> None:
    """Fetch every --target-name into --target-dir, from the cache where it is up to date."""
    from device_runtime.agent_conformance import download as run

    names = options["target_names"]
    assert isinstance(names, tuple)
    sys.exit(
        run(
            Path(str(options["metadata_dir"])),
            str(options["metadata_url"]),
            names,
            str(options["target_base_url"]),
            Path(str(options["target_dir"])),
        )
    )
