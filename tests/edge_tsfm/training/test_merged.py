"""An adapted model as a plain folder: it opens anywhere, forecasts the same, and adapts again."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline
from click.testing import CliRunner

from edge_tsfm.cli.export import command
from edge_tsfm.errors import TrainError
from edge_tsfm.models import load_base
from edge_tsfm.runs.merged import save_merged
from edge_tsfm.runs.run import forecast
from edge_tsfm.runs.train import train
from edge_tsfm.training.config import TrainConfig
from tests.support.rounding import ANY_ORDER

Make = Callable[..., TrainConfig]


@pytest.mark.parametrize("method", ["bitfit+fourierft", "lora", "norms+ia3", "full"])
def test_the_folder_forecasts_what_the_run_forecasts(config: Make, tmp_path: Path, method: str) -> None:
    run = train(config(method=method), tmp_path / "run", force=True)
    record = save_merged(run, tmp_path / "merged")
    context = run.windows("test").context
    pipeline = BaseChronosPipeline.from_pretrained(str(tmp_path / "merged"), torch_dtype=torch.float32)
    merged = forecast(pipeline.inner_model, "chronos-bolt", context, 4)
    tuned = forecast(run.tuned_model(), "chronos-bolt", context, 4)
    base = forecast(run.base_model.model, "chronos-bolt", context, 4)
    effect = np.abs(tuned - base).max()
    assert np.abs(merged - tuned).max() < 2e-3 * effect + ANY_ORDER * np.abs(base).max()  # rounded to int16, as a blob
    assert record["weights"] != run.base["digest"]


def test_the_command_writes_a_base_to_adapt_again(config: Make, tmp_path: Path) -> None:
    train(config(), tmp_path / "run", force=True)
    out = tmp_path / "merged"
    result = CliRunner().invoke(command, ["merged", str(tmp_path / "run"), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.exception
    record = json.loads(result.stdout)
    assert load_base(str(out)).digest == record["weights"]
    again = train(config(base=str(out), method="lora"), tmp_path / "again", force=True)
    assert again.base["digest"] == record["weights"]
    with pytest.raises(TrainError, match="not empty"):
        save_merged(again, out)
