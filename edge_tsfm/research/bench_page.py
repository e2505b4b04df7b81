"""A table of forecast times as text and as one page of HTML with a picture."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from matplotlib.axes import Axes

from edge_tsfm.report.document import Page, Part, Picture, Pictures, Row, Section, Table, Text, facts, number
from edge_tsfm.report.figures import svg
from edge_tsfm.report.render import render
from edge_tsfm.research.bench import Spread
from edge_tsfm.research.bench_table import BenchTable, Forecasts, Line
from edge_tsfm.research.idle import BUSY

TORCH, RUNTIME, FLOOR = "#777777", "#0072b2", "#222222"
FORECASTS = ("", "torch pipeline", "device runtime", "times faster", "products alone")
SIZES = ("", "bundle", "activation", "start", "times faster", "peak memory", "of torch's")
WIDTHS = ("60", ">26", ">26", ">14", ">16", ">14", ">12")
ROW_HEIGHT = 0.42  # inches of the picture


def text(table: BenchTable) -> str:
    """Return everything as text for a terminal."""
    return "\n".join(_text(table))


def page(table: BenchTable) -> str:
    """Return everything as one self-contained HTML file."""
    setting = table.setting
    names = ", ".join(f"{name} {version}" for name, version in setting.libraries.items())
    lead: tuple[Part, ...] = (
        Text(text=told(table)),
        *(Text(text=one, strong=True) for one in doubts(table)),
        facts(
            "Setting", ("Processor", setting.processor), ("Threads of each", str(setting.threads)), ("Libraries", names)
        ),
        Pictures(pictures=(picture(table),)),
    )
    sections = (
        Section(title="Forecasts", parts=(_table("Milliseconds of a forecast", FORECASTS, _forecast_rows(table)),)),
        Section(title="Start and size", parts=(_table("Without an adapter", SIZES, _size_rows(table)),)),
    )
    return render(Page(title="Forecast times of the device runtime", lead=lead, sections=sections))


def told(table: BenchTable) -> str:
    """Say how the times were taken."""
    return (
        f"At least {table.setting.runs} forecasts of each, torch and runtime in alternating blocks of one process; "
        "median, and in brackets the quartiles. Only ratios carry over to other machines."
    )


def doubts(table: BenchTable) -> Iterator[str]:
    """Name the lines during which the machine had other work."""
    for line in table.lines:
        if line.others is not None and line.others > BUSY:
            yield (
                f"{line.base} {line.precision}: other processes took {100 * line.others:.0f} % of the processors' time "
                "meanwhile; time it again on an idle machine."
            )


def picture(table: BenchTable) -> Picture:
    """Draw the time of every forecast, torch beside runtime, on a logarithmic axis."""
    rows = list(_pairs(table))
    best = max(rows, key=lambda pair: pair[1].ratio)
    return Picture(
        caption="Time of a forecast: dots are medians, bars quartiles, short lines the matrix products alone",
        alt=f"{len(rows)} kinds of forecast; the device runtime is {min(one.ratio for _, one in rows):.1f} to "
        f"{best[1].ratio:.1f} times as fast as the torch pipeline, most at {_named(*best)}.",
        data=svg(partial(_draw, rows=rows), size=(7.2, 1.0 + ROW_HEIGHT * len(rows))),
    )


def _draw(axis: Axes, rows: list[tuple[Line, Forecasts]]) -> None:
    for row, (_, one) in enumerate(rows):
        for shift, spread, colour in ((-0.14, one.torch, TORCH), (0.14, one.runtime, RUNTIME)):
            axis.plot([spread.low, spread.high], [row + shift] * 2, color=colour, linewidth=3, alpha=0.5)
            axis.plot([spread.median], [row + shift], color=colour, marker="o", markersize=5)
        if one.floor_ms is not None:
            axis.vlines(one.floor_ms, row - 0.3, row + 0.3, color=FLOOR, linewidth=1.2)
        axis.annotate(
            f"{one.ratio:.1f}×", (one.torch.high, row - 0.14), xytext=(7, -3), textcoords="offset points", fontsize=7
        )
    axis.plot([], [], color=TORCH, marker="o", label="torch pipeline")
    axis.plot([], [], color=RUNTIME, marker="o", label="device runtime")
    axis.set_xscale("log")
    axis.set_yticks(range(len(rows)), [_named(*pair) for pair in rows], fontsize=7, parse_math=False)
    axis.invert_yaxis()
    axis.set_xlabel("milliseconds of a forecast", fontsize=8)
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", which="both", alpha=0.25)
    axis.legend(fontsize=8, loc="best")


def _text(table: BenchTable) -> Iterator[str]:
    setting = table.setting
    yield f"{setting.processor}, {setting.threads} {'thread' if setting.threads == 1 else 'threads'}. {told(table)}"
    yield from doubts(table)
    for columns, rows in ((FORECASTS, _forecast_rows(table)), (SIZES, _size_rows(table))):
        yield ""
        for cells in (columns, *rows):
            yield "".join(f"{cell:{aligned}}" for cell, aligned in zip(cells, WIDTHS, strict=False)).rstrip()


def _table(caption: str, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Table:
    return Table(
        caption=caption,
        columns=columns,
        rows=tuple(Row(name=name, cells=tuple(map(number, cells))) for name, *cells in rows),
    )


def _forecast_rows(table: BenchTable) -> Iterator[tuple[str, ...]]:
    for line, one in _pairs(table):
        floor = "–" if one.floor_ms is None else f"{one.floor_ms:.2f} ms"
        yield _named(line, one), _ms(one.torch), _ms(one.runtime), f"{one.ratio:.1f}×", floor


def _size_rows(table: BenchTable) -> Iterator[tuple[str, ...]]:
    for line in table.lines:
        yield (
            f"{line.base} {line.precision}",
            f"{line.bundle_mb:.1f} MB",
            _ms(line.activation),
            f"{line.start_s:.2f} s",
            f"{line.torch_start_s / line.start_s:.1f}×",
            f"{line.memory_mb:.0f} MB",
            f"1/{line.torch_memory_mb / line.memory_mb:.1f}",
        )


def _pairs(table: BenchTable) -> Iterator[tuple[Line, Forecasts]]:
    for line in table.lines:
        for one in line.forecasts:
            yield line, one


def _named(line: Line, one: Forecasts) -> str:
    waiting = "spinning" if one.spinning else "asleep"
    return f"{line.base} {line.precision} {one.case}, batch {one.batch}, {waiting}"


def _ms(spread: Spread) -> str:
    return f"{spread.median:.3g} ms ({spread.low:.3g}..{spread.high:.3g})"
