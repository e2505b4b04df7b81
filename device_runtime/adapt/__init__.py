"""Adaptation on the device: what learns, by which rule and within which bounds; numpy only, no I/O, no clock."""
