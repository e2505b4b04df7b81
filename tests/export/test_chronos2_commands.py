"""Both commands with Chronos-2: several targets together, covariates measured and known ahead, and refusals."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from device_runtime.forecast.forecaster import Forecaster  # noqa: E402
from export.contexts import synthetic_contexts  # noqa: E402
from tests.support.chronos2 import same  # noqa: E402


@pytest.fixture(scope="module")
def device(exported) -> Forecaster:
    return Forecaster.open(exported("chronos-2")[1])


TABLE = ["item_id", "timestamp", "HR", "MAP", "dose", "note"]


@pytest.fixture
def ward(tmp_path: Path) -> Path:
    """A table of two items, 30 steps each and 6 that hold only what is known ahead."""
    rows = []
    for number, item in enumerate("ab"):
        drawn = synthetic_contexts(3, 36, missing=0.1, seed=20 + number)
        for step in range(36):
            vitals = ["" if step >= 30 or np.isnan(v) else f"{v:.1f}" for v in drawn[:2, step]]
            dose = "" if np.isnan(drawn[2, step]) else f"{drawn[2, step]:.1f}"
            rows.append([item, str(step + 1), *vitals, dose, "calm"])
    (tmp_path / "ward.csv").write_text("\n".join(",".join(row) for row in [TABLE, *rows]) + "\n")
    return tmp_path / "ward.csv"


def columns_of(ward: Path, item: str) -> dict[str, np.ndarray]:
    """Read one item's columns back."""
    rows = [line.split(",") for line in ward.read_text().splitlines()[1:]]
    return {
        name: np.array([float(row[TABLE.index(name)] or "nan") for row in rows if row[0] == item], dtype=np.float32)
        for name in ("HR", "MAP", "dose")
    }


def command(tool: str, *arguments: object) -> tuple[int, str, str]:
    """Run one of the two commands in this process: exit status, standard output, standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", tool, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def calls(bundle: Path, ward: Path) -> list[list[object]]:
    """Start both commands' forecasts of a table."""
    return [
        ["device_runtime.cli", "forecast", bundle, "--input", ward],
        ["edge_tsfm.cli", "forecast", bundle, ward],
    ]


def test_both_commands_forecast_targets_together_with_covariates(exported, device: Forecaster, ward: Path) -> None:
    bundle = exported("chronos-2")[1].path
    options = ["--target", "HR", "--target", "MAP", "--future-covariate", "dose", "--prediction-length", 6, "--json"]
    status, out, err = command("device_runtime.cli", "forecast", bundle, "--input", ward, *options)
    assert status == 0, err
    records = json.loads(out)
    assert [(one["item_id"], one["target_name"]) for one in records] == [(i, t) for i in "ab" for t in ("HR", "MAP")]
    status, out, err = command("edge_tsfm.cli", "forecast", bundle, ward, *options)
    assert status == 0, err
    table = json.loads(out)["forecasts"]
    for number, item in enumerate("ab"):
        columns = columns_of(ward, item)
        targets = np.stack([columns[name][:30] for name in ("HR", "MAP")])
        wanted = device.forecast(
            targets,
            6,
            groups=[0, 0],
            past_covariates={"dose": columns["dose"][:30]},
            future_covariates={"dose": columns["dose"][30:]},
        ).quantiles
        got = [one["quantiles"] for one in records[2 * number : 2 * number + 2]]
        same(np.asarray(got), wanted, targets)
        rows = [row for row in table if row["item_id"] == item]
        assert [row["target_name"] for row in rows] == ["HR"] * 6 + ["MAP"] * 6
        median = np.array([row["0.5"] for row in rows]).reshape(2, 6)
        np.testing.assert_allclose(median, wanted[:, :, 6], atol=2e-3)


def test_one_target_with_a_measured_covariate_keeps_its_table(exported, device: Forecaster, ward: Path) -> None:
    bundle = exported("chronos-2")[1].path
    options = ["--target", "HR", "--past-covariate", "MAP", "--prediction-length", 2, "--context-length", 20]
    status, out, err = command("device_runtime.cli", "forecast", bundle, "--input", ward, *options)
    assert status == 0, err
    assert out.startswith("item_id,step,0.01,")
    columns = columns_of(ward, "a")
    wanted = device.forecast(columns["HR"][-20:], 2, past_covariates={"MAP": columns["MAP"][-20:]}).quantiles
    first = [float(cell) for cell in out.splitlines()[1].split(",")[2:-2]]
    np.testing.assert_allclose(first, wanted[0], atol=6e-3)
    status, out, err = command("edge_tsfm.cli", "forecast", bundle, ward, *options)
    assert status == 0, err
    assert out.startswith("item_id,segment,step,timestamp,0.01,")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "HR", "--future-covariate", "dose", "--prediction-length", "7"], "HR has a value in the last 7"),
        (["--target", "HR", "--past-covariate", "note", "--prediction-length", "2"], "note"),
        (["--target", "HR", "--past-covariate", "HR", "--prediction-length", "2"], "twice"),
        (["--target", "HR", "--past-covariate", "SpO2", "--prediction-length", "2"], "SpO2"),
    ],
)
def test_both_commands_refuse_in_words(exported, ward: Path, options: list[str], message: str) -> None:
    bundle = exported("chronos-2")[1].path
    for call in calls(bundle, ward):
        status, _, err = command(*call, *options)
        assert status == 1, err
        assert message in err
        assert "Traceback" not in err


def test_both_commands_refuse_covariates_for_a_base_that_takes_none(exported, ward: Path) -> None:
    bundle = exported("chronos-bolt")[1].path
    options = ["--target", "HR", "--past-covariate", "MAP", "--prediction-length", "2"]
    for call in calls(bundle, ward):
        status, _, err = command(*call, *options)
        assert status == 1
        assert "chronos-bolt forecasts each series alone" in err
