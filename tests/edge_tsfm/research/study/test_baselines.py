"""Baselines from other libraries, run where the study extra is installed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_tsfm.errors import TrainError
from edge_tsfm.research.study.cells import final_cells
from edge_tsfm.research.study.config import StudyConfig
from edge_tsfm.research.study.scores import SCORES_FILE, read_scores
from edge_tsfm.research.study.work import is_done, perform
from edge_tsfm.runs.run import load_run


def test_auto_ets_forecasts_gaps_and_constants() -> None:
    pytest.importorskip("statsforecast", reason="pip install 'edge-tsfm[study]'")
    from edge_tsfm.research.study.auto_ets import auto_ets

    draw = np.random.default_rng(1)
    context = (80 + draw.normal(0, 3, (4, 48)).cumsum(1)).astype(np.float32)
    context[1, :20] = np.nan
    context[2, -3:] = np.nan
    context[3] = 70
    quantiles = auto_ets(context, 6)
    assert quantiles.shape == (4, 6, 9)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=-1) >= 0).all()
    assert (quantiles[3] == 70).all()
    width = quantiles[..., -1] - quantiles[..., 0]
    assert (np.diff(width[:3], axis=1) > 0).all()
    whole = auto_ets(context[2:3, :-3], 9)[:, 3:]
    assert quantiles[2:3] == pytest.approx(whole)


def test_nhits_is_about_as_large_as_said_and_learns_in_the_signals_unit() -> None:
    pytest.importorskip("neuralforecast", reason="pip install 'edge-tsfm[study]'")
    from edge_tsfm.research.study.nhits import NHits, make_network

    network = make_network(48, 6, seed=0)
    assert 600_000 < sum(parameter.numel() for parameter in network.parameters()) < 800_000
    family, draw = NHits(), torch.Generator().manual_seed(0)
    context = 80 + torch.randn(16, 48, generator=draw).cumsum(1)
    context[:, :12] = torch.nan
    target = context[:, -1:] + 2 * torch.ones(16, 6)
    target[:, 3] = torch.nan
    quantiles = family.quantiles(network, context, 6)
    assert (quantiles.diff(dim=-1) >= 0).all()
    moved = family.quantiles(network, 3 * context + 50, 6)
    assert torch.allclose(moved, 3 * quantiles + 50, rtol=1e-4)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(30):
        loss = family.loss(network, context, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_constant_context_teaches_nothing() -> None:
    pytest.importorskip("neuralforecast", reason="pip install 'edge-tsfm[study]'")
    from edge_tsfm.research.study.nhits import NHits, make_network

    network = make_network(24, 4, seed=0)
    loss = NHits().loss(network, torch.full((3, 24), 70.0), torch.full((3, 4), 90.0))
    assert loss.item() == 0


def test_nhits_is_trained_scored_and_found_done(study: StudyConfig, tmp_path: Path) -> None:
    pytest.importorskip("neuralforecast", reason="pip install 'edge-tsfm[study]'")
    small = replace(study, baselines=("nhits",), seeds=(0,), search=None, nhits_steps=10)
    cell = next(cell for cell in final_cells(small, {}) if cell.kind == "nhits")
    perform(cell, tmp_path)
    first = read_scores(tmp_path / cell.folder / SCORES_FILE)
    assert is_done(cell, tmp_path)
    (tmp_path / cell.folder / SCORES_FILE).unlink()
    perform(cell, tmp_path)  # from the numbers it kept
    again = read_scores(tmp_path / cell.folder / SCORES_FILE)
    assert np.array_equal(first.sums[cell.label], again.sums[cell.label])


def test_a_baselines_folder_is_no_run_to_evaluate_or_inspect(tmp_path: Path) -> None:
    """It has neither a base nor a gate: said, instead of a `KeyError`."""
    record = {"config": {}, "data": {"fingerprint": "f"}, "windows": {}, "parameters": 9, "training": {}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(TrainError, match=r"channel is missing.*also missing: base, tensors, gate"):
        load_run(tmp_path)
