"""``providers.json`` beside a bundle: what was measured of the base on execution providers other than the processor.

It is no part of the base: a bundle is the same with and without it. One entry for each provider, kind of device and
options, so that a monitor can refuse what nobody measured. Pure: bytes in, values out. FORMAT.md §2 has the fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from device_runtime.binder import bind_value
from device_runtime.errors import BaseMismatchError, FormatError
from device_runtime.format import canonical
from device_runtime.format.manifest import Manifest, read_versioned

PROOFS_FILE = "providers.json"
FORMAT_NAME = "edge-tsfm providers"
VERSION = 1
MAX_PROOFS = 64


@dataclass(frozen=True, kw_only=True)
class Proof:
    """What was measured of one base on one provider.

    Deviations are in millionths (ppm) of each context's standard deviation: canonical JSON has no exponents.
    """

    provider: str  # as "openvino:cpu"
    execution_provider: str  # as ONNX Runtime says it
    version: str  # of the provider
    library: str  # SHA-256 of its library, hex; empty: part of ONNX Runtime
    onnxruntime: str
    options: str  # SHA-256 of its options, hex
    cpu_fallback: bool  # nodes it does not take may run on the processor
    graphs: tuple[str, ...]  # proven ones, by their names in the manifest
    shape: str  # of a static graph, as "512x1"; empty: any
    static: str  # SHA-256 of its static.json, hex; empty: the bundle's own graphs
    exact: bool  # it computes in float32: forecasts differ as an order of summation makes them
    max_deviation_ppm: float  # mean deviation that was allowed; 0 where exact
    tolerance_ppm: float  # added to a known answer's own tolerance; 0 where exact
    mean_deviation_ppm: float  # from the same bundle on ONNX Runtime's CPU
    largest_deviation_ppm: float
    tensors: int  # that were proven merged
    weakest: str  # the one that moved forecasts least, in what the provider was off by
    weakest_margin: float
    effect_kept: float  # of an adapter, 1: all of it
    effect_of: str  # SHA-256 of the adapter's blob, hex; empty: of a random one on all tensors
    nodes: int  # of the graphs, after ONNX Runtime's fusions
    nodes_on_cpu: int
    device: str  # what the machine that proved it calls the device

    def __post_init__(self) -> None:
        """Check what a forecaster computes with."""
        for what in ("max_deviation_ppm", "tolerance_ppm", "mean_deviation_ppm", "largest_deviation_ppm"):
            if getattr(self, what) < 0:
                raise FormatError(f"{what} {getattr(self, what):g}: want 0 or more")
        if self.exact and self.tolerance_ppm:
            raise FormatError(f"tolerance_ppm {self.tolerance_ppm:g}: want 0 of a provider that computes exactly")

    @property
    def key(self) -> tuple[str, str, bool]:
        """What a person asked for: a newer entry with the same key takes this one's place."""
        return self.provider, self.options, self.cpu_fallback


def parse_proofs(data: bytes, manifest: Manifest) -> tuple[Proof, ...]:
    """Read the proofs of a base.

    Raises `FormatError` where a field is missing or wrong, `BaseMismatchError` for another base's, and what
    `read_versioned` raises.
    """
    value = read_versioned(data, PROOFS_FILE, FORMAT_NAME, kind="providers", versions=(VERSION,))
    if value.get("base_digest") != manifest.digest.hex():
        raise BaseMismatchError(
            f"{PROOFS_FILE} is of base {str(value.get('base_digest'))[:16]}, this is {manifest.digest.hex()[:16]}",
            hint="remove it, and prove this bundle with edge-tsfm-device prove",
        )
    entries = value.get("providers")
    if not isinstance(entries, list) or len(entries) > MAX_PROOFS:
        raise FormatError(f"{PROOFS_FILE}: providers: want a list of at most {MAX_PROOFS}")
    proofs: tuple[Proof, ...] = bind_value(tuple[Proof, ...], entries, PROOFS_FILE, ignore_unknown=True)
    if len({proof.key for proof in proofs}) < len(proofs):
        raise FormatError(f"{PROOFS_FILE}: a provider is listed twice with the same options")
    return proofs


def compose_proofs(proofs: Iterable[Proof], manifest: Manifest) -> bytes:
    """Compose the file, in the order of providers. Raises `FormatError` for more than fit."""
    entries: list[dict[str, Any]] = [asdict(proof) for proof in sorted(proofs, key=lambda proof: proof.key)]
    if len(entries) > MAX_PROOFS:
        raise FormatError(f"{PROOFS_FILE}: {len(entries)} providers, want at most {MAX_PROOFS}")
    return canonical.dumps(
        {
            "format": FORMAT_NAME,
            "format_version": VERSION,
            "base_digest": manifest.digest.hex(),
            "providers": entries,
        }
    )
