"""Training runs: configuration, loop, gate, run folder."""
