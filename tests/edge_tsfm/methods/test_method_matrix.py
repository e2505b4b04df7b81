"""What every method promises, method by method, family by family."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel

from device_runtime.format.delta import Delta
from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.methods import METHODS, Method, Options, attach, find_method, learning_rates
from edge_tsfm.methods.entries import choose_entries, weight_gradients
from edge_tsfm.methods.fourierft import fourier_sites
from edge_tsfm.models import Family
from edge_tsfm.models.biases import put_biases
from edge_tsfm.models.parts import find_parts
from edge_tsfm.runs.peft_form import save_peft_form
from tests.support.rounding import ANY_ORDER, assert_near, noise

# The dummies' smallest site has 8 rows and 8 columns: few parameters on each.
OPTIONS = Options(n_frequency=9, rank=2)
# Every method of the registry is here; those without an adapter are only compared with.
REFERENCES = tuple(name for name, method in METHODS.items() if not method.exportable)
NAMES = (
    *(name for name in METHODS if name not in REFERENCES),
    "bitfit+fourierft",
    "bitfit+norms",
    "norms+lora",
    "norms+ia3",
    "bitfit+norms+vera",
)
# Methods with options that change what they do: name → (method, options).
CASES = {name: (name, OPTIONS) for name in (*NAMES, *REFERENCES)} | {
    "fourierft gradient": ("fourierft", replace(OPTIONS, entries="gradient")),
    "fourierft gradient-shared": ("fourierft", replace(OPTIONS, entries="gradient-shared")),
    "ia3 patch": ("ia3", replace(OPTIONS, target_modules=("patch", "v"))),
    "bitfit+ia3 added": ("bitfit+ia3", replace(OPTIONS, biases="added")),
    "bitfit added": ("bitfit", replace(OPTIONS, biases="added")),
    "bitfit+fourierft added to v": (
        "bitfit+fourierft",
        replace(OPTIONS, biases="added", target_modules=("v",)),
    ),
    "bitfit+fourierft gradient-global": ("bitfit+fourierft", replace(OPTIONS, entries="gradient-global")),
}
ADAPTERS = [name for name in CASES if name not in REFERENCES]
Outputs = Callable[[Any], torch.Tensor]
Tune = Callable[..., None]
Near = Callable[[Any], float]
Start = Callable[[Any, str], tuple[Method, Options, list[str]]]


# An adapter's numbers are rounded to whole steps of the largest on each tensor: by half a step at most.
HALF_STEP = {"int16": 0.5 / 32_767, "int8": 0.5 / 127}
# What that may do to an adapter's effect, in half steps: numbers are smaller than the largest, and err to either side.
# Measured: 1.4 and less in either type; a third leaves little to other numbers, three times as much still sees int16
# stored in 10 bits.
STEPS = 8
# Of what rounding does: an adapter's own effect, for its absence to be seen. Measured: 330 to 17,000.
AUDIBLE = 100


@pytest.fixture
def start(family: Family, windows: tuple[torch.Tensor, torch.Tensor]) -> Start:
    """Attach a case to a model, its entries chosen as a run does; return method, options and touched tensors."""

    def begin(model: Any, case: str) -> tuple[Method, Options, list[str]]:
        name, options = CASES[case]
        entries = None
        if options.entries != "seeded":
            scratch = copy.deepcopy(model)
            names, count = fourier_sites(scratch, find_parts(scratch, family), options)
            entries = choose_entries(weight_gradients(scratch, family, names, [windows]), count, options.entries)
        method = find_method(name, entries)
        return method, options, attach(model, method, options)

    return begin


@pytest.fixture
def outputs(family: Family, windows: tuple[torch.Tensor, torch.Tensor]) -> Outputs:
    """All that a model's weights decide on the windows, without chance."""

    def read(model: Any) -> torch.Tensor:
        with torch.no_grad():
            return family.outputs(model, *windows)

    return read


@pytest.fixture
def near(family: Family, windows: tuple[torch.Tensor, torch.Tensor]) -> Near:
    """What rounding makes of a model's outputs on the windows, in their unit."""
    context, target = windows

    def read(model: Any) -> float:
        with torch.no_grad():
            found = noise(lambda one: family.outputs(model, torch.from_numpy(one), target), context)
            if family.name == "chronos-t5":  # tokens: what rounds is behind them
                found = max(found, ANY_ORDER * float(family.outputs(model, context, target).abs().max()))
        return found

    return read


def added(weight: torch.Tensor, delta: Delta) -> torch.Tensor:
    """What a delta adds to a weight, float64, in its shape."""
    base = weight.detach().double().numpy().reshape(delta.shape)
    return torch.from_numpy(delta.dense(base)).reshape(weight.shape)


def merged(base: Any, deltas: Mapping[str, Delta]) -> Any:
    """The base plus deltas, as a device merges them."""
    out = copy.deepcopy(base)
    put_biases(out, [name for name in deltas if name not in dict(out.named_parameters())])
    parameters = dict(out.named_parameters())
    with torch.no_grad():
        for name, delta in deltas.items():
            parameters[name].add_(added(parameters[name], delta).float())
    return out


@pytest.mark.parametrize("name", CASES)
def test_it_starts_as_the_base(model: Any, outputs: Outputs, near: Near, start: Start, name: str) -> None:
    before, allowed = outputs(model), near(model)
    start(model, name)
    # To the bit, but that torch picks another attention kernel for weights that learn, another product for a bias or
    # for inputs that a factor has made contiguous.
    loose = name in REFERENCES or " added" in name or " patch" in name
    assert_near(outputs(model), before, allowed if loose else 0.0)


@pytest.mark.parametrize("name", ADAPTERS)
def test_merged_forecasts_as_tuned(
    model: Any, outputs: Outputs, near: Near, tune: Tune, start: Start, name: str
) -> None:
    base, before = copy.deepcopy(model), outputs(model)
    method, options, touched = start(model, name)
    tune(model)
    after = outputs(model)
    effect = float((after - before).abs().max())
    assert set(method.deltas(model, options, "int16")) == set(touched)
    for dtype in ("int16", "int8"):
        rounded = merged(base, method.deltas(model, options, dtype))
        rounds = near(rounded)
        assert effect > AUDIBLE * rounds
        assert (outputs(rounded) - after).abs().max() < STEPS * HALF_STEP[dtype] * effect + rounds


@pytest.mark.parametrize("name", ADAPTERS)
def test_only_what_is_named_moves(model: Any, tune: Tune, start: Start, name: str) -> None:
    base = copy.deepcopy(model)
    method, options, touched = start(model, name)
    tune(model)
    after = merged(base, method.deltas(model, options, "int16"))
    was = dict(base.named_parameters())
    moved = {n for n, p in after.named_parameters() if not torch.equal(p, was.get(n, torch.zeros_like(p)))}
    assert moved == set(touched)


@pytest.mark.parametrize("name", ADAPTERS)
def test_plain_peft_opens_the_checkpoint_and_forecasts_the_same(
    model: Any, outputs: Outputs, near: Near, tune: Tune, start: Start, name: str, tmp_path: Path
) -> None:
    base, before = copy.deepcopy(model), outputs(model)
    method, options, _ = start(model, name)
    tune(model)
    parameters = dict(base.named_parameters())
    deltas = method.deltas(model, options, "int16")
    changes = {n: added(parameters.get(n, torch.zeros(delta.shape[0])), delta) for n, delta in deltas.items()}
    save_peft_form(base, changes, tmp_path / "peft", base_name="dummy")
    opened = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "peft")).eval()
    wanted = outputs(merged(base, deltas))
    allowed = near(merged(base, deltas))
    assert (wanted - before).abs().max() > AUDIBLE * allowed
    assert_near(outputs(opened.get_base_model()), wanted, allowed)
    if set(deltas) <= set(parameters):
        assert_near(outputs(opened.merge_and_unload()), wanted, allowed)
    else:
        with pytest.raises(RuntimeError, match="base layer has no bias"):
            opened.merge_and_unload()


@pytest.mark.parametrize("name", ADAPTERS)
def test_dead_tensors_are_never_selected(model: Any, family: Family, start: Start, name: str) -> None:
    dead = set(find_parts(model, family).dead)
    assert not dead & set(start(model, name)[2])


@pytest.mark.parametrize("name", CASES)
def test_every_number_of_its_own_learns_and_no_other(
    model: Any, family: Family, windows: tuple[torch.Tensor, torch.Tensor], start: Start, name: str
) -> None:
    start(model, name)
    family.loss(model, *windows).backward()
    for n, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, n


@pytest.mark.parametrize("name", REFERENCES)
def test_what_has_no_adapter_says_so(model: Any, name: str) -> None:
    method = find_method(name)
    attach(model, method, OPTIONS)
    with pytest.raises(TrainError, match="cannot be exported"):
        method.deltas(model, OPTIONS, "int16")


@pytest.mark.parametrize("name", ["lorra", "bitfit+bitfit", "full+lora", ""])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        find_method(name)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fourierft", Options(target_modules=("w",))),
        ("fourierft", Options(preset="all")),
        ("fourierft", Options(n_frequency=33)),  # more than half of the 8 × 8 sites
    ],
)
def test_options_that_cannot_be_are_refused(model: Any, name: str, options: Options) -> None:
    with pytest.raises(ConfigError):
        attach(model, find_method(name), options)


def test_two_methods_never_tune_one_tensor(model: Any) -> None:
    with pytest.raises(ConfigError, match="tuned twice"):
        attach(model, find_method("fourierft+lora"), OPTIONS)


def test_methods_that_wrap_different_layers_combine(
    model: Any, family: Family, outputs: Outputs, near: Near, tune: Tune
) -> None:
    base, before = copy.deepcopy(model), outputs(model)
    fourier, lora = METHODS["fourierft"], METHODS["lora"]
    parts = find_parts(model, family)
    fourier.attach(model, parts, Options(target_modules=("ffn",), n_frequency=5))
    lora.attach(model, parts, Options(target_modules=("v",)))
    assert torch.equal(outputs(model), before)
    for n, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in n or "fourierft_" in n)
    tune(model)
    after = outputs(model)
    deltas = fourier.deltas(model, OPTIONS, "int16") | lora.deltas(model, OPTIONS, "int16")
    assert set(deltas) == {*parts.linear["ffn"], *parts.linear["v"]}
    error, effect = (outputs(merged(base, deltas)) - after).abs().max(), (after - before).abs().max()
    assert error < STEPS * HALF_STEP["int16"] * effect + near(merged(base, deltas))


@pytest.mark.parametrize("name", [*NAMES, *REFERENCES])
def test_every_number_has_its_own_methods_learning_rate(model: Any, family: Family, name: str) -> None:
    method = find_method(name)
    attach(model, method, OPTIONS)
    rates = learning_rates(model, method, None)
    assert set(rates) == {n for n, parameter in model.named_parameters() if parameter.requires_grad}
    of_family = family.rates
    own = {member: METHODS[member].learning_rate for member in name.split("+")}
    assert set(rates.values()) == {of_family.get(member, rate) for member, rate in own.items()}
    assert set(learning_rates(model, method, 0.5).values()) == {0.5}
