"""What was called a channel: the verb and the option of the release before, and repositories made by it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from device_runtime.renamed import say_renamed
from device_runtime.update.rollout import Rollout, decode, encode
from edge_tsfm.cli import cli
from tests.simulators.publisher import make_repository


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """What was said in another test is said again."""
    say_renamed.cache_clear()


def deploy(*words: object) -> Result:
    return CliRunner().invoke(cli, ["deploy", *map(str, words)])


def test_the_verb_works_under_its_old_name(tmp_path: Path) -> None:
    repository = make_repository(tmp_path).folder
    facts = (repository, "neonatal", "--signal", "HR", "--interval", "1h", "--keys", tmp_path / "keys", "--json")
    old, new = deploy("channel", *facts), deploy("ring", *facts)
    assert old.stderr == "channel is now called ring; the old name works in this release only\n"
    assert (old.exit_code, old.stdout, new.stderr) == (0, new.stdout, "")
    said = {"signal": "HR", "unit": "/min", "interval": "1h"}
    assert json.loads(new.stdout) == {"ring": "neonatal", "channel": "neonatal", **said}
    assert (repository / "channels" / "neonatal.json").is_file()


def test_help_lists_the_new_verb_alone() -> None:
    verbs = [line.split()[0] for line in deploy("--help").stdout.splitlines() if line.startswith("  ") and line.strip()]
    assert ("ring" in verbs, "channel" in verbs) == (True, False)


def test_a_roll_out_document_keeps_its_bytes() -> None:
    document = (
        b'{"channel":"icu","groups":[],"halt":false,"permille":10,"salt":"icu-3","sequence":3,'
        b'"signed_file":"' + b"ab" * 32 + b'"}'
    )
    made = Rollout(channel="icu", sequence=3, signed_file="ab" * 32, permille=10, salt="icu-3")
    assert encode(made) == document
    assert decode(document) == made
