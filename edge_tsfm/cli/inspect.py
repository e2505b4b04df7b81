"""``edge-tsfm inspect``."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from edge_tsfm.cli.columns import column_lines
from edge_tsfm.errors import DataError


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--target", help="For data: the channel or column to look at.  [default: list the columns]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: Path, target: str | None, as_json: bool) -> None:
    """Say what a bundle, an adapter blob, a training run or a data file holds."""
    facts = inspect(path, target)
    if as_json:
        click.echo(json.dumps(facts, default=str))
        return
    for key, value in facts.items():
        click.echo(f"{key:18} {_say(column_lines(value) if key in ('columns', 'signals') else value)}")
    if target is None and ("columns" in facts or "signals" in facts):
        click.echo("edge-tsfm inspect with --target NAME says what is kept of one of them")


def inspect(path: Path, target: str | None) -> dict[str, Any]:
    """Describe what ``path`` is. Raises `DataError` when it is none of the four."""
    from device_runtime.manifest import MANIFEST_FILE
    from edge_tsfm.training.record import RUN_FILE

    if (path / MANIFEST_FILE).is_file():
        return _bundle(path)
    if (path / RUN_FILE).is_file():
        return _run(path)
    if path.is_file() and path.read_bytes()[:4] == b"ETSA":
        return _blob(path)
    if target is None:
        return _columns(path)
    from edge_tsfm.data import read_dataset

    return read_dataset(path, target=target).report.to_dict()


def _columns(path: Path) -> dict[str, Any]:
    """List the columns of a data file. Raises `DataError` when it is no data either."""
    from edge_tsfm.cli.columns import list_columns

    try:
        return list_columns(path)
    except DataError as error:
        raise DataError(
            f"{path} is no bundle, no adapter blob, no run, and no data: {error}", hint=error.hint
        ) from error


def _bundle(path: Path) -> dict[str, Any]:
    """Describe a bundle; every file is checked on the way."""
    from device_runtime.bundle import Bundle

    bundle = Bundle.open(path)
    manifest = bundle.manifest
    return {
        "bundle": manifest.name,
        "family": manifest.family,
        "base_digest": bundle.digest.hex(),
        "context_length": manifest.context_length,
        "prediction_length": manifest.prediction_length,
        "quantile_levels": list(manifest.quantile_levels),
        "precision": manifest.precision,
        "bytes": sum(file.size for file in manifest.files.values()),
        "tunable_tensors": len(manifest.tensors),
        "tunable_numbers": sum(entry.size for entry in manifest.tensors),
        "files": {name: f"{file.size} bytes, SHA-256 {file.sha256[:16]}" for name, file in manifest.files.items()},
    }


def _blob(path: Path) -> dict[str, Any]:
    """Describe a blob, byte for byte: the parts add up to the file's size."""
    from device_runtime.blob import blob_size, decode
    from device_runtime.files import about
    from device_runtime.layout import HEADER, RECORD, Kind, Record

    data = path.read_bytes()
    with about(path):
        size = blob_size(data)
        adapter = decode(data[:size])
    count = int.from_bytes(data[12:14], "little")
    records = [Record.unpack(data, HEADER.size + i * RECORD.size) for i in range(count)]
    return {
        "blob": path.name,
        "adapter": sha256(data[:size]).hexdigest(),
        **({"signed_file": sha256(data).hexdigest()} if len(data) > size else {}),
        "adapter_version": adapter.version,
        "base_digest": adapter.base_digest.hex(),
        "parameters": adapter.parameters,
        "tensors": len(adapter.deltas),
        "forced": adapter.forced,
        "for": adapter.binding.to_dict() if adapter.binding else "no stated signal: the blob is unbound (format 1)",
        "metadata": dict(adapter.metadata),
        "bytes": len(data),
        "header_bytes": HEADER.size,
        "table_bytes": count * RECORD.size,
        "records": [
            f"{Kind(r.kind).name.lower()} [{r.rows}, {r.columns}] × {r.tensor_count or 1}: {r.size} bytes"
            for r in records
        ],
        "signature_bytes": len(data) - size,
    }


def _run(path: Path) -> dict[str, Any]:
    """Describe a training run."""
    from edge_tsfm.evaluation.verdict import RunVerdict
    from edge_tsfm.training.run import load_run

    run = load_run(path)
    record = run.record
    return {
        "run": path.name,
        "verdict": RunVerdict(gate=run.gate).text.splitlines(),
        "channel": record["channel"],
        "method": record["config"]["method"],
        "base": record["base"]["name"],
        "parameters": record["parameters"],
        "tensors": record["tensors"],
        "windows": record["windows"],
        "data_fingerprint": record["data"]["fingerprint"],
        "gate": record["gate"]["reason"],
        "decision": RunVerdict(gate=run.gate).decision,
        "accepted": record["gate"]["accepted"],
        "forced": record["gate"]["forced"],
        "versions": record["versions"],
    }


def _say(value: Any) -> str:
    """Lay out a value on one or several lines."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "none"
    if isinstance(value, list) and value and isinstance(value[0], str):
        return ("\n" + " " * 19).join(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
