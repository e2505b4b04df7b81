"""The model card beside a run's PEFT checkpoint: what it is, the evidence, and whether the gate accepted it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_tsfm.report.verdict import RunVerdict


def peft_card(record: Mapping[str, Any]) -> str:
    """Return the card of a run's ``record`` (run.json) as Markdown, with the front matter that the hub reads."""
    config, base, data = record["config"], record["base"], record["data"]
    verdict = RunVerdict(gate=record["gate"])
    training = record["training"]
    return "\n".join(
        [
            "---",
            "library_name: peft",
            f"base_model: {base['source']}",
            "pipeline_tag: time-series-forecasting",
            "---",
            "",
            f"# {record['channel']}: {config['method']} on {base['name']}",
            "",
            f"**{verdict.headline}** {' '.join(verdict.beside)}",
            "",
            f"- {record['parameters']:,} parameters tuned by `{config['method']}`, written here as a LoRA checkpoint "
            "of the same forecasts",
            f"- base weights: SHA-256 `{base['digest']}`",
            f"- trained on {record['channel']}, every {data['report'].get('interval', '?')}, data fingerprint "
            f"`{data['fingerprint']}`",
            f"- {config['context_length']} → {config['prediction_length']} steps, {record['windows']['train']:,} "
            f"training windows; {training['metric']} on the patients that stop training {training['base']:.5f} (frozen "
            f"base) → {training['best']:.5f} at step {training['best_step']}",
            f"- made with edge-tsfm {record['versions']['edge-tsfm']}, PEFT {record['versions']['peft']}",
            "",
        ]
    )
