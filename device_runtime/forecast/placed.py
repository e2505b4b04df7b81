"""Where a base runs: which of its graphs a provider takes, what runs that graph, and the proof that it may."""

from __future__ import annotations

from device_runtime.errors import SettingsError, UnsupportedError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES, Open
from device_runtime.forecast.proofs import require_proof
from device_runtime.forecast.session import SessionSettings, chosen_by
from device_runtime.forecast.static import STATIC_FAMILIES, open_static
from device_runtime.format.proofs import Proof
from device_runtime.format.static import STATIC


def placed(bundle: Bundle, settings: SessionSettings) -> tuple[Bundle, Open, Proof | None]:
    """Return a bundle with the graph that the settings' provider takes, what opens it, and the provider's proof.

    Raises `UnsupportedError` for a family that this runtime does not know, what `choose` and `require_proof` raise, and
    `SettingsError` for a static graph of another shape than the proven one.
    """
    family = bundle.manifest.family
    if family not in FAMILIES:
        raise UnsupportedError(f"family {family!r}; this runtime knows {', '.join(FAMILIES)}")
    chosen = chosen_by(settings)
    if chosen is None:
        return bundle, FAMILIES[family], None
    graph = STATIC if chosen.static else next(iter(bundle.manifest.graphs))
    proof = None if settings.proving else require_proof(bundle, chosen, graph, cpu_fallback=settings.cpu_fallback)
    if chosen.static:
        opened = open_static(bundle)
        if proof is not None and proof.shape != opened.static.shape:
            raise SettingsError(
                f"{bundle.path}: {chosen.name} was proven with a static graph of {proof.shape}, this one is of "
                f"{opened.static.shape}",
                hint=f"measure it again: edge-tsfm-device prove {bundle.path} --provider {chosen.name}",
            )
        return opened, STATIC_FAMILIES[family], proof
    return bundle, FAMILIES[family], proof
