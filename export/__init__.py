"""Torch in, files out: the frozen base as a bundle, each adaptation as a blob."""
