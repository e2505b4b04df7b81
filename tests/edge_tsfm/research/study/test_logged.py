"""A study's runs in the tools that log runs: each once, told from its own folder."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_tsfm.cli.study import command
from edge_tsfm.errors import ConfigError
from edge_tsfm.research.study import logged
from edge_tsfm.research.study.config import StudyConfig
from edge_tsfm.research.study.logged import log_cell
from edge_tsfm.research.study.study import plan
from tests.edge_tsfm.research.study.conftest import DUMMY, STUDY
from tests.support.callbacks import Remembers

Heard = list[tuple[str, Path, Remembers]]


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    """Loggers that remember, in place of the tools: name, folder, logger."""
    made: Heard = []

    def open_loggers(names: list[str], folder: Path) -> list[Remembers]:
        made.extend((name, folder, Remembers()) for name in names)
        return [one for _, _, one in made[-len(names) :]]

    monkeypatch.setattr(logged, "open_loggers", open_loggers)
    return made


def test_every_trained_cell_is_told_once_with_its_own_figures(
    study: StudyConfig, finished: Path, tmp_path: Path, heard: Heard
) -> None:
    out = tmp_path / "study"
    shutil.copytree(finished, out)
    cells = [cell for part in plan(study) for cell in part]
    for cell in cells:
        log_cell(cell, out, ["tensorboard"])
    trained = [out / cell.folder for cell in cells if cell.kind == "adapter"]
    assert [folder for _, folder, _ in heard] == trained
    assert len(trained) == 8  # two methods: two factors, two seeds
    for _, folder, one in heard:
        record = json.loads((folder / "run.json").read_text())
        (facts,) = one.facts
        assert facts["data"]["fingerprint"] == record["data"]["fingerprint"]
        assert facts["config"]["method"] == record["config"]["method"]
        for path in (record["config"]["data"], str(DUMMY)):
            assert path not in json.dumps(facts)
        with (folder / "curves.csv").open() as file:
            rows = {int(row["step"]): float(row["validation_score"]) for row in csv.DictReader(file)}
        assert {step: figures["validation_score"] for step, figures in one.steps} == rows
        assert one.records == [record]
    for cell in cells:
        log_cell(cell, out, ["tensorboard", "mlflow"])
    assert [name for name, _, _ in heard] == ["tensorboard"] * 8 + ["mlflow"] * 8


def test_a_run_whose_telling_failed_is_told_again_and_an_unfinished_one_is_not(
    study: StudyConfig, finished: Path, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = plan(study)[1][-1]
    log_cell(cell, tmp_path, ["tensorboard"])
    assert heard == []
    shutil.copytree(finished / cell.folder, tmp_path / cell.folder)

    def fail(*_: Any) -> None:
        raise ConfigError("no server")

    with monkeypatch.context() as broken:
        broken.setattr(Remembers, "on_end", fail)
        with pytest.raises(ConfigError, match="no server"):
            log_cell(cell, tmp_path, ["tensorboard"])
    log_cell(cell, tmp_path, ["tensorboard"])
    assert len(heard) == 2
    assert heard[1][2].records != []


def test_the_command_logs_what_is_there_already_and_refuses_a_missing_tool_first(
    ward: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra [tensorboard] is not installed"
    )
    out, file = tmp_path / "study", tmp_path / "study.toml"
    shutil.copytree(finished, out)
    file.write_text(STUDY.format(base=DUMMY))
    asked = [str(file), str(ward), "--out", str(out), "--quiet", "--log-to"]
    result = CliRunner().invoke(command, [*asked, "tensorboard"])
    assert result.exit_code == 0, result.output
    cell = out / "cells" / "HR-chronos-bolt-bitfit-seed1"
    events = accumulator.EventAccumulator(str(cell / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Scalars("validation_score")] == [0, 10, 20]
    assert json.loads((cell / "logged.json").read_text()) == ["tensorboard"]
    monkeypatch.setattr("edge_tsfm.runs.log_to.find_spec", lambda _: None)
    monkeypatch.setattr("edge_tsfm.research.study.study.run_study", lambda *_, **__: pytest.fail("began"))
    refused = CliRunner().invoke(command, [*asked, "mlflow"])
    assert isinstance(refused.exception, ConfigError)
    assert "needs mlflow" in str(refused.exception)
