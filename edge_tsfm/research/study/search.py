"""Which learning rate each method gets: the best of its short runs on validation patients, never on test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_tsfm.research.study.cells import Cell, Choice
from edge_tsfm.runs.record import RUN_FILE, CellRecord, read_record


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was tried for one method on one target, and what was taken."""

    tried: Mapping[float, float]  # factor → best validation score
    factor: float

    @property
    def at_edge(self) -> bool:
        """Return whether the best was the least or greatest tried: a better one may lie outside."""
        return self.factor in (min(self.tried), max(self.tried))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "factor": self.factor,
            "at_edge": self.at_edge,
            "tried": {f"{factor:g}": score for factor, score in sorted(self.tried.items())},
        }


def choose(cells: Sequence[Cell], out: Path) -> dict[Choice, Chosen]:
    """Read the short runs that finished and choose for each method; of equal ones the factor closest to 1."""
    tried: dict[Choice, dict[float, float]] = {}
    for cell in cells:
        path = out / cell.folder / RUN_FILE
        if path.exists():
            score = read_record(path, CellRecord)["training"]["best"]
            tried.setdefault(cell.choice, {})[cell.config.learning_rate_factor] = score
    return {choice: Chosen(tried=scores, factor=_best(scores)) for choice, scores in tried.items()}


def _best(scores: Mapping[float, float]) -> float:
    return min(scores, key=lambda factor: (scores[factor], abs(math.log(factor))))
