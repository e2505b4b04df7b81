"""``edge-tsfm-device quality``."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_runtime.cli.device_options import config_option, say_value
from device_runtime.cli.options import json_option

if TYPE_CHECKING:
    from device_runtime.update.settings import DeviceConfig


@click.command()
@config_option
@json_option
def command(config_path: Path, as_json: bool) -> None:
    """Show how accurate this monitor's forecasts turned out to be: by signal, beside the frozen base.

    Figures are those last written by `stream --config`, or the process that hosts the forecasts, at most
    `save_seconds` of its settings ago. Times are the feed's. The drift flag says that recent forecasts are worse than
    the frozen base's; it is information for those who maintain adapters and changes nothing by itself.
    """
    from device_runtime.update.settings import read_config

    value = figures_of(read_config(config_path))
    say_value(value, lines(value), as_json=as_json)


def figures_of(config: DeviceConfig) -> dict[str, Any]:
    """Read the figures that the hosting process wrote last."""
    from device_runtime.quality.field import FieldQuality
    from device_runtime.update.disk import PosixDisk
    from device_runtime.update.field_store import load

    field = FieldQuality(config.quality, ratio=config.health.ratio)
    problem = load(PosixDisk(config.state), field)
    return {"signals": field.figures(), "left_out": field.left_out, "problem": problem}


def lines(value: Mapping[str, Any]) -> Iterator[str]:
    """Give the lines for people."""
    if not value["signals"]:
        yield "nothing has been scored yet"
    for signal, forecasters in value["signals"].items():
        for place, one in enumerate(forecasters):
            yield f"{signal if not place else 'before':<10}{_named(one['adapter'])}, {_span(one)}"
            yield f"{'':<10}{said_figures(one)}"
            recent = one["recent"]["wql"]
            yield f"{'':<10}of late: WQL {_number(recent)}"
            for name, beside in one["against"].items():
                yield f"{'':<10}{said_beside(name, beside)}"
    if value["left_out"]:
        yield f"left out  {value['left_out']} samples and forecasts of more signals or series than are watched"


def line_of(value: Mapping[str, Any]) -> str:
    """Give the one line that `status` has; empty where nothing was scored."""
    said = []
    for signal, forecasters in value["signals"].items():
        one = forecasters[0]
        base = one["against"].get("base")
        percent = base and base["wql_percent"]
        against = "" if percent is None else f", {percent:+.1f} % against the base's"
        flag = ", drifts" if base and base["drift_since_ms"] else ""
        said.append(f"{signal} WQL {_number(one['wql'])} over {one['steps']:,.0f} steps{against}{flag}")
    return "; ".join(said)


def said_beside(name: str, beside: Mapping[str, Any]) -> str:
    """Format a comparison."""
    who = "the base" if beside["adapter"] is None else _named(beside["adapter"])
    title = who if name == "base" else f"{name}, {who},"
    text = f"beside {title} over {beside['other']['steps']:,.0f} steps: "
    if beside["wql_percent"] is None:
        return f"{text}nothing to compare"
    text += (
        f"WQL {_number(beside['runs']['wql'])} and {_number(beside['other']['wql'])}, {beside['wql_percent']:+.2f} %"
    )
    coverage = beside["other"]["coverage"]
    text += "" if coverage is None else f", its coverage {100 * coverage:.1f} %"
    if beside["verdict"] not in (None, "open"):
        text += f", shown to be {'worse than' if beside['verdict'] == 'worse' else 'within'} what is allowed"
    if beside["drift_since_ms"]:
        text += f"; drift since {_time(beside['drift_since_ms'])}"
    return text


def said_figures(one: Mapping[str, Any]) -> str:
    """Format the figures of one forecaster."""
    coverage = "" if one["coverage"] is None else f", coverage of the 80 % band {100 * one['coverage']:.1f} %"
    mase = "" if one["mase"] is None else f", MASE {_number(one['mase'])}"
    missing = "" if one["missing"] is None else f", {100 * one['missing']:.1f} % of targets missing"
    return f"WQL {_number(one['wql'])}{mase}{coverage}{missing}"


def _span(one: Mapping[str, Any]) -> str:
    return f"{one['steps']:,.0f} scored steps from {_time(one['since_ms'])} to {_time(one['until_ms'])}"


def _named(adapter: str | None) -> str:
    return "the base alone" if adapter is None else f"adapter {adapter[:16]}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _time(t_ms: int) -> str:
    """Format a moment of the feed; a feed may count from anywhere."""
    try:
        return f"{dt.datetime.fromtimestamp(t_ms / 1_000, dt.UTC):%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):
        return f"{t_ms} ms"
