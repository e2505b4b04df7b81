"""Error handling of every verb of both commands: an error becomes text and an exit status, never a traceback."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

FAILED = 1
LEFT_OUT = 4  # some items were left out and named, the rest was done
STATUSES = {
    0: "done",
    FAILED: "an error, printed as text",
    2: "wrong usage",
    LEFT_OUT: "done, but some items were left out and are named",
}

OS_HINTS = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "write elsewhere",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.ENFILE: "close other programs, or allow more open files",
}


@contextlib.contextmanager
def reported(
    name: str, known: tuple[type[Exception], ...], status: Callable[[Exception], int] = lambda _: FAILED
) -> Iterator[None]:
    """Run a command line ``name``: ``known`` errors, and the machine's own, end it with text and an exit status.

    ``known`` errors may have a ``hint``; ``status`` says what they exit with. A reader that went away (``| head``) ends
    it in silence.
    """
    for standard, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, standard) is None:  # closed by the parent process: there is nothing to write to
            setattr(sys, standard, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no character of a file stops a report
    try:
        try:
            yield
        finally:
            sys.stdout.flush()  # here: at the interpreter's end it would be too late to tell
    except known as error:
        fail(name, str(error), getattr(error, "hint", None), status(error))
    except BrokenPipeError:
        # What is still buffered has nowhere to go; Python would complain when it closes the stream.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(name, f"{where}{error.strerror or error}", OS_HINTS.get(error.errno or 0), FAILED)
    except MemoryError:
        fail(name, "out of memory", "fewer series or a smaller batch at a time", FAILED)


def say_statuses(statuses: Mapping[int, str]) -> str:
    """Put exit statuses in words, for a command's help."""
    return f"Exit status: {'; '.join(f'{status} {what}' for status, what in sorted(statuses.items()))}."


def fail(name: str, message: str, hint: str | None, status: int = FAILED) -> None:
    """Say what went wrong and what to do, and exit."""
    with contextlib.suppress(OSError):  # standard error may be full or closed, too
        click.echo(f"{name}: error: {message}", err=True)
        if hint:
            click.echo(f"hint: {hint}", err=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A full disk behind standard output has been reported; do not report it again at the end.
        try:
            sys.stdout.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def leave_out(name: str, what: str, why: str) -> None:
    """Name on standard error an item that is left out; the command goes on and ends with `LEFT_OUT`."""
    click.echo(f"{name}: {what} left out: {why}", err=True)
