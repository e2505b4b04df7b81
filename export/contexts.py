"""Synthetic contexts to compare torch and the runtime on: those that a monitor makes its known answers of."""

from device_runtime.forecast.contexts import synthetic_contexts

__all__ = ["synthetic_contexts"]
