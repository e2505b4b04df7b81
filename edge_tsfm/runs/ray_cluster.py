"""A Ray cluster for as long as some work takes; its nodes see data and folders under the same paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from edge_tsfm.errors import ConfigError

LOCAL = "local"


@contextmanager
def cluster(address: str) -> Iterator[Any]:
    """Connect to the cluster at ``address`` and yield the module ``ray``.

    ``auto`` is the one that this machine belongs to, `LOCAL` one of this machine for as long as the ``with`` takes.
    Raises `ConfigError` when there is none.
    """
    import ray

    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == LOCAL else None)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"no Ray cluster at {address!r}: {error}", hint="ray start --head, or --ray local") from error
    try:
        yield ray
    finally:
        ray.shutdown()
