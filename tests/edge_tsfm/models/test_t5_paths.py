"""Chronos-T5's sampled paths in torch: transformers' logits, the device's tokens, the pipeline's distribution."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families.t5 import T5Model
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import SessionSettings
from edge_tsfm.methods import METHODS, Options, attach, find_method
from edge_tsfm.models import load_base, t5, t5_paths
from edge_tsfm.models.lengths import by_length
from edge_tsfm.models.t5 import T5, context_seed
from edge_tsfm.models.t5_paths import Draw, logits_of, merged, sample_tokens
from tests.support.rounding import ANY_ORDER, in_double, judged, same_paths

DUMMY = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-t5"
NAN = float("nan")


@pytest.fixture(scope="module")
def model() -> Any:
    return load_base(str(DUMMY)).model


@pytest.fixture(scope="module")
def bundle(exported: Callable[[str], Any]) -> Bundle:
    found: Bundle = exported("chronos-t5")[1]
    return found


@pytest.fixture(scope="module")
def contexts() -> torch.Tensor:
    """Twelve series [12, 32] of several lengths, with gaps."""
    generator = torch.Generator().manual_seed(4)
    series = 80 + torch.randn(12, 32, generator=generator).cumsum(-1)
    series[torch.rand(series.shape, generator=generator) < 0.1] = NAN
    for row, lead in enumerate((0, 3, 7, 28, 28, 12, 0, 1, 20, 5, 30, 2)):
        series[row, :lead] = NAN
    series[:, -1] = 80.5
    return series


def encoded(model: Any, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    from chronos.chronos import ChronosConfig

    tokenizer = ChronosConfig(**model.config.chronos_config).create_tokenizer()
    tokens, mask, _ = tokenizer.context_input_transform(context)
    return tokens, mask


@pytest.mark.parametrize("method", [*METHODS, "bitfit+norms+vera", "norms+lora"])
def test_logits_are_those_of_transformers_whatever_was_tuned(model: Any, contexts: torch.Tensor, method: str) -> None:
    tuned = copy.deepcopy(model)
    attach(tuned, find_method(method), Options(n_frequency=9, rank=2))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        tokens, mask = encoded(tuned, contexts)
        fed = torch.randint(2, 64, (12, 3, 8), generator=generator)
        before = [parameter.clone() for parameter in tuned.parameters()]
        got = logits_of(merged(tuned), tokens, mask, fed).flatten(0, 1)
        assert all(torch.equal(a, b) for a, b in zip(before, tuned.parameters(), strict=True))
        repeated = {"input_ids": tokens.repeat_interleave(3, 0), "attention_mask": mask.repeat_interleave(3, 0)}
        wanted = tuned(**repeated, decoder_input_ids=fed.flatten(0, 1)).logits
        untuned = model(**repeated, decoder_input_ids=fed.flatten(0, 1)).logits
        exact = in_double(tuned)(**repeated, decoder_input_ids=fed.flatten(0, 1)).logits
    judged(got, wanted, exact)
    with pytest.raises(AssertionError, match="allowed"):
        judged(untuned, wanted, exact)  # nothing merged


def test_tied_embeddings_are_scaled_as_transformers_does(model: Any, contexts: torch.Tensor) -> None:
    tied = copy.deepcopy(model)
    tied.config.tie_word_embeddings = True
    tokens, mask = encoded(tied, contexts)
    fed = torch.randint(2, 64, (12, 1, 4), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = tied(input_ids=tokens, attention_mask=mask, decoder_input_ids=fed[:, 0]).logits
        got = logits_of(tied, tokens, mask, fed)[:, 0]
        exact = in_double(tied)(input_ids=tokens, attention_mask=mask, decoder_input_ids=fed[:, 0]).logits
    judged(got, wanted, exact)


@pytest.mark.parametrize("length", [5, 20])
def test_paths_are_those_that_the_device_draws_with_the_contexts_seed(
    model: Any, bundle: Bundle, contexts: torch.Tensor, length: int
) -> None:
    """Token for token, but for draws on an edge; beyond the model's own length, for a median on a bin's edge."""
    got = T5().samples(model, contexts, length).numpy()
    forecaster = Forecaster.open(bundle)
    same = 0
    for row, context in enumerate(contexts.numpy()):
        wanted = forecaster.sample(context, length, num_samples=20, seed=context_seed(context))
        same_paths(got[row, :, :8], wanted[:, :8], f"series {row}")
        same += np.allclose(got[row], wanted, rtol=0, atol=ANY_ORDER * np.abs(wanted).max())
    assert same >= 10


@pytest.mark.parametrize("sampling", [{"temperature": 0.5}, {"top_k": 1}, {"top_k": 5}, {"top_p": 0.6}])
def test_temperature_top_k_and_top_p_are_the_devices(
    model: Any, bundle: Bundle, contexts: torch.Tensor, sampling: dict[str, Any]
) -> None:
    draw = Draw(**{"temperature": 1.0, "top_k": 50, "top_p": 1.0, "never": 1, **sampling})
    device = T5Model(bundle, {}, SessionSettings())
    device.sampling = dataclasses.replace(device.sampling, **sampling)
    noise = np.random.default_rng(2).random((8, 20), dtype=np.float32)  # [steps, S]
    tokens, mask = encoded(model, contexts)
    shared = torch.from_numpy(noise.T.copy()).expand(12, 20, 8)
    with torch.no_grad():
        got = sample_tokens(model, tokens, mask, shared, draw)
    wanted = device._draw(tokens.numpy(), mask.numpy().astype(np.float32), noise)
    same_paths(got.numpy(), wanted)


def test_paths_are_distributed_as_the_pipelines(model: Any, contexts: torch.Tensor) -> None:
    """Two-sample chi-square on 4,000 paths; 1e-4 quantile by Wilson and Hilferty."""
    from chronos.chronos import ChronosConfig, ChronosModel

    tokens, mask = encoded(model, contexts[:1])
    chronos = ChronosModel(config=ChronosConfig(**model.config.chronos_config), model=model)
    draw = Draw(temperature=1.0, top_k=50, top_p=1.0, never=1)
    noise = torch.rand(1, 4000, 3, generator=torch.Generator().manual_seed(6))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        wanted = chronos(tokens, mask, 3, 4000)[0].numpy()
        got = sample_tokens(model, tokens, mask, noise, draw)[0].numpy()
    assert not (got == 1).any()  # the end token
    for step in range(3):
        a, b = (np.bincount(x[:, step], minlength=64).astype(float) for x in (wanted, got))
        seen = a + b >= 20
        statistic = float(((a - b)[seen] ** 2 / (a + b)[seen]).sum())
        freedom = max(1, int(seen.sum()) - 1)
        limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3
        assert statistic < limit, step


def test_noise_at_the_end_of_the_range_takes_the_last_kept_token() -> None:
    draw = Draw(temperature=1.0, top_k=3, top_p=0.7, never=0)
    logits = torch.log(torch.tensor([[0.9, 0.05, 0.25, 0.5, 0.2]]))
    ends = torch.tensor([[0.0, 0.66, 0.67, float(np.nextafter(np.float32(1), np.float32(0)))]])
    assert draw(logits, ends).tolist() == [[3, 3, 2, 2]]  # 0.5 and 0.25 of 0.95 reach 0.7; 0.2 is left out


def test_a_forecast_is_the_same_alone_in_a_batch_and_behind_more_padding(model: Any, contexts: torch.Tensor) -> None:
    whole = T5().samples(model, contexts, 6)
    for row in (0, 4, 10):
        same_paths(T5().samples(model, contexts[row : row + 1], 6)[0], whole[row])
    padded = torch.cat([torch.full((12, 40), NAN), contexts], dim=1)
    same_paths(T5().samples(model, padded, 6), whole)


def test_memory_is_bounded_by_paths_and_by_caches(model: Any) -> None:
    assert t5_paths.series_at_once(model, 20, 8) == 2_560 // 20
    assert t5_paths.series_at_once(model, 4_096, 8) == 1
    big = SimpleNamespace(config=SimpleNamespace(num_decoder_layers=12, num_heads=12, d_kv=64))
    assert t5_paths.series_at_once(big, 20, 64) == 5  # 2 × 12 × 12 × 64 × 64 numbers a path, 100 paths


def test_windows_have_draws_of_their_own_and_models_share_them() -> None:
    series = np.arange(20, dtype=np.float32)
    seed = context_seed(series)
    assert context_seed(np.concatenate([np.full(9, np.nan, np.float32), series])) == seed
    changed = series.copy()
    changed[7] += 1e-5
    gap = series.copy()
    gap[7] = np.nan
    assert len({seed, context_seed(changed), context_seed(gap), context_seed(series[:-1])}) == 4
    odd = gap.copy()
    odd.view(np.uint32)[7] |= 0x80000001  # another of the many bit patterns that are NaN
    assert context_seed(odd) == context_seed(gap)
    assert context_seed(np.full(5, np.nan, np.float32)) == 0


def test_groups_hold_every_row_once_and_nothing_but_what_was_missing_is_cut(contexts: torch.Tensor) -> None:
    groups = list(by_length(contexts, 5))
    assert sorted(torch.cat([rows for rows, _ in groups]).tolist()) == list(range(12))
    for rows, some in groups:
        cut = contexts.shape[1] - some.shape[1]
        assert contexts[rows, :cut].isnan().all()
        assert torch.equal(some.nan_to_num(), contexts[rows, cut:].nan_to_num())
        assert not some[0, 0].isnan()
    assert groups[-1][1].shape[1] < 8
    assert next(by_length(torch.full((2, 6), NAN), 4))[1].shape == (2, 1)


def test_loss_and_outputs_do_not_depend_on_the_grouping(
    model: Any, contexts: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = contexts[:, -1:] + torch.randn(12, 5, generator=torch.Generator().manual_seed(8))
    target[2, 3:], target[5] = NAN, NAN
    losses, outputs = [], []
    for at_once in (64, 5, 1):
        monkeypatch.setattr(t5, "TAUGHT_AT_ONCE", at_once)
        with torch.no_grad():
            losses.append(float(T5().loss(model, contexts, target)))
            outputs.append(T5().outputs(model, contexts, target))
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=ANY_ORDER)
    with torch.no_grad():
        exact = T5().outputs(in_double(model), contexts, target)
    for one in outputs[1:]:
        judged(one, outputs[0], exact)
