"""Where a base runs: which of its graphs a provider takes, what runs that graph, and the proof that it may."""

from __future__ import annotations

from device_runtime.errors import SettingsError, UnsupportedError
from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES, Open
from device_runtime.forecast.proofs import measure, require_proof
from device_runtime.forecast.session import SessionSettings, chosen_by
from device_runtime.forecast.static import STATIC_FAMILIES, open_static
from device_runtime.format.proofs import Proof
from device_runtime.format.static import STATIC


def placed(bundle: Bundle, settings: SessionSettings) -> tuple[Bundle, Open, Proof | None]:
    """Return a bundle with the graph that the settings' provider takes, what opens it, and the provider's proof.

    Raises `UnsupportedError` for a family that this runtime does not know, and what `choose`, `require_proof` and
    `open_static` raise.
    """
    family = bundle.manifest.family
    if family not in FAMILIES:
        raise UnsupportedError(f"family {family!r}; this runtime knows {', '.join(FAMILIES)}")
    chosen = chosen_by(bundle, settings)
    if chosen is None:
        return bundle, FAMILIES[family], None
    graph = STATIC if chosen.static else next(iter(bundle.manifest.graphs))
    proof = None if settings.proving else require_proof(bundle, chosen, graph, cpu_fallback=settings.cpu_fallback)
    if chosen.static:
        opened = open_static(bundle)
        if proof is not None and proof.static != opened.static.digest.hex():
            raise SettingsError(
                f"{bundle.path}: {chosen.name} was proven with another static graph, of {proof.shape}, "
                f"than this one of {opened.static.shape}",
                hint=measure(bundle, chosen.name),
            )
        return opened, STATIC_FAMILIES[family], proof
    return bundle, FAMILIES[family], proof
