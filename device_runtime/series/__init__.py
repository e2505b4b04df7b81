"""What a file of measurements means: signals, units, times, identity, cleaning, clock.

The rules are those of ``SERIES.md``. The device and the workstation read by them; nothing here needs more than numpy.
"""
