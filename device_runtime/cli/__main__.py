"""``python -m device_runtime.cli``."""

from device_runtime.cli import main

main()
