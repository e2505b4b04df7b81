"""What commands, demo and studies call: a run trained, opened, evaluated, exported and merged."""
