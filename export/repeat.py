"""Stacks of equal blocks: a few are traced, the rest are written as copies of the last one.

Tracing takes tens of milliseconds for each node, more than everything else for a deep model; the twelfth block of a
stack is the second one with other weights. The copies are compared with torch like the rest of a graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnx

# A stack of so many blocks is traced whole: what a copy saves there is not worth another graph for the same weights.
WHOLE = 3
TRACED = 2  # the first may prepare what the others share


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack of a model of which a graph holds the first `TRACED` blocks."""

    blocks: str  # name of its list of blocks: "encoder.block"
    depth: int  # blocks of the model
    first_norm: str  # of a block, within it: the scale of the norm that reads what goes into the block
    final_norm: str  # the scale of the norm that reads what comes out of the last one

    def block(self, number: int) -> str:
        """Return the prefix of a block's parameters."""
        return f"{self.blocks}.{number}."


def traced_blocks(blocks: Any) -> int:
    """Return how many of a stack's ``blocks`` must be traced: all, unless those after the first are of one make."""

    def make(number: int) -> list[tuple[str, Any]]:
        return [(name, parameter.shape) for name, parameter in blocks[number].named_parameters()]

    alike = all(make(number) == make(TRACED - 1) for number in range(TRACED, len(blocks)))
    return TRACED if len(blocks) > WHOLE and alike else len(blocks)


def repeat(graph: onnx.GraphProto, stack: Stack) -> None:
    """Write the blocks that are missing of ``stack``, in place, each a copy of the last one there.

    A block is what lies between the values that two norms read. Values that it shares with the blocks before it
    (constants, sizes, position biases) are shared by the copies.
    """
    last = TRACED - 1
    start = _read_by(graph, stack.block(last) + stack.first_norm)
    end = _read_by(graph, stack.final_norm)
    before = set(_ancestors(graph, start))
    block = [graph.node[number] for number in sorted(set(_ancestors(graph, end)) - before)]
    place = next(number for number, node in enumerate(graph.node) if end in node.output) + 1
    behind = list(graph.node)[place:]
    del graph.node[place:]
    made = {name for node in block for name in node.output}
    infos = [info for info in graph.value_info if info.name in made]
    weights = [tensor for tensor in graph.initializer if tensor.name.startswith(stack.block(last))]
    source = start
    result = end
    for number in range(TRACED, stack.depth):
        names = {name: f"{name}_{stack.block(number)}" for name in made}
        names |= {tensor.name: stack.block(number) + tensor.name.removeprefix(stack.block(last)) for tensor in weights}
        names[source] = result
        for node in block:
            _renamed(graph.node.add(), node, names)
        for tensor in weights:
            _named(graph.initializer.add(), tensor, names[tensor.name])
        for info in infos:
            _named(graph.value_info.add(), info, names[info.name])
        result = names[end]
    for node in behind:
        _renamed(graph.node.add(), node, {end: result})


def _renamed(target: onnx.NodeProto, node: onnx.NodeProto, names: dict[str, str]) -> None:
    """Copy a node under other names of its values."""
    target.CopyFrom(node)
    target.input[:] = [names.get(name, name) for name in node.input]
    target.output[:] = [names.get(name, name) for name in node.output]
    if target.output[:] != node.output[:]:
        target.name = f"node_{target.output[0]}"


def _named(target: Any, source: Any, name: str) -> None:
    """Copy a tensor or what is known of a value under another name."""
    target.CopyFrom(source)
    target.name = name


def _read_by(graph: onnx.GraphProto, scale: str) -> str:
    """Return the value that the norm with ``scale`` reads: `layers.norm` divides it and multiplies by the scale."""
    made = {name: node for node in graph.node for name in node.output}
    (product,) = [node for node in graph.node if scale in node.input]
    (quotient,) = [made[name] for name in product.input if name != scale]
    assert (product.op_type, quotient.op_type) == ("Mul", "Div"), scale
    return str(quotient.input[0])


def _ancestors(graph: onnx.GraphProto, value: str) -> Iterator[int]:
    """Yield the numbers of the nodes that ``value`` is computed by."""
    made = {name: number for number, node in enumerate(graph.node) for name in node.output}
    seen: set[int] = set()
    ahead = [value]
    while ahead:
        number = made.get(ahead.pop())
        if number is not None and number not in seen:
            seen.add(number)
            ahead.extend(graph.node[number].input)
            yield number
