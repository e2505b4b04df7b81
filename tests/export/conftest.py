"""The dummy Chronos-Bolt and its float32 bundle, by name."""

from collections.abc import Callable
from typing import Any

import pytest

from device_runtime.bundle import Bundle
from edge_tsfm.models import Base


@pytest.fixture(scope="session")
def dummy(exported: Callable[[str], Any]) -> Base:
    return exported("chronos-bolt")[0]


@pytest.fixture(scope="session")
def float32_bundle(exported: Callable[[str], Any]) -> Bundle:
    return exported("chronos-bolt")[1]
