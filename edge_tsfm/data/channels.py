"""The channel table, which is the device's: `device_runtime.series.signals`."""

from device_runtime.series.signals import SIGNALS as CHANNELS
from device_runtime.series.signals import Signal as Channel
from device_runtime.series.signals import find_signal as find_channel
from device_runtime.series.signals import unit_of_name
from device_runtime.series.units import CONVERSIONS, UNITS, find_unit

__all__ = ["CHANNELS", "CONVERSIONS", "UNITS", "Channel", "find_channel", "find_unit", "unit_of_name"]
