"""Synthetic contexts for comparing torch with the runtime: those from which a monitor makes its known answers."""

from device_runtime.forecast.contexts import synthetic_contexts

__all__ = ["synthetic_contexts"]
