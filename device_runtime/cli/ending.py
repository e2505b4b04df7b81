"""How a command that waits for input ends on a signal: it finishes the current line first."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, ParamSpec, Self, TypeVar

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

P = ParamSpec("P")
T = TypeVar("T")


class _EndedError(BaseException):
    """Raised out of a wait by a signal; no handler of ordinary errors takes it."""


class Ending:
    """Ends a command's loop by a signal between two lines, never within one; a second signal ends it at once.

    Used around the loop and what must follow it; `pass_on` behind that ends the process as the signal would have.
    A signal that the process was started to ignore stays ignored. Outside the main thread this does nothing.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that came; 0: none
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals over."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                before = signal.getsignal(number)
                if before is not signal.SIG_IGN:
                    self._before[number] = before
                    signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)
        return isinstance(error, _EndedError)

    def lines(self, source: Iterator[T]) -> Iterator[T]:
        """Give what ``source`` gives until a signal comes; only while ``source`` is waited for does one interrupt."""
        while True:
            self._waits = True
            try:
                if self.number:
                    return
                line = next(source)
            except (StopIteration, _EndedError):
                return
            finally:
                self._waits = False
            yield line

    def unbroken(self, work: Callable[P, T]) -> Callable[P, T]:
        """Return ``work``, done while the source is waited for, so that no signal breaks it off: it ends behind it."""

        def whole(*arguments: P.args, **named: P.kwargs) -> T:
            waited, self._waits = self._waits, False
            try:
                done = work(*arguments, **named)
            finally:
                self._waits = waited
            if self.number and waited:
                raise _EndedError
            return done

        return whole

    def pass_on(self) -> None:
        """End as the received signal would have ended the process, so that the parent process can tell."""
        if self.number:
            signal.signal(self.number, signal.SIG_DFL)
            os.kill(os.getpid(), self.number)

    def _take(self, number: int, _: FrameType | None) -> None:
        self.number = self.number or number
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
        if self._waits:
            raise _EndedError
