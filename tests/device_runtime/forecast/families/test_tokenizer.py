"""The tokenizer beside chronos-forecasting's own, where that is installed, and its edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from device_runtime.errors import FormatError
from device_runtime.forecast.families.tokenizer import Tokenizer
from tests.support.rounding import sums

PARAMETERS = {
    "low_limit": -15.0,
    "high_limit": 15.0,
    "n_tokens": 4096,
    "n_special_tokens": 2,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "use_eos_token": True,
}
NAN = np.float32(np.nan)


def tokenizer(**changes: object) -> Tokenizer:
    return Tokenizer.parse({**PARAMETERS, **changes})


def chronos_tokenizer():
    chronos = pytest.importorskip("chronos.chronos", reason="chronos-forecasting is not installed")
    config = chronos.ChronosConfig(
        tokenizer_class="MeanScaleUniformBins",
        tokenizer_kwargs={"low_limit": -15.0, "high_limit": 15.0},
        context_length=64, prediction_length=8, n_tokens=4096, n_special_tokens=2, pad_token_id=0, eos_token_id=1,
        use_eos_token=True, model_type="seq2seq", num_samples=20, temperature=1.0, top_k=50, top_p=1.0,
    )  # fmt: skip
    return config.create_tokenizer()


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 64)),
        elements=st.one_of(st.integers(-3000, 3000).map(lambda n: np.float32(n / 10)), st.just(NAN)),
    )
)
def test_tokens_masks_and_scales_are_those_of_chronos(context) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    reference = chronos_tokenizer()
    tokens, mask, scale = tokenizer().encode(context)
    expected, observed, scales = reference.context_input_transform(torch.from_numpy(context.copy()))
    rounding = 2 * sums(context.shape[1] + 1)  # a mean here and a mean there, each in its own order
    np.testing.assert_allclose(scale, scales.numpy(), rtol=rounding)
    np.testing.assert_array_equal(mask, observed.numpy())
    # A value within rounding of a bin's edge may fall to either side.
    scaled = np.where(np.isnan(context), 0, context) / scale[:, None]
    edge = np.abs(scaled[..., None] - tokenizer().boundaries).min(-1) <= 2 * rounding * np.maximum(1, np.abs(scaled))
    assert (tokens == expected.numpy())[:, :-1][~edge].all()
    assert (np.abs(tokens - expected.numpy()) <= 1).all()
    assert edge.mean() < 0.5 or len(np.unique(scaled)) < 8


def test_the_edges_missing_values_and_the_end_token() -> None:
    tokens, mask, scale = tokenizer().encode(np.array([[NAN, 0.0, 1e9, -1e9]], np.float32))
    assert tokens[0, 0] == 0
    assert mask[0, 0] == 0
    assert tokens[0, -1] == 1
    assert mask[0, -1] == 1
    assert scale[0] == pytest.approx(2e9 / 3)
    zeros, _, unit = tokenizer(use_eos_token=False).encode(np.zeros((1, 4), np.float32))
    assert unit[0] == 1
    assert zeros.shape == (1, 4)
    far = tokenizer().encode(np.array([[1e-6] * 60 + [1e6, -1e6]], np.float32))[0]
    assert far[0, 60] == 4095  # clipped to the last token, as chronos does


def test_a_token_stands_for_a_value_within_half_a_bin() -> None:
    made = tokenizer()
    context = np.random.default_rng(0).normal(80, 10, (4, 50)).astype(np.float32)
    tokens, _, scale = made.encode(context)
    back = made.values[tokens[:, :-1]] * scale[:, None]
    assert np.abs(back - context).max() <= 0.5001 * 30 / 4092 * scale.max()


@pytest.mark.parametrize(
    "change",
    [
        {"low_limit": 15.0},
        {"n_tokens": 4},
        {"eos_token_id": 4096},
        {"n_tokens": "many"},
        {"pad_token_id": -1},
        {"n_tokens": 10**9},
        {"use_eos_token": 1},
    ],
)
def test_parameters_out_of_range_are_refused(change) -> None:
    with pytest.raises(FormatError, match="parameters"):
        tokenizer(**change)


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(FormatError, match=r"n_tokens: want a whole number .* got None"):
        Tokenizer.parse({k: v for k, v in PARAMETERS.items() if k != "n_tokens"})
