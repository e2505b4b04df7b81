"""What every page of HTML here shares: its head and style, rows, pictures, the verdict. Each page is one file."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

from edge_tsfm.report.verdict import RunVerdict

STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;margin:1rem 0}"
    "td,th{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #ddd}"
    "td:first-child,th:first-child{text-align:left}small{color:#666;display:block}img{max-width:100%}"
)
VERDICT_STYLE = (
    ".verdict{padding:.5rem .9rem;border-left:.4rem solid #888;background:#f6f6f6}"
    ".verdict.accepted{border-color:#1a6b3c}.verdict.refused{border-color:#a3261d}"
    ".verdict.accepted-by-hand{border-color:#b8860b}"
)


def head(title: str, style: str = "") -> str:
    """Begin a page; ``style`` is what it has beyond the common one."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE}{VERDICT_STYLE}{style}</style>"
    )


def row(cells: Sequence[str], tag: str = "td", *, kind: str = "") -> str:
    """Lay out a table's row of cells that are HTML already; ``kind`` is its class."""
    named = f' class="{kind}"' if kind else ""
    return f"<tr{named}>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"


def image(caption: str, picture: bytes) -> str:
    """Lay out PNG bytes."""
    return f'<img alt="{escape(caption)}" src="data:image/png;base64,{b64encode(picture).decode()}">'


def verdict_box(verdict: RunVerdict) -> str:
    """Lay out a verdict as one block: the decision in bold, what is reported beside it below."""
    rest = "".join(f"<br>{escape(line)}" for line in verdict.beside)
    return (
        f'<p class="verdict {verdict.decision.replace(" ", "-")}"><strong>{escape(verdict.headline)}</strong>{rest}</p>'
    )
