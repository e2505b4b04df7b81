"""What company saves: ``python -m tests.benchmarks.together [--groups 100] [--method bitfit] [--batch-sizes 8 256]``.

One adapter alone and many in one pass take turns, at equal windows each: the same steps of the same batch. Beside them
what the arithmetic alone would take: the many groups' windows in one adapter's largest batch, shared by all cores. Each
figure is a median with its smallest and largest, by the clock, and so of a machine that does nothing else; the ratio of
processor times, in which waiting for a core does not count, is beside it.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from edge_tsfm.data.windows import Windows
from edge_tsfm.methods import attach, find_method, learning_rates
from edge_tsfm.models import FAMILIES, load_base
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import Course
from edge_tsfm.training.loop import fit
from edge_tsfm.training.together import fit_together
from export.threads import threads_for

CONTEXT, AHEAD = 48, 6
LARGE = 1_024  # windows: a batch whose overhead no longer counts


def windows(seed: int, count: int) -> Windows:
    """Draw windows like a vital sign's."""
    draw = np.random.default_rng(seed)
    values = (80 + np.cumsum(draw.normal(size=(count, CONTEXT + AHEAD)), axis=1)).astype(np.float32)
    places = np.zeros(count, dtype=np.int64)
    return Windows(
        context=values[:, :CONTEXT].copy(), target=values[:, CONTEXT:].copy(), item_id=np.array(["p"] * count),
        cutoff=places, series=places,
    )  # fmt: skip


class Contest:
    """One base and method, and the data of every group."""

    def __init__(self, base: str, method: str, groups: int) -> None:
        loaded = load_base(base)
        self.family = FAMILIES[loaded.family]
        self.model = copy.deepcopy(loaded.model)
        self.method = method
        attach(self.model, find_method(method), self.config(1, 1).options)
        self.rates = learning_rates(self.model, find_method(method), None)
        self.data = [(windows(n, 400), windows(1_000 + n, 50)) for n in range(groups)]

    def config(self, batch: int, steps: int) -> TrainConfig:
        return TrainConfig(data="-", method=self.method, batch_size=batch, steps=steps, evaluate_every=steps)

    def alone(self, batch: int, steps: int) -> float:
        model, begin = copy.deepcopy(self.model), time.perf_counter()
        with threads_for(model):
            fit(model, self.family, *self.data[0], self.config(batch, steps), rates=self.rates)
        return time.perf_counter() - begin

    def together(self, batch: int, steps: int, at_once: int | None) -> float:
        courses = {}
        for number, data in enumerate(self.data):
            own = {n: nn.Parameter(p.detach().clone()) for n, p in self.model.named_parameters() if n in self.rates}
            courses[str(number)] = Course.begin(own, *data, self.config(batch, steps), rates=self.rates)
        begin = time.perf_counter()
        if failed := fit_together(self.model, self.family, courses, at_once=at_once):
            raise RuntimeError(failed)
        return time.perf_counter() - begin

    def arithmetic(self, batch: int, steps: int) -> float:
        """Return what the groups' windows take at the pace of one large batch on every core."""
        (train, _), model = self.data[0], copy.deepcopy(self.model)
        chosen = np.arange(LARGE) % len(train)
        pair = torch.from_numpy(train.context[chosen]), torch.from_numpy(train.target[chosen])
        with threads_for(model):
            begin = time.perf_counter()
            self.family.loss(model, *pair).backward()
            took = time.perf_counter() - begin
        return took * batch * steps * len(self.data) / LARGE / len(os.sched_getaffinity(0))


def say(times: list[float]) -> str:
    return f"{np.median(times):8.3f} s ({min(times):.3f} to {max(times):.3f})"


def main() -> None:
    """Print a line for each batch size."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--base", default="edge-bolt-micro")
    asked.add_argument("--method", default="bitfit")
    asked.add_argument("--groups", type=int, default=100)
    asked.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    asked.add_argument("--steps", type=int, default=50)
    asked.add_argument("--at-once", type=int)
    asked.add_argument("--repeats", type=int, default=5)
    given = asked.parse_args()
    contest = Contest(given.base, given.method, given.groups)
    cores = len(os.sched_getaffinity(0))
    machine = platform.processor() or platform.machine()
    sys.stdout.write(f"{machine}, {cores} cores; {given.base}, {given.method}, {given.steps} steps\n")
    for batch in given.batch_sizes:
        ways: dict[str, Callable[[], Any]] = {
            "alone": lambda batch=batch: contest.alone(batch, given.steps),
            "together": lambda batch=batch: contest.together(batch, given.steps, given.at_once),
            "arithmetic": lambda batch=batch: contest.arithmetic(batch, given.steps),
        }
        clock: dict[str, list[float]] = {name: [] for name in ways}
        processor: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(given.repeats + 1):
            for name, way in ways.items():
                before, seconds = time.process_time(), way()
                if turn:  # the first one warms up
                    clock[name].append(seconds)
                    processor[name].append(time.process_time() - before)
        one, many, floor = (float(np.median(clock[name])) for name in ways)
        busy = float(np.median(np.divide(processor["together"], processor["alone"])))
        sys.stdout.write(
            f"batch {batch:4}: alone {say(clock['alone'])}, {given.groups} together {say(clock['together'])}: "
            f"{many / one:.1f} ×; arithmetic {floor / one:.1f} ×; processor time {busy:.1f} ×\n"
        )


if __name__ == "__main__":
    main()
