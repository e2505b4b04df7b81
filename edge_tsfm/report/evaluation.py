"""An evaluation as one HTML file: the verdict, figures, differences, calibration, patients, subgroups, forecasts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.evaluation.report import BASE, CALIBRATED, FEW_PATIENTS, LABELS, Group, PatientScores, Report
from edge_tsfm.report.document import Bullets, Cell, Page, Part, Pictures, Row, Section, Table, Text, number
from edge_tsfm.report.pictures import (
    Shown,
    calibration_picture,
    figure_pictures,
    forecast_pictures,
    patients_picture,
    steps_picture,
)
from edge_tsfm.report.plots import unit_of
from edge_tsfm.report.render import render
from edge_tsfm.report.scale import Scale
from edge_tsfm.report.text import (
    METRIC_ORDER,
    UNRATED,
    coverages,
    remarks,
    say,
    say_difference,
    say_estimate,
    say_worse,
    verdict_of,
)
from edge_tsfm.report.verdict import RunVerdict


def report_page(
    report: Report,
    *,
    title: str,
    scale: Scale,
    verdict: RunVerdict | None = None,
    notes: Sequence[str] = (),
    shown: Shown | None = None,
) -> str:
    """Lay out a report with the ``verdict`` on its run; ``shown`` holds the forecasts, to draw some of them."""
    sections = [
        Section(title="Figures", parts=tuple(_figures(report, scale))),
        *_differences(report.overall),
        Section(title="Calibration and error by time ahead", parts=(_curves(report, scale),)),
        *_patients(report),
        *(_subgroups(column, groups) for column, groups in report.subgroups.items()),
    ]
    if shown is not None:
        pictures = Pictures(pictures=forecast_pictures(shown))
        sections.append(Section(title="Forecasts", parts=(Text(text=f"Which are shown: {shown.rule}."), pictures)))
    sections.append(Section(title="Figures as pictures", parts=(Pictures(pictures=figure_pictures(report, scale)),)))
    return render(
        Page(
            title=title,
            verdict=verdict_of(report, verdict),
            lead=tuple(_lead(report, notes)),
            sections=tuple(sections),
        )
    )


def _lead(report: Report, notes: Sequence[str]) -> Iterator[Part]:
    """Yield the remarks, and what was scored."""
    one = report.overall
    said = (*remarks(report), *(f"Note: {note}." for note in notes))
    if said:
        yield Bullets(lines=said)
    yield Text(
        text=f"{one.windows:,} windows of {one.patients:,} {one.unit}s, {report.context_length} → "
        f"{report.prediction_length} steps. {one.scored:,} values scored; {one.missing:,} missing ones never are. "
        f"Brackets: {report.confidence:.0%} bootstrap intervals over {one.unit}s, {report.resamples:,} draws, "
        f"seed {report.seed}; differences are paired."
    )


def _heads(scale: Scale) -> tuple[str, ...]:
    """Return each figure's name, with its unit if the cells do not have it."""
    names = []
    for key in METRIC_ORDER:
        unit = unit_of(key, scale)
        names.append(METRICS[key].label if unit in ("", "%") else f"{METRICS[key].label} [{unit}]")
    return ("", *names)


def _figures(report: Report, scale: Scale) -> Iterator[Part]:
    group = report.overall
    yield Table(
        caption="Every forecaster on the same windows; lower is better but for coverage, which should be 80 %",
        columns=_heads(scale),
        rows=tuple(
            Row(
                name=LABELS.get(name, name),
                cells=tuple(number(say_estimate(figures[key], key)) for key in METRIC_ORDER),
                kind=name if name == BASE else "",
            )
            for name, figures in group.models.items()
        ),
    )
    if CALIBRATED in group.models:
        yield Text(text=f"The 80 % band covers: {coverages(group)}.")
    for key, count in group.unrated.items():
        if count:
            yield Text(text=f"Left out: {count:,} {UNRATED[key]}.")


def _differences(group: Group) -> Iterator[Section]:
    """Compare the adapter with every other forecaster."""
    if not group.adapter_minus:
        return
    table = Table(
        caption="The adapter's figure against each other's; below zero it is lower",
        columns=("against", *(METRICS[key].label for key in METRIC_ORDER)),
        rows=tuple(
            Row(
                name=LABELS.get(name, name),
                cells=tuple(number(say_difference(key, differences[key])) for key in METRIC_ORDER),
            )
            for name, differences in group.adapter_minus.items()
        ),
    )
    yield Section(title="The adapter against the others", parts=(table,))


def _curves(report: Report, scale: Scale) -> Pictures:
    return Pictures(pictures=(calibration_picture(report), steps_picture(report, scale)))


def _patients(report: Report) -> Iterator[Section]:
    """Yield the section on the patients whom the adapter helps and harms."""
    scores, unit = report.by_patient, report.overall.unit
    picture = patients_picture(report)
    if scores is None or picture is None:
        return
    parts = (Text(text=say_worse(scores, unit)), Pictures(pictures=(picture,)), _worst(scores, unit))
    yield Section(title=f"By {unit}", parts=parts)


def _worst(scores: PatientScores, unit: str) -> Table:
    return Table(
        caption=f"The {len(scores.worst)} {unit}s with the largest loss; few windows say little",
        columns=(unit, "WQL against base", "WQL adapter", "WQL base", "windows"),
        rows=tuple(
            Row(
                name=one.item_id,
                cells=(
                    number(f"{100 * one.relative:+.1f} %"),
                    number(say(one.adapter, METRICS["wql"])),
                    number(say(one.base, METRICS["wql"])),
                    number(f"{one.windows:,}"),
                ),
            )
            for one in scores.worst
        ),
    )


def _subgroups(column: str, groups: Mapping[str, Group]) -> Section:
    unit = next(iter(groups.values())).unit
    table = Table(
        caption=f"WQL by {column}",
        columns=(column, "difference", "WQL adapter", "WQL base", f"{unit}s", "windows"),
        rows=tuple(Row(name=label, cells=tuple(_subgroup(group))) for label, group in groups.items()),
    )
    return Section(title=f"By {column}", parts=(table,))


def _subgroup(group: Group) -> Iterator[Cell]:
    compared = group.adapter_minus.get(BASE)
    yield number("–" if compared is None else say_difference("wql", compared["wql"]))
    for name in ("adapter", BASE):
        yield number(say(group.models[name]["wql"].value, METRICS["wql"]) if name in group.models else "–")
    few = group.patients < FEW_PATIENTS
    yield number(f"{group.patients:,}{' (few)' if few else ''}")
    yield number(f"{group.windows:,}")
