"""Learning graphs: the backward pass that is written out, and the proof that holds it to torch's own."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from device_runtime.errors import BaseMismatchError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.learning import LearningSession, open_learning
from device_runtime.format.fourier_shift import FourierShift
from device_runtime.format.learning import LEARNING_FILE, STATE
from edge_tsfm.errors import ConfigError, ModelError
from edge_tsfm.methods import attach, find_method
from edge_tsfm.methods.fourierft import fourier_sites
from edge_tsfm.models import Base, load_base
from edge_tsfm.models.bolt import Bolt
from edge_tsfm.models.parts import find_parts
from edge_tsfm.options import Options
from edge_tsfm.runs.learning import add_learning, find_sites
from export import ExportError, FourierSites, export_learning, export_precision
from export.bolt_learning import LearningGraph, ShiftedGraph, StateGraph
from export.learning import learnable_names
from export.learning_proof import check_learning
from export.moves import Moves
from export.state_proof import StateLearner
from export.waves import Waves
from tests.dummy_bases.make_bundle import GRAPHS, add_fourier
from tests.support.biased import BASES, learning_bundle

LOSS = Bolt().loss


def windows(model: Any, batch: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    steps = 3 * model.chronos_config.input_patch_size
    context = 80 + torch.randn(batch, steps, generator=generator).cumsum(-1)
    context[0, :7], context[1, 9] = torch.nan, torch.nan
    target = context[:, -1:] + 3 * torch.randn(batch, model.chronos_config.prediction_length, generator=generator)
    target[0, 4:], target[2, 0] = torch.nan, 1e6
    return context, target


def moved(model: Any, names: list[str], shift: Tensor, context: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Training's loss and torch's gradient with the biases shifted."""
    parameters = [model.get_parameter(name) for name in names]
    kept = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter, part in zip(parameters, shift.split([one.numel() for one in parameters]), strict=True):
            parameter.add_(part)
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    try:
        loss = LOSS(model, context, target)
        return float(loss), torch.cat(torch.autograd.grad(loss, parameters))
    finally:
        for parameter, numbers, wanted in zip(parameters, kept, before, strict=True):
            parameter.requires_grad_(wanted)
            with torch.no_grad():
                parameter.copy_(numbers)


def biases(model: Any) -> list[str]:
    return [name for name, _ in model.named_parameters() if name.endswith(".bias")]


@pytest.mark.parametrize("what", ["native", "added", "output"])
def test_the_gradient_is_torchs(exported: Callable[..., Any], what: str) -> None:
    base, bundle = exported("chronos-bolt", added_biases=what == "added")
    names = learnable_names(bundle.manifest, "output-biases" if what == "output" else "biases")
    assert len(names) == {"native": 6, "output": 3}.get(what, len(biases(base.model)))
    context, target = windows(base.model)
    graph = LearningGraph(base.model, names).eval()
    size = sum(base.model.get_parameter(name).numel() for name in names)
    for seed in range(2):
        shift = 0.05 * torch.randn(size, generator=torch.Generator().manual_seed(seed))
        loss, gradient = moved(base.model, names, shift, context, target)
        with torch.no_grad():
            got, mine = graph(context, target, shift)
        assert float(got) == pytest.approx(loss, rel=1e-5)
        for name, one, other in zip(names, gradient.split(graph.sizes), mine.split(graph.sizes), strict=True):
            assert one.abs().max() > 0, name
            torch.testing.assert_close(other, one, atol=2e-5 * float(gradient.abs().max()), rtol=0, msg=name)


def test_the_gradient_by_coefficients_is_that_of_the_method(dummy_base: Base) -> None:
    """Training's own layers are the judge: PEFT's, with the entries and scaling that a run would have."""
    options = Options(target_modules=("patch", "q", "v", "o"), n_frequency=8)
    model = copy.deepcopy(dummy_base.model)
    names, count = fourier_sites(model, find_parts(model, Bolt()), options)
    fourier = FourierShift(count=count, seed=options.entries_seed, scaling=options.scaling)
    context, target = windows(model)
    graph = LearningGraph(dummy_base.model, names, fourier).eval()
    shift = 0.05 * torch.randn(sum(graph.sizes), generator=torch.Generator().manual_seed(1))
    attach(model, find_method("fourierft"), options)
    layers = [model.get_submodule(name.removesuffix(".weight")) for name in names]
    spectra = [layer.fourierft_spectrum["default"] for layer in layers]
    units = [fourier.height * layer.in_features * layer.out_features / fourier.scaling for layer in layers]
    with torch.no_grad():
        for spectrum, part, unit in zip(spectra, shift.split(graph.sizes), units, strict=True):
            spectrum.copy_(part * unit)
    loss = LOSS(model.eval(), context, target)
    found = torch.autograd.grad(loss, spectra)
    with torch.no_grad():
        got, gradient = graph(context, target, shift)
    assert float(got) == pytest.approx(float(loss.detach()), rel=1e-4)
    for name, one, unit, mine in zip(names, found, units, gradient.split(graph.sizes), strict=True):
        assert mine.abs().max() > 0, name
        # PEFT's cosines are not the format's, which are rounded to 2^-15.
        torch.testing.assert_close(mine, one * unit, atol=2e-4 * float(gradient.abs().max()), rtol=0, msg=name)


def test_the_waves_of_a_graph_are_those_of_a_merge(dummy_base: Base) -> None:
    fourier = FourierShift(count=8, seed=777, scaling=150.0)
    weight = "encoder.block.0.layer.0.SelfAttention.v.weight"
    names = [weight, "output_patch_embedding.output_layer.weight", "input_patch_embedding.hidden_layer.weight"]
    waves = Waves(dummy_base.model, names, fourier)
    shift = 0.05 * torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(2))
    for name in names:
        rows, columns = shape = tuple(dummy_base.model.get_parameter(name).shape)
        x = torch.randn(2, 5, columns, generator=torch.Generator().manual_seed(3))
        changes = [
            torch.from_numpy(fourier.delta(one[0].double().numpy(), (rows, columns)).dense()).float() for one in shift
        ]
        wanted = torch.stack([each @ change.T for each, change in zip(x, changes, strict=True)])
        torch.testing.assert_close(waves.added(name, x, shift), wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)
        assert shape == changes[0].shape


@pytest.mark.parametrize("added", [False, True])
def test_each_row_is_shifted_by_its_own_numbers(exported: Callable[..., Any], added: bool) -> None:
    base, bundle = exported("chronos-bolt", added_biases=added)
    names = learnable_names(bundle.manifest, "biases")
    context, _ = windows(base.model)
    graph = ShiftedGraph(base.model, names).eval()
    shifts = 0.05 * torch.randn(len(context), sum(graph.sizes), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        got = graph(context, shifts)
        for row in range(len(context)):
            alone = graph(context[row : row + 1], shifts[row : row + 1])
            torch.testing.assert_close(got[row : row + 1], alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(
            graph(context, torch.zeros_like(shifts)), base.model(context=context).quantile_preds, atol=1e-4, rtol=0
        )


@pytest.fixture(scope="module")
def dummy_base() -> Base:
    return load_base(str(BASES / "chronos-bolt"))


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learning_bundle(tmp_path_factory.mktemp("learning") / "bundle")


def test_the_proof_passes_what_is_right(dummy_base: Base, learning: Path) -> None:
    parity = check_learning(dummy_base.model, *open_learning(learning), LOSS)
    assert parity.gradient < 3e-6
    assert parity.shifted < 3e-6
    assert parity.weakest_move > 1e-3


@pytest.mark.slow
def test_the_proof_sees_another_loss(dummy_base: Base, learning: Path) -> None:
    def other(model: Any, context: Tensor, target: Tensor) -> Tensor:
        return LOSS(model, context, target) * (1 + 1e-4)

    with pytest.raises(ExportError, match="at 4 of 4 places"):
        check_learning(dummy_base.model, *open_learning(learning), other)


@pytest.mark.slow
def test_the_proof_passes_and_sees_coefficients(dummy_base: Base, tmp_path: Path, monkeypatch: Any) -> None:
    opened = open_learning(learning_bundle(tmp_path / "bundle", "fourier"))
    parity = check_learning(dummy_base.model, *opened, LOSS)
    assert max(parity.gradient, parity.shifted) < 3e-6
    assert parity.weakest_move > 1e-3
    right = Moves.change

    def other(self: Moves, name: str, numbers: Any) -> Any:
        return right(self, name, numbers[::-1] if name.endswith("EncDecAttention.v.weight") else numbers)

    monkeypatch.setattr(Moves, "change", other)  # as if the graph had a weight's coefficients in another order
    with pytest.raises(ExportError, match="at 4 of 4 places"):
        check_learning(dummy_base.model, *opened, LOSS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["added", "gradient", "back"])
def test_the_proof_sees_a_wrong_wave(dummy_base: Base, tmp_path: Path, monkeypatch: Any, name: str) -> None:
    step = getattr(Waves, name)
    monkeypatch.setattr(Waves, name, lambda *arguments: 1.001 * step(*arguments))
    folder = Path(shutil.copytree(BASES / "chronos-bolt-bundle", tmp_path / "bundle"))
    with pytest.raises(ExportError, match="at 4 of 4 places"):
        add_fourier(dummy_base, Bundle.open(folder))
    assert not (folder / LEARNING_FILE).exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["_norm", "_residual", "_feed_forward", "_attend", "_look"])
def test_the_proof_sees_a_wrong_step_back(dummy_base: Base, learning: Path, monkeypatch: Any, name: str) -> None:
    """The graph in torch's place of the runtime: what a fault in any step of it would do."""
    step = getattr(LearningGraph, name)

    def wrong(*arguments: Any) -> Any:
        out, back = step(*arguments)
        return out, lambda d: _times(back(d), 1.001)

    monkeypatch.setattr(LearningGraph, name, staticmethod(wrong) if name == "_norm" else wrong)
    graph = LearningGraph(dummy_base.model, learnable_names(Bundle.open(learning).manifest, "biases"))

    def gradients(self: LearningSession, context: Any, target: Any, shift: Any) -> Any:
        length = self.bundle.manifest.prediction_length
        padded = np.full((len(target), length), np.nan, np.float32)
        padded[:, : target.shape[1]] = target
        with torch.no_grad():
            loss, gradient = graph(*(torch.from_numpy(np.array(one)) for one in (context, padded, shift)))
        return float(loss), gradient.numpy()

    monkeypatch.setattr(LearningSession, "gradients", gradients)
    with pytest.raises(ExportError, match="the gradient differs from torch's"):
        check_learning(dummy_base.model, *open_learning(learning), LOSS)


def _times(value: Any, factor: float) -> Any:
    return tuple(one * factor for one in value) if isinstance(value, tuple) else value * factor


@pytest.mark.parametrize("added", [False, True])
def test_the_state_is_what_the_output_block_reads(exported: Callable[..., Any], added: bool) -> None:
    base, _ = exported("chronos-bolt", added_biases=added)
    context, _ = windows(base.model)
    heard: list[Tensor] = []
    hook = base.model.output_patch_embedding.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        with torch.no_grad():
            base.model(context=context)
            _, (loc, scale) = base.model.instance_norm(context)
            got = StateGraph(base.model).eval()(context)
    finally:
        hook.remove()
    torch.testing.assert_close(got[0], heard[0][:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(got[1], loc)
    torch.testing.assert_close(got[2], scale)


def test_the_proof_passes_and_sees_the_state(dummy_base: Base, tmp_path: Path, monkeypatch: Any) -> None:
    opened = open_learning(learning_bundle(tmp_path / "bundle", "state"))
    assert STATE in opened[1].graphs
    check_learning(dummy_base.model, *opened, LOSS)
    right = StateLearner.states

    def wrong(self: StateLearner, context: Any) -> Any:
        held = right(self, context)
        return {**held, "state": held["state"] * np.float32(1.001)}

    monkeypatch.setattr(StateLearner, "states", wrong)
    with pytest.raises(ExportError, match="at 4 of 4 places"):
        check_learning(dummy_base.model, *opened, LOSS)


@pytest.mark.parametrize("family", ["chronos-t5", "chronos-2"])
def test_other_families_are_refused(exported: Callable[[str], Any], family: str) -> None:
    base, bundle = exported(family)
    with pytest.raises(ExportError, match=f"no learning graphs for {family}") as refused:
        add_learning(base, bundle, "biases")
    assert "chronos-bolt" in str(refused.value.hint)
    assert not (bundle.path / LEARNING_FILE).exists()


def test_coefficients_are_of_float32_bundles_and_known_weights(
    dummy_base: Base, exported: Callable[..., Any], tmp_path: Path
) -> None:
    _, bundle = exported("chronos-bolt")
    adapted = [entry.name for entry in bundle.manifest.tensors]
    export_precision(bundle, out=tmp_path / "int8", precision="int8", adapted=adapted)
    with pytest.raises(ExportError, match="fourierft moves weights of float32 bundles only"):
        add_fourier(dummy_base, Bundle.open(tmp_path / "int8"))
    folder = Path(shutil.copytree(BASES / "chronos-bolt-bundle", tmp_path / "bundle"))
    shift = FourierShift(count=8, seed=777, scaling=150.0)
    for name, message in (
        ("shared.weight", "shared.weight is not in the bundle's tensor table"),
        ("decoder.block.0.layer.1.EncDecAttention.k.weight", "no learning graphs move a cross-attention's keys"),
    ):
        sites = FourierSites(names=(name,), shift=shift)
        with pytest.raises(ExportError, match=message):
            export_learning(dummy_base.model, Bundle.open(folder), learnable="fourierft", sites=sites, loss=LOSS)
    with pytest.raises(ExportError, match="no learnable 'fourierft'"):
        export_learning(dummy_base.model, Bundle.open(folder), learnable="fourierft", loss=LOSS)
    assert find_sites(dummy_base, "biases") is None
    with pytest.raises(ConfigError, match="no preset 'qv10'"):
        find_sites(dummy_base, "fourierft/qv10")


def test_what_cannot_be_written_is_refused_first(dummy_base: Base, learning: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="learning graphs are written once"):
        add_learning(dummy_base, Bundle.open(learning), "biases")
    with pytest.raises(ExportError, match="no learnable 'weights'"):
        add_learning(dummy_base, Bundle.open(BASES / "chronos-bolt-bundle"), "weights")
    with pytest.raises(ModelError, match="was exported from weights") as refused:
        add_learning(load_base("edge-bolt-micro"), Bundle.open(learning), "biases")
    assert "--base" in str(refused.value.hint)
    other = load_base(str(BASES / "chronos-bolt")).model
    with torch.no_grad():
        other.get_parameter("encoder.block.0.layer.1.DenseReluDense.wi.weight")[0, 0] += 1
    folder = Path(shutil.copytree(BASES / "chronos-bolt-bundle", tmp_path / "bundle"))
    with pytest.raises(ExportError, match="the bundle has other values than the model"):
        export_learning(other, Bundle.open(folder), learnable="biases", loss=LOSS)
    assert sorted(file.name for file in folder.iterdir()) == ["bundle.json", "forecast.onnx", "tunable.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("learnable", ["biases", "output-biases", "fourierft"])
def test_adding_graphs_changes_no_file(dummy_base: Base, tmp_path: Path, learnable: str) -> None:
    folder = Path(shutil.copytree(BASES / "chronos-bolt-bundle", tmp_path / "bundle"))
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    opened = Bundle.open(folder)
    result = (
        add_fourier(dummy_base, opened) if learnable == "fourierft" else add_learning(dummy_base, opened, learnable)
    )
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert {file.name for file in folder.iterdir()} - set(before) >= {"learning.json", "learning.onnx", "shifted.onnx"}
    assert result.parameters == {"biases": 336, "output-biases": 304, "fourierft": 128}[learnable]
    committed = GRAPHS[learnable]
    for file in {one.name for one in committed.iterdir()} - {LEARNING_FILE}:  # which the device's tests read
        assert (folder / file).read_bytes() == (committed / file).read_bytes(), file
    assert (folder / "state.onnx").exists() == (learnable == "output-biases") == (STATE in result.graphs)


@pytest.mark.slow
def test_a_failed_proof_leaves_the_bundle_as_it_was(dummy_base: Base, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BASES / "chronos-bolt-bundle", tmp_path / "bundle"))
    with pytest.raises(ExportError, match="places"):
        export_learning(dummy_base.model, Bundle.open(folder), learnable="biases", loss=lambda *a: 2 * LOSS(*a))
    assert sorted(file.name for file in folder.iterdir()) == ["bundle.json", "forecast.onnx", "tunable.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "learnable"), [("int8", "biases"), ("float16", "biases"), ("int8", "output-biases")]
)
def test_a_reduced_bundle_learns_by_the_float_gradient(
    exported: Callable[..., Any], tmp_path: Path, precision: str, learnable: str
) -> None:
    base, bundle = exported("chronos-bolt", added_biases=True)
    adapted = [entry.name for entry in bundle.manifest.tensors if len(entry.shape) == 1]
    out = tmp_path / "bundle"
    export_precision(
        bundle, out=out, precision=precision, adapted=adapted, beside=lambda made: add_learning(base, made, learnable)
    )
    session = LearningSession.open(out)
    assert len(session.names) == (len(biases(base.model)) if learnable == "biases" else 3)
    assert STATE not in session.learning.graphs  # whose weights would be neither the gradient's nor the forecast's
    context, target = windows(base.model)
    shift = torch.zeros(session.size)
    wanted, gradient = moved(base.model, list(session.names), shift, context, target)
    loss, got = session.gradients(context.numpy(), target.numpy(), shift.numpy())
    assert loss == pytest.approx(wanted, rel=1e-5)
    np.testing.assert_allclose(got, gradient.numpy(), atol=2e-5 * float(gradient.abs().max()))


def test_learning_graphs_are_of_one_base(learning: Path, exported: Callable[[str], Any], tmp_path: Path) -> None:
    _, other = exported("chronos-bolt")
    folder = Path(shutil.copytree(other.path, tmp_path / "bundle"))
    shutil.copytree(BASES / "chronos-bolt-learning", folder, dirs_exist_ok=True)
    with pytest.raises(BaseMismatchError, match=r"learning.json is of base"):
        open_learning(folder)
