"""The whole study: search, runs, blobs, table. If it is started again, it continues where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from device_runtime.files import write_atomic
from edge_tsfm.one_writer import only_writer
from edge_tsfm.research.study.cells import Cell, Choice, final_cells, search_cells
from edge_tsfm.research.study.config import StudyConfig, require_libraries
from edge_tsfm.research.study.latency import Latency, measure_latencies
from edge_tsfm.research.study.pareto import pareto_plot
from edge_tsfm.research.study.pool import run_cells
from edge_tsfm.research.study.render import markdown, page, table_csv
from edge_tsfm.research.study.search import Chosen, choose
from edge_tsfm.research.study.table import Group, tabulate
from edge_tsfm.research.study.work import is_done

SCHEMA = 1
RESULTS_FOLDER = "results"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A study's figures and how they came about."""

    groups: tuple[Group, ...]
    chosen: Mapping[Choice, Chosen]
    failed: Mapping[str, str]  # a cell's folder → its error
    notes: tuple[str, ...]
    missing: int  # cells without scores

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values; the schema is in docs/guides/study.md."""
        return {
            "schema": SCHEMA,
            "groups": [group.to_dict() for group in self.groups],
            "learning_rates": [
                {"base": base, "target": target, "method": label, **one.to_dict()}
                for (base, target, label), one in self.chosen.items()
            ],
            "failed": dict(self.failed),
            "notes": list(self.notes),
            "missing": self.missing,
            "versions": {
                name: version(name) for name in ("edge-tsfm", "torch", "chronos-forecasting", "peft", "numpy")
            },
        }


def plan(study: StudyConfig) -> tuple[list[Cell], list[Cell]]:
    """Return all cells of a study: those of the search, and those of the table, with rates not chosen yet."""
    return search_cells(study), final_cells(study, {})


def run_study(
    study: StudyConfig,
    out: Path,
    *,
    jobs: int = 1,
    ray: str | None = None,
    only_tabulate: bool = False,
    report: Callable[[Cell], None] = lambda _: None,
) -> Result:
    """Do what is not done yet of ``study`` in ``out`` and write its results there.

    ``jobs`` cells at a time here, or all over the Ray cluster at the address ``ray``. ``report`` is called once for
    each cell, done before or now. A failed cell is reported in the result and does not affect the others. Raises
    `ConfigError` when a library is missing or ``out`` holds cells of another study, and `InUseError` while another
    process works on it.
    """
    require_libraries(study)
    with only_writer(out):
        return _run_study(study, out, jobs, ray, report, only_tabulate=only_tabulate)


def _run_study(
    study: StudyConfig, out: Path, jobs: int, ray: str | None, report: Callable[[Cell], None], *, only_tabulate: bool
) -> Result:
    """Do what `run_study` says, alone in ``out``."""
    _take_over(out)
    trials = search_cells(study)
    failed = {} if only_tabulate else _perform(trials, out, jobs, ray, report)
    chosen = choose(trials, out)
    cells = final_cells(study, {choice: one.factor for choice, one in chosen.items()})
    if not only_tabulate:
        failed |= _perform(cells, out, jobs, ray, report)
    blobs, notes = ({}, []) if not study.bundle else _export(cells, out, study.seeds[0])
    latencies, untimed = ({}, []) if not study.latency else _time(study, cells[0], out, only_read=only_tabulate)
    notes += untimed
    done = [cell for cell in cells if is_done(cell, out)]
    untried = sum(not is_done(trial, out) for trial in trials)
    if untried:
        notes.append(
            f"{untried} runs of the search are not finished: learning rates were chosen from fewer and may change"
        )
    edges = [f"{target}, {label}" for (_, target, label), one in chosen.items() if one.at_edge]
    if edges:
        notes.append("the best learning rate lies at the edge of those tried for: " + "; ".join(edges))
    result = Result(
        groups=tuple(tabulate(done, out, blobs=blobs, latencies=latencies)),
        chosen=chosen,
        failed=failed,
        notes=tuple(notes),
        missing=len(cells) - len(done),
    )
    write_results(result, out / RESULTS_FOLDER)
    return result


def _take_over(out: Path) -> None:
    """Give the baselines of a study that the release before began the folder's new name."""
    if (out / "yardsticks").is_dir() and not (out / "baselines").exists():
        (out / "yardsticks").rename(out / "baselines")


def write_results(result: Result, folder: Path) -> None:
    """Write the table as Markdown, CSV, JSON and HTML."""
    folder.mkdir(parents=True, exist_ok=True)
    title = "Study: " + ", ".join(dict.fromkeys(group.target for group in result.groups))
    left_out = [f"{result.missing} cells are not finished"] if result.missing else []
    notes = [*left_out, *result.notes, *(f"failed: {name}: {error}" for name, error in result.failed.items())]
    picture = pareto_plot(result.groups)
    write_atomic(folder / "table.md", markdown(result.groups).encode())
    write_atomic(folder / "table.csv", table_csv(result.groups).encode())
    write_atomic(folder / "study.json", (json.dumps(result.to_dict(), indent=2) + "\n").encode())
    write_atomic(folder / "study.html", page(result.groups, notes, title=title, picture=picture).encode())
    write_atomic(folder / "pareto.png", picture)


def _perform(
    cells: list[Cell], out: Path, jobs: int, ray: str | None, report: Callable[[Cell], None]
) -> dict[str, str]:
    waiting = []
    for cell in cells:
        if is_done(cell, out):
            report(cell)
        else:
            waiting.append(cell)
    if ray is None or not waiting:
        return run_cells(waiting, out, jobs=jobs, report=report)
    from edge_tsfm.research.study.ray_pool import run_cells_on_ray

    return run_cells_on_ray(waiting, out, address=ray, report=report)


def _time(study: StudyConfig, cell: Cell, out: Path, *, only_read: bool) -> tuple[dict[str, Latency], list[str]]:
    return measure_latencies(
        study.bases,
        out,
        context_length=cell.config.context_length,
        prediction_length=cell.config.prediction_length,
        only_read=only_read,
    )


def _export(cells: list[Cell], out: Path, seed: int) -> tuple[dict[str, int], list[str]]:
    from edge_tsfm.research.study.blobs import export_blobs

    return export_blobs(cells, out, seed=seed)
