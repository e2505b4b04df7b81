"""A study's figures as Markdown, CSV and one self-contained HTML file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence

from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.evaluation.report import LABELS, Estimate
from edge_tsfm.report.document import Bullets, Page, Part, Picture, Pictures, Section, Table, Text, number
from edge_tsfm.report.document import Row as TableRow
from edge_tsfm.report.render import render
from edge_tsfm.report.text import say, say_estimate
from edge_tsfm.report.verdict import say_seeds
from edge_tsfm.research.study.latency import Latency
from edge_tsfm.research.study.table import CONFIDENCE, Group, Row

PAPER = ("mse", "dtw", "mape", "wql")
HEADINGS = (
    "parameters",
    "blob, bytes",
    *(METRICS[key].label for key in PAPER),
    "MSE against base",
    "WQL against base",
    "of full's gain in MSE",
    "in WQL",
    "coverage 80 %",
    "gate accepted, seeds",
    "training, s",
)
# What decides stands first on a page, where a narrow screen cuts what comes last.
DECIDING = ("gate accepted, seeds", "WQL against base", METRICS["wql"].label, "MSE against base")
SPEED = "speed, × torch"  # the third column, where it was measured
ON_DEVICE = ("base", "adapter")  # kinds of rows that the device runtime forecasts


def markdown(groups: Sequence[Group]) -> str:
    """Return one table for each target and base."""
    return "\n".join(line for group in groups for line in _markdown(group)) + "\n"


def _markdown(group: Group) -> Iterator[str]:
    headings = _headings(group)
    yield f"| {group.target}, {group.base} | " + " | ".join(headings) + " |"
    yield "|---|" + "--:|" * len(headings)
    for row in group.rows:
        yield f"| {LABELS.get(row.label, row.label)} | " + " | ".join(_cells(row, group.latency)) + " |"
    yield ""
    yield f"{about(group)} {verdict(group)}"
    yield ""


def about(group: Group) -> str:
    """Describe what was scored, and how fast the device was."""
    speed = "" if group.latency is None else f" {group.latency.say()}"
    return (
        f"{group.windows:,} windows of {group.patients:,} test {group.unit}s, {group.values:,} values. Figures are "
        f"means over seeds; brackets are {CONFIDENCE:.0%} bootstrap intervals over {group.unit}s, differences and "
        f"shares paired.{speed}"
    )


def verdict(group: Group) -> str:
    """Format the verdict on a group's methods, and the fewest parameters of an accepted one that keep full's gain."""
    text = group.verdict
    passed = [row for row in group.rows if row.tallied is not None and row.tallied.passed]
    whole = [row for row in passed if row.method != "full" and row.kept.get("mse") and row.kept["mse"].value >= 1]
    if whole:
        least = min(whole, key=lambda row: row.parameters or 0)
        text += f" Fewest parameters with all of full fine-tuning's gain in MSE: {least.parameters:,} ({least.label})."
    return text


def _headings(group: Group) -> list[str]:
    numbers, size, *rest = HEADINGS
    return [numbers, size, *([] if group.latency is None else [SPEED]), *rest]


def _speed(row: Row, latency: Latency | None) -> list[str]:
    if latency is None:
        return []
    return [f"{latency.ratio:.1f}" if row.kind in ON_DEVICE else "–"]


def _cells(row: Row, latency: Latency | None) -> list[str]:
    return [
        _count(row.parameters),
        _count(row.bytes),
        *_speed(row, latency),
        *(say_estimate(row.figures[key], key) for key in PAPER),
        _percent(row.change.get("mse"), signed=True),
        _percent(row.change.get("wql"), signed=True),
        _percent(row.kept.get("mse")),
        _percent(row.kept.get("wql")),
        say(row.figures["coverage"].value, METRICS["coverage"]),
        say_seeds(row.accepted, len(row.seeds)),
        "–" if row.seconds is None else f"{row.seconds:.0f}",
    ]


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _percent(one: Estimate | None, *, signed: bool = False) -> str:
    if one is None or math.isnan(one.value):
        return "–"
    form = "+.2f" if signed else ".0f"
    value, low, high = (f"{100 * number:{form}}".replace("-", "−") for number in vars(one).values())
    return f"{value} % ({low} to {high})"


def table_csv(groups: Sequence[Group]) -> str:
    """Write one line for each target, base, forecaster and figure, numbers in full; an undefined number is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    facts = (
        "target", "base", "forecaster", "kind", "parameters", "bytes", "training_seconds", "seeds", "accepted",
        "runtime_ms", "torch_ms",
    )  # fmt: skip
    writer.writerow([*facts, "figure", "metric", "value", "low", "high", "by_seed"])
    for group in groups:
        for row in group.rows:
            timed = group.latency if row.kind in ON_DEVICE else None
            speed = [None, None] if timed is None else [timed.runtime_ms, timed.torch_ms]
            known = [row.parameters, row.bytes, row.seconds, " ".join(map(str, row.seeds)), row.accepted, *speed]
            where = [group.target, group.base, row.label, row.kind, *("" if x is None else x for x in known)]
            for figure in ("figures", "change", "kept"):
                for metric, one in getattr(row, figure).items():
                    by_seed = " ".join(map(repr, row.by_seed[metric])) if figure == "figures" else ""
                    numbers = ["" if math.isnan(x) else repr(x) for x in vars(one).values()]
                    writer.writerow([*where, figure, metric, *numbers, by_seed])
    return text.getvalue()


def page(groups: Sequence[Group], notes: Sequence[str], *, title: str, picture: bytes) -> str:
    """Lay out the tables, the notes and the Pareto plot (PNG bytes)."""
    sections = [
        Section(title=f"{group.target}, {group.base}", parts=(Text(text=verdict(group), strong=True), *_group(group)))
        for group in groups
    ]
    pareto = Picture(
        caption="Parameters shipped against the MSE gained over the frozen base; hollow: not accepted by the gate",
        alt=f"Each method by its parameters and its gain in MSE, {len(groups)} targets; the tables have the numbers.",
        data=picture,
        media="image/png",
    )
    sections.append(Section(title="Parameters and gain", parts=(Pictures(pictures=(pareto,)),)))
    if notes:
        sections.append(Section(title="Notes", parts=(Bullets(lines=tuple(notes)),)))
    return render(Page(title=title, sections=tuple(sections)))


def _group(group: Group) -> Iterator[Part]:
    headings = _headings(group)
    order = sorted(range(len(headings)), key=lambda at: (*DECIDING, headings[at]).index(headings[at]))
    yield Table(
        caption="Every method on the same windows, beside the frozen base and simple baselines",
        columns=("method", *(headings[at] for at in order)),
        rows=tuple(
            TableRow(
                name=LABELS.get(row.label, row.label),
                cells=tuple(number(_cells(row, group.latency)[at]) for at in order),
                kind=row.kind,
            )
            for row in group.rows
        ),
    )
    yield Text(text=about(group))
