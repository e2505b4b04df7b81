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
    "--keys",
    type=FOLDER,
    multiple=True,
    envvar="EDGE_TSFM_KEYS",
    help="Where key files are; repeatable, for two people with a stick each.  [default: REPOSITORY/keys]",
)
who_option = click.option("--who", required=True, help="Who decides, for the records.")
why_option = click.option("--why", required=True, help="Why, for the records.")
plan_option = click.option("--plan", type=FILE, help="Stages as TOML.  [default: 1 %, 10 %, all]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _open(repository: Path, keys: tuple[Path, ...]) -> Repository:
    """Open a repository."""
    from edge_tsfm.deploy.repository import Repository

    return Repository(repository, keys[0] if keys else None, more_keys=keys[1:])


def _say(as_json: bool, value: dict[str, Any], text: str) -> None:
    """Print what was done, for machines or for people."""
    click.echo(json.dumps(value) if as_json else text)


def _plan(path: Path | None) -> tuple[Stage, ...]:
    """Read a plan, or take the default one."""
    from device_runtime.files import read_bounded
    from edge_tsfm.deploy.controller import DEFAULT_PLAN, MAX_PLAN, read_plan

    return DEFAULT_PLAN if path is None else read_plan(read_bounded(path, MAX_PLAN), str(path))


@click.group()
def command() -> None:
    """Sign, approve, publish and roll out adapters.

    A repository is a folder; its public/ is served by any web server or carried on a stick. Nothing reaches a monitor
    unless quality keys approved it and the roll-out key offers it, by the same hash.
    """


@command.command()
@click.argument("folder", type=FOLDER)
@json_option
def keygen(folder: Path, as_json: bool) -> None:
    """Make every key of a repository in FOLDER.

    Root, targets, quality and adapter keys belong on separate offline media; rollout and online keys on the publisher.
    Key files are not encrypted (mode 600): encrypt the media they lie on, or take keys from an HSM with `rotate-key`.
    """
    from edge_tsfm.deploy.setup import keygen as run

    made = run(folder)
    _say(
        as_json,
        {group: [{"uri": ref.uri, "keyid": ref.keyid} for ref in refs] for group, refs in made.items()},
        "\n".join(
            f"{group:<8} {', '.join(f'{ref.uri} ({ref.keyid[:12]})' for ref in refs)}" for group, refs in made.items()
        ),
    )


@command.command()
@repository_argument
@keys_option
@click.option("--gate", type=FILE, required=True, help="Acceptance bounds, pinned from now on.")
@json_option
def init(repository: Path, keys: tuple[Path, ...], gate: Path, as_json: bool) -> None:
    """Make an update REPOSITORY and publish it empty. The gate's hash is signed into it.

    Wants every group's threshold of keys at hand, once, and the keys.json that `keygen` wrote in the first --keys.
    """
    from edge_tsfm.deploy.setup import init as run

    made = run(repository, keys[0] if keys else repository / "keys", gate, more_keys=keys[1:])
    root = made.metadata / "1.root.json"
    _say(
        as_json,
        {"public": str(made.folder / "public"), "root": str(root), "gate": made.config["gate"]},
        f"{made.folder / 'public'}: serve this folder; give each monitor {root} as root.json\n"
        f"gate {made.config['gate'][:16]} is pinned",
    )


@command.command("channel")
@repository_argument
@channel_argument
@keys_option
@click.option("--signal", required=True, help="What its monitors forecast, as MAP.")
@click.option("--interval", default="", help="Time between two steps, as 1h.  [default: steps of no stated length]")
@click.option("--unit", default="", help="UCUM, as mm[Hg].  [default: the signal's own]")
@json_option
def channel_command(
    repository: Path, channel: str, keys: tuple[Path, ...], signal: str, interval: str, unit: str, as_json: bool
) -> None:
    """Say once what the monitors of a CHANNEL forecast: no adapter for anything else is approved for it."""
    from edge_tsfm.deploy.ledger import describe

    opened = _open(repository, keys)
    with opened.locked():
        made = describe(opened, channel, signal=signal, interval=interval, unit=unit)
    _say(
        as_json,
        {"channel": made.name, "signal": made.signal, "unit": made.unit, "interval": made.interval},
        f"{made.name}: {made.signal}{f' in {made.unit}' if made.unit else ''} every {made.interval or 'step'}",
    )


@command.command("device-settings")
@repository_argument
@keys_option
@channel_argument
@click.argument("device_id")
@click.option("--url", required=True, help="Where the monitor finds public/.")
def device_settings_command(repository: Path, keys: tuple[Path, ...], channel: str, device_id: str, url: str) -> None:
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
@click.option("--data-digest", help="SHA-256 of the training data, for the record.  [default: the evaluation names it]")
@who_option
@click.option("--why", default="", help="Why, for the record.")
@json_option
def approve(repository: Path, adapter: Path, keys: tuple[Path, ...], as_json: bool, **facts: Any) -> None:
    """Judge an ADAPTER by the pinned gate, against the base and the adapter in the field; sign it when it passes.

    The evaluations must be of the very runs that the adapters were exported from, on the same windows. Either way a
    change record is written (JSON and HTML). Exit status 3: refused. Monitors see nothing before `publish` or
    `rollout`.
    """
    from edge_tsfm.deploy.approve import approve as run

    opened = _open(repository, keys)
    with opened.locked():
        approval = run(opened, adapter, **facts)
    if as_json:
        facts = {("signed_file" if key == "file" else key): value for key, value in asdict(approval).items()}
        click.echo(json.dumps(facts))
        return
    click.echo(
        f"approved adapter {approval.adapter[:16]} for {approval.channel}: sequence {approval.sequence}, "
        f"{approval.size} bytes signed"
    )
    click.echo(f"record   {approval.record}")


@command.command()
@repository_argument
@keys_option
@json_option
def publish(repository: Path, keys: tuple[Path, ...], as_json: bool) -> None:
    """Sign a new snapshot and timestamp. Run it daily from a timer: a timestamp lives seven days.

    Wants the online and rollout keys alone. Renews what they signed, carries out what a command that died left undone,
    and warns when what offline keys signed has less than 30 days to live.
    """
    from edge_tsfm.deploy.channels import publish as run
    from edge_tsfm.deploy.status import ageing

    opened = _open(repository, keys)
    with opened.locked():
        version = run(opened)
        old = ageing(opened)
    _say(as_json, {"timestamp": version, "days_left": old}, f"published: timestamp {version}")
    for role, days in old.items():
        click.echo(f"warning: {role} expires in {days} days: edge-tsfm deploy refresh {repository} {role}", err=True)


@command.command()
@repository_argument
@click.argument("role")
@keys_option
@json_option
def refresh(repository: Path, role: str, keys: tuple[Path, ...], as_json: bool) -> None:
    """Sign a ROLE again, unchanged, for another lifetime: root, targets, approved, rollout or a bin; then publish."""
    opened = _open(repository, keys)
    with opened.locked():
        version = opened.store(role, opened.load(role))
        timestamp = opened.publish()
    _say(
        as_json,
        {"role": role, "version": version, "timestamp": timestamp},
        f"{role}: version {version}; timestamp {timestamp}",
    )


@command.command()
@repository_argument
@channel_argument
@keys_option
@click.option(
    "--adapter", help="Start: offer this approved adapter (start of its name, as status and reports give it)."
)
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
    keys: tuple[Path, ...],
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
def status(repository: Path, keys: tuple[Path, ...], as_json: bool) -> None:
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
@json_option
def halt(repository: Path, channel: str, keys: tuple[Path, ...], who: str, why: str, as_json: bool) -> None:
    """Stop a CHANNEL's roll-out: nobody else gets it. Those who have it keep it; `revoke` takes it from them."""
    from edge_tsfm.deploy import channels

    opened = _open(repository, keys)
    with opened.locked():
        channels.halt(opened, channel, who=who, why=why)
    _say(as_json, {"channel": channel, "halted": True}, f"{channel}: halted")


@command.command()
@repository_argument
@channel_argument
@click.argument("adapter")
@keys_option
@click.option("--older", is_flag=True, help="And everything approved before it.")
@who_option
@why_option
@json_option
def revoke(
    repository: Path, channel: str, adapter: str, keys: tuple[Path, ...], older: bool, who: str, why: str, as_json: bool
) -> None:
    """Take an ADAPTER (start of its name) back from every monitor of a CHANNEL, for ever.

    At its next poll a monitor that has it returns to the previous adapter that is not revoked, or to the base alone.
    Wants the quality keys: it is quality's decision, and a stolen online key cannot undo it.
    """
    from edge_tsfm.deploy import channels

    opened = _open(repository, keys)
    with opened.locked():
        name = channels.take_back(opened, channel, adapter, older=older, who=who, why=why)
    _say(as_json, {"channel": channel, "revoked": name, "older": older}, f"{channel}: adapter {name[:16]} is revoked")


@command.command()
@repository_argument
@channel_argument
@click.argument("adapter")
@keys_option
@plan_option
@who_option
@why_option
@json_option
def downgrade(
    repository: Path,
    channel: str,
    adapter: str,
    keys: tuple[Path, ...],
    plan: Path | None,
    who: str,
    why: str,
    as_json: bool,
) -> None:
    """Offer an earlier ADAPTER again: a new sequence for the old bytes, so that monitors accept it.

    Stage by stage like any other. What was revoked stays revoked.
    """
    from edge_tsfm.deploy import channels
    from edge_tsfm.deploy.ledger import read_channel
    from edge_tsfm.deploy.status import named

    opened = _open(repository, keys)
    with opened.locked():
        state = channels.downgrade(opened, channel, adapter, _plan(plan), who=who, why=why)
        value = named(read_channel(opened, channel), state)
    _say(
        as_json,
        value,
        f"{channel}: adapter {value['adapter'][:16]} is offered again as sequence {value['sequence']}",
    )


@command.command("rotate-key")
@repository_argument
@click.argument("group", type=click.Choice(["root", "targets", "quality", "rollout", "online", "adapter"]))
@click.argument("old")
@keys_option
@click.option("--name", help="Make a new key file of this name.")
@click.option("--hsm-token", help="Take a key of the PKCS#11 token of this label (PYKCS11LIB names the module).")
@click.option("--hsm-key", type=click.IntRange(0), default=2, help="Its id on the token.")
@json_option
def rotate_key(
    repository: Path,
    group: str,
    old: str,
    keys: tuple[Path, ...],
    name: str | None,
    hsm_token: str | None,
    hsm_key: int,
    as_json: bool,
) -> None:
    """Replace the key OLD (start of its id) of a GROUP, sign everything it signed again, and publish.

    Monitors follow by themselves, through every root they missed. Refused when the keys that stay, with the new one,
    would be too few to sign. Adapter keys are in the monitors' settings and change with those.
    """
    from edge_tsfm.deploy.setup import key_id
    from edge_tsfm.deploy.setup import rotate_key as run
    from edge_tsfm.deploy.signers import import_hsm_key, make_file_key

    if (name is None) == (hsm_token is None):
        raise click.UsageError("want one of --name and --hsm-token")
    opened = _open(repository, keys)
    with opened.locked():
        found = key_id(opened, group, old)
        new = make_file_key(opened.keys, name) if name else import_hsm_key(str(hsm_token), hsm_key)
        run(opened, group, found, new)
    _say(
        as_json,
        {"group": group, "old": found, "new": new.keyid, "uri": new.uri},
        f"{group}: {new.keyid[:16]} in place of {old[:16]}",
    )


@command.command()
@repository_argument
@keys_option
@click.option("--out", type=FILE, required=True, help="File to write.")
def sbom(repository: Path, keys: tuple[Path, ...], out: Path) -> None:
    """Write a CycloneDX 1.6 bill of materials: the runtime's packages, and each approved adapter as a model."""
    from device_runtime.files import write_atomic
    from edge_tsfm.deploy.sbom import sbom_of

    write_atomic(out, sbom_of(_open(repository, keys)).encode())
    click.echo(str(out))
