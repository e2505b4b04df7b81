"""``edge-tsfm deploy``: keys, repository, approvals and roll-outs. One thin file per verb."""

from __future__ import annotations

import click
from device_runtime.cli.lazy import LazyGroup

VERBS = {
    "keygen": "Make every key of a repository in FOLDER.",
    "init": "Make an update REPOSITORY and publish it empty. The gate's hash is signed into it.",
    "channel": "Say once what the monitors of a CHANNEL forecast: no adapter for anything else is approved for it.",
    "device-settings": "Print a monitor's device.toml.",
    "approve": "Judge an ADAPTER by the pinned gate, against the base and the adapter in the field; sign it when it passes.",
    "publish": "Sign a new snapshot and timestamp. Run it daily from a timer: a timestamp lives seven days.",
    "refresh": "Sign a ROLE again, unchanged, for another lifetime: root, targets, approved, rollout or a bin; then publish.",
    "rollout": "Offer an approved adapter to a CHANNEL stage by stage: start it with --adapter, step it with --reports.",
    "status": "Say what each channel is offered, what is approved, and when signatures expire.",
    "halt": "Stop a CHANNEL's roll-out: nobody else gets it. Those who have it keep it; `revoke` takes it from them.",
    "revoke": "Take an ADAPTER (start of its name) back from every monitor of a CHANNEL, for ever.",
    "downgrade": "Offer an earlier ADAPTER again: a new sequence for the old bytes, so that monitors accept it.",
    "rotate-key": "Replace the key OLD (start of its id) of a GROUP, sign everything it signed again, and publish.",
    "sbom": "Write a CycloneDX 1.6 bill of materials: the runtime's packages, and each approved adapter as a model.",
}


@click.group(cls=LazyGroup, package=__name__, verbs=VERBS)
def command() -> None:
    """Sign, approve, publish and roll out adapters.

    A repository is a folder; its public/ is served by any web server or carried on a stick. Nothing reaches a monitor
    unless quality keys approved it and the roll-out key offers it, by the same hash.
    """
