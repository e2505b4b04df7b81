"""``edge-tsfm-device selftest``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from device_runtime.cli.options import bundle_argument, json_option, session_options, settings, settled_threads


@click.command()
@bundle_argument
@click.option("--adapter", type=click.Path(path_type=Path, dir_okay=False), required=True, help="Adapter blob to test.")
@session_options
@json_option
def command(bundle: Path, adapter: Path, as_json: bool, **session: Any) -> None:
    """Check every file of a BUNDLE, merge an adapter and run its known-answer test."""
    from device_runtime.cli.signed_only import check_signed
    from device_runtime.forecast.bundle import Bundle
    from device_runtime.forecast.forecaster import Forecaster
    from device_runtime.forecast.known_answer import allowed_by

    data, base = check_signed(adapter), Bundle.open(bundle)
    forecaster = Forecaster.open(base, data, settings=settled_threads(base, settings(**session)))
    merged = forecaster.adapter
    assert merged is not None
    assert merged.known_answer is not None  # or open() had refused it
    off_by, allowed = forecaster.self_test(), allowed_by(merged.known_answer, forecaster.beside)
    report: dict[str, Any] = {
        "base": forecaster.bundle.digest.hex(),
        "adapter": forecaster.adapter_digest,
        "adapter_version": merged.version,
        "parameters": merged.parameters,
        "forced": merged.forced,
        "binding": merged.binding and merged.binding.to_dict(),
        "known_answer": {"off_by": off_by, "allowed": allowed},
        **({"provider": forecaster.proof.provider} if forecaster.proof else {}),
    }
    if as_json:
        click.echo(json.dumps(report))
    else:
        click.echo(
            f"base {report['base'][:16]} adapter {report['adapter'][:16]}: known answer off by {off_by:.2g}, "
            f"allowed {allowed:.2g}: passed"
        )
        click.echo(f"for {merged.binding or 'no stated signal: the adapter is unbound'}")
