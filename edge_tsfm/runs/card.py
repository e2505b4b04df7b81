"""The model card of a run: what it is, its evidence, its intended use and how to load it. It has no machine paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edge_tsfm.models.base import HUB_ID
from edge_tsfm.report.verdict import RunVerdict
from edge_tsfm.runs.logged import without_path

MODULES = {"chronos-bolt": "chronos.chronos_bolt", "chronos-2": "chronos.chronos2.model"}  # T5's is in transformers
UNKNOWN = "as at its source"


def peft_card(record: Mapping[str, Any], *, place: str = "RUN/peft", files: tuple[str, ...] = ()) -> str:
    """Return the card of a run's ``record`` (run.json) as Markdown, with the front matter that the hub reads.

    ``place`` is where the PEFT checkpoint will be: a folder, or a repository on the hub. ``files`` are the names of the
    files for a device, if any: the bundle's folder and the blob.
    """
    base, config = record["base"], record["config"]
    parts = (
        _front(record),
        [f"# {record['channel']}: {config['method']} on {base['name']}"],
        _what(record),
        ["## Evidence"],
        _evidence(record),
        ["## Data"],
        _data(record),
        ["## Intended use"],
        [
            f"Forecasts of {record['channel']}, {config['prediction_length']} steps ahead from up to "
            f"{config['context_length']}, on patients and monitors like those in training. It makes no decisions."
        ],
        ["## Limits"],
        _limits(record),
        ["## Licence"],
        [f"That of the base: {_licence(record)}. Whoever trained the adapter must state what its data permit."],
        ["## How to load it"],
        _loading(record, place, files),
    )
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def _front(record: Mapping[str, Any]) -> Iterator[str]:
    yield "---"
    yield "library_name: peft"
    if (hub := hub_id(record)) is not None:
        yield f"base_model: {hub}"
    yield "pipeline_tag: time-series-forecasting"
    yield f"license: {'apache-2.0' if _licence(record) == 'Apache-2.0' else 'other'}"
    yield "tags:"
    yield from ("- chronos", "- time-series", "- edge-tsfm", f"- {record['config']['method']}")
    yield "---"


def hub_id(record: Mapping[str, Any]) -> str | None:
    """Return the hub id of a run's base; None for a bundled base, or one in a folder."""
    source = str(record["base"]["source"])
    return source if HUB_ID.fullmatch(source) and without_path(source) == source else None


def _licence(record: Mapping[str, Any]) -> str:
    return str(record["base"].get("licence", UNKNOWN))  # runs of earlier releases do not have it


def _what(record: Mapping[str, Any]) -> Iterator[str]:
    verdict = RunVerdict(gate=record["gate"])
    yield f"**{verdict.headline}** {' '.join(verdict.beside)}"
    yield ""
    yield (
        f"{record['parameters']:,} parameters tuned by `{record['config']['method']}`, stored as a LoRA checkpoint "
        "with the same forecasts."
    )


def _evidence(record: Mapping[str, Any]) -> Iterator[str]:
    gate, training = record["gate"], record["training"]
    metric, unit = str(gate.get("metric", "wql")).upper(), str(gate.get("unit", "patient"))
    low, high = gate["interval"]
    yield f"| On validation {unit}s not used in training | {metric} |"
    yield "|---|---|"
    yield f"| frozen base | {_say(gate['base'])} |"
    yield f"| adapted | {_say(gate['adapter'])} |"
    yield (
        f"| difference, {gate['confidence']:.0%} interval | {_percent(gate['difference'])} ({_percent(low)} to "
        f"{_percent(high)}) |"
    )
    yield ""
    yield (
        f"{gate['patients']:,} {unit}s, {gate['windows']:,} windows; intervals by bootstrap over {unit}s. On the "
        f"{unit}s for early stopping: {training['metric']} {training['base']:.5f} (frozen base) → "
        f"{training['best']:.5f} at step {training['best_step']}."
    )


def _say(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.5f}"


def _percent(value: float | None) -> str:
    return "unbounded" if value is None else f"{value:+.1%}"


def _data(record: Mapping[str, Any]) -> Iterator[str]:
    data = record["data"]
    yield (
        f"{record['channel']} of {data['items']:,} items, every {data['report'].get('interval', '?')}, "
        f"{record['windows']['train']:,} training windows. The data are not included; their fingerprint is "
        f"`{data['fingerprint']}`."
    )


def _limits(record: Mapping[str, Any]) -> Iterator[str]:
    yield "- It is not a medical device: its forecasts are for people, and for devices that were validated with it."
    yield "- For other wards, monitors, units or intervals than in training, evaluate it first (`edge-tsfm evaluate`)."
    yield f"- It fits exactly one base: weights with SHA-256 `{record['base']['digest']}`."
    yield "- Parameters fitted to patients may reveal something about them: share them only as you would share figures."


def _loading(record: Mapping[str, Any], place: str, files: tuple[str, ...]) -> Iterator[str]:
    base, versions = record["base"], record["versions"]
    yield "```python"
    if hub_id(record) is not None:
        yield "from peft import AutoPeftModel"
        yield ""
        module = MODULES.get(base["family"])
        allowed = f', import_allowlist=["{module}"]' if module else ""
        yield f'model = AutoPeftModel.from_pretrained("{place}"{allowed})'
    else:
        yield "from edge_tsfm.models import load_base"
        yield "from peft import PeftModel"
        yield ""
        yield f'base = load_base("{without_path(base["source"])}")  # a bundled base, or your folder of these weights'
        yield f'model = PeftModel.from_pretrained(base.model, "{place}")'
    yield "```"
    if files:
        yield ""
        yield f"For a monitor, without torch: the base in `{files[0]}`, this adapter in `{files[1]}`. In Python:"
        yield ""
        yield "```python"
        yield "import edge_tsfm as et"
        yield ""
        yield f'et.forecast("{place}", frame, target="{record["channel"]}")'
        yield "```"
    yield ""
    yield f"Made with edge-tsfm {versions['edge-tsfm']}, PEFT {versions['peft']}."
