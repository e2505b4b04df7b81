"""A run as a blob: the one way from tuned parameters to a file for a monitor, for commands, demo and studies."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format.delta import Dtype
from edge_tsfm.data.sources import Source
from edge_tsfm.evaluation.calibration import fit_calibration
from edge_tsfm.runs.on_device import device_quantiles
from edge_tsfm.runs.run import Run
from export import AdapterExport, export_adapter
from export.adapter import with_calibration


@dataclass(frozen=True, kw_only=True)
class RunExport:
    """A run's blob, and what was measured on the way."""

    blob: bytes  # calibrated, where that was asked for
    measured: AdapterExport

    @property
    def adapter(self) -> str:
        """The adapter's name: the SHA-256 of the blob, hex."""
        return sha256(self.blob).hexdigest()

    @property
    def calibration_bytes(self) -> int:
        """Bytes of the blob that the calibration takes."""
        return len(self.blob) - len(self.measured.blob)


def export_run(
    run: Run,
    bundle: Bundle,
    *,
    version: int = 1,
    dtype: Dtype = "int16",
    calibrate: bool = False,
    data: Source | None = None,
) -> RunExport:
    """Encode a run's parameters for a bundle of its base, and prove them on windows of its validation patients.

    ``data`` holds these patients, None: the run's own data. ``calibrate`` adds offsets, fitted on what the device's
    runtime forecasts for them. A run that the gate did not accept is exported too, and its blob says so: whether it may
    be is `Run.require_accepted`'s to say, before. Raises `ExportError`, and `DataError` without a validation window.
    """
    result = export_adapter(
        bundle=bundle,
        base=run.frozen_model(),
        tuned=run.tuned_model(),
        deltas=run.deltas(dtype),
        contexts=run.held_out_contexts(data=data),
        binding=run.binding,
        version=version,
        metadata=run.blob_metadata,
        forced=not run.gate["accepted"],
    )
    blob = _calibrated(run, bundle, result.blob, data) if calibrate else result.blob
    return RunExport(blob=blob, measured=result)


def _calibrated(run: Run, bundle: Bundle, blob: bytes, data: Source | None) -> bytes:
    """Fit the calibration on what the device's runtime forecasts with ``blob`` for validation patients, and add it."""
    windows = run.windows("validation", data=data)
    quantiles = device_quantiles(Forecaster.open(bundle, blob), windows.context, run.config.prediction_length)
    levels = bundle.manifest.quantile_levels
    return with_calibration(bundle, blob, fit_calibration(quantiles, windows, levels))
