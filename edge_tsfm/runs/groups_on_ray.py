"""Groups over a Ray cluster: each task trains some of them in one pass; a task whose worker dies goes on elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from edge_tsfm.data.groups import Group
from edge_tsfm.data.read import open_data
from edge_tsfm.data.sources import Source
from edge_tsfm.models import load_base
from edge_tsfm.progress import Work
from edge_tsfm.runs.company import Hearing, config_of, is_done, train_some
from edge_tsfm.runs.ray_cluster import cluster
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.training.config import TrainConfig

TASKS_PER_CORE = 2  # so that a core that is done early has something left to take
RETRIES = 5  # workers that may die under one task
PAUSE = 1.0  # seconds between two looks at how many groups are finished


def train_on_ray(
    config: TrainConfig,
    out: Path,
    groups: Sequence[Group],
    source: Source | None,
    *,
    address: str,
    force: bool,
    hearing: Hearing,
    work: Work,
    tell: Callable[[str], None],
) -> dict[str, str]:
    """Train ``groups`` on the cluster at ``address``, a core (and where there are some, a GPU) for each task.

    Returns the errors of those that failed, as `train_some`. A task that lost its worker continues from its groups'
    checkpoints; after `RETRIES` its unfinished groups count as failed. ``hearing`` is called on the workers.
    """
    if not groups:
        return {}
    failed: dict[str, str] = {}
    with cluster(address) as ray:
        lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError)
        count = min(len(groups), TASKS_PER_CORE * int(ray.cluster_resources().get("CPU", 1)))
        task = ray.remote(num_cpus=1, num_gpus=int(torch.cuda.is_available()), max_retries=RETRIES)(_train_slice)
        data = None if source is None else ray.put(source)
        slices = [tuple(groups[place::count]) for place in range(count)]
        waiting = {
            task.remote(config, out.resolve(), some, data, force=force, hearing=hearing): some for some in slices
        }
        finished, since = 0, time.monotonic()
        work.plan(groups=len(groups))
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1, timeout=PAUSE)
            for one in done:
                some = waiting.pop(one)
                try:
                    errors = ray.get(one)
                except lost as error:
                    words = f"its worker was lost {RETRIES + 1} times: {str(error).splitlines()[0]}"
                    errors = {group.name: words for group in some if not (out / group.folder / RUN_FILE).exists()}
                failed |= errors
            now = sum((out / group.folder / RUN_FILE).exists() for group in groups) + len(failed)
            if now > finished:
                work.add("groups", time.monotonic() - since, now - finished)
                finished, since = now, time.monotonic()
                tell(f"{finished} of {len(groups)} groups done")
    return failed


def _train_slice(
    config: TrainConfig, out: Path, groups: Sequence[Group], source: Source | None, *, force: bool, hearing: Hearing
) -> dict[str, str]:
    """Train the groups of one task that an earlier worker has not finished, with the one core it is counted for."""
    torch.set_num_threads(1)
    left = [one for one in groups if not is_done(out / one.folder, config_of(config, one))]
    opened = open_data(config.data if source is None else source, config.reading, target=config.target)
    return train_some(
        config, out, left, opened, load_base(config.base), force=force, hearing=hearing, work=Work(), workers=1
    )
