"""``edge-tsfm inspect``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.read_options import read_options
from edge_tsfm.errors import DataError


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--target", help="For data: the channel or column to look at.")
@read_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: Path, target: str | None, as_json: bool, **reading: Any) -> None:
    """Say what a bundle, an adapter blob, a training run or a data file holds."""
    facts = inspect(path, target, reading)
    if as_json:
        click.echo(json.dumps(facts, default=str))
        return
    for key, value in facts.items():
        click.echo(f"{key:18} {_say(value)}")


def inspect(path: Path, target: str | None, reading: dict[str, Any]) -> dict[str, Any]:
    """Describe what ``path`` is. Raises `DataError` when it is none of the four."""
    from device_runtime.manifest import MANIFEST_FILE
    from edge_tsfm.training.run import RUN_FILE

    if (path / MANIFEST_FILE).is_file():
        return _bundle(path)
    if (path / RUN_FILE).is_file():
        return _run(path)
    if path.is_file() and path.read_bytes()[:4] == b"ETSA":
        return _blob(path)
    if target is None:
        raise DataError(
            f"{path} is no bundle, no adapter blob and no run", hint="if it is data, name a channel with --target"
        )
    from edge_tsfm.data import read_dataset

    return read_dataset(path, target=target, **reading).report.to_dict()


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
    from device_runtime.layout import HEADER, RECORD, Kind, Record

    data = path.read_bytes()
    size = blob_size(data)
    adapter = decode(data[:size])
    count = int.from_bytes(data[12:14], "little")
    records = [Record.unpack(data, HEADER.size + i * RECORD.size) for i in range(count)]
    return {
        "adapter": path.name,
        "adapter_version": adapter.version,
        "base_digest": adapter.base_digest.hex(),
        "parameters": adapter.parameters,
        "tensors": len(adapter.deltas),
        "forced": adapter.forced,
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
    from edge_tsfm.training.run import load_run

    record = load_run(path).record
    return {
        "run": path.name,
        "channel": record["channel"],
        "method": record["config"]["method"],
        "base": record["base"]["name"],
        "parameters": record["parameters"],
        "tensors": record["tensors"],
        "windows": record["windows"],
        "data_fingerprint": record["data"]["fingerprint"],
        "gate": record["gate"]["reason"],
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
