"""``edge-tsfm deploy``: keys, repository, approvals and roll-outs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from edge_tsfm.deploy.controller import Stage
    from edge_tsfm.deploy.repository import Repository

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
repository_argument = click.argument("repository", type=FOLDER)
channel_argument = click.argument("channel")
keys_option = click.option(
    "--keys", type=FOLDER, envvar="EDGE_TSFM_KEYS", help="Where key files are.  [default: REPOSITORY/keys]"
)
who_option = click.option("--who", required=True, help="Who decides, for the records.")
why_option = click.option("--why", required=True, help="Why, for the records.")
plan_option = click.option("--plan", type=FILE, help="Stages as TOML.  [default: 1 %, 10 %, all]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _open(repository: Path, keys: Path | None) -> Repository:
    """Open a repository."""
    from edge_tsfm.deploy.repository import Repository

    return Repository(repository, keys)


def _plan(path: Path | None) -> tuple[Stage, ...]:
    """Read a plan, or take the default one."""
    from edge_tsfm.deploy.controller import DEFAULT_PLAN, read_plan

    return DEFAULT_PLAN if path is None else read_plan(path.read_text(), str(path))


@click.group()
def command() -> None:
    """Sign, approve, publish and roll out adapters.

    A repository is a folder; its public/ is served by any web server or carried on a stick. Nothing reaches a monitor
    unless quality keys approved it and the roll-out key offers it, by the same hash.
    """


@command.command()
@click.argument("folder", type=FOLDER)
def keygen(folder: Path) -> None:
    """Make every key of a repository in FOLDER.

    Root, targets, quality and adapter keys belong on separate offline media; rollout and online keys on the publisher.
    """
    from edge_tsfm.deploy.setup import keygen as run

    for group, refs in run(folder).items():
        click.echo(f"{group:<8} {', '.join(f'{ref.uri} ({ref.keyid[:12]})' for ref in refs)}")


@command.command()
@repository_argument
@keys_option
@click.option("--gate", type=FILE, required=True, help="Acceptance bounds, pinned from now on.")
def init(repository: Path, keys: Path | None, gate: Path) -> None:
    """Make an update REPOSITORY and publish it empty. The gate's hash is signed into it."""
    from edge_tsfm.deploy.setup import init as run

    made = run(repository, keys or repository / "keys", gate)
    click.echo(
        f"{made.folder / 'public'}: serve this folder; give each monitor {made.metadata / '1.root.json'} as root.json"
    )
    click.echo(f"gate {made.config['gate'][:16]} is pinned")


@command.command("device-settings")
@repository_argument
@keys_option
@channel_argument
@click.argument("device_id")
@click.option("--url", required=True, help="Where the monitor finds public/.")
def device_settings_command(repository: Path, keys: Path | None, channel: str, device_id: str, url: str) -> None:
    """Print a monitor's device.toml."""
    from edge_tsfm.deploy.setup import device_settings

    click.echo(device_settings(_open(repository, keys), channel=channel, device_id=device_id, url=url), nl=False)


@command.command()
@repository_argument
@click.argument("adapter", type=FILE)
@keys_option
@click.option("--channel", required=True, help="Monitors it is for.")
@click.option("--bundle", type=FOLDER, required=True, help="The base it adapts.")
@click.option("--evaluation", type=FILE, required=True, help="What `edge-tsfm evaluate --json` wrote.")
@click.option("--field-evaluation", type=FILE, help="The same for the adapter now in the field, on the same windows.")
@click.option("--data-digest", help="SHA-256 of the training data, for the record.")
@who_option
@click.option("--why", default="", help="Why, for the record.")
@json_option
def approve(
    repository: Path, adapter: Path, keys: Path | None, as_json: bool, data_digest: str | None, **facts: Any
) -> None:
    """Judge an ADAPTER by the pinned gate, against the base and the adapter in the field; sign it when it passes.

    Either way a change record is written (JSON and HTML). Exit status 3: refused. Monitors see nothing before `publish`
    or `rollout`.
    """
    from edge_tsfm.deploy.approve import approve as run

    opened = _open(repository, keys)
    with opened.locked():
        approval = run(
            opened, adapter, extra={"training_data": {"sha256": data_digest}} if data_digest else None, **facts
        )
    if as_json:
        click.echo(json.dumps(asdict(approval)))
        return
    click.echo(
        f"approved {approval.file[:16]} for {approval.channel}: sequence {approval.sequence}, {approval.size} bytes"
    )
    click.echo(f"record   {approval.record}")


@command.command()
@repository_argument
@keys_option
def publish(repository: Path, keys: Path | None) -> None:
    """Sign a new snapshot and timestamp. Run it from a timer: a timestamp lives seven days."""
    opened = _open(repository, keys)
    with opened.locked():
        click.echo(f"published: timestamp {opened.publish()}")


@command.command()
@repository_argument
@click.argument("role")
@keys_option
def refresh(repository: Path, role: str, keys: Path | None) -> None:
    """Sign a ROLE again, unchanged, for another lifetime: targets, approved, rollout or a bin."""
    opened = _open(repository, keys)
    with opened.locked():
        click.echo(f"{role}: version {opened.store(role, opened.load(role))}; timestamp {opened.publish()}")


@command.command()
@repository_argument
@channel_argument
@keys_option
@click.option("--adapter", help="Start: offer this approved adapter (start of its hash).")
@plan_option
@click.option("--reports", type=FOLDER, help="Step: folder of the monitors' reports.")
@click.option("--approve", is_flag=True, help="With --reports: a person's yes to the next stage.")
@click.option("--pause", "paused", flag_value=True, type=bool, default=None, help="Stay at this stage.")
@click.option("--resume", "paused", flag_value=False, type=bool, help="Go on.")
@who_option
@json_option
def rollout(
    repository: Path,
    channel: str,
    keys: Path | None,
    adapter: str | None,
    plan: Path | None,
    reports: Path | None,
    approve: bool,
    paused: bool | None,
    who: str,
    as_json: bool,
) -> None:
    """Offer an approved adapter to a CHANNEL stage by stage: start it with --adapter, step it with --reports.

    A step reads the reports and advances, waits, asks for approval or halts; run it from a timer. Every decision is in
    REPOSITORY/decisions.
    """
    from edge_tsfm.deploy import channels

    if sum(option is not None for option in (adapter, reports, paused)) != 1:
        raise click.UsageError("want one of --adapter, --reports, --pause, --resume")
    opened = _open(repository, keys)
    with opened.locked():
        if adapter is not None:
            state = channels.start(opened, channel, adapter, _plan(plan), who=who)
            value: dict[str, Any] = {"action": "start", "why": f"stage {state['stages'][0]['permille']} of 1000"}
        elif reports is not None:
            value = asdict(channels.step(opened, channel, reports, who=who, approve=approve))
        else:
            channels.pause(opened, channel, paused=bool(paused), who=who, why="by hand")
            value = {"action": "pause" if paused else "resume", "why": "by hand"}
    click.echo(json.dumps(value) if as_json else f"{value['action']}: {value['why']}")


@command.command()
@repository_argument
@keys_option
@json_option
def status(repository: Path, keys: Path | None, as_json: bool) -> None:
    """Say what each channel is offered, what is approved, and when signatures expire."""
    from edge_tsfm.deploy.status import lines, status_of

    value = status_of(_open(repository, keys))
    click.echo(json.dumps(value) if as_json else "\n".join(lines(value)))


@command.command()
@repository_argument
@channel_argument
@keys_option
@who_option
@why_option
def halt(repository: Path, channel: str, keys: Path | None, who: str, why: str) -> None:
    """Stop a CHANNEL's roll-out: nobody else gets it. Those who have it keep it; `revoke` takes it from them."""
    from edge_tsfm.deploy import channels

    opened = _open(repository, keys)
    with opened.locked():
        channels.halt(opened, channel, who=who, why=why)
    click.echo(f"{channel}: halted")


@command.command()
@repository_argument
@channel_argument
@click.argument("adapter")
@keys_option
@click.option("--older", is_flag=True, help="And everything approved before it.")
@who_option
@why_option
def revoke(repository: Path, channel: str, adapter: str, keys: Path | None, older: bool, who: str, why: str) -> None:
    """Take an ADAPTER (start of its hash) back from every monitor of a CHANNEL, for ever.

    At its next poll a monitor that has it returns to the previous adapter that is not revoked, or to the base alone.
    """
    from edge_tsfm.deploy import channels

    opened = _open(repository, keys)
    with opened.locked():
        file = channels.take_back(opened, channel, adapter, older=older, who=who, why=why)
    click.echo(f"{channel}: {file[:16]} is revoked")


@command.command()
@repository_argument
@channel_argument
@click.argument("adapter")
@keys_option
@plan_option
@who_option
@why_option
def downgrade(
    repository: Path, channel: str, adapter: str, keys: Path | None, plan: Path | None, who: str, why: str
) -> None:
    """Offer an earlier ADAPTER again: a new sequence for the old bytes, so that monitors accept it."""
    from edge_tsfm.deploy import channels

    opened = _open(repository, keys)
    with opened.locked():
        state = channels.downgrade(opened, channel, adapter, _plan(plan), who=who, why=why)
    click.echo(f"{channel}: {state['file'][:16]} is offered again as sequence {state['sequence']}")


@command.command("rotate-key")
@repository_argument
@click.argument("group", type=click.Choice(["root", "targets", "quality", "rollout", "online", "adapter"]))
@click.argument("old")
@keys_option
@click.option("--name", help="Make a new key file of this name.")
@click.option("--hsm-token", help="Take a key of the PKCS#11 token of this label (PYKCS11LIB names the module).")
@click.option("--hsm-key", type=int, default=2, help="Its id on the token.")
def rotate_key(
    repository: Path, group: str, old: str, keys: Path | None, name: str | None, hsm_token: str | None, hsm_key: int
) -> None:
    """Replace the key OLD (its id) of a GROUP, sign everything it signed again, and publish."""
    from edge_tsfm.deploy.setup import rotate_key as run
    from edge_tsfm.deploy.signers import import_hsm_key, make_file_key

    if (name is None) == (hsm_token is None):
        raise click.UsageError("want one of --name and --hsm-token")
    opened = _open(repository, keys)
    with opened.locked():
        found = [ref.keyid for ref in opened.refs(group) if ref.keyid.startswith(old)]
        new = make_file_key(opened.keys, name) if name else import_hsm_key(str(hsm_token), hsm_key)
        run(opened, group, found[0] if len(found) == 1 else old, new)
    click.echo(f"{group}: {new.keyid[:16]} in place of {old[:16]}")


@command.command()
@repository_argument
@keys_option
@click.option("--out", type=FILE, required=True, help="File to write.")
def sbom(repository: Path, keys: Path | None, out: Path) -> None:
    """Write a CycloneDX 1.6 bill of materials: the runtime's packages, and each approved adapter as a model."""
    from device_runtime.files import write_atomic
    from edge_tsfm.deploy.sbom import sbom_of

    write_atomic(out, sbom_of(_open(repository, keys)).encode())
    click.echo(str(out))
