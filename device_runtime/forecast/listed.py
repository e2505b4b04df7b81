"""What this machine can run a base on, and whether the base is proven there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from device_runtime.errors import DeviceRuntimeError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.proofs import outdated, read_proofs
from device_runtime.forecast.providers import (
    CPU,
    CPU_PROVIDER,
    KNOWN,
    ONNXRUNTIME,
    Chosen,
    built_in,
    choose,
    ep_devices,
    kind_of,
    plugins,
)

PACKAGE = "onnxruntime"
REMOTE = "AzureExecutionProvider"  # in every build: sends inputs to a server


def listed(bundle: Bundle | None = None) -> list[dict[str, Any]]:
    """List each provider and kind of device, JSON-ready; with a bundle, its state in ``proof``.

    ``problem`` says why an installed plugin cannot be used. Raises what reading the bundle's proofs raises.
    """
    cpu = "proven when the bundle was exported" if bundle else ""
    found = [_entry(CPU, PACKAGE, ONNXRUNTIME, proof=cpu)]
    for name, package, version in _there():
        try:
            first = choose(name)
            kinds = sorted({kind_of(one) for one in ep_devices() if one.ep_name == first.provider})
            each = [choose(f"{name}:{kind}") for kind in kinds] or [first]
        except DeviceRuntimeError as error:
            found.append(_entry(name, package, version, problem=str(error.hint or error.args[0])))
            continue
        found += [
            _entry(one.name, package, version, device=one.device, proof="" if bundle is None else _state(bundle, one))
            for one in each
        ]
    return found


def _there() -> Iterator[tuple[str, str, str]]:
    """Give the name, package and version of what is installed, beside the processor."""
    known = set()
    for plugin in plugins():
        known.add(plugin.known.provider)
        yield plugin.known.name, plugin.known.package, plugin.version
    names = {one.provider: one.name for one in KNOWN}
    for provider in built_in():
        of_plugin = provider.partition(".")[0] in known  # OpenVINO's choose a device by themselves: ….AUTO
        if not of_plugin and provider not in {CPU_PROVIDER, REMOTE}:
            yield names.get(provider, provider), PACKAGE, ONNXRUNTIME


def _state(bundle: Bundle, chosen: Chosen) -> str:
    """Say whether a bundle is proven on a provider, in its default options or in others."""
    proofs = [one for one in read_proofs(bundle) if one.provider == chosen.name]
    said = []
    for proof in proofs:
        how = "exact" if proof.exact else f"{proof.mean_deviation_ppm:.3g} ppm off"
        how += ", other options" if proof.options != chosen.options_digest else ""
        how += ", processor beside it" if proof.cpu_fallback else ""
        changed = outdated(proof, chosen)
        said.append(f"was proven with {changed}" if changed else f"proven ({how})")
    return "; ".join(said) or "not proven"


def _entry(
    provider: str, package: str, version: str, *, device: str = "", proof: str = "", problem: str = ""
) -> dict[str, Any]:
    return {
        "provider": provider,
        "package": package,
        "version": version,
        "device": device,
        "proof": proof,
        "problem": problem,
    }
