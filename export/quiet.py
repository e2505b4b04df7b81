"""Silence the remarks of torch's and onnx's exporters; their results are compared afterwards."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Let through only errors of the loggers ``names``, and no warnings, for the duration of a ``with``."""
    with ExitStack() as undo, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in map(logging.getLogger, names):
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        yield
