"""The monitor's forecasts: the device's runtime with an exported bundle and adapter, scored like the others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.binding import Use
from edge_tsfm.errors import ConfigError
from edge_tsfm.evaluation.report import DEVICE, DEVICE_BASE
from edge_tsfm.models import FAMILIES
from edge_tsfm.runs.run import Run
from export.manifest import names_run


def device_forecasters(
    run: Run,
    bundle: Path,
    adapter: Path,
    use: Use,
    accept: Collection[str] = (),
    settings: SessionSettings | None = None,
) -> dict[str, Forecaster]:
    """Open ``bundle`` with ``adapter``, as `DEVICE`, and alone, as `DEVICE_BASE`, to forecast what ``use`` says.

    Raises `ModelError` when the bundle is not of the base that ``run`` tuned, `ConfigError` when the adapter was not
    exported from ``run``, and every error of `Forecaster.open`.
    """
    opened = run.open_bundle(bundle)
    merged = Forecaster.open(opened, adapter, use=use, accept=accept, settings=settings)
    assert merged.adapter is not None
    if not names_run(merged.adapter.metadata, run.parameters_digest):
        made = merged.adapter.metadata.get("run", "not recorded")
        raise ConfigError(
            f"{adapter} was exported from run {made}, this is run {run.parameters_digest[:16]}",
            hint=f"edge-tsfm export adapter {run.path} --bundle {bundle} --out ADAPTER",
        )
    return {DEVICE: merged, DEVICE_BASE: Forecaster.open(opened, settings=settings)}


def device_facts(forecaster: Forecaster) -> dict[str, Any]:
    """Return which bundle and blob forecast, in which precision, and whether the blob moves the quantiles."""
    adapter = forecaster.adapter
    return {
        "bundle": forecaster.bundle.digest.hex(),
        "precision": forecaster.bundle.manifest.precision,
        "adapter": forecaster.adapter_digest,
        "adapter_version": adapter.version if adapter else None,
        "calibrated": adapter is not None and adapter.calibration is not None,
        "onnxruntime": version("onnxruntime"),
        **({"provider": forecaster.proof.provider} if forecaster.proof else {}),
    }


def device_note(facts: Mapping[str, Any]) -> str:
    """Put `device_facts` in words."""
    said = (
        f"on the device: bundle {facts['bundle'][:16]} ({facts['precision']}), adapter {facts['adapter'][:16]} "
        f"version {facts['adapter_version']}"
    )
    if facts["calibrated"]:
        said += ", calibrated: its like in torch is the calibrated row (--calibrate), not the adapter's"
    return said


def device_quantiles(
    forecaster: Forecaster, context: NDArray[np.float32], prediction_length: int
) -> NDArray[np.float32]:
    """Forecast contexts ``[N, L]`` one by one, as a monitor does: quantiles ``[N, H, Q]`` at the base's levels.

    A base that samples draws each context's paths by `Family.seed`, as torch does for training and evaluation: what
    differs is arithmetic, not chance.
    """
    family = FAMILIES[forecaster.bundle.manifest.family]
    seeds = [family.seed(one) for one in context]
    return np.stack(
        [
            forecaster.forecast(one, prediction_length, seed=seed).quantiles
            for one, seed in zip(context, seeds, strict=True)
        ]
    )
