"""Every row of the comparison that says edge-tsfm has something names a test that exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_each_row_names_its_test() -> None:
    lines = (ROOT / "docs" / "reference" / "compared.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    assert len(rows) > 10
    for what, ours, *_, test in rows:
        named = re.fullmatch(r"`(tests/\S+\.py)`", test)
        assert (named is not None and (ROOT / named[1]).is_file()) or (test == "–" and ours != "yes"), what
