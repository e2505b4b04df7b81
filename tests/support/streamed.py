"""Patients streamed through ``edge-tsfm-device stream --config``, and the same windows for ``evaluate``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from device_runtime.forecast.forecaster import Forecaster
from device_runtime.format import envelope
from edge_tsfm.data.series import Series
from edge_tsfm.data.windows import Windows
from edge_tsfm.evaluation.evaluate import evaluate

HOUR = 3_600_000
L, H, LEAST = 48, 6, 12
GAP = 1_000  # steps between two patients: a whole buffer, so the stream begins again
DROPPED = 2  # samples of a patient that the stream takes for strays before it does
DEVICE = [sys.executable, "-m", "device_runtime.cli"]


def install(folder: Path, bundle: Path, blob: bytes, more: str = "") -> Path:
    """Set a monitor up, with a signed adapter on trial; return its settings."""
    private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    key = private.public_key().public_bytes_raw()
    folder.mkdir(parents=True, exist_ok=True)
    signed = folder / "adapter.etsa"
    signed.write_bytes(blob + envelope.write_signature(key, private.sign(envelope.message(blob))))
    config = folder / "device.toml"
    config.write_text(
        f'device_id = "bed"\nring = "icu"\nsignal = "MAP"\ninterval = "1h"\nbundle = "{bundle.resolve()}"\n'
        f'state = "state"\ntrusted_keys = ["{key.hex()}"]\n{more}'
    )
    config.chmod(0o600)
    subprocess.run([*DEVICE, "install", str(signed), "--config", str(config), "--activate"], check=True)
    return config


def places(series: Sequence[Series]) -> list[tuple[NDArray[np.float32], int]]:
    """Lay patients one behind another: what a stream takes of each, and the step of its first value."""
    out = []
    at = 0
    for number, one in enumerate(series):
        values = one.target.copy()
        if number:  # the first observed ones are strays
            values[np.flatnonzero(~np.isnan(values))[:DROPPED]] = np.nan
        out.append((values, at))
        at += len(values) + GAP
    return out


def lines(series: Sequence[Series]) -> str:
    """Give the feed: every observed value of every patient, and three behind that end the last stay."""
    rows = []
    for one, (_, at) in zip(series, places(series), strict=True):
        rows += [
            f"MAP,{(at + step) * HOUR},{float(one.target[step])!r}" for step in np.flatnonzero(~np.isnan(one.target))
        ]
    end = at + len(series[-1]) + 10 * GAP
    rows += [f"MAP,{(end + step) * HOUR},80" for step in range(3)]
    return "\n".join(rows) + "\n"


def windows(series: Sequence[Series]) -> Windows:
    """Cut the windows that a stream forecasts: one at each observed step with enough behind it, in the feed's order."""
    contexts, targets, items = [], [], []
    for one, (values, _) in zip(series, places(series), strict=True):
        padded = np.concatenate([np.full(L, np.nan), values, np.full(H, np.nan)]).astype(np.float32)
        for step in np.flatnonzero(~np.isnan(values)):
            context = padded[step + 1 : step + 1 + L]
            if np.isfinite(context).sum() >= LEAST:
                contexts.append(context)
                targets.append(padded[step + 1 + L : step + 1 + L + H])
                items.append(one.item_id)
    count = np.zeros(len(items), dtype=np.int64)
    return Windows(
        context=np.stack(contexts), target=np.stack(targets), item_id=np.array(items), cutoff=count, series=count
    )


def stream(config: Path, feed: str, *, names: Iterable[str] = ("MAP",)) -> list[dict[str, Any]]:
    """Run the command on a feed; return its answers."""
    channels = [word for name in names for word in ("--signal", name)]
    command = [*DEVICE, "stream", "--config", str(config), *channels, "--interval", "1h", "--context-length", str(L)]
    command += ["--prediction-length", str(H), "--min-observed", str(LEAST)]
    done = subprocess.run(command, input=feed, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def quality(config: Path) -> dict[str, Any]:
    """Ask the monitor how good its forecasts were."""
    command = [*DEVICE, "quality", "--json", "--config", str(config)]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def evaluated(bundle: Path, blob: bytes, scored: Windows) -> dict[str, dict[str, float]]:
    """Evaluate the same windows; ``adapter`` and ``base`` → metric → value."""
    levels = Forecaster.open(bundle).bundle.manifest.quantile_levels

    def predict(forecaster: Forecaster) -> Any:
        def run(context: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
            parts = [forecaster.forecast(context[at : at + 256], steps).quantiles for at in range(0, len(context), 256)]
            return np.concatenate(parts)

        return run

    report = evaluate(
        predict(Forecaster.open(bundle, blob)), predict(Forecaster.open(bundle)), scored, levels, resamples=2
    )
    return {
        name: {metric: estimate.value for metric, estimate in report.overall.models[name].items()}
        for name in ("adapter", "base")
    }
