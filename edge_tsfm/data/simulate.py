"""Simulated vital signs of a ward, so that everything can be tried offline."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from device_runtime.nearest import did_you_mean
from device_runtime.series.signals import find_signal
from edge_tsfm.data.clock import parse_interval
from edge_tsfm.data.monitor import record
from edge_tsfm.data.physiology import simulate_body
from edge_tsfm.data.wards import SIMULATED, WARDS
from edge_tsfm.errors import ConfigError

_FIRST_DAY = np.datetime64("2101-01-01", "us")  # plainly no real stay
MAX_ROWS = 50_000_000


def simulate_ward(
    *,
    patients: int,
    hours: float = 72.0,
    site: str = "A",
    seed: int = 0,
    interval: str | pd.Timedelta = "1h",
    signals: Sequence[str] = SIMULATED,
    on_patient: Callable[[], None] | None = None,
) -> pd.DataFrame:
    """Return ``item_id, timestamp``, a float32 column a signal, ``age`` and ``sex``: one row an interval.

    Stays last between half of ``hours`` and all of it. Patient k of a site and seed is the same however many
    are asked for. ``on_patient`` is called after each. Raises `ConfigError` for what cannot be simulated.
    """
    ward = WARDS.get(site)
    if ward is None:
        raise ConfigError(f"no site {site!r}", hint=f"choose from {', '.join(WARDS)}")
    step = parse_interval(interval)
    names = [_simulated_name(name) for name in signals]
    interval_h = step / pd.Timedelta("1h")
    longest = int(hours / interval_h) if math.isfinite(hours) else 0
    if patients < 1 or longest < 2 or not names:
        raise ConfigError(f"{patients} patients of {hours:g} h every {interval} leave nothing to simulate")
    if patients * longest > MAX_ROWS:
        raise ConfigError(f"{patients * longest} rows are more than {MAX_ROWS}", hint="fewer patients or hours")
    frames = []
    for k in range(patients):
        rng = np.random.default_rng([seed, ord(ward.name), k])
        steps = int(rng.integers(longest // 2, longest + 1))
        admitted = rng.integers(0, 365 * 24) + (rng.integers(0, 60) / 60 if interval_h < 1 else 0)  # hours
        at = admitted % 24 + interval_h * np.arange(steps)
        written = record(rng, ward, simulate_body(rng, ward, at), at)
        begin = _FIRST_DAY + np.timedelta64(round(admitted * 3600), "s").astype("timedelta64[us]")
        frames.append(
            pd.DataFrame(
                {
                    "item_id": f"{ward.name}{seed}-{k:05d}",
                    "timestamp": begin + np.arange(steps) * step.to_numpy().astype("timedelta64[us]"),
                    **{name: written[name] for name in names},
                    "age": float(np.clip(round(rng.normal(63, 15)), 18, 89)),
                    "sex": "F" if rng.random() < 0.43 else "M",
                }
            )
        )
        if on_patient is not None:
            on_patient()
    return pd.concat(frames, ignore_index=True)


def _simulated_name(signal: str) -> str:
    known = find_signal(signal)
    if known is None or known.name not in SIMULATED:
        raise ConfigError(
            f"signal {signal!r} cannot be simulated",
            hint=f"{did_you_mean(signal, SIMULATED)}choose from {', '.join(SIMULATED)}",
        )
    return known.name


def check_ending(path: Path) -> None:
    """Raise `ConfigError` unless `encode_table` can write a file called ``path``."""
    if path.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"cannot write {path}: unknown ending {path.suffix!r}", hint="name it .parquet or .csv")


def encode_table(frame: pd.DataFrame, path: Path) -> bytes:
    """Return a frame as the bytes of a ``.parquet`` or ``.csv`` file, by the ending of ``path``.

    Both read back to the same series and fingerprint. Raises `ConfigError` for another ending.
    """
    check_ending(path)
    if path.suffix == ".csv":
        return frame.to_csv(index=False).encode()
    data: bytes = frame.to_parquet(index=False)
    return data


def summarise(frame: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return for each signal the share observed, mean and standard deviation."""
    return {
        name: {
            "observed": round(float(frame[name].notna().mean()), 4),
            "mean": round(float(frame[name].mean()), 3),
            "sd": round(float(frame[name].std()), 3),
        }
        for name in SIMULATED
        if name in frame
    }
