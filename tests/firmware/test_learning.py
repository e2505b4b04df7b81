"""Learning in C takes the Python learner's steps, on every processor there is a compiler and an emulator for."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device_runtime.adapt.optimiser import Optimiser
from device_runtime.adapt.rules import AdaptRules
from device_runtime.forecast.learning import LearningSession
from tests.support.biased import learning_bundle

from .conftest import SOURCE, need, run
from .test_processors import PROCESSORS

FloatArray = NDArray[np.float32]

BLOCK = "output_patch_embedding."
LAYERS = ("hidden_layer", "output_layer", "residual_layer")
NEAR = (
    5e-6  # of a kink, of the largest beside it: some tens of roundings of float32, and each side sums in its own order
)
ALIKE = 1e-6  # a first step of Adam is `rate`, a thousand times as much


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A block's weights, and the learner in Python that C is held to."""

    weights: dict[str, FloatArray]
    levels: tuple[float, ...]
    horizon: int
    patch: int
    learner: Any  # gradients(context, target, shift), forecast(context, steps, shift)
    states: Callable[[FloatArray], dict[str, FloatArray]]

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(self.weights[f"{layer}.bias"]) for layer in LAYERS)


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one step learns from."""

    context: FloatArray
    target: FloatArray
    day: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the program reads, and what the Python learner did."""

    sent: bytes
    gradients: list[FloatArray]
    losses: list[float]
    norms: list[float]
    iterates: list[FloatArray]
    means: list[FloatArray]
    forecast: FloatArray
    capped: int


class TorchLearner:
    """The learning graphs as torch modules: what is traced, without the tracing."""

    def __init__(self, model: Any) -> None:
        import torch

        from export.bolt_learning import LearningGraph, ShiftedGraph, StateGraph

        names = [f"{BLOCK}{layer}.bias" for layer in LAYERS]
        self.torch, self.horizon = torch, model.chronos_config.prediction_length
        self.gradient, self.shifted, self.state = (
            graph.eval() for graph in (LearningGraph(model, names), ShiftedGraph(model, names), StateGraph(model))
        )

    def _run(self, module: Any, *arrays: FloatArray) -> list[FloatArray]:
        with self.torch.no_grad():
            out = module(*(self.torch.from_numpy(np.ascontiguousarray(one)) for one in arrays))
        return [one.numpy() for one in (out if isinstance(out, tuple) else (out,))]

    def states(self, context: FloatArray) -> dict[str, FloatArray]:
        return dict(zip(("state", "loc", "scale"), self._run(self.state, context), strict=True))

    def gradients(self, context: FloatArray, target: FloatArray, shift: FloatArray) -> tuple[float, FloatArray]:
        padded = np.full((len(target), self.horizon), np.nan, dtype=np.float32)
        padded[:, : target.shape[1]] = target
        loss, gradient = self._run(self.gradient, context, padded, shift)
        return float(loss), gradient

    def forecast(self, context: FloatArray, steps: int, shift: FloatArray) -> FloatArray:
        (quantiles,) = self._run(self.shifted, context, np.repeat(shift[None], len(context), axis=0))
        return np.sort(quantiles.transpose(0, 2, 1)[:, :steps], axis=-1)


def of_model(model: Any) -> Shape:
    learner = TorchLearner(model)
    weights = {name: one.detach().numpy() for name, one in model.output_patch_embedding.named_parameters()}
    chronos = model.chronos_config
    return Shape(
        weights=weights, levels=tuple(chronos.quantiles), horizon=chronos.prediction_length,
        patch=chronos.input_patch_size, learner=learner, states=learner.states,
    )  # fmt: skip


@pytest.fixture(scope="module")
def dummy(tmp_path_factory: pytest.TempPathFactory) -> Shape:
    """The dummy base's own graphs in ONNX Runtime: no torch."""
    from device_runtime.forecast.families.patches import patch_size, whole_patches
    from device_runtime.forecast.session import open_session, run_all

    session = LearningSession.open(learning_bundle(tmp_path_factory.mktemp("state") / "bundle", "state"))
    bundle = session.bundle
    state = open_session(bundle, "state", {})
    patch = patch_size(bundle.manifest)
    weights = {
        entry.name.removeprefix(BLOCK): bundle.tensor(index)
        for index, entry in enumerate(bundle.manifest.tensors)
        if entry.name.startswith(BLOCK)
    }
    return Shape(
        weights=weights, levels=bundle.manifest.quantile_levels, horizon=bundle.manifest.prediction_length, patch=patch,
        learner=session, states=lambda context: run_all(state, {"context": whole_patches(context, patch)}),
    )  # fmt: skip


@pytest.fixture(scope="module")
def micro() -> Shape:
    pytest.importorskip("torch", reason="the bundled base is read with torch")
    from edge_tsfm.models import load_base

    return of_model(load_base("edge-bolt-micro").model)


@pytest.fixture(scope="module")
def tiny() -> Shape:
    """amazon/chronos-bolt-tiny's widths with random weights; one layer each: the block sees no more of them."""
    torch = pytest.importorskip("torch", reason="random weights are drawn with torch")
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(
        d_model=256, d_kv=64, d_ff=1024, num_heads=4, num_layers=1, num_decoder_layers=1, vocab_size=2, reg_token_id=1,
        feed_forward_proj="relu", dropout_rate=0.0, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0,
        chronos_config={
            "context_length": 2048, "prediction_length": 64, "input_patch_size": 16, "input_patch_stride": 16,
            "quantiles": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], "use_reg_token": True,
        },
    )  # fmt: skip
    model = ChronosBoltModelForForecasting(config)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return of_model(model.eval())


# --- what is learnt from --------------------------------------------------------------------------------------------


def drawn(rng: np.random.Generator, batch: int, patch: int, steps: int) -> tuple[FloatArray, FloatArray]:
    """Vital signs of a few levels and spreads, with gaps; a constant context, a target beyond all, and none at all."""
    length, spread = 3 * patch, rng.uniform(0.5, 8, (batch, 1))
    walk = rng.uniform(40, 120, (batch, 1)) + spread * np.cumsum(rng.normal(size=(batch, length + steps)), 1)
    both = walk.astype(np.float32)
    context, target = both[:, :length].copy(), both[:, length:].copy()
    context[rng.random(context.shape) < 0.1] = np.nan
    context[:, -1] = both[:, length - 1]
    target[rng.random(target.shape) < 0.1] = np.nan
    context[0], target[1, 0], target[2] = 77.7, 1e6, np.nan
    return context, target


def linear(shape: Shape, layer: str, x: NDArray[np.float64], part: FloatArray) -> NDArray[np.float64]:
    weight, bias = (shape.weights[f"{layer}.{kind}"].astype(np.float64) for kind in ("weight", "bias"))
    return x @ weight.T + bias + part


def clear(
    shape: Shape, context: FloatArray, target: FloatArray, shift: FloatArray, *, first: bool
) -> tuple[FloatArray, FloatArray]:
    """Leave out windows of which two ways of rounding may say different things.

    A ReLU or a quantile within roundings of its kink falls on either side. And where as much pulls a level up as down,
    a sum in float32 may leave a rounding, of which Adam's ``first`` step makes a move.
    """
    held = {name: one.astype(np.float64) for name, one in shape.states(context).items()}
    parts = np.split(shift, np.cumsum(shape.sizes)[:-1])
    inner = linear(shape, LAYERS[0], held["state"], parts[0])
    made = linear(shape, LAYERS[1], np.maximum(inner, 0), parts[1]) + linear(shape, LAYERS[2], held["state"], parts[2])
    quantiles = made.reshape(len(context), len(shape.levels), -1)[..., : target.shape[1]]
    miss = np.clip((target - held["loc"]) / held["scale"], -20, 20)[:, None] - quantiles  # [B, Q, H]
    beside = (np.abs(inner) < NEAR * (1 + np.abs(inner).max())).any(1)
    beside |= (np.abs(miss) < NEAR * (1 + np.abs(quantiles).max())).any((1, 2))
    beside &= np.nanstd(context, axis=1) > 1e-3  # a constant one teaches nothing
    context, target, miss = context[~beside], target[~beside], miss[~beside]
    told = ~np.isnan(miss) & (np.nanstd(context, axis=1) > 1e-3)[:, None, None]
    level = np.array(shape.levels)[:, None]
    while first:
        pulls = np.where(told, np.where(miss < 0, 1 - level, -level), 0.0).sum(0)
        if not (told.any(0) & (np.abs(pulls) < 1e-6)).any():
            break
        context, target, miss, told = context[:-1], target[:-1], miss[:-1], told[:-1]
    return context, target


def learnt(shape: Shape, rules: AdaptRules, *, steps: int, rounds: int, seed: int, batch: int = 24) -> Run:
    """Let the Python learner take its steps, and write down what it learnt from."""
    rng = np.random.default_rng(seed)
    optimiser = Optimiser(rules, shape.sizes)
    sizes = (shape.weights["hidden_layer.weight"].shape[1], shape.sizes[0], len(shape.levels), shape.horizon, steps)
    parts = [struct.pack("<5I", *sizes), np.array(shape.levels).tobytes()]
    parts += [
        shape.weights[f"{layer}.{kind}"].astype("<f4").tobytes() for layer in LAYERS for kind in ("weight", "bias")
    ]
    kept = (rules.rate, rules.average, rules.anchor, rules.clip_norm, rules.cap_tensor, rules.cap_day)
    parts += [struct.pack("<6d", *kept), struct.pack("<I", rounds)]
    gradients, losses, norms, iterates, means = [], [], [], [], []
    for number in range(rounds):
        context, target = clear(shape, *drawn(rng, batch, shape.patch, steps), optimiser.iterate, first=number == 0)
        assert len(context) >= 5, number
        states = shape.states(context)
        day = 20_000 + number // 20
        parts.append(struct.pack("<Iq", len(context), day))
        for row in range(len(context)):
            loc, scale = states["loc"][row, 0], states["scale"][row, 0]
            parts.append(struct.pack("<Iff", context.shape[1], loc, scale))
            parts += [one.astype("<f4").tobytes() for one in (states["state"][row], target[row], context[row])]
        loss, gradient = shape.learner.gradients(context, target, optimiser.iterate)
        norm = optimiser.step(gradient, day)
        assert norm is not None
        gradients.append(gradient.copy())
        losses.append(loss)
        norms.append(norm)
        iterates.append(optimiser.iterate.copy())
        means.append(optimiser.mean.copy())
    return Run(
        sent=b"".join(parts), gradients=gradients, losses=losses, norms=norms, iterates=iterates, means=means,
        forecast=shape.learner.forecast(context, steps, optimiser.mean), capped=optimiser.capped,
    )  # fmt: skip


def compare(shape: Shape, wanted: Run, command: list[str], steps: int) -> None:
    """Run the program and hold every step of it to the Python learner's."""
    done = subprocess.run(command, input=wanted.sent, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, (done.returncode, done.stderr[-2_000:])
    size, at = sum(shape.sizes), 0

    def take(dtype: str, count: int) -> NDArray[Any]:
        nonlocal at
        out = np.frombuffer(done.stdout, dtype=dtype, count=count, offset=at)
        at += out.nbytes
        return out

    for number, gradient in enumerate(wanted.gradients):
        got = take("<f4", size)
        assert np.abs(got - gradient).max() <= 4 * ALIKE * np.abs(gradient).max(), number
        loss, norm = take("<f8", 2)
        assert loss == pytest.approx(wanted.losses[number], rel=2e-6), number
        assert norm == pytest.approx(wanted.norms[number], rel=2e-5), number
        for name, mine in (("iterate", wanted.iterates[number]), ("mean", wanted.means[number])):
            assert np.abs(take("<f4", size) - mine).max() <= ALIKE, (number, name)
    quantiles = take("<f4", wanted.forecast.size).reshape(wanted.forecast.shape)
    spread = np.ptp(wanted.forecast, axis=(1, 2), keepdims=True)
    assert (np.abs(np.sort(quantiles, -1) - wanted.forecast) <= 1e-5 * (spread + np.abs(wanted.forecast))).all()
    assert int(take("<u8", 1)[0]) == wanted.capped
    assert at == len(done.stdout)


# --- the comparison -------------------------------------------------------------------------------------------------


def rules(**said: Any) -> AdaptRules:
    return AdaptRules(**{"rate": 0.001, "average": 0.98, **said})


CASES = {
    "as it is": rules(),
    "dense": rules(rate=0.003, average=0.9),
    "anchored": rules(anchor=0.5, clip_norm=0.05),
    "held back": rules(rate=0.01, cap_tensor=0.004, cap_day=0.003),
}


def build(folder: Path, compiler: str, *flags: str, program: str = "learning_program.c") -> Path:
    need(compiler)
    binary = folder / "learning"
    strict = ["-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wstrict-prototypes", "-pedantic", "-Werror"]
    sources = [Path(__file__).with_name(program), SOURCE / "learn" / "etsa_learn.c"]
    done = run(compiler, *strict, *flags, "-I", SOURCE / "learn", *sources, "-o", binary, "-lm")
    assert done.returncode == 0, done.stderr
    return binary


SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.parametrize("name", CASES)
def test_the_steps_are_the_python_learners(tmp_path: Path, dummy: Shape, name: str) -> None:
    wanted = learnt(dummy, CASES[name], steps=6, rounds=60, seed=len(name))
    assert np.abs(wanted.iterates[-1]).max() > (0.002 if name == "held back" else 0.005)
    assert (wanted.capped > 0) == (name == "held back")
    compare(dummy, wanted, [str(build(tmp_path, "cc", *SANITIZED))], 6)


@pytest.mark.parametrize("which", ["micro", "tiny"])
def test_the_steps_are_the_same_at_real_widths(tmp_path: Path, which: str, request: pytest.FixtureRequest) -> None:
    shape = request.getfixturevalue(which)
    assert sum(shape.sizes) == {"micro": 1_664, "tiny": 2_176}[which]
    wanted = learnt(shape, CASES["as it is"], steps=6, rounds=60, seed=11)
    compare(shape, wanted, [str(build(tmp_path, "cc", "-O2"))], 6)


@pytest.fixture(scope="module")
def steps_of_the_dummy(dummy: Shape) -> Run:
    return learnt(dummy, CASES["held back"], steps=6, rounds=60, seed=3)


def said(wanted: Run, binary: Path, emulator: str | None = None) -> bytes:
    command = [*([emulator] if emulator else []), str(binary)]
    done = subprocess.run(command, input=wanted.sent, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, (done.returncode, done.stderr[-2_000:])
    return done.stdout


def test_flags_change_no_bit(tmp_path: Path, dummy: Shape, steps_of_the_dummy: Run) -> None:
    plain = build(tmp_path, "cc", "-Os")
    compare(dummy, steps_of_the_dummy, [str(plain)], 6)
    first = said(steps_of_the_dummy, plain)
    assert said(steps_of_the_dummy, build(tmp_path, "cc", "-O3", "-march=native", "-ffp-contract=fast")) == first


@pytest.mark.slow
@pytest.mark.parametrize("processor", [name for name, (_, emulator) in PROCESSORS.items() if emulator])
def test_the_steps_are_the_same_bits_on_every_processor(
    processor: str, tmp_path: Path, dummy: Shape, steps_of_the_dummy: Run
) -> None:
    compiler, emulator = PROCESSORS[processor]
    assert emulator is not None
    need("cc", compiler, emulator)
    first = said(steps_of_the_dummy, build(tmp_path, "cc", "-O2"))
    for flags in (("-Os",), ("-O3", "-ffp-contract=fast")):
        binary = build(tmp_path, compiler, "-static", *flags)
        assert said(steps_of_the_dummy, binary, emulator) == first, flags
    compare(dummy, steps_of_the_dummy, [emulator, str(binary)], 6)


def test_what_means_nothing_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    done = run(build(tmp_path, "cc", *SANITIZED, program="learning_refusals.c"))
    assert done.returncode == 0, f"line {done.returncode}: {done.stderr}"
