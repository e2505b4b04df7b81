"""Runs that are trained in company: each prepared, judged and written as one alone, all of them stepped together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import nn

from device_runtime.errors import DeviceRuntimeError
from edge_tsfm.data.groups import Group
from edge_tsfm.data.options import DataOptions
from edge_tsfm.data.read import Opened
from edge_tsfm.errors import EdgeTsfmError, TrainError
from edge_tsfm.models import FAMILIES, Base
from edge_tsfm.one_writer import only_writer
from edge_tsfm.progress import Work
from edge_tsfm.runs.prepare import prepare, training_device
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.runs.run import CHECKPOINT_FILE, load_run
from edge_tsfm.runs.train import Begun, begin_run, check_folder, end_run
from edge_tsfm.runs.tuned import attach_to
from edge_tsfm.training.callbacks import Callback, Figures, Several
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import Course, put
from edge_tsfm.training.together import fit_together
from export.threads import threads_for

COMPANY = 256  # runs at once: each holds its windows, and a lock on its folder, which is an open file
Hearing = Callable[[str, Path], Sequence[Callback]]  # group and its folder → its callbacks
FAULTS = (EdgeTsfmError, DeviceRuntimeError, OSError)  # of one group; anything else is a bug and ends all


@dataclass(frozen=True, kw_only=True)
class Guest:
    """One run of the company."""

    begun: Begun
    course: Course
    heard: Callback


class Company:
    """Runs of one base and method. `invite` each, then `train` all; ``failed`` has the errors of those that did not."""

    def __init__(
        self,
        config: TrainConfig,
        base: Base,
        *,
        force: bool,
        hearing: Hearing,
        work: Work,
        tell: Callable[[str], None],
    ) -> None:
        self._since = time.monotonic()
        self._base, self._force, self._hearing, self._work = base, force, hearing, work
        self._tell = tell
        self._attached = attach_to(base, config, None)
        self._attached.model.to(training_device())
        self._start = {name: one.detach().clone() for name, one in self._trainable.items()}
        self._guests: dict[str, Guest] = {}
        self._open: dict[str, Callback] = {}  # callbacks that wait for their end
        self._folders = ExitStack()
        self.failed: dict[str, str] = {}

    @property
    def _trainable(self) -> dict[str, nn.Parameter]:
        return {name: one for name, one in self._attached.model.named_parameters() if one.requires_grad}

    def invite(self, name: str, config: TrainConfig, out: Path, opened: Opened) -> None:
        """Prepare a run in ``out``, or find where it was left. One that cannot be trained goes to ``failed``."""
        heard = Several(self._hearing(name, out))
        self._open[name] = heard
        try:
            self._folders.enter_context(only_writer(out))
            check_folder(out, resume=True)
            setting = prepare(config, out, opened, self._base)
            begun = begin_run(setting, out, since=self._since, heard=heard, work=self._work)
            own = {key: nn.Parameter(value.clone()) for key, value in self._start.items()}
            course = Course.begin(
                own,
                setting.windows["train"],
                setting.windows["stopping"],
                config,
                rates=self._attached.rates,
                checkpoint=out / CHECKPOINT_FILE,
                identity=setting.identity,
                report=self._reporting(heard),
            )
        except FAULTS as error:
            self._fail(name, error)
            return
        self._guests[name] = Guest(begun=begun, course=course, heard=heard)
        self._tell(f"{name}: {len(setting.windows['train']):,} windows to train on")

    def train(self, *, workers: int | None = None) -> None:
        """Train all that were invited, ask the gate for each, and write their folders."""
        self._work.plan(gate=len(self._guests))
        courses = {name: one.course for name, one in self._guests.items()}
        if not courses:
            return
        for name, error in fit_together(
            self._attached.model, FAMILIES[self._base.family], courses, work=self._work, workers=workers
        ).items():
            self._fail(name, error)
        with threads_for(self._attached.model):
            for name, one in self._guests.items():
                if name not in self.failed:
                    self._end(name, one)

    def close(self) -> None:
        """Tell the callbacks of unfinished runs that there is no record, and let go of the folders."""
        self._folders.close()
        while self._open:
            self._open.popitem()[1].on_end(None)

    def _end(self, name: str, guest: Guest) -> None:
        put(self._trainable, guest.course.result.best)
        self._attached.model.to(training_device())
        tuned = self._attached.with_fit(guest.course.result)
        also = {"company": {"group": name, "runs": len(self._guests)}}
        try:
            run = end_run(guest.begun, tuned, force=self._force, work=self._work, also=also)
        except FAULTS as error:
            self._fail(name, error)
            return
        self._open.pop(name).on_end(run.record)
        self._tell(f"{name}: {'accepted' if run.gate['accepted'] else 'not accepted'}")

    def _fail(self, name: str, error: Exception) -> None:
        self.failed[name] = str(error)
        self._open.pop(name).on_end(None)
        self._tell(f"{name} failed: {error}")

    def _reporting(self, heard: Callback) -> Callable[[int, Figures], None]:
        """Return what tells a run's callbacks of its steps, and everybody how far all are."""

        def report(step: int, figures: Figures) -> None:
            heard.on_step(step, figures)
            if "validation_score" in figures:
                self._tell(f"{self._at_work()} of {len(self._guests)} groups still learn")

        return report

    def _at_work(self) -> int:
        return sum(one.course.fit is None or not one.course.ended for one in self._guests.values())


def train_some(
    config: TrainConfig,
    out: Path,
    groups: Sequence[Group],
    opened: Opened,
    base: Base,
    *,
    force: bool,
    hearing: Hearing,
    work: Work,
    tell: Callable[[str], None] = lambda _: None,
    workers: int | None = None,
) -> dict[str, str]:
    """Train some groups in this process, `COMPANY` in one pass; return the errors of those that failed."""
    failed: dict[str, str] = {}
    for start in range(0, len(groups), COMPANY):
        company = Company(config, base, force=force, hearing=hearing, work=work, tell=tell)
        with closing(company):
            for one in groups[start : start + COMPANY]:
                company.invite(one.name, config_of(config, one), out / one.folder, opened)
            company.train(workers=workers)
        failed |= company.failed
    return failed


def config_of(config: TrainConfig, group: Group) -> TrainConfig:
    """Return the configuration of a group's run, which reads its rows alone."""
    return replace(config, **{one.name: getattr(group.options, one.name) for one in fields(DataOptions)})


def is_done(folder: Path, config: TrainConfig) -> bool:
    """Return whether a group's run is finished. Raises `TrainError` when it was another run."""
    if not (folder / RUN_FILE).exists():
        return False
    if load_run(folder).config != config:
        raise TrainError(f"{folder} is finished with other options", hint="give another --out, or the same options")
    return True
