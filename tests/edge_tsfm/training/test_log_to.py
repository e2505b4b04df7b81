"""Runs in TensorBoard's event files, MLflow's stores and wandb's files; callbacks of one's own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import edge_tsfm as et
from edge_tsfm.cli import cli
from edge_tsfm.errors import ConfigError
from edge_tsfm.runs.log_to import LOGGERS, open_loggers
from edge_tsfm.runs.run import Run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from tests.support.callbacks import Hears, Remembers

Make = Callable[..., TrainConfig]
STEPS = [*range(1, 31)]
SCORED = [0, 10, 20, 30]


class KilledError(Exception):
    """Stands for a power cut."""


def kill(step: int, _: Any) -> None:
    if step == 17:
        raise KilledError


def scores(run: Run) -> dict[int, float]:
    """The validation scores of a run by step, from its own file."""
    rows = (run.path / "curves.csv").read_text().splitlines()[1:]
    return {int(step): float(score) for step, _, score in (row.split(",") for row in rows)}


def test_a_callback_hears_what_the_run_records(config: Make, tmp_path: Path) -> None:
    heard = Remembers()
    run = train(config(), tmp_path / "run", callbacks=[heard])
    (facts,) = heard.facts
    assert facts["data"]["fingerprint"] == run.record["data"]["fingerprint"]
    assert str(tmp_path) not in json.dumps(facts)
    assert run.config.data not in json.dumps(facts)
    assert [step for step, _ in heard.steps] == [0, *STEPS]
    told = {step: figures["validation_score"] for step, figures in heard.steps if "validation_score" in figures}
    assert told == pytest.approx(scores(run))
    assert all({"training_loss", "learning_rate"} <= set(figures) for step, figures in heard.steps if step)
    assert max(figures.get("learning_rate", 0) for _, figures in heard.steps) == pytest.approx(0.03, rel=0.05)
    assert heard.records == [run.record]


def test_a_callback_that_raises_ends_the_training_and_all_hear_of_it(config: Make, tmp_path: Path) -> None:
    heard = Remembers()
    with pytest.raises(KilledError):
        train(config(), tmp_path / "run", callbacks=[heard, Hears(kill)])
    assert heard.records == [None]
    again = Remembers()
    run = train(config(), tmp_path / "run", resume=True, callbacks=[again])
    assert [step for step, _ in again.steps] == STEPS[10:]
    assert again.records == [run.record]


def test_tensorboard_has_every_figure_once_also_of_a_run_that_was_killed(config: Make, tmp_path: Path) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra [tensorboard] is not installed"
    )
    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config(), out, callbacks=[*open_loggers(["tensorboard"], out), Hears(kill)])
    run = train(config(), out, resume=True, callbacks=open_loggers(["tensorboard"], out))
    events = accumulator.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [one.step for one in events.Scalars("training_loss")] == STEPS
    assert {one.step: one.value for one in events.Scalars("validation_score")} == pytest.approx(scores(run), rel=1e-6)
    (difference,) = events.Scalars("gate/difference")
    assert difference.value == pytest.approx(run.gate["difference"], rel=1e-6)
    assert difference.step == run.record["training"]["best_step"]
    (verdict,) = events.Tensors("verdict/text_summary")
    assert run.gate["reason"] in verdict.tensor_proto.string_val[0].decode()
    assert run.record["data"]["fingerprint"].encode() in b"".join(
        text.tensor_proto.string_val[0] for text in events.Tensors("run/text_summary")
    )


@pytest.fixture(params=["file", pytest.param("sqlite", marks=pytest.mark.slow)])
def mlflow_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = (tmp_path / "store").as_uri() if request.param == "file" else f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.chdir(tmp_path)  # a store in a database keeps artefacts beside it
    return tmp_path / "store"


def test_mlflow_has_the_run_and_goes_on_with_it(config: Make, tmp_path: Path, mlflow_store: Path) -> None:
    import mlflow

    out = tmp_path / "run"
    with pytest.raises(KilledError):
        train(config(), out, callbacks=[*open_loggers(["mlflow"], out), Hears(kill)])
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("edge-tsfm")
    (begun,) = client.search_runs([experiment.experiment_id])
    assert begun.info.status == "FAILED"
    run = train(config(), out, resume=True, callbacks=open_loggers(["mlflow"], out))
    (logged,) = client.search_runs([experiment.experiment_id])
    assert (logged.info.run_id, logged.info.status, logged.info.run_name) == (begun.info.run_id, "FINISHED", "run")
    told = {one.step: one.value for one in client.get_metric_history(logged.info.run_id, "validation_score")}
    assert told == pytest.approx(scores(run))
    losses = client.get_metric_history(logged.info.run_id, "training_loss")
    assert {one.step for one in losses} == set(STEPS)
    assert logged.data.metrics["gate_difference"] == pytest.approx(run.gate["difference"])
    assert logged.data.params["config.method"] == "bitfit"
    assert logged.data.params["data.fingerprint"] == run.record["data"]["fingerprint"]
    assert logged.data.tags["verdict"] == run.gate["reason"]
    record = mlflow.artifacts.load_dict(f"{logged.info.artifact_uri}/run.json")
    assert record["gate"] == run.record["gate"]
    assert str(Path(run.config.data).parent) not in json.dumps(record)
    if mlflow_store.is_dir():  # the files themselves
        (figures,) = mlflow_store.glob("*/*/metrics/validation_score")
        assert sorted({int(line.split()[2]) for line in figures.read_text().splitlines()}) == SCORED


def test_a_store_that_cannot_be_had_is_told_before_training(
    config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # discard: nobody listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    heard = Remembers()
    with pytest.raises(ConfigError, match="--log-to mlflow") as refused:
        train(config(), tmp_path / "run", callbacks=[*open_loggers(["mlflow"], tmp_path / "run"), heard])
    assert "MLFLOW_TRACKING_URI" in str(refused.value.hint)
    assert heard.steps == []


@pytest.mark.slow
def test_wandb_offline_writes_its_own_files(config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra [wandb] is not installed: 30 MB that only this test needs")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    run = train(config(), out, callbacks=open_loggers(["wandb"], out))
    name = (out / "wandb-run.txt").read_text().strip()
    (kept,) = (out / "wandb").glob(f"offline-run-*-{name}/run-{name}.wandb")
    data = kept.read_bytes()
    for text in (b"validation_score", b"training_loss", run.record["data"]["fingerprint"].encode(), b"gate/difference"):
        assert text in data
    assert str(Path(run.config.data).parent).encode() not in data


@pytest.mark.parametrize("name", LOGGERS)
def test_a_tool_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(LOGGERS, name, (LOGGERS[name][0], "no_such_library"))  # type: ignore[misc]
    with pytest.raises(ConfigError, match="is not installed") as refused:
        open_loggers([name], tmp_path)
    assert refused.value.hint == f"pip install 'edge-tsfm[{name}]'"


def test_no_tool_is_opened_where_another_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    class Opened(et.Callback):
        def __init__(self, out: Path) -> None:
            opened.append(out)

    monkeypatch.setitem(LOGGERS, "tensorboard", (Opened, "json"))  # type: ignore[misc]
    monkeypatch.setitem(LOGGERS, "wandb", (LOGGERS["wandb"][0], "no_such_library"))  # type: ignore[misc]
    with pytest.raises(ConfigError, match="needs no_such_library"):
        open_loggers(["tensorboard", "wandb"], tmp_path)
    assert not opened
    assert len(open_loggers(["tensorboard", "tensorboard"], tmp_path)) == 1
    assert opened == [tmp_path]


def test_a_tool_that_nobody_knows_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tool is called 'tensorbord'") as refused:
        et.train(tmp_path / "nothing.csv", target="HR", out=tmp_path / "run", log_to="tensorbord")
    assert str(refused.value.hint).startswith("did you mean tensorboard?")


def test_the_command_offers_the_tools_there_are() -> None:
    for verb in ("train", "pretrain"):
        (option,) = (one for one in cli.get_command(None, verb).params if one.name == "log_to")  # type: ignore[arg-type,union-attr]
        assert set(option.type.choices) == set(LOGGERS)  # type: ignore[attr-defined]


def test_a_command_logs_and_says_plain_lines_where_there_is_no_terminal(ward: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    base = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"
    words = [
        "train",
        str(ward),
        "--target",
        "HR",
        "--base",
        str(base),
        "--method",
        "bitfit",
        "--out",
        str(tmp_path / "r"),
    ]
    words += ["--steps", "4", "--batch-size", "8", "--context-length", "24", "--prediction-length", "4", "--force"]
    done = CliRunner().invoke(cli, [*words, "--log-to", "tensorboard"])
    assert done.exit_code == 0, done.output
    assert "step 4 of at most 4, loss " in done.stderr
    assert "\r" not in done.stderr
    assert "\x1b" not in done.stderr
    assert list((tmp_path / "r" / "tensorboard").glob("events.out.tfevents.*"))


def test_nothing_of_the_tools_is_imported_unasked() -> None:

    tools = ", ".join(map(repr, LOGGERS))
    code = f"import sys, edge_tsfm.runs.log_to; print([m for m in ({tools}) if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("given", [object(), [object()], [Hears], Hears, "tensorboard"])
def test_what_is_no_callback_is_refused_before_data_are_read(given: object, tmp_path: Path) -> None:
    import edge_tsfm as et

    with pytest.raises(ConfigError, match="is not a callback") as refused:
        et.train(tmp_path / "absent.csv", out=tmp_path / "run", target="HR", callbacks=given)  # type: ignore[arg-type]
    assert "edge_tsfm.Callback" in str(refused.value.hint)
    assert not (tmp_path / "run").exists()
