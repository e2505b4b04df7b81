"""`train --group-by`: a run folder for each group, as if each had been trained alone."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import edge_tsfm as et
from device_runtime.cli.outcome import LEFT_OUT
from edge_tsfm.cli.train import command
from edge_tsfm.data.groups import find_groups, folders_of
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.read import open_data
from edge_tsfm.data.split import split_digit
from edge_tsfm.errors import ConfigError, DataError, GateRefusedError, TrainError
from edge_tsfm.runs.groups import TrainedGroups, train_groups
from edge_tsfm.runs.record import GROUPS_FILE, RUN_FILE
from edge_tsfm.runs.run import forecast, load_run
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from tests.support.callbacks import Hears, Remembers

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt"
SAME = 1e-5
WARDS = {"ICU": 40, "Theatre 2": 30, "recovery": 30}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def patients(draw: np.random.Generator, ward: object, names: list[str]) -> pd.DataFrame:
    rows = []
    for name in names:
        wave = np.sin(np.arange(36) / 9 + draw.uniform(0, 6.3)) * draw.uniform(5, 15) + draw.normal(0, 1, 36)
        rows.append(pd.DataFrame({"item_id": name, "timestamp": range(36), "HR": (80 + wave).round(1), "ward": ward}))
    return pd.concat(rows)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    """Three wards, patients of a fourth who are all in the training split, and some of no ward."""
    draw = np.random.default_rng(5)
    parts = [patients(draw, ward, [f"{ward[0]}{n:03d}" for n in range(count)]) for ward, count in WARDS.items()]
    trained = [name for name in (f"x{n}" for n in range(40)) if split_digit(name) < 7][:5]
    parts += [patients(draw, "few", trained), patients(draw, None, ["nobody"])]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def data(frame: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hospital") / "hospital.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def config(data: Path) -> TrainConfig:
    return TrainConfig(
        data=str(data), target="HR", interval="1h", base=str(DUMMY), method="bitfit+fourierft", n_frequency=9,
        context_length=24, prediction_length=4, steps=20, batch_size=16, evaluate_every=5, learning_rate=0.03,
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainedGroups:
    return train_groups(config, tmp_path_factory.mktemp("groups") / "out", "Ward")


def test_every_group_has_an_ordinary_run_folder(trained: TrainedGroups) -> None:
    assert list(trained.runs) == sorted(WARDS)
    assert trained.rows_without == 36
    for name, count in WARDS.items():
        run = load_run(trained.runs[name].path)
        assert run.config.where == (f"ward={name}",)
        assert set(run.windows("train").item_id) <= {f"{name[0]}{n:03d}" for n in range(count)}
        assert run.record["company"] == {"group": name, "runs": 3}
        evaluation = et.evaluate(run)
        assert evaluation.record["run"]["numbers"] == run.parameters_digest
        assert {path.name for path in run.path.iterdir()} >= {"peft", "curves.csv", "curves.png", "tuned.safetensors"}
        assert not (run.path / "checkpoint.pt").exists()


def test_a_group_that_cannot_be_trained_is_named_and_fails_alone(trained: TrainedGroups) -> None:
    assert list(trained.failed) == ["few"]
    assert "0 validation windows" in trained.failed["few"]
    listed = json.loads((trained.out / GROUPS_FILE).read_text())
    assert listed == json.loads(json.dumps(trained.to_dict(), default=str))
    by_name = {one["name"]: one for one in listed["groups"]}
    assert by_name["few"]["status"] == "failed"
    assert (trained.out / by_name["Theatre 2"]["folder"] / "run.json").exists()


@pytest.mark.parametrize("name", ["ICU", "Theatre 2"])
def test_a_run_is_that_of_its_rows_alone(
    name: str, trained: TrainedGroups, config: TrainConfig, tmp_path: Path
) -> None:
    alone = train(replace(config, where=(f"ward={name}",)), tmp_path / "alone")
    ours = trained.runs[name]
    same = ("config", "channel", "base", "data", "windows", "tensors", "parameters", "learning_rates")
    assert {key: ours.record[key] for key in same} == {key: alone.record[key] for key in same}
    assert ours.record["training"]["best_step"] == alone.record["training"]["best_step"]
    assert ours.record["training"]["best"] == pytest.approx(alone.record["training"]["best"], rel=SAME)
    assert ours.record["gate"]["difference"] == pytest.approx(alone.record["gate"]["difference"], rel=100 * SAME)
    contexts = alone.windows("gate").context
    forecasts = [forecast(one.tuned_model(), "chronos-bolt", contexts, 4) for one in (ours, alone)]
    np.testing.assert_allclose(*forecasts, rtol=0, atol=SAME * float(forecasts[0].std()))


def test_a_killed_company_goes_on_where_each_was(config: TrainConfig, trained: TrainedGroups, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, _: Any) -> None:
        if step == 11:
            raise KilledError

    out = tmp_path / "out"
    with pytest.raises(KilledError):
        train_groups(config, out, "ward", hearing=lambda name, _: [Hears(kill)] if name == "ICU" else ())
    assert (out / "ICU" / "checkpoint.pt").exists()
    with pytest.raises(TrainError, match="not empty"):
        train_groups(config, out, "ward")
    with pytest.raises(TrainError, match="by ward, not by item_id"):
        train_groups(config, out, "item_id", resume=True)
    heard = Remembers()
    result = train_groups(config, out, "ward", resume=True, hearing=lambda name, _: [heard] if name == "ICU" else ())
    assert [step for step, _ in heard.steps] == list(range(11, 21)), "from the checkpoint at step 10"
    for name, run in result.runs.items():
        assert run.record["training"]["best"] == pytest.approx(trained.runs[name].record["training"]["best"], rel=SAME)
    before = {path: path.read_bytes() for path in out.glob("*/*.safetensors")}
    assert len(before) == 3
    with pytest.raises(TrainError, match="finished with other options"):
        train_groups(replace(config, seed=1), out, "ward", resume=True)
    again = train_groups(config, out, "ward", resume=True)
    assert list(again.failed) == ["few"]
    assert {path: path.read_bytes() for path in before} == before


def test_callbacks_hear_of_their_own_group(config: TrainConfig, tmp_path: Path) -> None:
    heard: dict[str, Remembers] = {}

    def hearing(name: str, folder: Path) -> list[Remembers]:
        assert folder.parent == tmp_path / "out"
        return [heard.setdefault(name, Remembers())]

    train_groups(config, tmp_path / "out", "ward", hearing=hearing)
    for name, one in heard.items():
        if name == "few":
            assert (one.facts, one.steps, one.records) == ([], [], [None])
            continue
        assert one.facts[0]["config"]["where"] == [f"ward={name}"]
        assert [step for step, _ in one.steps] == list(range(21))
        assert [figures for step, figures in one.steps if "validation_score" in figures]
        (record,) = one.records
        assert record is not None
        assert record["company"]["group"] == name


def test_the_python_api_trains_groups_of_a_frame(frame: pd.DataFrame, trained: TrainedGroups, tmp_path: Path) -> None:
    options = {name: value for name, value in vars(load_run(trained.runs["ICU"].path).config).items()
               if name in ("base", "n_frequency", "context_length", "prediction_length", "steps", "batch_size",
                           "evaluate_every", "learning_rate", "interval")}  # fmt: skip
    asked = frame[frame.ward != "few"]
    result = et.train(
        asked, out=tmp_path / "out", target="HR", method="bitfit+fourierft", group_by="ward", log_to="tensorboard",
        **options,
    )  # fmt: skip
    assert list(result.runs) == sorted(WARDS)
    assert not result.failed
    assert list((tmp_path / "out" / "ICU" / "tensorboard").glob("events*"))
    ours, theirs = result.runs["ICU"], trained.runs["ICU"]
    assert ours.record["training"]["best"] == pytest.approx(theirs.record["training"]["best"], rel=SAME)
    assert et.evaluate(ours, asked).record["data"]["fingerprint"] == theirs.record["data"]["fingerprint"]
    with pytest.raises(ConfigError, match="a function of a group's name"):
        et.train(asked, out=tmp_path / "x", target="HR", group_by="ward", callbacks=[Remembers()])  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match=r"the name of one column, got \['ward'\]"):
        et.train(asked, out=tmp_path / "x", target="HR", group_by=["ward"])  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="wandb"):
        et.train(asked, out=tmp_path / "x", target="HR", group_by="ward", log_to=["wandb"])


def test_the_command_prints_a_line_for_each_group(data: Path, tmp_path: Path) -> None:
    fixed = ["--target", "HR", "--interval", "1h", "--base", str(DUMMY), "--context-length", "24", "--method", "bitfit"]
    small = ["--prediction-length", "4", "--steps", "10", "--batch-size", "16", "--group-by", "ward"]

    def run(*options: str, name: str = "out") -> Any:
        return CliRunner().invoke(command, [str(data), "--out", str(tmp_path / name), *fixed, *small, *options])

    result = run("--learning-rate", "0.03")
    assert isinstance(result.exception, GateRefusedError), "20 patients of each ward are too few for the gate"
    assert "no adapter of 3 groups is accepted" in str(result.exception)
    assert "few left out: 20 training and 0 validation windows" in result.stderr
    assert [line.split()[0] for line in result.stdout.splitlines()[:-1]] == ["ICU", "Theatre", "few", "recovery"]
    assert "4 groups by ward; 36 rows have none" in result.stderr
    quiet = run("--json", "--quiet", "--where", "ward=ICU", "--where", "ward=recovery", "--force", name="some")
    assert quiet.exit_code == 0, quiet.output
    assert quiet.stderr == ""
    listed = json.loads(quiet.stdout)
    assert [(one["name"], one["status"]) for one in listed["groups"]] == [("ICU", "forced"), ("recovery", "forced")]
    assert run("--force", "--quiet", name="forced").exit_code == LEFT_OUT
    assert isinstance(run("--where", "ward=few", name="few").exception, TrainError)
    alone = CliRunner().invoke(command, [str(data), "--out", str(tmp_path / "x"), *fixed, "--ray", "local"])
    assert isinstance(alone.exception, ConfigError)


def test_groups_are_the_values_of_a_column() -> None:
    beds = ["10", "2", "2.0", "", "B/1", "b_1"] * 4
    frame = pd.DataFrame({"item_id": ["a"] * 24, "timestamp": range(24), "HR": 80.0, "bed": beds})
    opened = open_data(frame)
    groups = find_groups(opened, "BED", DataOptions())
    assert groups.column == "bed"
    assert [one.name for one in groups.groups] == ["2", "10", "B/1", "b_1"], "numbers by size, equal ones once"
    assert groups.rows_without == 4
    some = find_groups(opened, "bed", DataOptions(where=("Bed=10", "item_id=a")))
    assert [one.options.where for one in some.groups] == [("item_id=a", "bed=10")]
    with pytest.raises(DataError, match="no column 'room'"):
        find_groups(opened, "room", DataOptions())
    with pytest.raises(DataError, match="no value to group by"):
        find_groups(opened, "bed", DataOptions(where=("bed=77",)))
    with pytest.raises(DataError, match="24 values in 24 rows: a time or a measurement"):
        find_groups(opened, "timestamp", DataOptions())


def test_a_folder_of_one_run_and_one_of_groups_are_not_mixed(config: TrainConfig, tmp_path: Path) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    for folder, file in ((one, RUN_FILE), (many, GROUPS_FILE)):
        folder.mkdir()
        (folder / file).write_text('{"group_by": "ward"}')
    with pytest.raises(TrainError, match=r"holds no groups: it has no groups\.json"):
        train_groups(config, one, "ward", resume=True)
    with pytest.raises(TrainError, match="holds runs by group"):
        train(config, many, resume=True)
    assert [path.name for path in (*one.iterdir(), *many.iterdir())] == [RUN_FILE, GROUPS_FILE]


def test_folders_of_groups_are_apart_on_every_file_system() -> None:
    names = ["ICU", "icu", "a/b", "a b", "..", "ward-3", "x" * 300, "Südflügel"]
    folders = folders_of(names)
    assert folders[5] == "ward-3"
    assert folders[7] == "Südflügel"
    assert len({one.casefold() for one in folders}) == len(names)
    assert all(one and "/" not in one and not one.startswith(".") and len(one.encode()) < 200 for one in folders)
    assert folders_of(names) == folders


@pytest.mark.slow
def test_a_cluster_finishes_although_a_worker_is_killed(
    config: TrainConfig, trained: TrainedGroups, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="pip install 'edge-tsfm[ray]'")
    out, killed = tmp_path / "out", tmp_path / "killed"

    class NamesItself(Hears):
        """Writes its process and waits to be killed, once."""

        def __init__(self) -> None:
            super().__init__(self.wait)

        def wait(self, step: int, _: Any) -> None:
            if step == 7 and not killed.exists():
                killed.write_text(str(os.getpid()))
                time.sleep(60)

    def kill() -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until:
            if killed.exists() and (pid := killed.read_text()):
                os.kill(int(pid), signal.SIGKILL)
                return
            time.sleep(0.05)

    def hearing(name: str, _: Path) -> list[NamesItself]:
        return [NamesItself()] if name == "ICU" else []

    killer = Thread(target=kill)
    killer.start()
    result = train_groups(config, out, "ward", ray="local", hearing=hearing)
    killer.join()
    assert int(killed.read_text()) != os.getpid()
    assert list(result.failed) == ["few"]
    for name, run in result.runs.items():
        assert run.record["training"]["best"] == pytest.approx(trained.runs[name].record["training"]["best"], rel=SAME)
