"""Chronos-T5 from torch to the device: logits, greedy tokens, the distribution of samples, every tunable tensor."""

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from device_runtime.errors import FormatError, InputError, SelfTestError  # noqa: E402
from device_runtime.forecast.bundle import Bundle  # noqa: E402
from device_runtime.forecast.families.sampling import uniforms  # noqa: E402
from device_runtime.forecast.families.t5 import T5Model  # noqa: E402
from device_runtime.forecast.forecaster import Forecaster  # noqa: E402
from device_runtime.forecast.session import SessionSettings, open_session  # noqa: E402
from device_runtime.format.binding import Binding  # noqa: E402
from device_runtime.format.blob import decode, encode  # noqa: E402
from device_runtime.format.delta import Dense, Numbers  # noqa: E402
from export import export_adapter, t5  # noqa: E402
from export.base import export_base  # noqa: E402
from export.contexts import synthetic_contexts  # noqa: E402
from export.errors import ExportError  # noqa: E402
from export.float64 import allowed_error, in_float64  # noqa: E402
from export.parity import check_base  # noqa: E402
from export.t5_graphs import HEAPED, between, selected  # noqa: E402
from tests.support.rounding import ANY_ORDER, FACTOR, assert_near, in_double, judged  # noqa: E402

PROVENANCE = {"source": "test", "licence": "none", "weights": "none"}


@pytest.fixture(scope="module")
def base(exported):
    return exported("chronos-t5")[0]


@pytest.fixture(scope="module")
def bundle(exported) -> Bundle:
    return exported("chronos-t5")[1]


@pytest.fixture(scope="module")
def model(bundle) -> T5Model:
    return T5Model(bundle, {}, SessionSettings())


@pytest.mark.parametrize("length", [1, 2, 31, 32, 40])
def test_logits_are_those_of_torch_at_every_step(base, model, length: int) -> None:
    context = synthetic_contexts(3, length, missing=0.3, seed=length)
    with torch.no_grad():
        expected, _ = t5.logits(base.model, context, 8)
        exact, _ = t5.logits(in_double(base.model), context, 8)
    judged(model.logits(context, 8), expected, exact)


class Otherwise:
    """chronos-forecasting's tokenizer with one token put elsewhere."""

    def __init__(self, model, change: int) -> None:
        self.own, self.change = t5.tokenizer(model), change

    def __getattr__(self, name: str):
        return getattr(self.own, name)

    def context_input_transform(self, context):
        tokens, mask, scale = self.own.context_input_transform(context)
        tokens[0, 3] += self.change
        return tokens, mask, scale


def on_an_edge(model) -> np.ndarray:
    """A context of whose values the fourth lies within rounding below the upper edge of its bin."""
    context = synthetic_contexts(1, 12, seed=4)
    for _ in range(20):  # the scale moves with the value
        tokens, _, scale = model.tokenizer.encode(context)
        bin_ = int(tokens[0, 3]) - model.tokenizer.n_special_tokens
        edge = model.tokenizer.boundaries[bin_]
        context[0, 3] = edge * scale[0] * np.float32(1 - 1e-6)
    return context


def test_a_value_on_a_bins_edge_is_no_difference_of_the_graphs(base, model, monkeypatch) -> None:
    context = on_an_edge(model)
    expected, _, _ = model.tokenizer.encode(context)
    other = Otherwise(base.model, 1)
    monkeypatch.setattr(t5, "tokenizer", lambda _: other)
    tokens, _, _ = t5.encode(base.model, context)
    np.testing.assert_array_equal(tokens.numpy(), expected)
    with torch.no_grad():
        float32 = t5.witness(base.model, context)
    with in_float64():
        exact = t5.witness(base.model, context)
    judged(model.witness(context), float32, exact)


@pytest.mark.parametrize(("edge", "change", "missing"), [(False, 1, False), (True, 2, False), (False, 1, True)])
def test_other_tokens_elsewhere_are_refused(base, model, monkeypatch, edge: bool, change: int, missing: bool) -> None:
    context = on_an_edge(model) if edge else synthetic_contexts(1, 12, seed=4)
    if missing:
        context[0, 3] = np.nan
    other = Otherwise(base.model, change)
    monkeypatch.setattr(t5, "tokenizer", lambda _: other)
    with pytest.raises(ExportError, match="other tokens"):
        t5.encode(base.model, context)


def test_a_perturbed_tensor_that_the_runtime_ignores_is_refused(base, bundle, monkeypatch) -> None:
    check_base(base.model, bundle)
    monkeypatch.setattr("device_runtime.forecast.families.t5.open_session", _ignoring)
    with pytest.raises(ExportError, match="differs from torch"):
        check_base(base.model, bundle)


def _ignoring(bundle, graph, merged, settings):
    return open_session(bundle, graph, {}, settings)


def generate(base, context, steps: int, samples: int, **sampling):
    """Tokens that transformers itself generates, as chronos-forecasting asks it to: ``[B, S, steps]``."""
    from transformers import GenerationConfig

    tokens, mask, _ = t5.tokenizer(base.model).context_input_transform(torch.from_numpy(context))
    out = base.model.generate(
        input_ids=tokens,
        attention_mask=mask,
        generation_config=GenerationConfig(
            min_new_tokens=steps, max_new_tokens=steps, num_return_sequences=samples, eos_token_id=1, pad_token_id=0,
            decoder_start_token_id=0, **sampling,
        ),
    )  # fmt: skip
    return out[:, 1:].reshape(len(context), samples, steps).numpy()


def drawn(bundle, context, steps: int, samples: int, **sampling):
    """Tokens that the runtime draws."""
    model = T5Model(bundle, {}, SessionSettings())
    model.sampling = dataclasses.replace(model.sampling, **sampling)
    tokens, mask, _ = model.tokenizer.encode(context[:, -model.context_length :])
    return model._draw(tokens, mask, uniforms(1, samples, 0, steps))


def test_greedy_decoding_gives_the_tokens_of_transformers(base, bundle) -> None:
    context = synthetic_contexts(4, 20, missing=0.2, seed=5)
    expected = generate(base, context, 8, 1, do_sample=False)
    np.testing.assert_array_equal(drawn(bundle, context, 8, 1, top_k=1), expected)


@pytest.mark.parametrize(
    "sampling",
    [{}, {"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.6}, {"temperature": 1.5, "top_k": 20, "top_p": 0.8}],
)
def test_samples_are_distributed_as_those_of_transformers(base, bundle, sampling) -> None:
    context = synthetic_contexts(1, 20, seed=3)
    settings = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, **sampling}
    torch.manual_seed(0)
    expected = generate(base, context, 3, 4000, do_sample=True, **settings)[0]
    got = drawn(bundle, context, 3, 4000, **settings)[0]
    assert not (got == 1).any()  # the end token is never drawn
    for step in range(3):
        a, b = (np.bincount(x[:, step], minlength=64).astype(float) for x in (expected, got))
        # Two-sample chi-square over the tokens seen often enough; 1e-4 quantile by Wilson and Hilferty.
        seen = a + b >= 20
        statistic = float(((a - b)[seen] ** 2 / (a + b)[seen]).sum())
        freedom = max(1, int(seen.sum()) - 1)
        limit = freedom * (1 - 2 / (9 * freedom) + 3.72 * np.sqrt(2 / (9 * freedom))) ** 3
        assert statistic < limit, (step, statistic, limit)
        assert set(np.flatnonzero(b)) <= set(np.flatnonzero(a)) or (a + b)[(a == 0) & (b > 0)].max() < 20


def test_tokens_are_drawn_alike_however_the_largest_are_found(base, bundle, tmp_path: Path) -> None:
    """In a heap or by selection: a base that draws from few tokens has another graph, and no other draws."""
    assert between(64) == 8
    assert selected(64) > 5
    few = copy.deepcopy(base.model)
    few.config.chronos_config = few.config.chronos_config | {"top_k": int(64 * HEAPED)}
    export_base(few, family="chronos-t5", name="few", out=tmp_path / "few", provenance=PROVENANCE)
    folders = (bundle.path, tmp_path / "few")
    nodes = [onnx.load(folder / "step.onnx", load_external_data=False).graph.node for folder in folders]
    assert [sum(node.op_type == "Mod" for node in some) for some in nodes] == [0, 1]
    context = synthetic_contexts(2, 20, missing=0.1, seed=3)
    for sampling in ({"top_k": 1}, {"top_k": 5}, {"top_k": 50, "temperature": 2.0}, {"top_k": 64, "top_p": 0.7}):
        expected = drawn(bundle, context, 8, 40, **sampling)
        assert sampling["top_k"] == 1 or len(np.unique(expected)) > 4
        np.testing.assert_array_equal(drawn(Bundle.open(tmp_path / "few"), context, 8, 40, **sampling), expected)


@pytest.mark.parametrize(("vocabulary", "expected"), [(4096, 64), (64, 8), (12, 3), (13, 1), (1, 1)])
def test_tokens_that_are_neighbours_come_far_apart(vocabulary: int, expected: int) -> None:
    assert between(vocabulary) == expected


def test_a_seed_gives_the_same_paths_alone_in_a_batch_and_in_a_longer_forecast(bundle) -> None:
    forecaster = Forecaster.open(bundle)
    context = synthetic_contexts(3, 20, missing=0.1, seed=7)
    paths = forecaster.sample(context, 6, num_samples=10, seed=4)
    assert paths.shape == (3, 10, 6)
    np.testing.assert_array_equal(paths[1], forecaster.sample(context[1], 6, num_samples=10, seed=4))
    np.testing.assert_array_equal(paths, forecaster.sample(context, 8, num_samples=10, seed=4)[..., :6])
    np.testing.assert_array_equal(paths[:, :4], forecaster.sample(context, 6, num_samples=4, seed=4))
    assert (paths != forecaster.sample(context, 6, num_samples=10, seed=5)).any()


def test_a_long_forecast_continues_from_the_medians_as_the_pipeline_does(base, bundle) -> None:
    """Greedy on both sides, so that equality is to the token."""
    from chronos.chronos import ChronosConfig, ChronosModel, ChronosPipeline

    config = ChronosConfig(**base.model.config.chronos_config)
    pipeline = ChronosPipeline(config.create_tokenizer(), ChronosModel(config=config, model=base.model))
    context = synthetic_contexts(2, 30, seed=9)
    expected = pipeline.predict(torch.from_numpy(context), 20, num_samples=2, top_k=1).numpy()
    model = T5Model(bundle, {}, SessionSettings())
    model.sampling = dataclasses.replace(model.sampling, top_k=1)
    assert_near(model.sample(context, 20, 2, 0), expected, ANY_ORDER * np.abs(expected).max())


def test_any_level_is_read_off_the_samples(bundle) -> None:
    forecaster = Forecaster.open(bundle)
    context = synthetic_contexts(1, 20)[0]
    forecast = forecaster.forecast(context, 5, [0.025, 0.5, 0.975], num_samples=200, seed=1)
    paths = forecaster.sample(context, 5, 200, 1)
    np.testing.assert_allclose(forecast.quantiles[:, 0], np.quantile(paths, 0.025, axis=0), rtol=ANY_ORDER)
    assert (np.diff(forecast.quantiles, axis=-1) >= 0).all()


@pytest.mark.parametrize(
    "arguments", [{"num_samples": 5000}, {"num_samples": 0}, {"seed": -1}, {"seed": 2**32}, {"num_samples": -2}]
)
def test_arguments_out_of_range_are_refused(bundle, arguments) -> None:
    with pytest.raises(InputError, match="want"):
        Forecaster.open(bundle).forecast(synthetic_contexts(1, 20)[0], 3, **arguments)


def test_heads_times_width_may_differ_from_d_model(base, tmp_path: Path) -> None:
    """The shape of Chronos-T5 Mini and Small: d_kv 64 with 8 heads for d_model 384 and 512; small here."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(1)
    chronos = base.model.config.chronos_config
    config = T5Config(
        d_model=12, d_ff=20, d_kv=8, num_heads=3, num_layers=1, num_decoder_layers=3, vocab_size=64,
        feed_forward_proj="relu", initializer_factor=0.5, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        tie_word_embeddings=False, chronos_config=chronos,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name or name.endswith(("q.weight", "k.weight", "lm_head.weight")):
                parameter.normal_(std=0.7)
    made = export_base(model, family="chronos-t5", name="odd", out=tmp_path / "odd", provenance=PROVENANCE)
    assert made.parity.redrawn <= allowed_error(made.parity.redrawn_float32, 1.0)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.block.0.layer.0.SelfAttention.q.weight",
        "decoder.block.1.layer.0.SelfAttention.k.weight",  # seen by no first step: the probe takes several
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "decoder.block.0.layer.1.EncDecAttention.v.weight",
    ],
)
def test_an_adapter_is_exported_proven_and_sampled_from(base, bundle, name: str) -> None:
    tensor = base.model.get_parameter(name).detach().numpy()
    delta = Dense(Numbers.of(0.8 * np.random.default_rng(0).normal(size=tensor.shape)))
    tuned = copy.deepcopy(base.model)
    with torch.no_grad():
        tuned.get_parameter(name).add_(torch.from_numpy(delta.dense().astype(np.float32).reshape(tensor.shape)))
    contexts = synthetic_contexts(20, 32, missing=0.1, seed=11)
    made = export_adapter(
        bundle=bundle, base=base.model, tuned=tuned, deltas={name: delta}, contexts=contexts, version=1, metadata={},
        binding=Binding.of("HR", interval_us=3_600_000_000, context_length=2_048, prediction_length=1_024),
    )  # fmt: skip
    assert made.parity <= FACTOR * made.parity_float32 + ANY_ORDER
    assert made.known_answer_margin >= 4
    forecaster = Forecaster.open(bundle, made.blob)
    paths = forecaster.sample(contexts[:2], 8, seed=0)
    assert (paths != Forecaster.open(bundle).sample(contexts[:2], 8, seed=0)).any()
    one = decode(made.blob)
    weaker = Dense(Numbers.of(0.5 * delta.dense().reshape(tensor.shape)))
    damaged = encode(dataclasses.replace(one, deltas=dict.fromkeys(one.deltas, weaker)))
    with pytest.raises(SelfTestError):
        Forecaster.open(bundle, damaged)


def test_many_samples_in_bounded_memory_are_the_same_paths(bundle, monkeypatch) -> None:
    forecaster = Forecaster.open(bundle)
    context = synthetic_contexts(3, 20, seed=13)
    paths = forecaster.sample(context, 12, num_samples=50, seed=2)
    monkeypatch.setattr("device_runtime.forecast.families.t5.PATHS_AT_ONCE", 7)
    np.testing.assert_array_equal(forecaster.sample(context, 12, num_samples=50, seed=2), paths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"d_kv": 10**9}, "d_kv"),
        ({"start_token_id": 64}, "start_token_id"),
        ({"temperature": "1.0"}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"num_samples": True}, "num_samples"),
    ],
)
def test_a_manifest_out_of_range_is_refused_as_such(bundle, change, message: str) -> None:
    manifest = dataclasses.replace(bundle.manifest, parameters={**bundle.manifest.parameters, **change})
    with pytest.raises(FormatError, match=message):
        T5Model(Bundle(bundle.path, manifest, {}), {}, SessionSettings())
