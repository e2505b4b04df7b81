"""The page that says which files an addition touches: they exist, and are as few as it promises."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PATHS = sorted(set(re.findall(r"`([\w.<>-]+(?:/[\w.<>-]*)+|[A-Z]+\.md)`", PAGE)))
MOST = {"A method of an existing kind": 4, "A kind of delta": 9, "A family": 10, "An error code": 6, "A signal": 4}


def listed(section: str) -> list[str]:
    """The files of a section's table."""
    return re.findall(r"^\| `([^`]+)` \|", SECTIONS[section], re.MULTILINE)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_is_where_the_page_says(path: str) -> None:
    found = ROOT / path
    if "<" in path:  # to be written: its folder is there, and others like it
        assert any(found.parent.glob(f"*{found.suffix}")), path
    else:
        assert found.exists(), path


def test_the_page_was_read() -> None:
    assert len(PATHS) > 30
    assert all(listed(section) for section in SECTIONS)


@pytest.mark.parametrize("section", MOST)
def test_an_addition_is_a_handful_of_files(section: str) -> None:
    assert len(listed(section)) <= MOST[section]


@pytest.mark.parametrize(
    ("section", "path", "names"),
    [
        ("A method of an existing kind", "edge_tsfm/methods/__init__.py", ("METHODS",)),
        ("A method of an existing kind", "tests/edge_tsfm/methods/test_method_matrix.py", ("NAMES",)),
        ("A kind of delta", "device_runtime/format/layout.py", ("class Kind",)),
        ("A kind of delta", "device_runtime/format/groups.py", ("GROUPS",)),
        ("A kind of delta", "tests/support/adapters.py", ("def every_kind", "def deltas", "def exact")),
        (
            "A kind of delta",
            "firmware_examples/etsa/etsa.c",
            ("check_group(", "member_counts(", "check_record(", "delta_scratch("),
        ),
        ("A family", "device_runtime/forecast/families/__init__.py", ("FAMILIES",)),
        ("A family", "device_runtime/forecast/families/model.py", ("class Model",)),
        ("A family", "export/families.py", ("FAMILIES",)),
        ("A family", "edge_tsfm/models/family.py", ("FAMILIES",)),
        ("A command", "edge_tsfm/cli/__init__.py", ("VERBS",)),
        ("An error code", "firmware_examples/etsa/etsa.c", ("etsa_err_name",)),
        ("An error code", "device_runtime/faults.py", ("FAULTS",)),
    ],
)
def test_what_the_page_names_is_in_the_file(section: str, path: str, names: tuple[str, ...]) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    for name in names:
        assert name in text
        assert name.split()[-1].rstrip("(") in SECTIONS[section]
