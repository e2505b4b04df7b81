"""``edge-tsfm-device adapt status``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.device_options import config_option, device, health_option, say_value
from device_runtime.cli.options import json_option


@click.command()
@config_option
@health_option
@json_option
def command(config_path: Path, health: Path | None, as_json: bool) -> None:
    """Show what this monitor learns by itself, the mode in force and what limits it, and the evidence.

    Figures are those last written by the process that hosts the forecasts. If nothing is gained, the probability that
    the evidence ever reaches 20 is at most 5 %. Losses are of finished stays, before anything was learnt from them.
    """
    from device_runtime.update.adapt_report import status_of

    with device(config_path, change=False) as (config, slots):
        value = status_of(config, slots, health)
    say_value(value, _lines(value), as_json=as_json)


def _lines(value: Mapping[str, Any]) -> Iterator[str]:
    """Give the lines for people."""
    why = f": {value['why']}" if value["why"] else ""
    less = f", set to {value['set_to']}{why}" if value["mode"] != value["set_to"] else ""
    yield f"mode      {value['mode']}{less}"
    envelope = value["envelope"]
    if envelope:
        yield f"envelope  {envelope['sequence']}, {envelope['most']} at most, {len(envelope['tensors'])} tensors"
    else:
        yield "envelope  none: shadow at most"
    own = value["own"]
    runs = f"own adapter {own['adapter'][:16]}, generation {own['generation']}" if own else "what is installed"
    yield f"runs      {runs}"
    if value["asked"]:
        yield f"asked     {value['asked']['who']}: {value['asked']['reason']}"
    learnt = value["learnt"]
    if not learnt:
        yield "learnt    nothing yet; where etsa-service learns, --health shows it"
        return
    yield f"learnt    {learnt['steps']} steps from {learnt['stays']} stays, {learnt['windows']} windows held"
    percent = learnt["candidate_percent"]
    beside = "" if percent is None else f", loss {percent:+.2f} % against what is frozen"
    yield (
        f"evidence  {learnt['evidence']:g} of {learnt['evidence_wanted']:g} over {learnt['stays_judged']} stays{beside}"
    )
    values = learnt["values"]
    gone = ", ".join(
        f"{name.replace('_', ' ')} {count}" for name, count in values.items() if name != "values" and count
    )
    if learnt.get("missed"):
        yield f"missed    {learnt['missed']} stays, for lack of idle time"
    if learnt.get("spoilt"):
        yield f"spoilt    {learnt['spoilt']} stays, of which more than half are no readings"
    yield f"values    {values['values']} looked at{f'; left out: {gone}' if gone else ''}"
