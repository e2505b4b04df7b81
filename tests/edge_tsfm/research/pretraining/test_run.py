"""Whole runs: they learn, resume exactly, and leave a base that chronos-forecasting opens."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from edge_tsfm.cli.pretrain import command
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.research.pretraining.build import build_model
from edge_tsfm.research.pretraining.bundle import bundle_base
from edge_tsfm.research.pretraining.checkpoint import Progress
from edge_tsfm.research.pretraining.config import PretrainConfig
from edge_tsfm.research.pretraining.ema import Average
from edge_tsfm.research.pretraining.loop import train
from edge_tsfm.research.pretraining.ranks import Ranks
from edge_tsfm.research.pretraining.run import pretrain

Tiny = Callable[..., PretrainConfig]
CPU = torch.device("cpu")


class PowerCutError(Exception):
    """Stands for a kill at a chosen moment."""


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tiny: Tiny, tmp_path: Path, family: str) -> None:
    config = tiny(family, steps=9)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole = build_model(config)
    train(whole, config, tmp_path / "whole", device=CPU)

    def cut(progress: Progress) -> None:
        if progress.step == 8:  # two steps after the checkpoint of step 6
            raise PowerCutError

    with pytest.raises(PowerCutError):
        train(build_model(config), config, tmp_path / "cut", device=CPU, on_log=cut)
    model = build_model(replace(config, seed=0))
    progress = train(model, config, tmp_path / "cut", device=CPU)
    assert progress.step == 9
    assert torch.equal(weights(model), weights(whole))


def test_more_workers_see_the_same_series(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(steps=3)
    models = []
    for workers in (0, 1):
        folder = tmp_path / str(workers)
        folder.mkdir()
        models.append(build_model(config))
        train(models[-1], replace(config, workers=workers), folder, device=CPU)
    assert torch.equal(weights(models[0]), weights(models[1]))


def test_a_checkpoint_of_another_run_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny(steps=3)
    train(build_model(config), config, tmp_path, device=CPU)
    other = replace(config, corpus=replace(config.corpus, mixup=0.5))
    with pytest.raises(TrainError, match="corpus differ"):
        train(build_model(other), other, tmp_path, device=CPU)
    longer = replace(config, optimiser=replace(config.optimiser, steps=5))
    assert train(build_model(longer), longer, tmp_path, device=CPU).step == 5


def test_a_loss_that_is_not_finite_stops_the_run(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny()
    model = build_model(config)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(TrainError, match="the loss is nan"):
        train(model, config, tmp_path, device=CPU)


def test_average_swaps_there_and_back() -> None:
    model = torch.nn.Linear(2, 1)
    average = Average(model, 0.5)
    before = weights(model).clone()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    average.update(model, step=1000)
    average.swap(model)
    torch.testing.assert_close(weights(model), before + 0.5)
    average.swap(model)
    torch.testing.assert_close(weights(model), before + 1)


def test_gradients_of_several_processes_are_averaged() -> None:
    class Accelerator:
        def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
            assert reduction == "mean"
            return tensor / 2  # the other process had zeros

    layer = torch.nn.Linear(3, 2)
    layer(torch.ones(1, 3)).sum().backward()
    Ranks(rank=0, count=2, accelerator=Accelerator()).average_gradients(layer.parameters())
    assert torch.equal(layer.weight.grad, torch.full((2, 3), 0.5))


@pytest.mark.parametrize("family", ["chronos-bolt", "chronos-t5"])
def test_the_result_opens_with_chronos_forecasting(tiny: Tiny, tmp_path: Path, family: str) -> None:
    from chronos import BaseChronosPipeline

    outcome = pretrain(tiny(family), tmp_path, device="cpu")
    assert outcome.progress.step == 6
    pipeline = BaseChronosPipeline.from_pretrained(tmp_path / "base")
    quantiles, _ = pipeline.predict_quantiles(
        torch.sin(torch.arange(24.0))[None], prediction_length=8, quantile_levels=[0.1, 0.5, 0.9]
    )
    assert quantiles.shape == (1, 8, 3)
    assert torch.isfinite(quantiles).all()
    assert {p.name for p in (tmp_path / "snapshots").iterdir()} == {"0000003", "0000006"}
    with (tmp_path / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    assert float(rows[-1]["synthetic_loss"]) > 0
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report.json").read_text())["model_sha256"] == outcome.digest
    assert bundle_base(tmp_path / "base", "tiny", bundled=tmp_path / "bundled") == outcome.digest
    assert json.loads((tmp_path / "bundled" / "digests.json").read_text()) == {"tiny": outcome.digest}


@pytest.mark.slow
def test_a_short_run_reaches_its_loss(tmp_path: Path) -> None:
    """The short configuration starts near 1.3 and must end below 1.0 on series it has not seen."""
    result = CliRunner().invoke(
        command, ["--config", "edge-bolt-short", "--out", str(tmp_path), "--device", "cpu", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["synthetic_loss"] < 1.0


def test_the_command_logs_its_curve(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="the extra [tensorboard] is not installed"
    )
    monkeypatch.setattr("edge_tsfm.cli.pretrain._read", lambda *_: tiny())
    words = ["--config", "tiny", "--out", str(tmp_path / "run"), "--device", "cpu", "--log-to", "tensorboard"]
    done = CliRunner().invoke(command, words)
    assert done.exit_code == 0, done.output
    events = accumulator.EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    rows = [row.split(",") for row in (tmp_path / "run" / "curve.csv").read_text().splitlines()]
    losses = [float(row[rows[0].index("loss")]) for row in rows[1:]]
    assert [one.step for one in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert [one.value for one in events.Scalars("loss")] == pytest.approx(losses, rel=1e-3)


def test_the_command_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    run = CliRunner()
    listed = run.invoke(command, ["--list"])
    assert "edge-bolt-micro" in listed.output.split()
    assert run.invoke(command, []).exit_code == 2
    refused = run.invoke(command, ["--config", "edge-bolt-short", "--out", str(tmp_path), "--method", "bitfit"])
    assert refused.exit_code == 2
    unknown = run.invoke(command, ["--config", "absent", "--out", str(tmp_path)])
    assert isinstance(unknown.exception, ConfigError)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_and_trains(tiny: Tiny, tmp_path: Path) -> None:
    config = tiny()
    bf16 = replace(config, optimiser=replace(config.optimiser, bf16=True))
    assert pretrain(bf16, tmp_path, device="cuda").progress.step == 6
