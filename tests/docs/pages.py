"""Fenced blocks of a page, what is to be done with each, and what its commands print.

The convention, for writers of pages:

    ```sh        commands; only their exit status is looked at
    ```console   commands after "$ ", each followed by what it prints (nothing printed: only the status is looked at)
    ```python    a program of its own
    ```text      neither, as are toml, json, c and mermaid; commands in one of these are refused

Above a block, HTML comments, which readers do not see:

    <!-- not run: REASON -->        this block cannot run where the tests run
    <!-- needs: hospital-a -->      skipped where this is not there (`test_pages_run.NEEDS`)
    <!-- file: NAME -->             the block is a file: written, not run
    <!-- output -->                 a text block: what the block above printed
    <!-- numbers within 30 % -->    of this block's printed numbers, in place of 2 %
    <!-- exit: N -->                the last command's status

and anywhere on a page `<!-- after: PAGE -->`: it begins with what that page has left in its folder.
A line `…` in printed output stands for any lines, `…` in a line for any text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUN = ("sh", "bash", "console", "python")
KEPT = ("text", "toml", "json", "c", "mermaid")
KEYS = ("not run", "needs", "file", "output", "numbers within", "exit")
FENCE = re.compile(r"^```(.*)$")
MARK = re.compile(r"^<!-- ([a-z ]+?)(?:: | (?=\d)|(?= -->))(.*?) ?-->$")
AFTER = re.compile(r"^<!-- after: (\S+) -->$", re.MULTILINE)
COMMAND = re.compile(r"^\s*(?:\$ |edge-tsfm(?:-device)? |pip install|python3? -m|make )", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One command and the lines that it prints on the page; None: nothing is shown."""

    command: str
    output: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block. ``line`` is its first on the page."""

    language: str
    text: str
    line: int
    marks: dict[str, str]

    @property
    def runs(self) -> bool:
        return self.language in RUN and "not run" not in self.marks and "file" not in self.marks

    @property
    def tolerance(self) -> float:
        """How far a printed number may be off, relative to itself."""
        return float(self.marks.get("numbers within", "2").rstrip(" %")) / 100

    def steps(self) -> Iterator[Step]:
        """Give the commands of a block."""
        if self.language != "console":
            yield Step(command=self.text)
            return
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        assert not parts[0].strip(), f"line {self.line}: a console block begins with a command"
        for part in parts[1:]:
            lines = part.rstrip("\n").split("\n")
            count = 1
            while count < len(lines) and (lines[count - 1].endswith("\\") or lines[count].startswith("> ")):
                lines[count] = lines[count].removeprefix("> ")  # the shell's own sign of a command that goes on
                count += 1
            yield Step(command="\n".join(lines[:count]), output=tuple(lines[count:]) or None)


def blocks(page: Path) -> list[Block]:
    """Return a page's blocks, an output joined to none: it is a block of its own."""
    found: list[Block] = []
    marks: dict[str, str] = {}
    inside: tuple[str, int, list[str]] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), start=1):
        fence = FENCE.match(line)
        if inside is not None:
            if fence:
                found.append(Block(language=inside[0], line=inside[1], text="\n".join(inside[2]) + "\n", marks=marks))
                inside, marks = None, {}
            else:
                inside[2].append(line)
        elif fence:
            inside = (fence[1].strip(), number, [])
        elif mark := MARK.match(line):
            if mark[1] != "after":  # that is the page's
                marks[mark[1]] = mark[2]
        elif line.strip():
            marks = {}
    return found


def after(page: Path) -> str | None:
    """Name the page whose folder this one begins with."""
    found = AFTER.search(page.read_text(encoding="utf-8"))
    return found[1] if found else None
