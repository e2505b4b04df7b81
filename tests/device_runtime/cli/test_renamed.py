"""Names of the release before: they work, standard error says the new one once, and never both at a time."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from device_runtime.cli.renamed import renamed_option
from device_runtime.errors import SettingsError
from device_runtime.renamed import say_renamed
from device_runtime.update.settings import read_config

KEYS = f'bundle = "b"\nstate = "s"\ntrusted_keys = ["{"00" * 32}"]\n'


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """What was said in another test is said again."""
    say_renamed.cache_clear()


@click.command()
@renamed_option("--ring", old="--channel", required=True, help="Of the fleet.")
@renamed_option("--signal", "names", old="--vital", multiple=True)
def command(ring: str, names: tuple[str, ...]) -> None:
    """Print what was given."""
    click.echo(f"{ring} {' '.join(names)}")


def run(*options: str) -> Result:
    return CliRunner().invoke(command, list(options))


@pytest.mark.parametrize("option", ["--ring", "--channel"])
def test_an_option_is_taken_under_either_name(option: str) -> None:
    done = run(option, "icu")
    assert (done.exit_code, done.stdout) == (0, "icu \n")
    said = "--channel is now called --ring; the old name works in this release only\n"
    assert done.stderr == (said if option == "--channel" else "")


def test_a_repeated_option_keeps_what_was_given_under_both_names() -> None:
    assert run("--ring", "icu", "--vital", "HR", "--signal", "MAP", "--vital", "SBP").stdout == "icu MAP HR SBP\n"


def test_one_value_under_both_names_is_refused() -> None:
    done = run("--ring", "icu", "--channel", "icu")
    assert done.exit_code == 2
    assert "--channel is the old name of --ring: want one of them" in done.stderr


def test_a_missing_option_is_missed_by_its_new_name_and_help_lists_that_alone() -> None:
    assert "Missing option '--ring'" in run().stderr
    help_text = run("--help").stdout
    assert "--ring" in help_text
    assert "--channel" not in help_text


def settings(folder: Path, *lines: str) -> Path:
    path = folder / "device.toml"
    path.write_text("\n".join(('device_id = "bed"', *lines, KEYS)))
    path.chmod(0o600)
    return path


def test_settings_of_the_release_before_are_read_and_the_new_name_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings(tmp_path, 'channel = "icu"')
    assert read_config(path) == read_config(settings(tmp_path, 'ring = "icu"'))
    read_config(settings(tmp_path, 'channel = "icu"'))
    said = f"{path}: channel is now called ring; the old name works in this release only\n"
    assert capsys.readouterr() == ("", said)


def test_settings_with_both_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="channel and ring are one key, under its old and its new name: keep ring"):
        read_config(settings(tmp_path, 'channel = "icu"', 'ring = "icu"'))
