"""``edge-tsfm inspect``."""

from __future__ import annotations

import json
from dataclasses import fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from edge_tsfm.cli.inspect_data import list_columns, read_as_train
from edge_tsfm.cli.paths import Existing
from edge_tsfm.cli.runs import open_run
from edge_tsfm.cli.train import command as train
from edge_tsfm.errors import DataError, as_data_errors

# What of train's options says nothing about which data are read, nor how.
TRAINING = {
    "data", "out", "method", "base", "preset", "target_modules", "n_frequency", "entries", "rank", "norms", "biases",
    "steps", "batch_size", "learning_rate", "seed", "season", "resume", "force", "log_to", "quiet", "as_json",
}  # fmt: skip


@click.command()
@click.argument("path", type=Existing())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(path: Path, as_json: bool, **asked: Any) -> None:
    """Show what a bundle, an adapter blob, a training run or a data file contains.

    For data, with --target and the options of train: exactly what train would read, how it would be split, and a small
    plot. Without --target: the columns.
    """
    facts, lines = inspect(path, **asked)
    if as_json:
        click.echo(json.dumps(facts, default=str))
        return
    click.echo("\n".join(lines))


command.params[1:1] = [one for one in train.params if one.name not in TRAINING]


def inspect(
    path: Path, *, targets: tuple[str, ...] = (), config_file: Path | None = None, **asked: Any
) -> tuple[dict[str, Any], list[str]]:
    """Describe what ``path`` is, for programs and for people. Raises `DataError` when it is none of the four."""
    from device_runtime.format.manifest import MANIFEST_FILE
    from edge_tsfm.data import DataOptions
    from edge_tsfm.runs.record import RUN_FILE
    from edge_tsfm.training.config import load_config

    describe = None
    if (path / MANIFEST_FILE).is_file():
        describe = _bundle
    elif (path / RUN_FILE).is_file():
        describe = _run
    elif path.is_file() and _begins(path) == b"ETSA":
        describe = _blob
    given = [f"--{name.replace('_', '-')}" for name, value in asked.items() if value] + ["--target"] * bool(targets)
    if describe is not None:
        if given:
            raise click.UsageError(f"{given[0]} is for data; {path} is a {describe.__name__.strip('_')}")
        facts = describe(path)
        return facts, [f"{key:18} {_say(value)}" for key, value in facts.items()]
    if len(targets) > 1:
        raise click.UsageError("--target: one at a time, as train takes it")
    nameless = not targets and config_file is None
    try:
        if nameless:
            with as_data_errors():
                options = DataOptions.of({one.name: asked[one.name] for one in fields(DataOptions)}).of_table()
            return list_columns(path, options)
        config = load_config(config_file, {"data": str(path), "target": targets[0] if targets else None, **asked})
        return read_as_train(config)
    except DataError as error:
        data = "data" if nameless else "such data"
        raise DataError(
            f"{path} is neither a bundle, an adapter blob, a run nor {data}: {error}", hint=error.hint
        ) from error


def _begins(path: Path) -> bytes:
    """Return the first four bytes of a file."""
    with path.open("rb") as file:
        return file.read(4)


def _bundle(path: Path) -> dict[str, Any]:
    """Describe a bundle; every file is checked on the way."""
    from device_runtime.forecast.bundle import Bundle

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
    from device_runtime.files import about
    from device_runtime.format.blob import blob_size, decode
    from device_runtime.format.layout import HEADER, RECORD, BlobRecord, Kind

    data = path.read_bytes()
    with about(path):
        size = blob_size(data)
        adapter = decode(data[:size])
    count = int.from_bytes(data[12:14], "little")
    records = [BlobRecord.unpack(data, HEADER.size + i * RECORD.size) for i in range(count)]
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
    from edge_tsfm.report.verdict import RunVerdict

    run = open_run(path)
    record = run.record
    return {
        "run": path.name,
        "verdict": RunVerdict(gate=run.gate).text.splitlines(),
        "signal": record["channel"],
        "channel": record["channel"],  # the old key, for this release
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
        "files": record.get("files", "not pinned"),
        "versions": record["versions"],
    }


def _say(value: Any) -> str:
    """Lay out a value on one or several lines."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "none"
    if isinstance(value, list) and value and isinstance(value[0], str):
        return ("\n" + " " * 19).join(value)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
