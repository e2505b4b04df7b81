"""Configurations: the built-in ones read, everything unknown or out of range is refused."""

from pathlib import Path

import pytest

from edge_tsfm.errors import ConfigError
from edge_tsfm.research.pretraining.config import config_from, read_config

BUILT_IN = sorted((Path(__file__).parents[4] / "edge_tsfm" / "research" / "pretraining" / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", BUILT_IN, ids=lambda path: path.stem)
def test_built_in_configurations_read(path: Path) -> None:
    assert path.stem.startswith(read_config(path).name)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "x", "stpes": 3}, "unknown key 'stpes'"),
        ({"name": "x", "optimiser": {"learning_rat": 1.0}}, "unknown key 'learning_rat'"),
        ({"name": "x", "family": "chronos-2"}, "family must be one of"),
        ({"name": "x", "optimiser": {"steps": "many"}}, r"\[optimiser\] steps: want a whole number"),
        ({"name": "x", "optimiser": {"bf16": 1}}, r"\[optimiser\] bf16: want true or false"),
        ({"name": "x", "optimiser": {"steps": 0}}, "steps must be at least 1"),
        ({"name": "x", "corpus": {"generators": {"hospital": 1.0}}}, "hospital"),
        ({"name": "x", "corpus": {"context_lengths": [16, 32]}}, "one length"),
        ({"name": "x", "shape": {"context_length": 64}}, "context_lengths reach 512"),
        ({"name": "x", "shape": {"context_length": 100}}, "no multiple"),
        ({"name": "x", "save_every": 50}, "multiple of log_every"),
        ({"name": "x", "shape": 3}, "shape: want a table, got 3"),
        ({}, "name"),
    ],
)
def test_what_cannot_be_meant_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_from(table, where="test")


def test_missing_and_malformed_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        read_config(tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(ConfigError, match="not TOML"):
        read_config(tmp_path / "bad.toml")
