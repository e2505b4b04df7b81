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
    Report,
)


def report_text(report: Report) -> str:
    """Lay out the figures of all forecasters, the adapter's differences with intervals, and the subgroups."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
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
    yield conclusion(report)


def coverages(group: Group) -> str:
    """Say what the 80 % band covers without calibration and with it."""
    said = []
    for name in (BASE, ADAPTER, CALIBRATED):
        if name in group.models:
            value, low, high = (f"{100 * x:.1f}" for x in vars(group.models[name]["coverage"]).values())
            said.append(f"{LABELS[name]} {value} % ({low} to {high})")
    return ", ".join(said)


UNRATED = {"mape": "targets of 0 from MAPE", "mase": "windows with a constant context from MASE"}


def conclusion(report: Report) -> str:
    """Say in words whether the adapter beats its base and the best simple baseline, judged by WQL."""
    text = []
    minus = report.overall.adapter_minus
    if BASE in minus:
        text.append(_verdict(minus[BASE]["wql"], "its frozen base"))
    models = report.overall.models
    simple = [name for name in minus if name not in OF_THE_BASE]
    if simple:
        best = min(simple, key=lambda name: models[name]["wql"].value)
        text.append(_verdict(minus[best]["wql"], f"the best simple baseline, {LABELS.get(best, best)}"))
    if report.overall.patients < FEW_PATIENTS:
        text.append(f"Only {report.overall.patients} {report.overall.unit}s: read the intervals with care.")
    return "\n".join(text)


def _verdict(wql: Difference, other: str) -> str:
    detail = say_difference("wql", wql)
    match wql.says:
        case "lower":
            return f"The adapter beats {other}: WQL {detail}."
        case "higher":
            return f"The adapter DOES NOT BEAT {other}; it is worse: WQL {detail}."
        case _:
            return f"The adapter DOES NOT BEAT {other} beyond chance: WQL {detail}."


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
