"""A report as one self-contained HTML file: figures, differences, subgroups and pictures."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape

from edge_tsfm.evaluation.metrics import METRICS
from edge_tsfm.evaluation.report import BASE, CALIBRATED, FEW_PATIENTS, LABELS, Group, Report
from edge_tsfm.report.html import head, image, row, verdict_box
from edge_tsfm.report.text import UNRATED, coverages, remarks, say, say_difference, verdict_of
from edge_tsfm.report.verdict import RunVerdict


def report_page(
    report: Report,
    *,
    title: str,
    verdict: RunVerdict | None = None,
    notes: Sequence[str] = (),
    pictures: Sequence[tuple[str, bytes]] = (),
) -> str:
    """Lay out a report with the ``verdict`` on its run; ``pictures`` are captions with PNG bytes."""
    return "\n".join(_parts(report, title, verdict_of(report, verdict), notes, pictures)) + "\n"


def _parts(
    report: Report,
    title: str,
    verdict: RunVerdict,
    notes: Sequence[str],
    pictures: Sequence[tuple[str, bytes]],
) -> Iterator[str]:
    one = report.overall
    yield head(title)
    yield f"<h1>{escape(title)}</h1>"
    yield verdict_box(verdict)
    for line in (*remarks(report), *(f"Note: {note}." for note in notes)):
        yield f"<p>{escape(line)}</p>"
    yield (
        f"<p>{one.windows:,} windows of {one.patients:,} {one.unit}s, {report.context_length} → "
        f"{report.prediction_length} steps. {one.scored:,} values scored; {one.missing:,} missing ones never are. "
        f"Brackets: {report.confidence:.0%} bootstrap intervals over {one.unit}s, {report.resamples:,} draws, "
        f"seed {report.seed}; differences are paired.</p>"
    )
    yield "<h2>Figures</h2>"
    yield from _figures(one)
    if CALIBRATED in one.models:
        yield f"<p>The 80 % band covers: {escape(coverages(one))}.</p>"
    for key, count in one.unrated.items():
        if count:
            yield f"<p>Left out: {count:,} {UNRATED[key]}.</p>"
    if one.adapter_minus:
        yield "<h2>Adapter minus the others, relative</h2>"
        yield from _differences(one)
    for column, groups in report.subgroups.items():
        yield f"<h2>By {escape(column)}</h2>"
        yield from _subgroups(groups)
    for caption, picture in pictures:
        yield f"<h2>{escape(caption)}</h2>{image(caption, picture)}"


def _figures(group: Group) -> Iterator[str]:
    yield "<table>" + row(["", *(one.label for one in METRICS.values())], "th")
    for name, figures in group.models.items():
        cells = []
        for key, metric in METRICS.items():
            value, low, high = (say(number, metric) for number in vars(figures[key]).values())
            cells.append(f"{value}<small>{low} to {high}</small>")
        yield row([escape(LABELS.get(name, name)), *cells])
    yield "</table>"


def _differences(group: Group) -> Iterator[str]:
    yield "<table>" + row(["", *(one.label for one in METRICS.values())], "th")
    for name, differences in group.adapter_minus.items():
        cells = [say_difference(key, differences[key]).replace(" (", "<small>(") for key in METRICS]
        yield row(
            [escape(LABELS.get(name, name)), *(f"{cell}</small>" if "<small>" in cell else cell for cell in cells)]
        )
    yield "</table>"


def _subgroups(groups: Mapping[str, Group]) -> Iterator[str]:
    unit = next(iter(groups.values())).unit
    yield "<table>" + row(["", f"{unit}s", "windows", "WQL adapter", "WQL base", "difference"], "th")
    for label, group in groups.items():
        few = " (few)" if group.patients < FEW_PATIENTS else ""
        values = [
            say(group.models[k]["wql"].value, METRICS["wql"]) if k in group.models else "–" for k in ("adapter", BASE)
        ]
        difference = say_difference("wql", group.adapter_minus[BASE]["wql"]) if BASE in group.adapter_minus else "–"
        yield row([escape(label), f"{group.patients:,}{few}", f"{group.windows:,}", *values, difference])
    yield "</table>"
