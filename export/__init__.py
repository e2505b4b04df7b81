"""Torch in, files out: the frozen base as a bundle, each adaptation as a blob.

export_base(model, family="chronos-bolt", name=..., out=..., provenance=...)   -> BaseExport
export_adapter(bundle=..., base=..., tuned=..., deltas=..., contexts=..., ...)  -> AdapterExport
"""

from export.adapter import AdapterExport, export_adapter
from export.base import BaseExport, export_base
from export.errors import ExportError

__all__ = ["AdapterExport", "BaseExport", "ExportError", "export_adapter", "export_base"]
