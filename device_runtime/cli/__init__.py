"""The ``edge-tsfm-device`` command."""


def main() -> None:
    """Run the command line."""
