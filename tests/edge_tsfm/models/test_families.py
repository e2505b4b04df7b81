from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chronos import BaseChronosPipeline

from device_runtime.format.learning import FAR
from edge_tsfm.errors import ConfigError
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.models.bolt import Bolt
from edge_tsfm.models.chronos2 import Chronos2
from edge_tsfm.models.parts import find_dead, find_parts
from edge_tsfm.models.t5 import LEVELS, T5
from export import export_base
from tests.support.rounding import ANY_ORDER, assert_near, noise

DUMMIES = Path(__file__).resolve().parents[2] / "dummy_bases"
NAN = float("nan")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def bolt() -> Any:
    return load_base(str(DUMMIES / "chronos-bolt")).model


@pytest.fixture
def t5() -> Any:
    return load_base(str(DUMMIES / "chronos-t5")).model


@pytest.fixture(scope="module")
def series() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return 80 + torch.randn(4, 70, generator=generator).cumsum(-1)


@pytest.mark.parametrize("length", [3, 16, 40])
def test_bolt_forecasts_as_its_pipeline_does(bolt: Any, series: torch.Tensor, length: int) -> None:
    pipeline = BaseChronosPipeline.from_pretrained(DUMMIES / "chronos-bolt", dtype=torch.float32)
    wanted, _ = pipeline.predict_quantiles(series, prediction_length=length, quantile_levels=list(Bolt().levels(bolt)))
    with torch.no_grad():
        allowed = noise(lambda one: Bolt().quantiles(bolt, torch.from_numpy(one), length), series)
        assert_near(Bolt().quantiles(bolt, series, length), wanted, allowed)


def test_bolt_loss_is_the_models_own_per_scored_step(bolt: Any, series: torch.Tensor) -> None:
    context, target = series[:, :48], series[:, 48:64].clone()
    whole = float(bolt(context=context, target=target.clone()).loss) / 16
    assert float(Bolt().loss(bolt, context, target)) == pytest.approx(whole, rel=ANY_ORDER)


def test_bolt_loss_never_sees_missing_targets_nor_changes_them(bolt: Any, series: torch.Tensor) -> None:
    context, target = series[:, :48], series[:, 48:54].clone()
    target[0, 2:] = NAN
    kept = target.clone()
    with torch.no_grad():
        loss = Bolt().loss(bolt, context, target)
        q = bolt(context=context).quantile_preds[:, :, :6].transpose(1, 2) - context.mean(1)[:, None, None]
    assert torch.equal(target.isnan(), kept.isnan())
    scale = context.std(1, correction=0)[:, None, None]
    scaled = (target - context.mean(1)[:, None])[..., None] / scale
    miss, levels = scaled - q / scale, torch.tensor(Bolt().levels(bolt))
    by_hand = 2 * torch.maximum(levels * miss, (levels - 1) * miss).mean(-1)
    # Standardising takes values of the level's size apart: their rounding counts level / scale times.
    cancelled = float((context.abs().mean(1) / scale[:, 0, 0]).max())
    assert float(loss) == pytest.approx(float(by_hand.nanmean()), rel=ANY_ORDER * cancelled)


@pytest.mark.parametrize("level", [98.0, 36.7])  # the mean of the second is rounded: 4e-6 from every value
def test_bolt_learns_nothing_from_a_flat_context(bolt: Any, series: torch.Tensor, level: float) -> None:
    context, target = series[:, :48].clone(), series[:, 48:54]
    alone = float(Bolt().loss(bolt, context[1:], target[1:]))
    context[0] = level
    assert float(Bolt().loss(bolt, context, target)) == pytest.approx(alone, rel=ANY_ORDER)


def test_bolt_counts_a_far_target_as_far_only(bolt: Any, series: torch.Tensor) -> None:
    context, target = series[:, :48], series[:, 48:54].clone()
    target[0] = 1e9
    assert float(Bolt().loss(bolt, context, target)) < 2 * FAR


def test_t5_loss_is_the_cross_entropy_of_observed_tokens(t5: Any, series: torch.Tensor) -> None:
    context, target = series[:, :30].clone(), series[:, 30:35].clone()
    context[0, :9], target[1, 2:] = NAN, NAN
    logits = T5().outputs(t5, context, target)
    pipeline = BaseChronosPipeline.from_pretrained(DUMMIES / "chronos-t5", dtype=torch.float32)
    _, _, scale = pipeline.tokenizer.context_input_transform(context)
    tokens, seen, _ = pipeline.tokenizer._input_transform(target, scale)
    by_hand = torch.nn.functional.cross_entropy(logits[seen], tokens[seen])
    assert float(T5().loss(t5, context, target)) == pytest.approx(float(by_hand), rel=ANY_ORDER)
    total, count = T5().score(t5, context, target)
    assert count == int(seen.sum())
    assert total / count == pytest.approx(float(by_hand), rel=ANY_ORDER)


def test_t5_learns_the_end_token_only_at_its_own_length(t5: Any, series: torch.Tensor) -> None:
    assert T5().outputs(t5, series[:, :30], series[:, 30:38]).shape[1] == 8 + 1
    assert T5().outputs(t5, series[:, :30], series[:, 30:37]).shape[1] == 7


def test_t5_quantiles_repeat_and_leave_the_callers_chance_alone(t5: Any, series: torch.Tensor) -> None:
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    first = T5().quantiles(t5, series[:, :30], 5)
    assert torch.equal(torch.rand(3), wanted)
    assert first.shape == (4, 5, len(LEVELS))
    assert torch.equal(first, T5().quantiles(t5, series[:, :30], 5))
    assert np.all(np.diff(first.numpy(), axis=-1) >= 0)


def test_what_one_decoder_token_cannot_use_is_found_dead_in_bolt(bolt: Any) -> None:
    wanted = {
        f"decoder.block.{block}.layer.0.SelfAttention.{leaf}.weight" for block in (0, 1) for leaf in ("q", "k")
    } | {"decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"}
    before = [p.detach().clone() for p in bolt.parameters()]
    assert find_dead(bolt, Bolt()) == wanted
    assert all(torch.equal(a, b) for a, b in zip(before, bolt.parameters(), strict=True))
    assert not any(p.requires_grad for p in bolt.parameters())


def test_t5_has_no_dead_tensor_and_its_only_biases_are_tables(t5: Any) -> None:
    parts = find_parts(t5, T5())
    assert parts.dead == ()
    assert parts.biases == ()
    assert len(parts.tables) == 2
    assert parts.linear["patch"] == ()


def test_a_zero_gradient_alone_does_not_make_a_tensor_dead() -> None:
    class Square(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.flat_here = torch.nn.Parameter(torch.zeros(1))  # its square has no slope at zero
            self.unused = torch.nn.Parameter(torch.ones(1))

    class OfSquare(Bolt):
        def horizon(self, model: Any) -> int:
            return 1

        def outputs(self, model: Any, context: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return 1 + model.flat_here**2 + 0 * model.unused

        def loss(self, model: Any, context: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return self.outputs(model, context, target).sum()

    assert find_dead(Square(), OfSquare()) == {"unused"}


def silence(name: str, parameter: Any) -> None:
    if name.endswith((".wo.weight", ".o.weight", "output_layer.weight")):
        parameter.zero_()


def whisper(name: str, parameter: Any) -> None:
    if parameter.ndim == 2 and not name.startswith(("shared", "lm_head")):
        parameter.mul_(1e-4)


def shout(name: str, parameter: Any) -> None:
    if parameter.ndim == 2:
        parameter.mul_(1e3)


@pytest.mark.parametrize("change", [silence, whisper, shout])
@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_is_dead_does_not_depend_on_a_bases_numbers(name: str, change: Any) -> None:
    """As in a checkpoint that starts layers at zero, that hardly uses a part, or whose rounding is loud."""
    model, family = load_base(str(DUMMIES / name)).model, FAMILIES[name]
    wanted = find_dead(model, family)
    with torch.no_grad():
        for tensor, parameter in model.named_parameters():
            change(tensor, parameter)
    before = {tensor: parameter.clone() for tensor, parameter in model.named_parameters()}
    assert find_dead(model, family) == wanted
    assert all(torch.equal(parameter, before[tensor]) for tensor, parameter in model.named_parameters())


def test_what_a_start_token_of_zero_leaves_unheard_is_dead(bolt: Any, tmp_path: Path) -> None:
    """And the exporter freezes the same ones: a run that tuned another would not be exported."""
    with torch.no_grad():
        bolt.shared.weight[bolt.config.decoder_start_token_id] = 0.0
    first = "decoder.block.0.layer.0."
    more = {f"{first}SelfAttention.v.weight", f"{first}SelfAttention.o.weight", f"{first}layer_norm.weight"}
    dead = find_dead(bolt, Bolt())
    assert more < dead
    made = export_base(bolt, family="chronos-bolt", name="odd", out=tmp_path / "odd", provenance={"weights": "none"})
    assert dead == set(made.dead)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_tensor_that_is_not_dead_moves_the_forecast(name: str) -> None:
    model, family = load_base(str(DUMMIES / name)).model, FAMILIES[name]
    generator = torch.Generator().manual_seed(2)
    series = 80 + torch.randn(6, 70, generator=generator).cumsum(-1)
    context, target = series[:, :62], series[:, 62:]
    dead = find_dead(model, family)
    with torch.no_grad():
        before = family.outputs(model, context, target)
        for tensor, parameter in model.named_parameters():
            kept = parameter.clone()
            parameter.add_(torch.randn(parameter.shape, generator=generator))
            moved = float((family.outputs(model, context, target) - before).abs().max())
            parameter.copy_(kept)
            assert (moved > ANY_ORDER * float(before.abs().max())) == (tensor not in dead), tensor


@pytest.fixture
def two() -> Any:
    return load_base(str(DUMMIES / "chronos-2")).model


@pytest.mark.parametrize("length", [3, 8, 20])
def test_chronos2_forecasts_as_its_pipeline_does(two: Any, series: torch.Tensor, length: int) -> None:
    pipeline = BaseChronosPipeline.from_pretrained(DUMMIES / "chronos-2", dtype=torch.float32)
    levels = list(Chronos2().levels(two))
    wanted, _ = pipeline.predict_quantiles(list(series), prediction_length=length, quantile_levels=levels)
    with torch.no_grad():
        got = Chronos2().quantiles(two, series, length)
        allowed = noise(lambda one: Chronos2().quantiles(two, torch.from_numpy(one), length), series)
    assert_near(got, torch.cat(wanted), allowed)


def test_chronos2_loss_is_the_models_own_per_scored_step_and_level(two: Any, series: torch.Tensor) -> None:
    context, target = series[:, :48], series[:, 48:56]
    whole = float(two(context=context, future_target=target, num_output_patches=1).loss)
    assert float(Chronos2().loss(two, context, target)) == pytest.approx(whole / 13, rel=ANY_ORDER)
    shorter = target.clone()
    shorter[:, 5:] = NAN
    assert float(Chronos2().loss(two, context, shorter)) == pytest.approx(
        float(Chronos2().loss(two, context, target[:, :5])), rel=ANY_ORDER
    )


def test_a_series_alone_in_its_group_leaves_group_attention_without_a_choice(two: Any) -> None:
    parts = find_parts(two, Chronos2())
    assert set(parts.dead) == {
        f"encoder.block.{block}.layer.1.self_attention.{leaf}.weight" for block in (0, 1) for leaf in ("q", "k")
    }
    assert len(parts.attention_norms) == 4
    assert len(parts.biases) == 6


def test_chronos2_says_how_far_it_can_see(two: Any, series: torch.Tensor) -> None:
    with pytest.raises(ConfigError, match="at most 4"):
        Chronos2().quantiles(two, series, 33)
