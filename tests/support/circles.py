"""Files that need each other in a circle, in any language."""

from __future__ import annotations

from collections.abc import Iterator


def strongly_connected(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """Yield the sets of files that need each other (Tarjan 1972); ``edges`` says whom each one needs."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []

    def visit(module: str) -> Iterator[list[str]]:
        number[module] = lowest[module] = len(number)
        path.append(module)
        for other in sorted(edges[module]):
            if other not in number:
                yield from visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in path:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            start = path.index(module)
            found = path[start:]
            del path[start:]
            if len(found) > 1:
                yield sorted(found)

    for module in sorted(edges):
        if module not in number:
            yield from visit(module)
