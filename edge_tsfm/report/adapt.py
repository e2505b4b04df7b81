"""What a monitor would have learnt, as text and as one page of HTML."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from html import escape

from matplotlib.figure import Figure

from edge_tsfm.evaluation.adaptation import AdaptEval, Line, Stationary
from edge_tsfm.evaluation.report import Estimate
from edge_tsfm.report.html import head, image, row

COLOURS = {"candidate": "#0072b2", "running": "#009e73"}
SAID = {
    "frozen": "frozen",
    "running": "running (promoted or frozen)",
    "candidate": "candidate, unseen",
    "tracked": "tracked",
    "offline": "offline, same stays",
    "persistence": "persistence",
    "aci": "width by ACI",
    "base": "base alone",
    "beside": "the other adapter",
}
COLUMNS = ("", "WQL", "WQL % of frozen", "MSE % of frozen", "covers", "per-patient error", "> 2 % worse", "> 10 %")
WIDTHS = ("30", ">9", ">24", ">26", ">8", ">19", ">12", ">8")


def text(found: AdaptEval) -> str:
    """Lay everything out for a terminal."""
    return "\n".join(_text(found))


def page(found: AdaptEval, title: str) -> str:
    """Lay everything out as one file of HTML that needs nothing else."""
    return "\n".join(_page(found, title)) + "\n"


def _text(found: AdaptEval) -> Iterator[str]:
    yield summary(found)
    for name, some in _tables(found):
        yield ""
        yield f"{name} ({some[0].patients:,} {found.unit}s, {some[0].windows:,} windows)"
        for cells in (COLUMNS, *(_cells(line) for line in some)):
            yield "".join(f"{cell:{aligned}}" for cell, aligned in zip(cells, WIDTHS, strict=True)).rstrip()
    yield ""
    yield from remarks(found)


def _page(found: AdaptEval, title: str) -> Iterator[str]:
    yield head(title)
    yield f"<h1>{escape(title)}</h1><p>{escape(summary(found))}</p>"
    yield "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in remarks(found)) + "</ul>"
    if found.ages:
        caption = "WQL against frozen, by the stays that the monitor had seen"
        yield f"<h2>{escape(caption)}</h2>{image(caption, curve(found))}"
    for name, some in _tables(found):
        yield f"<h2>{escape(name)}</h2><p>{some[0].patients:,} {found.unit}s, {some[0].windows:,} windows.</p>"
        yield "<table>" + row(COLUMNS, "th")
        for line in some:
            yield row([escape(cell) for cell in _cells(line)])
        yield "</table>"
    yield "<h2>Rules</h2><table>"
    for name, value in found.rules.items():
        yield row([escape(name), escape(str(value))])
    yield "</table>"


def summary(found: AdaptEval) -> str:
    """Describe what was done."""
    lengths = found.lengths
    return (
        f"{found.channel}, mode {found.mode}: {len(found.wards)} wards in {found.seeds} "
        f"{'order' if found.seeds == 1 else 'orders'}, {sum(one.stays for one in found.wards):,} stays, "
        f"{lengths['context_length']} → {lengths['prediction_length']} steps; brackets: 95 % bootstrap over "
        f"{found.unit}s, paired with frozen"
    )


def remarks(found: AdaptEval) -> Iterator[str]:
    """Describe what the monitors would have done, and what it costs."""
    for one in found.wards:
        what = ", ".join(f"{change['what']} after {change['stay']} stays" for change in one.changes)
        yield f"order {one.seed}, ward {one.ward + 1} of {one.stays} stays, {one.steps} steps: {what or 'no change'}"
    if found.stationary is not None:
        yield _stationary(found.stationary)
    for fault in found.faults:
        yield (
            f"fault {fault.name}: {fault.promoted} of {fault.wards} wards promoted behind it, "
            f"{fault.taken_back} took back; what ran against frozen {say(fault.behind[1].wql_percent)} %, "
            f"in the last half {say(fault.late[1].wql_percent)} %"
        )
    yield f"processor time: {found.step_ms:.2f} ms a step, {found.stay_ms:.1f} ms a stay"


def _stationary(one: Stationary) -> str:
    return (
        f"{one.promoted} of {one.wards} simulated wards of {one.stays:,} stays in which nothing is to be gained "
        f"promoted ({one.share:.1%}; the rule promises at most {one.limit:.1%}); spread of a stay's difference "
        f"{one.spread:.2%}, as measured"
    )


def _tables(found: AdaptEval) -> Iterator[tuple[str, Sequence[Line]]]:
    yield "Each stay before it was learnt from", found.overall
    for age, some in found.ages.items():
        yield f"Age {age} stays", some
    for label, some in found.held_out.items():
        yield f"Other wards, after {label}", some


def _cells(line: Line) -> list[str]:
    return [
        SAID.get(line.name, line.name),
        f"{line.wql:.5f}",
        say(line.wql_percent),
        say(line.mse_percent),
        f"{line.coverage:.1%}",
        f"{line.cover_error:.3f}",
        *(f"{share:.1%}" for share in line.worse.values()),
    ]


def say(one: Estimate) -> str:
    """Format an estimate in percent: ``-2.31 (-3.20..-1.12)``."""
    return f"{one.value:+.2f} ({one.low:+.2f}..{one.high:+.2f})"


def curve(found: AdaptEval) -> bytes:
    """Draw WQL against frozen by age, with its intervals; PNG bytes."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axis = figure.subplots()
    labels = list(found.ages)
    for shift, (name, colour) in enumerate(COLOURS.items()):
        estimates = [next(line for line in found.ages[label] if line.name == name).wql_percent for label in labels]
        at = [place + 0.12 * shift for place in range(len(labels))]
        axis.plot(at, [one.value for one in estimates], color=colour, marker="o", markersize=4, label=SAID[name])
        axis.vlines(at, [one.low for one in estimates], [one.high for one in estimates], color=colour, alpha=0.5)
    axis.axhline(0, color="#222222", linewidth=0.8)
    axis.set_xticks(range(len(labels)), labels, fontsize=8)
    axis.set_xlabel("stays seen", fontsize=8)
    axis.set_ylabel("WQL against frozen [%]", fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()
