"""The proofs beside a bundle, read and written: on which execution providers it may run."""

from __future__ import annotations

from pathlib import Path

from device_runtime.errors import SettingsError, StorageError
from device_runtime.files import about, read_bounded, write_atomic
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.providers import Admit, Chosen
from device_runtime.format.manifest import MAX_MANIFEST_SIZE
from device_runtime.format.proofs import PROOFS_FILE, Proof, compose_proofs, parse_proofs


def read_proofs(bundle: Bundle) -> tuple[Proof, ...]:
    """Read a bundle's proofs; none where there is no file. Raises as `parse_proofs`, and `StorageError`."""
    file = bundle.path / PROOFS_FILE
    try:
        there = file.exists()
    except OSError as error:
        raise StorageError(f"cannot read {file}: {error.strerror or error}") from error
    if not there:
        return ()
    with about(bundle.path):
        return parse_proofs(read_bounded(file, MAX_MANIFEST_SIZE), bundle.manifest)


def write_proof(bundle: Bundle, proof: Proof) -> None:
    """Put a proof beside a bundle, in place of an earlier one of the same. Raises as `read_proofs`."""
    kept = [one for one in read_proofs(bundle) if one.key != proof.key]
    write_atomic(bundle.path / PROOFS_FILE, compose_proofs([*kept, proof], bundle.manifest))


def find_proof(bundle: Bundle, chosen: Chosen, *, cpu_fallback: bool) -> Proof | None:
    """Return the proof of what a person asked for, be it of other versions; None: nobody has measured it."""
    key = chosen.name, chosen.options_digest, cpu_fallback
    return next((one for one in read_proofs(bundle) if one.key == key), None)


def admits(bundle: Bundle, provider: str) -> Admit:
    """Return what refuses a plugin's library that no proof of the bundle names, before any of its code runs.

    It raises `SettingsError`, and what `read_proofs` raises.
    """

    def admit(path: Path, digest: str) -> None:
        proven = [proof.library for proof in read_proofs(bundle) if proof.library]
        if digest in proven:
            return
        before = f"; proven were {', '.join(one[:16] for one in proven)}" if proven else ""
        raise SettingsError(
            f"{bundle.path}: nobody has proven this base on {provider} with {path} (SHA-256 {digest[:16]}), so it is "
            f"not loaded{before}",
            hint=measure(bundle, provider),
        )

    return admit


def require_proof(bundle: Bundle, chosen: Chosen, graph: str, *, cpu_fallback: bool) -> Proof:
    """Return the proof that a graph may run on a provider. Raises `SettingsError` where there is none that holds."""
    hint = measure(bundle, chosen.name)
    proof = find_proof(bundle, chosen, cpu_fallback=cpu_fallback)
    if proof is None:
        raise SettingsError(
            f"{bundle.path}: nobody has proven this base on {chosen.name} with these options"
            f"{' and the processor beside it' if cpu_fallback else ''}",
            hint=hint,
        )
    if graph not in proof.graphs:
        raise SettingsError(
            f"{bundle.path}: on {chosen.name} only {', '.join(proof.graphs)} is proven, not {graph}",
            hint="run it on the processor: --provider cpu",
        )
    if changed := outdated(proof, chosen):
        raise SettingsError(f"{bundle.path}: {chosen.name} was proven with {changed}", hint=hint)
    return proof


def measure(bundle: Bundle, provider: str) -> str:
    """Say how a base is proven on a provider."""
    return f"measure it on this machine, or on one like it: edge-tsfm-device prove {bundle.path} --provider {provider}"


def outdated(proof: Proof, chosen: Chosen) -> str:
    """Say what has changed since a proof was made; empty: nothing that it depends on."""
    if proof.onnxruntime != chosen.onnxruntime:
        return f"onnxruntime {proof.onnxruntime}, this is {chosen.onnxruntime}"
    if proof.version != chosen.version:
        return f"version {proof.version} of the provider, this is {chosen.version}"
    if proof.library != chosen.library:
        return f"library {proof.library[:16]} of the provider, this is {chosen.library[:16]}"
    return ""
