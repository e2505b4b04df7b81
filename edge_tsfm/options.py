"""The options of methods, declared once: a run's configuration, a study's and the command line read them here.

Imports no torch, so that a command shows its help at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CONTEXT_LENGTH, PREDICTION_LENGTH = 48, 6  # steps, where neither a user nor an adapter says more exactly
SEEDED = "seeded"
# How fourierft's entries are found: by a seed; on each site its own, of largest energy; one set for all sites of a
# shape, which a blob carries once; or the largest of all sites together, as many as they would have had in all.
ENTRIES = (SEEDED, "gradient", "gradient-shared", "gradient-global")


def _said(default: Any, text: str | None = None, choices: tuple[str, ...] = ()) -> Any:
    """Declare an option; ``text`` is its help on the command line, None where only a configuration has it."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True, kw_only=True)
class Options:
    """Each method reads what concerns it."""

    preset: str | None = _said(None, "fourierft: qv100, qkvo50 or patch-v160.")
    target_modules: tuple[str, ...] | None = _said(
        None, "Layers to tune, some of patch,q,k,v,o,ffn.  [default: the method's own]"
    )  # roles
    n_frequency: int | None = _said(None, "fourierft: parameters on each site.")
    scaling: float = _said(150.0)  # fourierft
    rank: int | None = _said(None, "lora, vera: rank.")
    alpha: float = _said(16.0)  # lora
    norms: str = _said("all", "norms: which norms to tune.", ("all", "attention"))
    biases: str = _said(
        "native",
        "bitfit: added also trains new biases, initially zero, on linear layers without one.",
        ("native", "added"),
    )
    entries: str = _said(SEEDED, "fourierft: which entries of a site's spectrum.", ENTRIES)
    entries_seed: int = _said(777)  # fourierft's entries and vera's projections
