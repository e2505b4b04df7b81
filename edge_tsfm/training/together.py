"""Many adapters of one base trained in one pass: each with its own windows, early stopping and checkpoint.

Adapters differ in a few thousand parameters; what they multiply is the same base. `torch.func.vmap` over the stacked
parameters and batches turns the products with frozen weights into one product for all adapters, so a step costs its
arithmetic once and not the start of a thousand small kernels for every adapter. The loss of each adapter is its
own, as is its gradient, its clipping and its AdamW state, so one trained alone and in company are the same but for the
order of sums (docs/adr/0040).
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import torch
from torch import nn

from edge_tsfm.errors import ConfigError, TrainError
from edge_tsfm.methods import Method
from edge_tsfm.models.direct import Direct
from edge_tsfm.models.family import Family, device_of
from edge_tsfm.options import SEEDED, Options
from edge_tsfm.progress import Work
from edge_tsfm.training.course import Course, finite, put
from edge_tsfm.training.loop import held_out_score
from edge_tsfm.training.stack import Losses, Stack
from export.threads import SMALL, one_thread

ROWS = 1_024  # windows that a pass has at once: enough to fill a core, few enough for its memory


def check_together(family: Family, method: Method, options: Options) -> None:
    """Refuse what cannot be trained in one pass. Raises `ConfigError`."""
    alone = "train a run for each group: --where COLUMN=VALUE"
    if not isinstance(family, Direct):
        raise ConfigError(
            f"group_by: {family.name} reads contexts of like length together, adapter by adapter", hint=alone
        )
    if not method.exportable:
        raise ConfigError(f"group_by: {method.name} makes another base of every group, not an adapter", hint=alone)
    if options.entries != SEEDED:
        raise ConfigError(
            f"group_by: with entries {options.entries} every group has sites of its own",
            hint=f"--entries seeded gives all of them the same; or {alone}",
        )


def fit_together(
    model: nn.Module,
    family: Family,
    courses: Mapping[str, Course],
    *,
    work: Work | None = None,
    workers: int | None = None,
    at_once: int | None = None,
) -> dict[str, TrainError]:
    """Follow all ``courses`` to their end, each left with its best parameters; return the errors of those that failed.

    ``model`` has the method attached; its own parameters are not changed. ``at_once`` adapters make a pass, on each of
    ``workers`` threads (one for each core). An adapter whose loss is not finite fails and does not affect the others.
    """
    workers = workers or default_workers(device_of(model))
    work, lock, failed = work or Work(), threading.Lock(), dict[str, TrainError]()
    idle: SimpleQueue[_Worker] = SimpleQueue()
    for _ in range(workers):
        idle.put(_Worker(model, family, work, lock, share=workers))
    most = at_once or _most_at_once(model, next(iter(courses.values())).config.batch_size)

    def follow(some: Mapping[str, Course]) -> dict[str, TrainError]:
        worker = idle.get()
        try:
            return worker.follow(some)
        finally:
            idle.put(worker)

    with one_thread(), ThreadPoolExecutor(workers) as pool:
        while waiting := {name: one for name, one in courses.items() if name not in failed and _goes_on(one)}:
            _plan(work, waiting.values())
            for errors in pool.map(follow, _passes(waiting, most, workers)):
                failed |= errors
    work.plan(step=0, validation=0)
    for name, course in courses.items():
        if name not in failed:
            course.leave_best()
    return failed


def default_workers(device: torch.device) -> int:
    """Return how many passes go on side by side: one for each core, one on a GPU."""
    return len(os.sched_getaffinity(0)) if device.type == "cpu" else 1


def _goes_on(course: Course) -> bool:
    """Return whether there is something left to do: the frozen base's score, or steps."""
    return course.fit is None or not course.ended


def _most_at_once(model: nn.Module, batch: int) -> int:
    """Return how many adapters make a pass. A large base has arithmetic enough in fewer windows, and needs memory."""
    rows = ROWS * min(1.0, SMALL / sum(one.numel() for one in model.parameters()))
    return max(1, int(rows) // batch)


def _passes(waiting: Mapping[str, Course], most: int, workers: int) -> Iterator[dict[str, Course]]:
    """Divide adapters into passes of like size that are at the same step, as many as keep all workers busy."""
    by_step: dict[tuple[int, bool], list[str]] = {}
    for name, course in waiting.items():
        by_step.setdefault((course.step, course.fit is None), []).append(name)
    for names in by_step.values():
        count = -(-len(names) // most)
        count = min(len(names), -(-count // workers) * workers)
        for place in range(count):
            yield {name: waiting[name] for name in names[place::count]}


def _plan(work: Work, courses: Collection[Course]) -> None:
    """Say how much is left to do, in steps and validations of one adapter."""
    work.plan(
        step=sum(one.config.steps - one.step for one in courses),
        validation=sum(one.validations_left + (one.fit is None) for one in courses),
    )


class _Worker:
    """One thread's copy of the model, which shares the frozen weights."""

    def __init__(self, model: nn.Module, family: Family, work: Work, lock: threading.Lock, *, share: int) -> None:
        frozen = {id(one): one for one in (*model.parameters(), *model.buffers()) if not one.requires_grad}
        self._model = copy.deepcopy(model, frozen).eval()
        self._trainable = {name: one for name, one in self._model.named_parameters() if one.requires_grad}
        self._family, self._work, self._lock, self._share = family, work, lock, share
        self._loss = Losses(self._model, family)

    def follow(self, courses: Mapping[str, Course]) -> dict[str, TrainError]:
        """Take all of ``courses``, which are at the same step, to their next validation."""
        started = {name: one for name, one in courses.items() if one.fit is not None}
        for one in (one for name, one in courses.items() if name not in started):
            score = self._score(one)
            with self._lock:
                one.start(score)
        return self._round(started) if started else {}

    def _round(self, courses: Mapping[str, Course]) -> dict[str, TrainError]:
        stack = Stack(list(courses.values()))
        failed: dict[str, TrainError] = {}
        first = next(iter(courses.values()))
        for left in range(first.to_validation, 0, -1):
            begin = time.monotonic()
            losses = stack.step(self._loss)
            self._count("step", begin, len(courses))
            if left == 1:
                stack.hand_back()
            for (name, one), loss in zip(courses.items(), losses, strict=True):
                if name in failed:
                    continue
                try:
                    finite(loss, one.step)
                except TrainError as error:
                    failed[name] = error
                    continue
                score = self._score(one) if left == 1 else None
                with self._lock:
                    one.advance(loss, score)
        return failed

    def _score(self, course: Course) -> float:
        begin = time.monotonic()
        put(self._trainable, {name: one.detach() for name, one in course.trainable.items()})
        score = held_out_score(self._model, self._family, course.held_out, course.config.batch_size)
        self._count("validation", begin, 1)
        return score

    def _count(self, kind: str, begin: float, units: int) -> None:
        """Count what was done; of passes side by side each takes its share of the time."""
        with self._lock:
            self._work.add(kind, (time.monotonic() - begin) / self._share, units)
