"""The parts of a page: sections of text, lists, tables, facts and pictures, which `render` turns into HTML."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from edge_tsfm.report.verdict import RunVerdict

SHA256_LENGTH = 64  # characters in hexadecimal


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One value of a table: its text, a note in small type below it, and a class of the style sheet."""

    text: str
    note: str = ""  # an interval, for example
    kind: str = ""  # number, hash or failed


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row with its name; ``kind`` is a class of the style sheet."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table whose first column holds the rows' names. A wide one scrolls inside its own frame."""

    part: ClassVar = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False  # shown on demand

    def __post_init__(self) -> None:
        """Raise `ValueError` for a row whose number of cells does not match ``columns``."""
        for row in self.rows:
            if len(row.cells) != len(self.columns) - 1:
                raise ValueError(f"row {row.name!r} has {len(row.cells)} cells; want {len(self.columns) - 1}")

    @property
    def heads(self) -> tuple[tuple[str, bool], ...]:
        """Each column's name, and whether it holds numbers."""
        kinds = [{row.cells[at].kind for row in self.rows} for at in range(len(self.columns) - 1)]
        return ((self.columns[0], False), *zip(self.columns[1:], ("number" in kind for kind in kinds), strict=True))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A list of names, each with a value."""

    part: ClassVar = "facts"
    caption: str
    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; a ``strong`` one is emphasised."""

    part: ClassVar = "text"
    text: str
    strong: bool = False


@dataclass(frozen=True, kw_only=True)
class Bullets:
    """A list of sentences."""

    part: ClassVar = "bullets"
    lines: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A run's verdict inside a section."""

    part: ClassVar = "verdict"
    of: RunVerdict


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One series of a chart, drawn on the chart's own axes; readers can hide it."""

    label: str
    colour: str  # of the style sheet's kind: #0072b2
    data: bytes  # SVG

    @property
    def source(self) -> str:
        """Return the layer as a data URI."""
        return data_uri("image/svg+xml", self.data)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What all series of a chart say at one place, and how much of the plot's width belongs to it."""

    text: str
    share: float  # of 1


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with a caption, and with alternative text for readers who cannot see it.

    Of a chart, ``data`` are the axes, the ``layers`` lie upon them, and ``readings`` stand side by side between the
    ``margins``, in percent of the picture's width.
    """

    caption: str
    alt: str
    data: bytes
    media: str = "image/svg+xml"
    layers: tuple[Layer, ...] = ()
    readings: tuple[Reading, ...] = ()
    margins: tuple[float, float] = (0.0, 0.0)
    values: Table | None = None  # the numbers behind it

    @property
    def source(self) -> str:
        """Return the picture as a data URI."""
        return data_uri(self.media, self.data)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures side by side, or one below the other on a narrow screen."""

    part: ClassVar = "pictures"
    pictures: tuple[Picture, ...]


Part = Table | Facts | Text | Bullets | Verdict | Pictures


@dataclass(frozen=True, kw_only=True)
class Section:
    """Parts under a heading."""

    title: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page: a title, the decision, the parts of ``lead``, then the sections."""

    title: str
    sections: tuple[Section, ...]
    verdict: RunVerdict | None = None
    decision: str = ""  # the one in a change record: approved, refuse, halt ...
    lead: tuple[Part, ...] = ()


def data_uri(media: str, data: bytes) -> str:
    """Return a file as a URI that holds it."""
    return f"data:{media};base64,{b64encode(data).decode()}"


def cell(value: Any) -> Cell:
    """Format a value: numbers with four digits, hashes in a fixed-width font, a failure highlighted, None as a dash."""
    if isinstance(value, bool):
        return Cell(text="yes" if value else "no")
    if isinstance(value, float):
        return Cell(text=f"{value:.4g}", kind="number")
    if isinstance(value, int):
        return Cell(text=f"{value:,}", kind="number")
    if value is None:
        return Cell(text="–")
    text = str(value)
    if text == "failed":
        return Cell(text=text, kind="failed")
    return Cell(text=text, kind="hash" if len(text) == SHA256_LENGTH and " " not in text else "")


def number(text: str) -> Cell:
    """Return the cell of a figure that is already text; an interval in brackets after it becomes the note."""
    value, bracket, rest = text.partition(" (")
    return Cell(text=value, note=f"({rest}" if bracket else "", kind="number")


def plain_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Return a table of values of any type; the first value of each row is its name."""
    return Table(
        caption=caption,
        columns=tuple(columns),
        rows=tuple(Row(name=str(first), cells=tuple(cell(one) for one in rest)) for first, *rest in rows),
    )


def facts(caption: str, *rows: tuple[str, Any]) -> Facts:
    """Return a list of names with values of any type."""
    return Facts(caption=caption, rows=tuple((name, cell(value)) for name, value in rows))
