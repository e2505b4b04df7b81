"""A report as text for a terminal and as CSV."""

import csv
import io
import math
from collections.abc import Iterator

from edge_tsfm.evaluation.metrics import METRICS, Metric
from edge_tsfm.evaluation.report import (
    ADAPTER,
    BASE,
    CALIBRATED,
    FEW_PATIENTS,
    LABELS,
    OF_THE_BASE,
    Difference,
    Estimate,
    Group,
    PatientScores,
    Report,
)
from edge_tsfm.report.verdict import RunVerdict, Seen, scored_on

METRIC_ORDER = ("wql", "mase", "mae", "mse", "mape", "dtw", "coverage", "width")  # what decisions rest on first


def report_text(report: Report, verdict: RunVerdict | None = None) -> str:
    """Lay out the figures of all forecasters, the adapter's differences with intervals, the subgroups, the verdict.

    ``verdict`` is that of the run whose adapter was scored; left out, no gate has judged it.
    """
    return "\n".join(_lines(report, verdict))


def _lines(report: Report, verdict: RunVerdict | None) -> Iterator[str]:
    overall = report.overall
    yield (
        f"{overall.windows:,} windows of {overall.patients:,} {overall.unit}s, {report.context_length} → "
        f"{report.prediction_length} steps; {overall.scored:,} values scored, {overall.missing:,} missing ones not"
    )
    yield ""
    yield " " * 16 + "".join(f"{one.label:>14}" for one in METRICS.values())
    for name, figures in overall.models.items():
        cells = "".join(f"{say(figures[key].value, one):>14}" for key, one in METRICS.items())
        yield f"{LABELS.get(name, name):16}{cells}"
    unrated = [f"{count:,} {UNRATED[key]}" for key, count in overall.unrated.items() if count]
    if unrated:
        yield f"left out: {'; '.join(unrated)}"
    if CALIBRATED in overall.models:
        yield f"the 80 % band covers, with {report.confidence:.0%} intervals: {coverages(overall)}"
    if not overall.adapter_minus:
        return
    yield ""
    yield (
        f"adapter minus ...: relative difference and {report.confidence:.0%} interval, paired bootstrap over "
        f"{overall.unit}s"
    )
    for name, differences in overall.adapter_minus.items():
        yield f"  {LABELS.get(name, name)}"
        for key in ("mse", "mae", "wql") if name != BASE else METRICS:
            yield f"    {METRICS[key].label:14}{say_difference(key, differences[key])}"
    for column, groups in report.subgroups.items():
        yield ""
        yield f"by {column}: WQL"
        for label, group in groups.items():
            yield f"  {label:22}{_group_line(group)}"
    yield ""
    yield conclusion(report, verdict)


def coverages(group: Group) -> str:
    """Describe what the 80 % band covers without calibration and with it."""
    said = []
    for name in (BASE, ADAPTER, CALIBRATED):
        if name in group.models:
            value, low, high = (f"{100 * x:.1f}" for x in vars(group.models[name]["coverage"]).values())
            said.append(f"{LABELS[name]} {value} % ({low} to {high})")
    return ", ".join(said)


UNRATED = {"mape": "targets of 0 from MAPE", "mase": "windows with a constant context from MASE"}


def conclusion(report: Report, verdict: RunVerdict | None = None) -> str:
    """Format the verdict on the run, then how the adapter compares with the best simple baseline, judged by WQL."""
    return "\n".join([*verdict_of(report, verdict).text.splitlines(), *remarks(report)])


def verdict_of(report: Report, verdict: RunVerdict | None) -> RunVerdict:
    """Return the verdict on the scored run; one without a gate where none is given."""
    if verdict is not None:
        return verdict
    wql = report.overall.adapter_minus.get(BASE, {}).get("wql")
    who = scored_on(report.overall.patients, report.overall.unit, part="")
    return RunVerdict(gate=None, seen=Seen(who=who, wql=wql) if wql else None)


def remarks(report: Report) -> list[str]:
    """Compare the adapter with the best simple baseline, and say when patients are few."""
    text = []
    minus = report.overall.adapter_minus
    models = report.overall.models
    simple = [name for name in minus if name not in OF_THE_BASE]
    if simple:
        best = min(simple, key=lambda name: models[name]["wql"].value)
        text.append(_against(minus[best]["wql"], f"the best simple baseline, {LABELS.get(best, best)}"))
    if report.overall.patients < FEW_PATIENTS:
        text.append(f"Only {report.overall.patients} {report.overall.unit}s: read the intervals with care.")
    return text


def _against(wql: Difference, other: str) -> str:
    detail = say_difference("wql", wql)
    match wql.says:
        case "lower":
            return f"Against {other}, the adapter's WQL is lower: {detail}."
        case "higher":
            return f"Against {other}, the adapter's WQL is HIGHER: {detail}."
        case _:
            return f"Against {other}, the adapter's WQL is not lower beyond chance: {detail}."


def _group_line(group: Group) -> str:
    few = f"  (few {group.unit}s)" if group.patients < FEW_PATIENTS else ""
    wql = {name: figures["wql"].value for name, figures in group.models.items()}
    text = f"{group.patients:6,} {group.unit}s  adapter {wql[ADAPTER]:.4f}"
    if BASE in wql:
        text += f"  base {wql[BASE]:.4f}  {say_difference('wql', group.adapter_minus[BASE]['wql'])}"
    return text + few


def say(value: float, metric: Metric) -> str:
    """Write one figure with four significant digits; shares in percent; ``–`` when undefined."""
    if math.isnan(value):
        return "–"
    return f"{100 * value:.2f} %" if metric.percent else f"{value:.4g}"


def say_worse(scores: PatientScores, unit: str) -> str:
    """Say for how many patients the adapter is worse than its frozen base."""
    shares = ", ".join(f"by more than {100 * limit:g} %: {share:.1%}" for limit, share in scores.worse.items())
    return (
        f"Each {unit} by itself: of {len(scores.relative):,} {unit}s, the adapter's WQL is worse than its base's "
        f"{shares}."
    )


def say_estimate(one: Estimate, key: str) -> str:
    """Write a figure with its interval: ``0.04213 (0.0398 to 0.0447)``."""
    value, low, high = (say(number, METRICS[key]) for number in vars(one).values())
    return f"{value} ({low} to {high})"


def say_difference(key: str, difference: Difference) -> str:
    """Write a difference: in points for the coverage, else relative to the other forecaster."""
    points = METRICS[key].better == "nominal"
    one: Estimate = difference.absolute if points else difference.relative
    if math.isnan(one.value):
        return "–"
    unit = "points" if points else "%"
    if math.isnan(one.low):
        return f"{100 * one.value:+.2f} {unit} (no interval)"
    return f"{100 * one.value:+.2f} {unit} ({100 * one.low:+.2f} to {100 * one.high:+.2f})"


def report_csv(report: Report) -> str:
    """Write one line per group, forecaster and metric, numbers in full; an undefined number is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["subgroup", "label", "patients", "windows", "forecaster", "metric", "value", "low", "high"])
    groups = [("", "", report.overall)]
    groups += [(column, label, one) for column, by in report.subgroups.items() for label, one in by.items()]
    for column, label, group in groups:
        where = [column, label, group.patients, group.windows]
        for name, figures in group.models.items():
            for key, one in figures.items():
                writer.writerow([*where, name, key, *_cells(one)])
        for name, differences in group.adapter_minus.items():
            for key, difference in differences.items():
                writer.writerow([*where, f"adapter minus {name}", key, *_cells(difference.absolute)])
                writer.writerow([*where, f"adapter minus {name}, relative", key, *_cells(difference.relative)])
    return text.getvalue()


def _cells(one: Estimate) -> list[str]:
    return ["" if math.isnan(x) else repr(float(x)) for x in (one.value, one.low, one.high)]
