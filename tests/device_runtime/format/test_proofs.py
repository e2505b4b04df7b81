"""providers.json: read as it was written, and refused where it says what no proof says."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from device_runtime.errors import BaseMismatchError, CanonicalError, FormatError, UnsupportedError
from device_runtime.format import canonical
from device_runtime.format.manifest import MANIFEST_FILE, Manifest
from device_runtime.format.proofs import MAX_PROOFS, Proof, compose_proofs, parse_proofs

PROOF = Proof(
    provider="openvino:cpu", execution_provider="OpenVINOExecutionProvider", version="1.8.1", library="ab" * 32,
    onnxruntime="1.32.0", options="cd" * 32, cpu_fallback=False, graphs=("forecast",), shape="", static="", exact=False,
    max_deviation_ppm=20_000.0, tolerance_ppm=13_100.0, mean_deviation_ppm=0.001, largest_deviation_ppm=25_600.0,
    tensors=72, weakest="a.weight", weakest_margin=1.2, effect_kept=0.9955, effect_of="", nodes=230, nodes_on_cpu=0,
    device="a processor",
)  # fmt: skip


@pytest.fixture
def manifest(dummy_bundle: Path) -> Manifest:
    return Manifest.parse((dummy_bundle / MANIFEST_FILE).read_bytes())


def written(manifest: Manifest, *entries: object, **fields: object) -> bytes:
    top = {"format": "edge-tsfm providers", "format_version": 1, "base_digest": manifest.digest.hex()}
    return canonical.dumps({**top, "providers": list(entries), **fields})


def test_what_was_written_is_read_in_the_order_of_providers(manifest: Manifest) -> None:
    other = replace(PROOF, provider="cuda:gpu")
    data = compose_proofs([PROOF, other], manifest)
    assert parse_proofs(data, manifest) == (other, PROOF)
    assert compose_proofs(parse_proofs(data, manifest), manifest) == data


def test_a_newer_release_may_add_fields(manifest: Manifest) -> None:
    assert parse_proofs(written(manifest, {**asdict(PROOF), "power": 3}, more=True), manifest) == (PROOF,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tolerance_ppm": -1.0}, "tolerance_ppm -1: want 0 or more"),
        ({"exact": True}, "want 0 of a provider that computes exactly"),
        ({"graphs": "forecast"}, "graphs: want a list of texts"),
        ({"tensors": 1.5}, "tensors: want a whole number"),
    ],
)
def test_what_no_proof_says_is_refused(manifest: Manifest, change: dict[str, object], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        parse_proofs(written(manifest, {**asdict(PROOF), **change}), manifest)


def test_a_field_that_is_missing_is_named(manifest: Manifest) -> None:
    entry = {name: value for name, value in asdict(PROOF).items() if name != "library"}
    with pytest.raises(FormatError, match="library is missing"):
        parse_proofs(written(manifest, entry), manifest)


def test_one_provider_is_listed_once_and_there_is_a_limit(manifest: Manifest) -> None:
    with pytest.raises(FormatError, match="listed twice"):
        parse_proofs(written(manifest, asdict(PROOF), asdict(PROOF)), manifest)
    many = [replace(PROOF, provider=f"p{number}:cpu") for number in range(MAX_PROOFS + 1)]
    with pytest.raises(FormatError, match=f"want at most {MAX_PROOFS}"):
        compose_proofs(many, manifest)
    with pytest.raises(FormatError, match=f"a list of at most {MAX_PROOFS}"):
        parse_proofs(written(manifest, *map(asdict, many)), manifest)


def test_other_bases_versions_and_forms_are_refused(manifest: Manifest) -> None:
    with pytest.raises(BaseMismatchError, match="is of base 0000") as refused:
        parse_proofs(written(manifest, asdict(PROOF), base_digest="00" * 32), manifest)
    assert "edge-tsfm-device prove" in str(refused.value.hint)
    with pytest.raises(UnsupportedError, match="version 2"):
        parse_proofs(written(manifest, asdict(PROOF), format_version=2), manifest)
    with pytest.raises(CanonicalError):
        parse_proofs(json.dumps(json.loads(written(manifest)), indent=1).encode(), manifest)
