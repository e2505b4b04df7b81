"""Generators: finite, seeded, and with the statistics they promise."""

import pytest
import torch

from edge_tsfm.research.pretraining import gaussian
from edge_tsfm.research.pretraining.config import CorpusConfig
from edge_tsfm.research.pretraining.corpus import GENERATORS, draw_batch, draw_series
from edge_tsfm.research.pretraining.draw import Draw
from edge_tsfm.research.pretraining.monitor import dropout, hold, observe, shorten
from edge_tsfm.research.pretraining.vitals import vital_signs

SMALL = CorpusConfig(
    seed=3, context_lengths=(48, 16), context_weights=(1, 1), batch_sizes=(24, 32), target_lengths=(8,)
)


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_is_finite_seeded_and_varied(name: str) -> None:
    series = GENERATORS[name](64, 80, Draw.at(1))
    assert series.shape == (64, 80)
    assert torch.isfinite(series).all()
    assert torch.equal(series, GENERATORS[name](64, 80, Draw.at(1)))
    assert not torch.equal(series, GENERATORS[name](64, 80, Draw.at(2)))
    assert (series.std(dim=1) > 0).float().mean() > 0.8


def test_sampled_autocovariance_is_the_one_asked_for() -> None:
    lag = gaussian.lags(100, torch.device("cpu"))[None]
    kernel = 0.6 * gaussian.ou(lag, torch.tensor([[5.0]])) + 0.4 * gaussian.rbf(lag, torch.tensor([[9.0]]))
    series = gaussian.sample(kernel.expand(4000, -1), 100, Draw.at(5))
    for step in (0, 1, 4, 12):
        got = (series[:, step:] * series[:, : 100 - step]).mean().item()
        assert got == pytest.approx(kernel[0, step].item(), abs=0.03)


def test_a_batch_depends_on_seed_stream_rank_and_step_alone() -> None:
    first = draw_batch(SMALL, 4)
    torch.rand(3)  # the global generator plays no part
    again = draw_batch(SMALL, 4)
    assert torch.equal(first.context.nan_to_num(-1), again.context.nan_to_num(-1))
    assert torch.equal(first.target.nan_to_num(-1), again.target.nan_to_num(-1))
    for other in (draw_batch(SMALL, 4, stream=1), draw_batch(SMALL, 4, rank=1)):
        assert other.context.shape != first.context.shape or not torch.equal(
            other.context.nan_to_num(-1), first.context.nan_to_num(-1)
        )


def test_contexts_come_in_the_lengths_asked_for_with_missing_values() -> None:
    batches = [draw_batch(SMALL, step) for step in range(12)]
    assert {batch.context.shape for batch in batches} == {(24, 48), (32, 16)}
    assert all(batch.target.shape[1] == 8 for batch in batches)
    assert any(batch.context.isnan().any() for batch in batches)


def test_vital_signs_look_like_a_chart() -> None:
    """Hourly charts: neighbours differ by 0.3 to 0.6 of a stay's variance, a day apart by about all of it."""
    series = vital_signs(4000, 54, Draw.at(9))
    spread = series.std(dim=1, keepdim=True)
    usable = (spread > 0.01 * series.mean(dim=1, keepdim=True).abs())[:, 0]
    z = ((series - series.mean(dim=1, keepdim=True)) / spread)[usable]
    near, day = (((z[:, k:] - z[:, :-k]) ** 2).mean().item() / 2 for k in (1, 24))
    assert 0.3 < near < 0.65
    assert 0.9 < day < 1.4


def test_saturation_stops_at_its_ceiling() -> None:
    series = vital_signs(3000, 40, Draw.at(11))
    saturation = series[(series.median(dim=1).values > 95) & (series.max(dim=1).values == 100)]
    assert len(saturation) > 50


def test_hold_repeats_the_previous_value() -> None:
    series = torch.arange(200.0)[None]
    assert torch.equal(hold(series, torch.zeros(1, 1), Draw.at(1)), series)
    held = hold(series, torch.full((1, 1), 0.5), Draw.at(1))
    assert 0.35 < (held.diff(dim=1) == 0).float().mean() < 0.65
    assert (held <= series).all()


def test_the_recorder_loses_some_values_and_short_stays_start_late() -> None:
    assert 0.02 < dropout(500, 60, Draw.at(2)).float().mean() < 0.3
    short = shorten(torch.zeros(500, 60), Draw.at(3))
    missing = short.isnan()
    assert (missing.int().diff(dim=1) <= 0).all()  # only the older part is hidden
    assert 0.3 < missing.any(dim=1).float().mean() < 0.6
    assert not observe(torch.randn(8, 60), Draw.at(4)).isnan().all(dim=1).any()


def test_mixtures_lie_between_what_they_mix() -> None:
    mixed = draw_series(CorpusConfig(mixup=1.0), 60, 40, Draw.at(6))
    assert torch.isfinite(mixed).all()
