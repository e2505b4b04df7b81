"""FourierFT without an inverse FFT: as near to float64 as PEFT's own layer, forwards and backwards."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import FourierFTConfig, inject_adapter_in_model
from peft.tuners.fourierft import FourierFTLinear
from torch import nn

from edge_tsfm.methods import closed_form
from edge_tsfm.methods.base import ADAPTER
from edge_tsfm.methods.closed_form import ClosedForm
from tests.support.rounding import judged

COUNT, SCALING = 40, 150.0


def layer(rows: int, columns: int, *, count: int = COUNT) -> Any:
    """Make PEFT's layer with coefficients of any size."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(columns, rows))
    config = FourierFTConfig(n_frequency=count, scaling=SCALING, init_weights=True, target_modules=["0"])
    inject_adapter_in_model(config, model)
    with torch.no_grad():
        model[0].fourierft_spectrum[ADAPTER].normal_()
    return model[0]


def outputs(one: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Return a layer's output, and the gradients of a function of it by the coefficients and by the input."""
    given = x.clone().requires_grad_()
    out = one(given)
    wanted = torch.autograd.grad((out * torch.linspace(-1, 1, out.shape[-1])).sum(), [*coefficients(one), given])
    return [out.detach(), *wanted]


def coefficients(one: Any) -> list[torch.Tensor]:
    return [one.fourierft_spectrum[ADAPTER]]


def exact(one: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Do the same in float64, by the definition."""
    own = one.fourierft_spectrum[ADAPTER].detach().double().requires_grad_()
    given = x.double().requires_grad_()
    u, v = one.indices[ADAPTER]
    spectrum = torch.zeros(one.out_features, one.in_features, dtype=torch.float64).index_put((u, v), own)
    weight = one.base_layer.weight.detach().double() + torch.fft.ifft2(spectrum).real * SCALING
    out = nn.functional.linear(given, weight, one.base_layer.bias.detach().double())
    found = torch.autograd.grad((out * torch.linspace(-1, 1, out.shape[-1])).sum(), [own, given])
    return [out.detach(), *found]


@pytest.mark.parametrize("shape", [(48, 64), (64, 32), (96, 17)])
@pytest.mark.parametrize("batch", [(2, 3), (40, 9)], ids=["through the factors", "by the weight"])
def test_forecast_and_gradients_are_as_near_to_exact_as_pefts(shape: tuple[int, int], batch: tuple[int, int]) -> None:
    ours, theirs = layer(*shape), layer(*shape)
    ClosedForm.of(ours, ADAPTER)
    assert type(ours) is ClosedForm
    assert type(theirs) is FourierFTLinear
    assert ours._few(int(np.prod(batch))) == (batch == (2, 3))
    x = torch.randn(*batch, shape[1])
    for name, a, b, e in zip(
        ("output", "coefficients", "input"), outputs(ours, x), outputs(theirs, x), exact(ours, x), strict=True
    ):
        judged(a, b, e, name)


def test_what_is_stored_and_merged_is_pefts() -> None:
    ours, theirs = layer(48, 64), layer(48, 64)
    ClosedForm.of(ours, ADAPTER)
    assert isinstance(ours, FourierFTLinear)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert dict(ours.named_parameters()).keys() == dict(theirs.named_parameters()).keys()
    x = torch.randn(4, 64)
    before = ours(x)
    ours.merge()
    theirs.merge()
    assert torch.equal(ours.base_layer.weight, theirs.base_layer.weight)
    assert torch.equal(ours(x), theirs(x)), "merged, nothing is added once more"
    ours.unmerge()
    assert torch.allclose(ours(x), before, rtol=1e-4, atol=1e-4)
    ours.enable_adapters(enabled=False)
    assert torch.equal(ours(x), ours.base_layer(x))


def test_more_coefficients_than_products_pay_for_stay_with_the_transform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(closed_form, "MOST", COUNT - 1)
    one = layer(48, 64)
    ClosedForm.of(one, ADAPTER)
    assert type(one) is FourierFTLinear
