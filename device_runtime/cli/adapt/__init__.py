"""``edge-tsfm-device adapt``: what the monitor learns by itself. One thin file per verb."""

from __future__ import annotations

import click

from device_runtime.cli.lazy import LazyGroup

VERBS = {
    "status": "say what is learnt, how far it may go, and what is proven",
    "log": "print promotions, returns and steps of learning",
    "promote": "let what was proven forecast",
    "demote": "let what was installed forecast again",
    "reset": "forget everything that was learnt",
    "export": "write what was learnt as a file, with a statement on it",
    "replay": "learn again from a recorded feed, and compare",
}


@click.group(cls=LazyGroup, package=__name__, verbs=VERBS)
def command() -> None:
    """Manage what this monitor learns by itself: it forecasts with it only if a signed envelope allows that."""
