"""Troubleshooting has every error code a monitor can raise, once, under its name; exit statuses are the commands'."""

import re
from pathlib import Path

from device_runtime import errors
from device_runtime.cli.outcome import STATUSES

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "guides" / "troubleshooting.md").read_text(encoding="utf-8")
EXITS = (DOCS / "reference" / "exit-codes.md").read_text(encoding="utf-8")
CODES = {
    found.code: name
    for name, found in vars(errors).items()
    if isinstance(found, type) and issubclass(found, errors.DeviceRuntimeError) and found.code
}


def test_the_table_has_every_code_and_its_name_in_order() -> None:
    rows = re.findall(r"^\| \[(\d+)\]\(#(\d+)\) \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert [(int(code), name) for code, _, name in rows] == sorted(CODES.items())
    assert all(code == anchor for code, anchor, _ in rows)


def test_every_code_has_a_section_that_says_what_to_do() -> None:
    sections = dict(re.findall(r"^### (\d+)\n\n(.+?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL))
    assert sorted(map(int, sections)) == sorted(CODES)
    assert min(len(text.split()) for text in sections.values()) >= 20


def test_the_exit_statuses_are_all_there() -> None:
    rows = re.findall(r"^\| (\d) \|", EXITS, re.MULTILINE)
    assert sorted(map(int, rows)) == sorted(STATUSES | {3: "train"})
