"""What the exporter raises on purpose."""


class ExportError(Exception):
    """A bundle or blob cannot be written; nothing was. ``hint`` says what to do."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint
