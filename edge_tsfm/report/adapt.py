"""What a monitor would have learnt, as text and as one page of HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from matplotlib.axes import Axes

from edge_tsfm.evaluation.adaptation import AdaptEval, Cost, Line, Simulated, Stationary
from edge_tsfm.evaluation.report import Estimate
from edge_tsfm.report.charts import Across, Curve, chart
from edge_tsfm.report.document import Bullets, Page, Picture, Pictures, Row, Section, Table, Text, facts, number
from edge_tsfm.report.render import render

COLOURS = {"candidate": "#0072b2", "running": "#009e73"}
SAID = {
    "frozen": "frozen",
    "running": "running (promoted or frozen)",
    "candidate": "candidate, unseen",
    "tracked": "tracked",
    "offline": "offline, same stays",
    "persistence": "persistence",
    "aci": "width by ACI",
    "linear": "online linear mix",
    "base": "base alone",
    "beside": "the other adapter",
}
COLUMNS = ("", "WQL", "WQL % of frozen", "MSE % of frozen", "covers", "per-patient error", "> 2 % worse", "> 10 %")
WIDTHS = ("30", ">9", ">24", ">26", ">8", ">19", ">12", ">8")


def text(found: AdaptEval) -> str:
    """Return everything as text for a terminal."""
    return "\n".join(_text(found))


def page(found: AdaptEval, title: str) -> str:
    """Return everything as one self-contained HTML file."""
    lead = (Text(text=f"{summary(found)}."), Bullets(lines=tuple(remarks(found))))
    return render(Page(title=title, lead=lead, sections=tuple(_sections(found))))


def _text(found: AdaptEval) -> Iterator[str]:
    yield summary(found)
    for name, some in _tables(found):
        yield ""
        yield f"{name} ({some[0].patients:,} {found.unit}s, {some[0].windows:,} windows)"
        for cells in (COLUMNS, *(_cells(line) for line in some)):
            yield "".join(f"{cell:{aligned}}" for cell, aligned in zip(cells, WIDTHS, strict=True)).rstrip()
    yield ""
    yield from remarks(found)


def _sections(found: AdaptEval) -> Iterator[Section]:
    if found.ages:
        yield Section(title="WQL by the stays that the monitor had seen", parts=(Pictures(pictures=(_curve(found),)),))
    for name, some in _tables(found):
        caption = f"{name}: {some[0].patients:,} {found.unit}s, {some[0].windows:,} windows"
        rows = tuple(Row(name=named, cells=tuple(map(number, cells))) for named, *cells in map(_cells, some))
        yield Section(title=name, parts=(Table(caption=caption, columns=COLUMNS, rows=rows),))
    yield Section(title="Rules", parts=(facts("The device's own rules", *found.rules.items()),))


def summary(found: AdaptEval) -> str:
    """Describe what was done."""
    lengths, wards = found.lengths, len(found.wards)
    return (
        f"{found.signal}, mode {found.mode}: {wards} {'ward' if wards == 1 else 'wards'} in {found.seeds} "
        f"{'order' if found.seeds == 1 else 'orders'}, {sum(one.stays for one in found.wards):,} stays, "
        f"{lengths['context_length']} → {lengths['prediction_length']} steps; brackets: 95 % bootstrap over "
        f"{found.unit}s, paired with frozen"
    )


def remarks(found: AdaptEval) -> Iterator[str]:
    """Describe what the monitors would have done, and what it costs."""
    for one in found.wards:
        what = ", ".join(f"{change['what']} after {change['stay']} stays" for change in one.changes)
        yield f"order {one.seed}, ward {one.ward + 1} of {one.stays} stays, {one.steps} steps: {what or 'no change'}"
    for line in found.overall:
        if line.name in COLOURS and line.worse_by_spread:
            yield (
                f"{SAID[line.name]}: {line.worse['2']:.1%} of {found.unit}s > 2 % worse; as far from frozen without "
                f"any gain it would be {line.worse_by_spread['2']:.1%}"
            )
    if found.stationary is not None:
        yield _stationary(found.stationary)
    if found.resampled is not None:
        yield _resampled(found.resampled, least=int(found.rules["promote_stays"]))
    for fault in found.faults:
        yield (
            f"fault {fault.name}: {fault.promoted} of {fault.wards} wards promoted behind its beginning, "
            f"{fault.taken_back} took back; in the second half of the history what ran against frozen "
            f"{say(fault.behind[1].wql_percent)} %, in its last half {say(fault.late[1].wql_percent)} %, unseen "
            f"{say(fault.late[2].wql_percent)} %"
        )
    yield f"processor time: {found.step_ms:.2f} ms a step, {found.stay_ms:.1f} ms a stay"
    if found.cost is not None:
        yield _cost(found.cost)


def _stationary(one: Stationary) -> str:
    return (
        f"{one.promoted:,} of {one.wards:,} simulated wards of {one.stays:,} stays in which nothing is to be gained "
        f"promoted ({_share(one)}; the rule promises at most {one.limit:.1%}); spread of a stay's difference "
        f"{one.spread:.2%}, as measured"
    )


def _resampled(one: Simulated, *, least: int) -> str:
    if one.stays < least:
        return f"wards of {one.stays:,} stays cannot promote: the rule wants {least:,} stays or more"
    when = "" if one.median is None else f", half of these within {one.median:.0f} stays"
    return (
        f"{one.promoted:,} of {one.wards:,} simulated wards of {one.stays:,} stays drawn from the measured ones "
        f"promoted ({_share(one)}){when}"
    )


def _share(one: Stationary | Simulated) -> str:
    return f"{one.share:.1%}, {one.between[0]:.1%} to {one.between[1]:.1%}"


def _cost(one: Cost) -> str:
    peak = "" if one.peak_mib is None else f"; peak memory of a process that only learns {one.peak_mib:.0f} MiB"
    return (
        f"a day of a bed that is never empty: {one.stays:.1f} stays, {one.cpu_ms:,.0f} ms of processor time, "
        f"{one.written / 1024:,.0f} KiB to write in files of {one.file / 1024:.0f} KiB, at most kib_per_day of it; "
        f"{one.held / 1024:,.0f} KiB of windows and numbers in memory{peak}"
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


def _curve(found: AdaptEval) -> Picture:
    """Draw WQL against frozen by age, with its intervals."""
    last, name = list(found.ages)[-1], "candidate"
    said = next(say(line.wql_percent) for line in found.ages[last] if line.name == name)
    ages = [str(age) for age in found.ages]
    return chart(
        "Below zero the learnt adapter is better than the frozen forecaster",
        f"WQL against frozen in percent at {len(found.ages)} ages; at {last} stays the {SAID[name]}: {said}.",
        partial(_draw, found=found),
        Across(label="stays seen", at=tuple(map(float, range(len(ages)))), named=tuple(f"{age} stays" for age in ages)),
        [
            Curve(name=one, label=SAID[one], colour=colour, values=tuple(say(each) for each in _by_age(found, one)))
            for one, colour in COLOURS.items()
        ],
        size=(7.2, 3.6),
    )


def _by_age(found: AdaptEval, name: str) -> list[Estimate]:
    """Return one forecaster's WQL against frozen at each age."""
    return [next(line for line in some if line.name == name).wql_percent for some in found.ages.values()]


def _draw(axis: Axes, found: AdaptEval) -> None:
    labels = list(found.ages)
    for shift, (name, colour) in enumerate(COLOURS.items()):
        estimates = _by_age(found, name)
        at = [place + 0.12 * shift for place in range(len(labels))]
        value, low, high = ([getattr(one, end) for one in estimates] for end in ("value", "low", "high"))
        axis.plot(at, value, color=colour, marker="o", markersize=4, label=SAID[name], gid=name)
        axis.vlines(at, low, high, color=colour, alpha=0.5, gid=name)
    axis.axhline(0, color="#222222", linewidth=0.8)
    axis.set_xticks(range(len(labels)), labels, fontsize=8)
    axis.set_xlabel("stays seen", fontsize=8)
    axis.set_ylabel("WQL against frozen [%]", fontsize=8)
    axis.tick_params(axis="y", labelsize=8)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8)
