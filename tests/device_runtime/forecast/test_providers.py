"""Where a session may run. The processor, asked for as a plugin's device is, stands for a good provider."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from device_runtime.errors import MissingLibraryError, SelfTestError, SettingsError
from device_runtime.faults import Fault, fault_of
from device_runtime.forecast import placed as places
from device_runtime.forecast import proving
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.choose_answer import choose_known_answer
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.known_answer import prove
from device_runtime.forecast.listed import listed
from device_runtime.forecast.merge import merge
from device_runtime.forecast.proofs import read_proofs, write_proof
from device_runtime.forecast.providers import KNOWN, Chosen, choose
from device_runtime.forecast.proving import prove_provider
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.adapter import Adapter
from device_runtime.format.blob import decode, encode
from device_runtime.format.delta import Dense, Numbers
from device_runtime.format.proofs import PROOFS_FILE, Proof
from device_runtime.format.static import STATIC

FloatArray = NDArray[np.float32]
BLOB = Path(__file__).resolve().parents[2] / "dummy_bases" / "chronos-bolt.etsa"
GOOD = SessionSettings(provider="CPUExecutionProvider:cpu", cpu_fallback=True, threads=1)


@pytest.fixture
def bundle(dummy_bundle: Path, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(dummy_bundle, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def proof(dummy_bundle: Path) -> Proof:
    """Of the dummy base, with an adapter, on a provider that is the processor."""
    return prove_provider(Bundle.open(dummy_bundle), GOOD, adapter=BLOB.read_bytes())


def rounded(tensor: FloatArray) -> FloatArray:
    """Round to bfloat16, which keeps 8 bits of a number, as OpenVINO's default on some processors does."""
    bits = tensor.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def pretend(monkeypatch: pytest.MonkeyPatch, change: Callable[[Bundle, dict[int, FloatArray]], None]) -> None:
    """Make the provider one that changes the tensors it is given."""

    def opened(bundle: Bundle, merged: Mapping[int, FloatArray], settings: SessionSettings) -> Any:
        tensors = dict(merged)
        change(bundle, tensors)
        return FAMILIES[bundle.manifest.family](bundle, tensors, settings)

    monkeypatch.setattr(proving, "placed", lambda bundle, _: (bundle, opened, None))


def in_bfloat16(bundle: Bundle, tensors: dict[int, FloatArray]) -> None:
    for index in range(len(bundle.manifest.tensors)):
        tensors[index] = rounded(np.ascontiguousarray(tensors.get(index, bundle.tensor(index))))


def test_what_nobody_has_proven_is_refused_by_the_command_that_proves_it(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="nobody has proven this base on CPUExecutionProvider:cpu") as refused:
        Forecaster.open(bundle, BLOB, settings=GOOD)
    assert f"edge-tsfm-device prove {bundle.path} --provider CPUExecutionProvider:cpu" in str(refused.value.hint)
    assert fault_of(refused.value) is Fault.SETTINGS  # no adapter is barred for it


def test_a_proven_provider_forecasts_and_the_base_stays_the_same(bundle: Bundle, proof: Proof) -> None:
    before = bundle.digest
    write_proof(bundle, proof)
    again = Bundle.open(bundle.path)
    assert again.digest == before
    assert read_proofs(again) == (proof,)
    assert proof.exact
    assert proof.tolerance_ppm == 0
    assert proof.tensors == len(bundle.manifest.tensors)
    assert proof.weakest_margin >= 1
    assert proof.effect_kept > 0.999
    assert proof.nodes > 0
    context = np.arange(40, dtype=np.float32) % 7 + 80
    there = Forecaster.open(again, BLOB, settings=GOOD)
    assert there.proof == proof
    here = Forecaster.open(again, BLOB)
    assert np.abs(there.forecast(context).quantiles - here.forecast(context).quantiles).max() < 1e-3
    assert here.proof is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"onnxruntime": "1.0.0"}, "was proven with onnxruntime 1.0.0"),
        ({"version": "0.1"}, "was proven with version 0.1 of the provider"),
        ({"library": "ab" * 32}, "was proven with library abababababababab"),
        ({"options": "ab" * 32}, "nobody has proven"),
        ({"provider": "other:cpu"}, "nobody has proven"),
        ({"cpu_fallback": False}, "nobody has proven"),
        ({"graphs": ("shifted",)}, "only shifted is proven, not forecast"),
    ],
)
def test_a_proof_holds_for_what_was_measured(bundle: Bundle, proof: Proof, change: dict[str, Any], said: str) -> None:
    write_proof(bundle, replace(proof, **change))
    with pytest.raises(SettingsError, match=said):
        Forecaster.open(bundle, settings=GOOD)


def test_a_proof_holds_for_the_shape_of_a_static_graph(
    bundle: Bundle, proof: Proof, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = replace(choose(GOOD.provider), static=True)
    monkeypatch.setattr(places, "chosen_by", lambda _: fixed)
    monkeypatch.setattr(places, "open_static", lambda _: SimpleNamespace(static=SimpleNamespace(shape="64x2")))
    for shape in ("64x1", "64x2"):
        write_proof(bundle, replace(proof, graphs=(STATIC,), shape=shape))
        if shape == "64x2":
            assert places.placed(bundle, GOOD)[2] is not None
            continue
        with pytest.raises(SettingsError, match="proven with a static graph of 64x1, this one is of 64x2"):
            places.placed(bundle, GOOD)


def test_a_provider_that_computes_in_bfloat16_is_not_proven_as_float32(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, in_bfloat16)
    with pytest.raises(SelfTestError, match="that is not float32") as refused:
        prove_provider(bundle, GOOD)
    assert "--max-deviation" in str(refused.value.hint)
    with pytest.raises(SelfTestError, match="on average, allowed 1e-05"):
        prove_provider(bundle, GOOD, max_deviation=1e-5)


def test_the_known_answer_refuses_bfloat16(bundle: Bundle) -> None:
    adapter = decode(BLOB.read_bytes())
    tensors = dict(merge(bundle.manifest, bundle.tensor, adapter))
    family = FAMILIES[bundle.manifest.family]
    assert prove(bundle.manifest, adapter, family(bundle, tensors, SessionSettings()).probe) is not None
    in_bfloat16(bundle, tensors)
    with pytest.raises(SelfTestError, match="known-answer test: off by"):
        prove(bundle.manifest, adapter, family(bundle, tensors, SessionSettings()).probe)


@pytest.mark.slow
def test_less_precision_that_a_person_allows_has_a_tolerance_of_its_own(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, in_bfloat16)
    proof = prove_provider(bundle, GOOD, max_deviation=0.05)
    assert not proof.exact
    assert 0 < proof.mean_deviation_ppm < proof.max_deviation_ppm
    assert proof.mean_deviation_ppm < proof.tolerance_ppm


@pytest.mark.parametrize(("share", "said"), [(0.1, ""), (0.5, "a merge that failed could pass")])
def test_a_faint_adapter_is_refused_where_the_tolerance_would_cover_it(
    bundle: Bundle, proof: Proof, share: float, said: str
) -> None:
    faint = slight(bundle)
    answer = faint.known_answer
    assert answer is not None
    base = FAMILIES[bundle.manifest.family](bundle, {}, SessionSettings())
    moved = np.abs(base.probe(answer.context, len(answer.expected)) - answer.expected).max() / answer.context.std()
    write_proof(bundle, replace(proof, exact=False, tolerance_ppm=round(share * float(moved) * 1e6, 3)))
    with pytest.raises(SelfTestError, match=said) if said else nullcontext():
        Forecaster.open(bundle, encode(faint), settings=GOOD)


def slight(bundle: Bundle) -> Adapter:
    """Return an adapter that moves the last biases by a little, with a known answer."""
    index = bundle.index_of("output_patch_embedding.output_layer.bias")
    move = Dense(Numbers.of(np.full((bundle.manifest.tensors[index].size, 1), 0.02)))
    adapter = Adapter(base_digest=bundle.digest, version=1, deltas={index: move})
    merged = merge(bundle.manifest, bundle.tensor, adapter)
    return replace(adapter, known_answer=choose_known_answer(bundle, merged, level=80.0, spread=10.0)[0])


@pytest.mark.parametrize("place", [0, -1])
def test_a_provider_that_ignores_one_tensor_is_refused_by_its_name(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    index = range(len(bundle.manifest.tensors))[place]

    def ignoring(_: Bundle, tensors: dict[int, FloatArray]) -> None:
        tensors.pop(index, None)

    pretend(monkeypatch, ignoring)
    with pytest.raises(
        SelfTestError, match=f"{re.escape(bundle.manifest.tensors[index].name)}: the provider ignores it"
    ):
        prove_provider(bundle, GOOD)


def test_the_processor_needs_no_proof(bundle: Bundle) -> None:
    with pytest.raises(SettingsError, match="needs no proof"):
        prove_provider(bundle, SessionSettings())


@pytest.mark.parametrize(
    ("provider", "library", "said", "kind"),
    [
        ("opnvino", None, "unknown provider 'opnvino'; did you mean openvino", SettingsError),
        ("openvino:tpu", None, "with a device of cpu, gpu, npu", SettingsError),
        ("NoSuchProvider", Path("/no/such.so"), "cannot load /no/such.so", MissingLibraryError),
        ("CPUExecutionProvider:npu", None, "has no npu on this machine: its library lists cpu", MissingLibraryError),
    ],
)
def test_what_is_not_there_is_said_by_name(
    provider: str, library: Path | None, said: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=said):
        choose(provider, library)


def test_a_known_plugin_that_is_not_installed_is_named_by_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device_runtime.forecast.providers.find_spec", lambda name: None)
    for known in KNOWN:
        if known.provider not in ort.get_available_providers():
            with pytest.raises(MissingLibraryError) as refused:
                choose(known.name)
            assert known.package in str(refused.value.hint)


def test_a_provider_that_onnxruntime_does_not_start_is_an_error_and_no_fallback(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = Chosen(
        name="cuda:gpu", provider="CUDAExecutionProvider", version="1", onnxruntime="1", library="", device="",
        options={}, static=False, devices=(),
    )  # fmt: skip
    monkeypatch.setattr("device_runtime.forecast.session.choose", lambda *_: absent)
    monkeypatch.setattr(
        Chosen, "add_to", lambda self, options: ["CPUExecutionProvider"]
    )  # as onnxruntime does where CUDA's libraries are missing
    with pytest.raises(MissingLibraryError, match="would have run on the processor"):
        FAMILIES["chronos-bolt"](bundle, {}, SessionSettings(provider="cuda", cpu_fallback=True, proving=True))


def test_openvino_is_asked_for_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    from device_runtime.forecast.providers import _defaults

    openvino = next(one for one in KNOWN if one.name == "openvino")
    for kind in ("cpu", "gpu"):
        assert json.loads(_defaults(openvino, kind)["load_config"]) == {
            kind.upper(): {"INFERENCE_PRECISION_HINT": "f32"}
        }


def test_what_there_is_is_listed_with_its_proof(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed()[0] == {
        "provider": "cpu", "package": "onnxruntime", "version": ort.__version__, "device": "", "proof": "",
        "problem": "",
    }  # fmt: skip
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider", "OtherExecutionProvider"])
    others = [one for one in listed(bundle) if one["provider"].startswith("OtherExecutionProvider")]
    assert [one["proof"] for one in others] == ["not proven"]


def test_proofs_of_another_base_are_refused(bundle: Bundle, proof: Proof) -> None:
    write_proof(bundle, proof)
    file = bundle.path / PROOFS_FILE
    file.write_bytes(file.read_bytes().replace(bundle.digest.hex().encode(), b"00" * 32))
    with pytest.raises(Exception, match="is of base 0000000000000000"):
        Forecaster.open(bundle, settings=GOOD)


def test_a_newer_proof_takes_the_place_of_an_older_one(bundle: Bundle, proof: Proof) -> None:
    other: Proof = replace(proof, provider="other:gpu")
    for one in (replace(proof, version="old"), other, proof):
        write_proof(bundle, one)
    assert read_proofs(bundle) == (proof, other)


def test_what_a_library_prints_does_not_get_among_forecasts() -> None:
    code = (
        "import ctypes\nfrom device_runtime.forecast.aside import stdout_aside\nlibc = ctypes.CDLL(None)\n"
        "print('before')\nwith stdout_aside():\n    libc.printf(b'a remark\\n')\nprint('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "after"]
    assert "a remark" in done.stderr
