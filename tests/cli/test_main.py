"""The group of commands: light to load, and the one place where errors become messages."""

import errno
import subprocess
import sys

import pytest
import rich_click as click

from s2d_zoo import errors
from s2d_zoo._version import __version__
from s2d_zoo.cli import cli
from s2d_zoo.cli.main import _COMMANDS
from s2d_zoo.cli.options import split_names

NAMES = sorted(_COMMANDS)


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)


def test_help_does_not_import_torch():
    done = python(
        "import sys; from s2d_zoo.cli import cli; cli.main(['--help'], standalone_mode=False); "
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert name in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_command_explains_itself_and_all_its_options(call, name):
    outcome = call(name, "--help")
    assert outcome.exit_code == 0
    assert outcome.stderr == ""
    command = cli.get_command(click.Context(cli), name)
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.opts[0] in outcome.stdout


def test_the_version_is_told(call):
    assert __version__ in call("--version").stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["list", "--nonsense"], ["adapt"], ["validate"]])
def test_a_call_that_makes_no_sense_is_misuse(call, arguments):
    outcome = call(*arguments)
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert outcome.stderr


@pytest.mark.parametrize("seed", ["-1", str(2**31), "x"])
def test_a_seed_that_not_every_library_takes_is_misuse(call, adapt_arguments, seed):
    outcome = call(*adapt_arguments(seed=seed))
    assert outcome.exit_code == 2
    assert "--seed" in outcome.message


def every_error(root=errors.S2DZooError):
    return [root, *(found for child in root.__subclasses__() for found in every_error(child))]


@pytest.mark.parametrize("error", [*every_error(), OSError, PermissionError])
def test_every_error_on_purpose_becomes_a_message_and_an_exit_code(call, monkeypatch, error):
    def fail():
        msg = "what went wrong"
        raise error(msg)

    monkeypatch.setattr("s2d_zoo.zoo.collection.bundled_models", fail)
    outcome = call("list")
    assert outcome.exit_code == (2 if issubclass(error, errors.UserInputError) else 1)
    assert outcome.stdout == ""
    assert outcome.message.count("what went wrong") == 1


def test_an_error_that_nobody_foresaw_is_not_hidden(call, monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr("s2d_zoo.zoo.collection.bundled_models", fail)
    with pytest.raises(ZeroDivisionError):
        call("list")


def test_a_reader_that_has_gone_is_no_failure_of_ours(call, monkeypatch):
    def fail():
        raise BrokenPipeError(errno.EPIPE, "gone")

    monkeypatch.setattr("s2d_zoo.zoo.collection.bundled_models", fail)
    outcome = call("list")
    assert outcome.exit_code == 1
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    ("text", "names"), [(None, None), ("", None), ("a", ("a",)), ("a, b ,c", ("a", "b", "c")), ("a,", ("a", ""))]
)
def test_names_are_split_at_commas(text, names):
    assert split_names(text) == names
