"""Charts whose series a reader can hide, and whose values are at hand: in a page without scripts (docs/adr/0031)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from edge_tsfm.report.document import Layer, Picture, Reading, Row, Table, number
from edge_tsfm.report.figures import SIZE, Draw, Layered, layered

MOST_READINGS = 36  # side by side; of more, none could be pointed at, and the Tab key would not end: the table has them


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One series: its name among the artists of the drawing, how it is called, and its values as text."""

    name: str  # `gid` of its artists
    label: str
    colour: str
    values: tuple[str, ...]  # one for each place, "–" for none


@dataclass(frozen=True, kw_only=True)
class Across:
    """The places at which all curves have their values."""

    label: str  # heading of the column of places
    at: tuple[float, ...]  # as drawn, ascending
    named: tuple[str, ...]  # as said: "3 hours ahead"


def chart(
    caption: str,
    alt: str,
    draw: Draw,
    across: Across,
    curves: Sequence[Curve],
    *,
    size: tuple[float, float] = SIZE,
) -> Picture:
    """Draw ``curves`` in layers, with the values of all of them at each place, and in a table.

    ``draw`` marks the artists of each curve with its name as `gid`. At most five can be hidden: the style sheet has
    rules for so many.
    """
    drawn = layered(draw, [one.name for one in curves], across.at, size=size)
    said = [
        f"{place}: {', '.join(f'{one.label} {one.values[k]}' for one in curves)}"
        for k, place in enumerate(across.named)
    ]
    left, right = drawn.plot
    readings = tuple(Reading(text=text, share=share) for text, share in zip(said, _shares(drawn), strict=True))
    return Picture(
        caption=caption,
        alt=alt,
        data=drawn.ground,
        layers=tuple(Layer(label=one.label, colour=one.colour, data=drawn.series[one.name]) for one in curves),
        readings=readings if len(readings) <= MOST_READINGS else (),
        margins=(round(100 * left / drawn.width, 2), round(100 * (1 - right / drawn.width), 2)),
        values=Table(
            caption=f"Values: {caption}",
            columns=(across.label, *(one.label for one in curves)),
            rows=tuple(
                Row(name=place, cells=tuple(number(one.values[k]) for one in curves))
                for k, place in enumerate(across.named)
            ),
            folded=True,
        ),
    )


def _shares(drawn: Layered) -> list[float]:
    """Divide the plot among its places, in the middle between each two."""
    left, right = drawn.plot
    edges = [left, *((one + other) / 2 for one, other in pairwise(drawn.places)), right]
    return [round((end - begin) / (right - left), 4) for begin, end in pairwise(edges)]
