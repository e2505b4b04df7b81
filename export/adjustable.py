"""A bundle opened once with some of its tensors as inputs of every run: many comparisons with a single session.

A device opens a bundle differently: here nothing that depends on those tensors is folded when the session opens. So
the comparison is of the graph's files, and a final one uses a session like the device's (`export.deviation`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from device_runtime.forecast.bundle import Bundle
from device_runtime.forecast.families import FAMILIES
from device_runtime.forecast.session import SessionSettings
from device_runtime.format.quantised import INTEGERS, SCALES, initializers
from export.folder import link

FloatArray = NDArray[np.float32]


class Adjustable:
    """A family's model whose named tensors are set before a run."""

    def __init__(self, bundle: Bundle, model: Any, sessions: Sequence[_Fed]) -> None:
        self.bundle = bundle
        self._model, self._sessions = model, sessions

    def merged(self, tensors: Mapping[str, FloatArray]) -> Any:
        """Return the model with ``tensors`` by name, until the next call; the rest are the base's."""
        given: dict[str, NDArray[np.generic]] = {}
        for name, array in tensors.items():
            given |= initializers(self.bundle.manifest.tensors[self.bundle.index_of(name)], array)
        for session in self._sessions:
            session.feed = {name: array for name, array in given.items() if name in session.takes}
        return self._model

    def witness(self, tensors: Mapping[str, FloatArray], context: FloatArray) -> FloatArray:
        """Return the witness of `merged` for ``context`` ``[B, L]``."""
        return np.asarray(self.merged(tensors).witness(context), dtype=np.float32)


@contextmanager
def adjustable(bundle: Bundle, names: Collection[str], room: Path) -> Iterator[Adjustable]:
    """Open ``bundle`` with the tensors ``names`` as inputs; other graph files are made in ``room`` for the time."""
    names = {taken for name in names for taken in (name, name + INTEGERS, name + SCALES)}
    with tempfile.TemporaryDirectory(dir=room, prefix=".adjustable.") as scratch:
        folder = Path(scratch)
        graphs = {graph.file for graph in bundle.manifest.graphs.values()}
        for name in bundle.manifest.files:  # not all there is: the room may be in the bundle's own folder
            if name not in graphs:
                link(bundle.path / name, folder / name)
        for name in graphs:
            graph = onnx.load(str(bundle.path / name), load_external_data=False)
            for tensor in graph.graph.initializer:
                if tensor.name in names:
                    # An initializer that is an input too may be given; where it is not, it has its own numbers.
                    graph.graph.input.append(
                        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
                    )
            onnx.save_model(graph, str(folder / name))
        there = Bundle(folder, bundle.manifest, {})  # its graphs are not those that the manifest pins
        model: Any = FAMILIES[bundle.manifest.family](there, {}, SessionSettings(from_disk=True))
        model.sessions = {name: _Fed(session) for name, session in model.sessions.items()}
        yield Adjustable(bundle, model, list(model.sessions.values()))


class _Fed:
    """An ONNX Runtime session that adds ``feed`` to what it is run with."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.takes = {one.name for one in session.get_overridable_initializers()}
        self.feed: Mapping[str, NDArray[np.generic]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run(self, outputs: Sequence[str], feed: Mapping[str, NDArray[np.generic]]) -> Any:
        """Run with ``feed`` and the tensors."""
        return self._session.run(outputs, {**feed, **self.feed})

    def io_binding(self) -> Any:
        """Return a binding that has the tensors already."""
        binding = self._session.io_binding()
        for name, array in self.feed.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array)))
        return binding
