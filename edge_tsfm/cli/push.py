"""``edge-tsfm push``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.runs import open_run


@click.command()
@click.argument("run", type=Existing(file_okay=False))
@click.option("--repo", required=True, metavar="OWNER/NAME", help="Repository of the Hugging Face hub.")
@click.option(
    "--bundle",
    type=Existing(file_okay=False),
    help="Also upload this bundle for a monitor; needs --adapter.",
)
@click.option(
    "--adapter",
    type=Existing(dir_okay=False),
    help="Also upload this blob; needs --bundle.",
)
@click.option("--public", is_flag=True, help="Make a new repository public.  [default: private]")
@click.option("--force", is_flag=True, help="Push a run even if the gate refused it; its card says so.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    run: Path, repo: str, bundle: Path | None, adapter: Path | None, public: bool, force: bool, as_json: bool
) -> None:
    """Share a RUN on the Hugging Face hub: its PEFT checkpoint, its card and, if given, the files for a monitor.

    The upload contains no data and no paths of this machine. Log in with `hf auth login` or set HF_TOKEN.
    """
    from edge_tsfm.runs.hub import push

    opened = open_run(run)
    opened.require_accepted(force=force)
    files = push(opened, repo, bundle=bundle, adapter=adapter, public=public)
    if as_json:
        click.echo(json.dumps({"repo": repo, "files": files}))
        return
    click.echo(f"{repo}: {len(files)} files")
    for name in files:
        click.echo(f"  {name}")
