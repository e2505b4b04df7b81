"""The dummy Chronos-Bolt and its float32 bundle, by name, and how a run gets numbers that matter."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from device_runtime.forecast.bundle import Bundle
from edge_tsfm.models import Base
from edge_tsfm.runs.record import RUN_FILE
from edge_tsfm.runs.run import PARAMETERS_FILE, digests


@pytest.fixture(scope="session")
def dummy(exported: Callable[[str], Any]) -> Base:
    return exported("chronos-bolt")[0]


@pytest.fixture(scope="session")
def float32_bundle(exported: Callable[[str], Any]) -> Bundle:
    return exported("chronos-bolt")[1]


@pytest.fixture(scope="session")
def redraw() -> Callable[[Path, Callable[[torch.Tensor], torch.Tensor]], None]:
    """Put ``draw(number)`` in place of each of a run's tuned parameters, and pin them in its record as training does.

    A few steps of training leave none that matter.
    """

    def put(run: Path, draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
        torch.manual_seed(0)
        numbers = load_file(run / PARAMETERS_FILE)
        save_file({name: draw(value) for name, value in numbers.items()}, run / PARAMETERS_FILE)
        record = json.loads((run / RUN_FILE).read_text())
        record["files"] = digests(run)
        (run / RUN_FILE).write_text(json.dumps(record))

    return put
