"""A study as a list of independent pieces of work, each with a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_tsfm.research.study.config import MethodChoice, StudyConfig
from edge_tsfm.training.config import TrainConfig

Kind = Literal["adapter", "nhits", "base", "simple", "auto_ets"]
Choice = tuple[str, str, str]  # base, target, label: what one learning rate is chosen for
ANY_BASE = "-"  # of baselines that have none
NHITS = MethodChoice(label="nhits", method="nhits", options={})


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run. ``scored`` cells forecast the test patients; a search's never see them."""

    kind: Kind
    folder: str  # under the study's
    base: str
    label: str
    config: TrainConfig
    scored: bool = True

    @property
    def choice(self) -> Choice:
        """What its learning rate is chosen for."""
        return self.base, str(self.config.target), self.label

    @property
    def effort(self) -> float:
        """About how long it takes beside the others: windows trained on; a baseline that is not trained has few."""
        trained = self.kind in ("adapter", "nhits")
        return float(self.config.steps * self.config.batch_size) if trained else 2_000.0


def search_cells(study: StudyConfig) -> list[Cell]:
    """Return the short runs that choose learning rates: as many for every method; none without a search."""
    if study.search is None:
        return []
    budget = {"steps": study.search.steps, "batch_size": study.search.batch_size}
    return [
        _cell(study, base, target, choice, study.seeds[0], factor, budget=budget)
        for target in study.targets
        for base, choice in _rows(study)
        for factor in study.search.factors
    ]


def final_cells(study: StudyConfig, factors: Mapping[Choice, float]) -> list[Cell]:
    """Return baselines, then every run of the first seed, then of the next: an interrupted study has a whole table."""
    return [*_untrained(study)] + [
        _cell(study, base, target, choice, seed, factors.get((base, target, choice.label), 1.0))
        for seed in study.seeds
        for target in study.targets
        for base, choice in _rows(study)
    ]


def _rows(study: StudyConfig) -> Iterator[tuple[str, MethodChoice]]:
    for base in study.bases:
        for choice in study.methods:
            yield base, choice
    if "nhits" in study.baselines:
        yield ANY_BASE, NHITS


def _cell(
    study: StudyConfig,
    base: str,
    target: str,
    choice: MethodChoice,
    seed: int,
    factor: float,
    *,
    budget: Mapping[str, int] | None = None,
) -> Cell:
    trained_whole = base == ANY_BASE
    steps = {"steps": study.nhits_steps} if trained_whole else {}
    config = study.run_config(
        study.bases[0] if trained_whole else base, target, choice, seed, factor, **{**steps, **(budget or {})}
    )
    parts = [target, *([] if trained_whole else [Path(base).name]), choice.label]
    last = f"seed{seed}" if budget is None else f"x{factor:g}"
    return Cell(
        kind="nhits" if trained_whole else "adapter",
        folder=f"{'cells' if budget is None else 'search'}/{'-'.join([*parts, last])}",
        base=base,
        label=choice.label,
        config=config,
        scored=budget is None,
    )


def _untrained(study: StudyConfig) -> Iterator[Cell]:
    """Yield the baselines that learn nothing from the training patients."""
    for target in study.targets:
        for base in study.bases:
            config = study.run_config(base, target, study.methods[0], study.seeds[0])
            yield Cell(
                kind="base", folder=f"baselines/{target}-{Path(base).name}", base=base, label="base", config=config
            )
        config = study.run_config(study.bases[0], target, study.methods[0], study.seeds[0])
        yield Cell(kind="simple", folder=f"baselines/{target}-simple", base=ANY_BASE, label="simple", config=config)
        if "auto_ets" in study.baselines:
            yield Cell(
                kind="auto_ets", folder=f"baselines/{target}-auto_ets", base=ANY_BASE, label="auto_ets", config=config
            )
