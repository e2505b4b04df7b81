"""Every error the workstation raises on purpose.

The command line prints them as ``edge-tsfm: error: <message>`` and ``hint: <hint>``; a library user catches
`EdgeTsfmError`. Errors that a monitor can raise live in `device_runtime.errors`, with stable codes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from device_runtime.errors import InputError
from device_runtime.series.options import OptionError


class EdgeTsfmError(Exception):
    """Something a user can mend: says what, got, wanted and where; ``hint`` says what to do next."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(EdgeTsfmError):
    """A configuration file or option is unknown, contradictory or out of range."""


class DataError(EdgeTsfmError):
    """Input data cannot be read, or has nothing to train or score on."""


class ModelError(EdgeTsfmError):
    """A base cannot be loaded, or is not of a supported family."""


class TrainError(EdgeTsfmError):
    """Training cannot start or did not stay finite."""


class InUseError(EdgeTsfmError):
    """Another process is writing into the folder."""


class HubError(EdgeTsfmError):
    """The Hugging Face hub refuses something, cannot be reached, or holds something else."""


class DeployError(EdgeTsfmError):
    """An update repository or roll-out would become unusable or unsafe."""


class GateRefusedError(EdgeTsfmError):
    """A trained adapter did not beat its frozen base and is not accepted (exit status 3)."""


@contextmanager
def as_data_errors() -> Iterator[None]:
    """Raise what the device's reader refuses as the workstation's own errors, without the device's code."""
    try:
        yield
    except OptionError as error:
        raise ConfigError(str(error.args[0]), hint=error.hint) from error
    except InputError as error:
        raise DataError(str(error.args[0]), hint=error.hint) from error
