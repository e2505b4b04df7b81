"""`train_groups`: an adapter and a run folder for every ward, bed or kind of monitor of one table, trained together."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_runtime.documents import read_json
from device_runtime.files import write_atomic
from edge_tsfm.data.groups import Group, Groups, find_groups
from edge_tsfm.data.read import open_data
from edge_tsfm.data.sources import Source
from edge_tsfm.errors import TrainError
from edge_tsfm.methods import find_method
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.one_writer import is_empty, only_writer
from edge_tsfm.progress import Work
from edge_tsfm.runs.company import Hearing, config_of, is_done, train_some
from edge_tsfm.runs.record import GROUPS_FILE
from edge_tsfm.runs.run import Run, load_run
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.together import check_together

SCHEMA = 1
Tell = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one group: a run with its verdict, or why there is none."""

    name: str
    folder: Path
    run: Run | None = None
    error: str | None = None

    @property
    def status(self) -> str:
        """One of failed, accepted, forced and refused."""
        if self.run is None:
            return "failed"
        gate = self.run.gate
        return "accepted" if gate["accepted"] else "forced" if gate.get("forced") else "refused"


@dataclass(frozen=True, kw_only=True)
class TrainedGroups:
    """All groups of a table by one column, in order of their names."""

    column: str
    out: Path
    outcomes: tuple[Outcome, ...]
    rows_without: int = 0

    @property
    def runs(self) -> Mapping[str, Run]:
        """The finished runs by group, accepted or not."""
        return {one.name: one.run for one in self.outcomes if one.run is not None}

    @property
    def failed(self) -> Mapping[str, str]:
        """Why there is no run, by group."""
        return {one.name: str(one.error) for one in self.outcomes if one.run is None}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values: what ``groups.json`` holds; docs/guides/groups.md describes it."""
        return {
            "schema": SCHEMA,
            "group_by": self.column,
            "rows_without_group": self.rows_without,
            "groups": [
                {"name": one.name, "folder": one.folder.name, "status": one.status}
                | ({"error": one.error} if one.run is None else {"gate": one.run.record["gate"]})
                for one in self.outcomes
            ],
        }


def train_groups(
    config: TrainConfig,
    out: Path,
    column: str,
    *,
    source: Source | None = None,
    resume: bool = False,
    force: bool = False,
    hearing: Hearing = lambda *_: (),
    work: Work | None = None,
    tell: Tell = lambda _: None,
    remark: Tell = lambda _: None,
    ray: str | None = None,
) -> TrainedGroups:
    """Adapt a base to every group of rows that have one value in ``column``; each gets a run folder in ``out``.

    A group's run is the one that `train` would make of its rows with ``where``. ``hearing`` gives the callbacks of a
    group by its name and folder. A group that cannot be trained (too few patients, a loss that is not finite) is in the
    result with its error and does not affect the others. ``resume`` continues what was killed, leaves what is finished,
    and tries again what failed. ``ray`` is the address of a cluster that shares the groups: `ray_cluster.cluster`.
    ``tell`` hears how far it is, ``remark`` once which groups were found.

    Raises `ConfigError` for what cannot be trained in one pass, `DataError` for a column that does not group, what
    `load_base` raises, and `InUseError` while another process trains in ``out``.
    """
    with only_writer(out):
        if not is_empty(out) and not resume:
            raise TrainError(f"{out} is not empty", hint="give another --out, or --resume to continue what was killed")
        if not is_empty(out) and not (out / GROUPS_FILE).exists():
            raise TrainError(f"{out} holds no groups: it has no {GROUPS_FILE}", hint="give another --out")
        base = load_base(config.base)
        check_together(FAMILIES[base.family], find_method(config.method), config.options)
        opened = open_data(config.data if source is None else source, config.reading, target=config.target)
        groups = find_groups(opened, column, config.reading)
        _check_same(out, groups)
        remark(_said(groups))
        waiting = [one for one in groups.groups if not is_done(out / one.folder, config_of(config, one))]
        if ray is None:
            errors = train_some(
                config,
                out,
                waiting,
                opened,
                base,
                force=force,
                hearing=hearing,
                work=work or Work(),
                tell=tell,
            )
        else:
            from edge_tsfm.runs.groups_on_ray import train_on_ray

            errors = train_on_ray(
                config,
                out,
                waiting,
                source,
                address=ray,
                force=force,
                hearing=hearing,
                work=work or Work(),
                tell=tell,
            )
        result = TrainedGroups(
            column=groups.column,
            out=out,
            outcomes=tuple(_outcome(one, out, errors) for one in groups.groups),
            rows_without=groups.rows_without,
        )
        write_atomic(out / GROUPS_FILE, (json.dumps(result.to_dict(), indent=2, default=str) + "\n").encode())
        return result


def _said(groups: Groups) -> str:
    """Say what was found."""
    left = f"; {groups.rows_without:,} rows have none and are left out" if groups.rows_without else ""
    return f"{len(groups.groups)} groups by {groups.column}{left}"


def _check_same(out: Path, groups: Groups) -> None:
    """Refuse to continue groups by another column. Raises `TrainError`."""
    path = out / GROUPS_FILE
    if not path.exists():
        listed = {"schema": SCHEMA, "group_by": groups.column, "groups": []}
        write_atomic(path, (json.dumps(listed) + "\n").encode())
        return
    before = read_json(path, error=TrainError).get("group_by")
    if before != groups.column:
        raise TrainError(f"{path}: its groups are by {before}, not by {groups.column}", hint="give another --out")


def _outcome(group: Group, out: Path, errors: Mapping[str, str]) -> Outcome:
    folder = out / group.folder
    if group.name in errors:
        return Outcome(name=group.name, folder=folder, error=errors[group.name])
    return Outcome(name=group.name, folder=folder, run=load_run(folder))
