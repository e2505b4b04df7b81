"""From scores by patient to the study's figures: mean over seeds, intervals over patients, shares of a gain.

All forecasters of a target share the draws of patients, so that differences and shares are paired. The intervals hold
for other patients; what another seed does is shown by the seeds' own figures beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_tsfm.errors import DataError
from edge_tsfm.evaluation.bootstrap import bounds, ratio, resample
from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.evaluation.report import Estimate
from edge_tsfm.report.verdict import Tallied, tally
from edge_tsfm.research.study.cells import ANY_BASE, Cell
from edge_tsfm.research.study.latency import Latency
from edge_tsfm.research.study.scores import SCORES_FILE, Scores, read_scores
from edge_tsfm.runs.record import RUN_FILE, CellRecord, read_record

FloatArray = NDArray[np.float64]
CONFIDENCE = 0.95
SHARED = ("mse", "wql")  # metrics for which a share of full fine-tuning's gain is given
UNDEFINED = Estimate(value=float("nan"), low=float("nan"), high=float("nan"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One forecaster on one target. ``change`` is relative to the frozen base; ``kept`` a share of full's gain."""

    label: str
    kind: str  # adapter, nhits, base, simple, auto_ets
    method: str | None
    parameters: int | None
    seconds: float | None  # of training, mean over seeds
    seeds: tuple[int, ...]
    accepted: int | None  # how many seeds the gate accepted
    figures: Mapping[str, Estimate]
    change: Mapping[str, Estimate]
    kept: Mapping[str, Estimate]
    by_seed: Mapping[str, tuple[float, ...]]
    bytes: int | None = None  # of the first seed's unsigned blob

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        parts = {name: {key: one.to_dict() for key, one in getattr(self, name).items()} for name in _ESTIMATES}
        whole = {**vars(self), **parts, "seeds": list(self.seeds), "by_seed": dict(self.by_seed)}
        return {**whole, "passed": None if self.tallied is None else self.tallied.passed}

    @property
    def tallied(self) -> Tallied | None:
        """What the gate said of its seeds, and its WQL on the test patients; None where no gate judges."""
        if self.accepted is None:
            return None
        beats = self.change["wql"].high < 0
        return Tallied(label=self.label, seeds=len(self.seeds), accepted=self.accepted, beats=beats)


_ESTIMATES = ("figures", "change", "kept")


@dataclass(frozen=True, kw_only=True)
class Group:
    """All forecasters of one target beside one base."""

    target: str
    base: str
    windows: int
    patients: int
    values: int
    unit: str
    fingerprint: str
    rows: tuple[Row, ...]
    latency: Latency | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        latency = None if self.latency is None else self.latency.to_dict()
        rows = [row.to_dict() for row in self.rows]
        return {**vars(self), "rows": rows, "latency": latency, "verdict": self.verdict}

    @property
    def verdict(self) -> str:
        """Return how many methods the gate accepts, how many beat the frozen base on test patients, and who differs."""
        return tally([row.tallied for row in self.rows if row.tallied is not None], self.unit)


def tabulate(
    cells: Sequence[Cell],
    out: Path,
    *,
    blobs: Mapping[str, int],
    latencies: Mapping[str, Latency] = MappingProxyType({}),
    resamples: int = 1000,
) -> list[Group]:
    """Make the figures of every target and base from the ``cells`` that are finished.

    ``blobs`` is a cell's folder → bytes of its blob, ``latencies`` a base → its timing. Raises `DataError` when cells
    were scored on different data.
    """
    found = [(cell, read_scores(path)) for cell in cells if (path := out / cell.folder / SCORES_FILE).exists()]
    keys = dict.fromkeys((str(cell.config.target), cell.base) for cell, _ in found if cell.base != ANY_BASE)
    groups = []
    for target, base in keys:
        mine = [(c, s) for c, s in found if c.config.target == target and c.base in (base, ANY_BASE)]
        if any(cell.kind == "base" for cell, _ in mine):
            group = _group(target, base, mine, out, blobs, resamples)
            groups.append(replace(group, latency=latencies.get(base)))
    return groups


def _group(
    target: str,
    base: str,
    found: Sequence[tuple[Cell, Scores]],
    out: Path,
    blobs: Mapping[str, int],
    resamples: int,
) -> Group:
    first = found[0][1]
    for cell, scores in found:
        same = np.array_equal(scores.item_id, first.item_id) and scores.windows == first.windows
        if scores.record["fingerprint"] != first.record["fingerprint"] or not same:
            raise DataError(
                f"{cell.folder} was scored on other data than {found[0][0].folder}",
                hint="the data file changed during the study: start again with another --out",
            )
    entries = [(cell, name, array) for cell, scores in found for name, array in scores.sums.items()]
    stacked = np.stack([array for _, _, array in entries], axis=1)  # [P, K, M, 2]
    value = ratio(stacked.sum(0))  # [K, M]
    draws = ratio(resample(stacked, resamples=resamples, seed=0))  # [R, K, M]
    places: dict[str, list[int]] = {}
    for k, (_, name, _) in enumerate(entries):
        places.setdefault(name, []).append(k)
    means = {name: (value[ks].mean(0), draws[:, ks].mean(1)) for name, ks in places.items()}
    full = next((name for name, ks in places.items() if entries[ks[0]][0].config.method == "full"
                 and entries[ks[0]][0].kind == "adapter"), None)  # fmt: skip
    rows = []
    for name, ks in sorted(places.items(), key=lambda pair: ORDER.index(entries[pair[1][0]][0].kind)):
        its = [entries[k][0] for k in ks]
        rows.append(
            Row(
                label=name,
                kind=its[0].kind,
                by_seed={metric: tuple(value[ks, m].tolist()) for m, metric in enumerate(METRICS)},
                figures=_named(*means[name]),
                change={} if its[0].kind == "base" else _named(*_relative(means[name], means["base"])),
                kept={} if full is None else _kept(means[name], means["base"], means[full], its[0].kind),
                bytes=next((blobs[cell.folder] for cell in its if cell.folder in blobs), None),
                **_facts(its, out),
            )
        )
    return Group(
        target=target,
        base=Path(base).name,
        windows=first.windows,
        patients=len(first.item_id),
        values=first.values,
        unit=first.unit,
        fingerprint=str(first.record["fingerprint"]),
        rows=tuple(rows),
    )


ORDER = ("simple", "auto_ets", "nhits", "base", "adapter")
Pair = tuple[FloatArray, FloatArray]  # value [M], draws [R, M]


def _relative(one: Pair, other: Pair) -> Pair:
    return one[0] / other[0] - 1, one[1] / other[1] - 1


def _kept(one: Pair, base: Pair, full: Pair, kind: str) -> dict[str, Estimate]:
    """Return the share of full fine-tuning's gain; undefined where that gain is not above zero beyond chance."""
    if kind != "adapter":
        return {}
    gains, draws = base[0] - full[0], base[1] - full[1]
    sure = bounds(draws, confidence=CONFIDENCE)[0] > 0  # [M]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = _named((base[0] - one[0]) / gains, (base[1] - one[1]) / draws)
    return {name: shares[name] if sure[m] else UNDEFINED for m, name in enumerate(METRICS) if name in SHARED}


def _named(value: FloatArray, draws: FloatArray) -> dict[str, Estimate]:
    low, high = bounds(draws, confidence=CONFIDENCE)
    return {
        name: Estimate(value=float(value[m]), low=float(low[m]), high=float(high[m])) for m, name in enumerate(METRICS)
    }


def _facts(cells: Sequence[Cell], out: Path) -> dict[str, Any]:
    """Return what run records say of a row's cells."""
    paths = [out / cell.folder / RUN_FILE for cell in cells]
    records = [read_record(path, CellRecord) for path in paths if path.exists()]
    if not records:
        return {
            "method": None, "parameters": 0 if cells[0].kind == "base" else None, "seconds": None, "seeds": (),
            "accepted": None,
        }  # fmt: skip
    gates = [record["gate"]["accepted"] for record in records if "gate" in record]
    return {
        "method": cells[0].config.method,
        "parameters": records[0]["parameters"],
        "seconds": round(sum(record["training"]["seconds"] for record in records) / len(records), 1),
        "seeds": tuple(cell.config.seed for cell in cells),
        "accepted": sum(gates) if gates else None,
    }
