"""The help of every command: its defaults, and examples that the command itself can read."""

import shlex

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from bitladder.cli import app


def _commands(group, words=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(_commands(get_command(app)))


def _help(words):
    done = CliRunner().invoke(app, [*words, "--help"])
    assert done.exit_code == 0
    return done.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_has_examples_that_can_be_read(words):
    _, _, after = _help(words).partition("Examples:\n")
    lines = [line.strip() for line in after.splitlines() if line.strip()]
    assert lines
    for line in lines:
        program, *given = shlex.split(line)
        assert program == "bitladder"
        assert given[: len(words)] == list(words)
        context = COMMANDS[words].make_context(line, given[len(words) :])
        assert not context.args


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_says_every_default(words):
    shown = " ".join(_help(words).split())
    for one in COMMANDS[words].params:
        if one.required or one.default is False:  # a switch, off by default
            continue
        if one.default is None:
            assert "default" in one.help or "this or" in one.help, one.name
        else:
            assert f"default: {one.default}" in shown, one.name
