"""A monitor to deploy to."""

from tests.simulators.beds import bed, confirmed_twice

__all__ = ["bed", "confirmed_twice"]
