"""Frozen Chronos bases: loading by name, folder or hub id, and what each family is made of."""

from edge_tsfm.models.base import BUNDLED, Base, load_base, weights_digest
from edge_tsfm.models.family import FAMILIES, Family

__all__ = ["BUNDLED", "FAMILIES", "Base", "Family", "load_base", "weights_digest"]
