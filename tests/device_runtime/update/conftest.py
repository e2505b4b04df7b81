"""Monitors that a real publisher updates: `make device` runs these tests once its libraries are installed."""

from importlib.util import find_spec
from pathlib import Path

ALONE = {  # need no publisher
    "conftest.py",
    "test_adapt_power_cut.py",
    "test_counter.py",
    "test_floor.py",
    "test_health.py",
    "test_lifecycle.py",
    "test_service_trial.py",
    "test_slots_own.py",
    "test_slots_power_cut.py",
}
HERE = Path(__file__).parent

if find_spec("tuf") is None:
    collect_ignore = [str(path) for path in HERE.rglob("*.py") if path.name not in ALONE]
else:
    from tests.simulators.beds import bed, confirmed_twice
    from tests.simulators.own_bed import own, promoted

    __all__ = ["bed", "confirmed_twice", "own", "promoted"]


def pytest_report_header() -> str | None:
    """Say what is left out."""
    return None if find_spec("tuf") else "update tests that need a publisher are left out: extra [deploy]"
