"""What a page is made of: sections of text, lists, tables, facts and pictures, which `render` lays out."""

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
    """A row under its name; ``kind`` is a class of the style sheet."""

    name: str
    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows under ``columns``, the first of which is the rows' names. Wide ones scroll inside their own frame."""

    part: ClassVar = "table"
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    folded: bool = False  # shown on demand

    def __post_init__(self) -> None:
        """Raise `ValueError` for a row of another width than the head's."""
        for row in self.rows:
            if len(row.cells) != len(self.columns) - 1:
                raise ValueError(f"row {row.name!r} has {len(row.cells)} cells; want {len(self.columns) - 1}")

    @property
    def heads(self) -> tuple[tuple[str, bool], ...]:
        """Each column's name, and whether numbers stand under it."""
        kinds = [{row.cells[at].kind for row in self.rows} for at in range(len(self.columns) - 1)]
        return ((self.columns[0], False), *zip(self.columns[1:], ("number" in kind for kind in kinds), strict=True))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names with a value each."""

    part: ClassVar = "facts"
    caption: str
    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A paragraph; a ``strong`` one is what a reader must not miss."""

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
    """A run's verdict inside of a section."""

    part: ClassVar = "verdict"
    of: RunVerdict


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture with what it shows in a line, and in words for who cannot see it."""

    caption: str
    alt: str
    data: bytes
    media: str = "image/svg+xml"

    @property
    def source(self) -> str:
        """Return the picture as a data URI."""
        return f"data:{self.media};base64,{b64encode(self.data).decode()}"


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures side by side where there is room, one below the other where there is none."""

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
    """One page: a title, what was decided, then the sections; ``lead`` stands above the first of them."""

    title: str
    sections: tuple[Section, ...]
    verdict: RunVerdict | None = None
    decision: str = ""  # of a change record: approved, refuse, halt ...
    lead: tuple[Part, ...] = ()


def cell(value: Any) -> Cell:
    """Write a value: numbers to four digits, hashes in a fixed width, a failure so that it is seen, None as a dash."""
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
    """Write a figure that is text already; an interval in brackets behind it becomes the note."""
    value, bracket, rest = text.partition(" (")
    return Cell(text=value, note=f"({rest}" if bracket else "", kind="number")


def plain_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Lay out values of any kind; the first of each row is its name."""
    return Table(
        caption=caption,
        columns=tuple(columns),
        rows=tuple(Row(name=str(first), cells=tuple(cell(one) for one in rest)) for first, *rest in rows),
    )


def facts(caption: str, *rows: tuple[str, Any]) -> Facts:
    """Lay out names with values of any kind."""
    return Facts(caption=caption, rows=tuple((name, cell(value)) for name, value in rows))
