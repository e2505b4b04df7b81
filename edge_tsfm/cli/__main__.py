"""``python -m edge_tsfm.cli``."""

from edge_tsfm.cli import main

main()
