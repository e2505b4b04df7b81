"""edge-tsfm on the workstation: data, training, evaluation, deployment."""

__version__ = "0.1.0"
