"""``edge-tsfm deploy``: keys, repository, approvals and roll-outs. One thin file per verb."""

from __future__ import annotations

import click

from device_runtime.cli.lazy import LazyGroup

VERBS = {
    "keygen": "make every key of a repository",
    "init": "make an update repository and publish it empty",
    "ring": "say once what the monitors of a ring forecast",
    "device-settings": "print a monitor's device.toml",
    "approve": "judge an adapter by the pinned gate, and sign it when it passes",
    "envelope": "judge what monitors may learn by themselves, and sign it when it passes",
    "publish": "sign a new snapshot and timestamp; run it daily from a timer",
    "refresh": "sign a role again, unchanged, for another lifetime",
    "rollout": "offer an approved adapter to a ring stage by stage",
    "status": "say what is offered and approved, and when signatures expire",
    "halt": "stop a ring's roll-out: no further monitor installs it",
    "revoke": "revoke an adapter on every monitor of a ring, permanently",
    "downgrade": "offer an earlier adapter again, under a new sequence",
    "rotate-key": "replace a key, and sign again what it signed",
    "sbom": "write a bill of materials: packages, bases and approved adapters",
}


@click.group(cls=LazyGroup, package=__name__, verbs=VERBS, renamed={"channel": "ring"})
def command() -> None:
    """Sign, approve, publish and roll out adapters.

    A repository is a folder; its public/ is served by any web server or carried on a USB stick. A monitor installs
    only what the quality keys approved and the roll-out key offers, by the same hash.
    """
