"""An accelerator that this machine lacks says nothing of the adapter that was to run on it."""

from pathlib import Path

import pytest

from device_runtime.errors import MissingLibraryError
from device_runtime.faults import Fault, fault_of
from device_runtime.forecast.forecaster import Forecaster
from device_runtime.forecast.session import SessionSettings


def test_a_provider_that_is_not_there_is_the_machines_fault(dummy_bundle: Path) -> None:
    with pytest.raises(MissingLibraryError, match="NoSuchProvider") as refused:
        Forecaster.open(dummy_bundle, settings=SessionSettings(providers=("NoSuchProvider",)))
    assert fault_of(refused.value) is Fault.MACHINE
    assert "CPUExecutionProvider" in str(refused.value.hint)
