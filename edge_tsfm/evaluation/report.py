"""What an evaluation found, as values; `edge_tsfm.report.text` prints them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edge_tsfm.evaluation.metrics import METRICS

SCHEMA = 1
ADAPTER, BASE, CALIBRATED = "adapter", "base", "calibrated"
DEVICE, DEVICE_BASE = "device", "device_base"  # adapter and base as the device's runtime forecasts them
OF_THE_BASE = (BASE, CALIBRATED, DEVICE, DEVICE_BASE)  # all others are simple baselines
FEW_PATIENTS = 20  # below this a percentile interval over patients (items, blocks) is too narrow to lean on

LABELS = {
    ADAPTER: "adapter",
    BASE: "frozen base",
    CALIBRATED: "calibrated",
    DEVICE: "on the device",
    DEVICE_BASE: "base on device",
    "persistence": "persistence",
    "window_mean": "window mean",
    "linear_trend": "linear trend",
    "exponential_smoothing": "exp. smoothing",
    "seasonal_naive": "seasonal naive",
}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its bootstrap interval; NaN where it is undefined (no interval from a single patient)."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return JSON-ready values, undefined as null."""
        return {key: _number(value) for key, value in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The adapter's figure minus another's, paired by patient; ``relative`` is to the other's figure."""

    absolute: Estimate
    relative: Estimate

    @property
    def says(self) -> Literal["lower", "higher", "not distinguishable"]:
        """Which way the adapter differs, if the whole interval lies on one side of zero."""
        if self.absolute.high < 0:
            return "lower"
        return "higher" if self.absolute.low > 0 else "not distinguishable"

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values: the absolute difference, and the relative one beside it."""
        return {**self.absolute.to_dict(), "relative": self.relative.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Group:
    """The figures of one set of windows.

    ``models`` is forecaster → metric → figure; ``adapter_minus`` the same for every other forecaster.
    ``patients`` is how many units intervals draw: patients, or what ``unit`` calls them. ``unrated`` counts what a
    metric cannot judge: targets of zero for MAPE, windows whose context never changes for MASE.
    """

    windows: int
    patients: int
    scored: int  # observed target values
    missing: int  # target values that were not measured, never scored
    unrated: Mapping[str, int]
    models: Mapping[str, Mapping[str, Estimate]]
    adapter_minus: Mapping[str, Mapping[str, Difference]]
    unit: str = "patient"  # or item, or block (of time)

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; the schema is in docs/guides/evaluation.md."""
        minus = {
            name: {metric: one.to_dict() for metric, one in metrics.items()}
            for name, metrics in self.adapter_minus.items()
        }
        return {
            "windows": self.windows,
            "patients": self.patients,
            "few_patients": self.patients < FEW_PATIENTS,
            "scored": self.scored,
            "missing": self.missing,
            "unrated": dict(self.unrated),
            "models": {
                name: {metric: one.to_dict() for metric, one in metrics.items()}
                for name, metrics in self.models.items()
            },
            "adapter_minus_base": minus.pop(BASE, {}),
            **{f"adapter_minus_{name}": minus.pop(name) for name in OF_THE_BASE if name in minus},
            "adapter_minus_baselines": minus,
        }


@dataclass(frozen=True, kw_only=True)
class PatientScore:
    """WQL of one patient (item, block): the adapter's, the frozen base's, and by what share the former is higher."""

    item_id: str
    windows: int
    adapter: float
    base: float
    relative: float


@dataclass(frozen=True, kw_only=True)
class PatientScores:
    """The adapter against its frozen base, patient by patient, each by its own WQL.

    ``relative`` holds every patient's relative difference, the largest loss first; ``worse`` is limit → share of
    patients above it; ``worst`` are those with the largest loss, by name.
    """

    relative: tuple[float, ...]
    worse: Mapping[float, float]
    worst: tuple[PatientScore, ...]

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values, without every patient's difference."""
        return {
            "patients": len(self.relative),
            "worse": {f"{100 * limit:g} %": _number(share) for limit, share in self.worse.items()},
            "worst": [vars(one) for one in self.worst],
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """An evaluation: all windows, then each subgroup; and how calibrated each forecaster's quantiles are.

    ``subgroups`` is column → label → figures; ``calibration`` forecaster → share of targets at or below each
    quantile level; ``wql_by_step`` forecaster → WQL at each step of the horizon.
    """

    overall: Group
    subgroups: Mapping[str, Mapping[str, Group]]
    calibration: Mapping[str, tuple[float, ...]]
    wql_by_step: Mapping[str, tuple[Estimate, ...]]  # H each
    by_patient: PatientScores | None  # None without an adapter and its base
    quantile_levels: tuple[float, ...]
    context_length: int
    prediction_length: int
    confidence: float
    resamples: int
    seed: int

    def to_dict(self) -> dict[str, object]:
        """Return JSON-ready values; the schema is in docs/guides/evaluation.md."""
        return {
            "schema": SCHEMA,
            "context_length": self.context_length,
            "prediction_length": self.prediction_length,
            "quantile_levels": list(self.quantile_levels),
            "bootstrap": {
                "unit": self.overall.unit,
                "confidence": self.confidence,
                "resamples": self.resamples,
                "seed": self.seed,
            },
            **self.overall.to_dict(),
            "calibration": {name: [_number(x) for x in share] for name, share in self.calibration.items()},
            "wql_by_step": {name: [one.to_dict() for one in steps] for name, steps in self.wql_by_step.items()},
            "by_patient": None if self.by_patient is None else self.by_patient.to_dict(),
            "subgroups": {
                column: {label: group.to_dict() for label, group in groups.items()}
                for column, groups in self.subgroups.items()
            },
        }

    def beats(self, name: str = BASE, metric: str = "wql") -> bool:
        """Return whether the adapter's ``metric`` is lower than ``name``'s with the whole interval below zero."""
        if METRICS[metric].better != "lower":
            raise ValueError(f"lower is not better for {metric}")
        return self.overall.adapter_minus[name][metric].says == "lower"


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
