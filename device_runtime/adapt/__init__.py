"""Adaptation on the device: what is learnt, by which rule and within which bounds; numpy only, no I/O, no clock."""
