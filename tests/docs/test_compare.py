"""What counts as the same output, and what does not."""

import pytest

from tests.docs import pages
from tests.docs.compare import DifferentError, Digests, compare


@pytest.mark.parametrize(
    ("printed", "real"),
    [
        ("adapter  115.9   8.321  79.55 %", "adapter 117.1 8.30 79.0 %"),
        ("trained: 2,400 parameters, 25 s", "trained: 2,400 parameters, 212 s"),
        ("approved deae2239ee319e18 for icu", "approved 0123456789abcdef for icu"),
        ("…\nlast 3", "first\nsecond\nlast 3"),
        ("first\n…", "first\nsecond"),
        ("x/20261125T205851-a0090b8c4d6c-approved.json", "x/20270101T000000-b0090b8c4d6d-approved.json"),
        ("WQL -6.10 % (-7.93 to -4.32)", "WQL -6.11 % (-7.90 to -4.31)"),
        ("wrote …", "wrote 5 files in x"),
    ],
)  # fmt: skip
def test_the_same(printed: str, real: str) -> None:
    compare(printed.split("\n"), real.split("\n"), Digests(), tolerance=0.02)


@pytest.mark.parametrize(
    ("printed", "real"),
    [
        ("halted", "running"),
        ("sequence 1", "sequence 2"),
        ("MSE 115.9", "MSE 131.8"),
        ("beats its base", "beats its  base by far"),
        ("one\ntwo", "one"),
        ("one", "one\ntwo"),
        ("3 of 1000, halted", "3 of 1000, running"),
        ("WQL -6.10 %", "WQL 6.10 %"),
        ("…\nlast", "first\nsecond"),
    ],
)
def test_another_thing(printed: str, real: str) -> None:
    with pytest.raises(DifferentError):
        compare(printed.split("\n"), real.split("\n"), Digests(), tolerance=0.02)


def test_a_digest_is_bound_where_it_is_first_printed_and_kept() -> None:
    digests = Digests()
    compare(["approved deae2239ee319e18"], ["approved 0123456789abcdef"], digests, tolerance=0.02)
    assert digests.put("rollout --adapter deae2239ee31 --who ops") == "rollout --adapter 0123456789ab --who ops"
    with pytest.raises(DifferentError, match="another digest"):
        compare(["runs deae2239ee31"], ["runs ffff456789ab"], digests, tolerance=0.02)


def test_a_page_is_taken_apart(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n<!-- after: other.md -->\n\n<!-- file: a.toml -->\n```toml\nx = 1\n```\n\n"
        "<!-- numbers within 30 % -->\n<!-- exit: 3 -->\n```console\n$ one \\\n    two\nprints 1\n"
        "$ for x in 1; do\n>   y\n> done\n```\n"
        "words\n```sh\nthree\n```\n<!-- not run: needs a GPU -->\n```sh\nfour\n```\n"
    )
    file, console, script, marked = pages.blocks(page)
    assert pages.after(page) == "other.md"
    assert (file.marks, file.runs) == ({"file": "a.toml"}, False)
    assert (console.tolerance, console.marks["exit"]) == (0.3, "3")
    assert [(step.command, step.output) for step in console.steps()] == [
        ("one \\\n    two", ("prints 1",)),
        ("for x in 1; do\n  y\ndone", None),
    ]
    assert (script.runs, script.marks) == (True, {})
    assert (marked.runs, marked.marks) == (False, {"not run": "needs a GPU"})
