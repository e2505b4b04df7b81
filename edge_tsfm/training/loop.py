"""The training loop: frozen base, few trainable parameters, early stopping, exact resume.

The model stays in evaluation mode: dropout would train another function than the one that is deployed, and a few
thousand parameters do not memorise a ward. So the only randomness is in the windows of a step, which are determined by
the seed and the step number.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from edge_tsfm.data import Windows
from edge_tsfm.models.family import Objective, device_of
from edge_tsfm.progress import Work
from edge_tsfm.training.config import TrainConfig
from edge_tsfm.training.course import Course, Fit, Pair, Report, draw, finite, set_rates


def fit(
    model: nn.Module,
    family: Objective,
    train: Windows,
    validation: Windows,
    config: TrainConfig,
    *,
    rates: Mapping[str, float],
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    report: Report = lambda *_: None,
    work: Work | None = None,
) -> Fit:
    """Train the parameters that ``rates`` names, each with its peak learning rate, and leave the best parameters there.

    Best by the family's stopping metric on a sample of ``validation``. The frozen base is the first candidate: numbers
    that never beat it end as they began. With ``checkpoint`` the whole state is written there at every evaluation, and
    a state of the same ``identity`` found there is continued exactly. ``report`` is told of every step, ``work`` counts
    and times steps ("step") and validation passes ("validation").

    Raises `TrainError` when there is nothing to train on or the loss is not finite.
    """
    model.eval()
    trainable = {name: parameter for name, parameter in model.named_parameters() if name in rates}
    course = Course.begin(
        trainable, train, validation, config, rates=rates, checkpoint=checkpoint, identity=identity, report=report
    )
    work = work or Work()

    def score() -> float:
        with work.timed("validation"):
            return held_out_score(model, family, course.held_out, config.batch_size)

    if course.fit is None:
        course.start(score())
    work.plan(step=config.steps - course.step, validation=course.validations_left)
    while not course.ended:
        due = course.to_validation == 1
        start = time.monotonic()
        loss = _step(model, family, course)
        work.add("step", time.monotonic() - start)
        course.advance(loss, score() if due else None)
    work.plan(step=0, validation=0)
    course.leave_best()
    return course.result


def _step(model: nn.Module, family: Objective, course: Course) -> float:
    """Make one step down the gradient of the loss; return its value. Raises `TrainError` when it is not finite."""
    device = device_of(model)
    set_rates(course.optimiser, course.step, course.config)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
        loss = family.loss(model, *draw(course.train, course.config, course.step, device))
    value = finite(float(loss.detach()), course.step)
    course.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch ships this one without types
    torch.nn.utils.clip_grad_norm_(course.trainable.values(), course.config.clip_norm)
    course.optimiser.step()
    return value


def held_out_score(model: nn.Module, family: Objective, held_out: Pair, batch: int) -> float:
    """Return the family's stopping metric on held-out windows; for Chronos-Bolt the WQL that the gate judges by."""
    total = size = 0.0
    with torch.no_grad():
        for start in range(0, len(held_out[0]), 4 * batch):
            loss, count = family.score(model, *(part[start : start + 4 * batch] for part in held_out))
            total, size = total + loss, size + count
    return total / size if size else math.nan
