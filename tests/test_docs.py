"""Documentation cannot drift: the README's commands and the examples of `--help` are ones that the program takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from core.quantities import MATRICES, QUANTITIES
from studies.spec import load_study
from sweeps.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app)
ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "2>"}
"""Words at which the shell takes over from the command before."""


def blocks(*languages: str, text: str = README) -> list[str]:
    """The fenced blocks of a text in one of the languages."""
    return [body for name, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if name in languages]


def command_lines(program: str, text: str = README) -> list[list[str]]:
    """The arguments of each call of `program` in the shell blocks of a text."""
    calls = []
    for block in blocks("sh", "bash", "shell", "console", text=text):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            while words:
                end = next((i for i, word in enumerate(words) if word in ENDS), len(words))
                call, words = words[:end], words[end + 1 :]
                if call and Path(call[0]).name == program:
                    calls.append(call[1:])
    return calls


def parse(arguments: list[str]) -> str:
    """Parses a command line without running it; the command's name."""
    with COMMANDS.make_context("loopsweep", list(arguments)) as root:
        name, command, rest = COMMANDS.resolve_command(root, arguments)
        command.make_context(name, rest, parent=root).close()
    return name


def examples(name: str) -> list[str]:
    """The examples in a command's help."""
    return re.findall(r"^  loopsweep (.*)$", COMMANDS.commands[name].help, re.M)


@pytest.mark.parametrize("line", [shlex.join(call) for call in command_lines("loopsweep")])
def test_the_commands_of_the_readme_parse(line):
    assert parse(shlex.split(line)) in COMMANDS.commands


def test_the_readme_shows_every_command_at_work():
    shown = {parse(call) for call in command_lines("loopsweep")}
    assert shown == set(COMMANDS.commands)


def test_the_readme_begins_with_make():
    assert [call[0] for call in command_lines("make")][:2] == ["demo", "test"]


def test_the_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {call[0] for call in command_lines("make")} <= targets


def test_the_studies_of_the_readme_load(tmp_path):
    studies = [body for body in blocks("toml") if re.search(r"^name = ", body, re.M)]
    assert studies, "the README shows how to write a study"
    for number, body in enumerate(studies):
        path = tmp_path / f"study-{number}.toml"
        path.write_text(body, encoding="utf-8")
        assert load_study(str(path)).question


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!https?:|#|mailto:)[^)#]+)[^)]*\)", README))
def test_the_links_of_the_readme_lead_somewhere(path):
    assert (ROOT / path).exists()


CLUSTER = (ROOT / "docs/cluster.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", [shlex.join(call) for call in command_lines("loopsweep", CLUSTER)])
def test_the_commands_of_the_guide_to_clusters_parse(line):
    assert parse(shlex.split(line)) in COMMANDS.commands


def test_the_guide_to_clusters_launches_each_way():
    calls = command_lines("loopsweep", CLUSTER)
    assert {call[1] for call in calls if call[0] == "launch"} == {"slurm", "kuberay", "ray-job"}


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_every_help_has_examples_that_parse(name):
    assert examples(name)
    for example in examples(name):
        assert parse(shlex.split(example)) == name


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_every_option_says_what_it_does_and_the_store_goes_with_all(name):
    parameters = COMMANDS.commands[name].params
    assert all(parameter.help for parameter in parameters)
    options = {option for parameter in parameters for option in parameter.opts}
    assert {"--store", "--json"} <= options


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_the_list_of_commands_is_not_cut_short(name):
    assert not COMMANDS.commands[name].get_short_help_str(66).endswith("...")


# --- docs/curvature.md ---

CURVATURE = (ROOT / "docs/curvature.md").read_text(encoding="utf-8")
ROWS = [
    ([name for name in re.findall(r"`(\w+)`", first) if name in QUANTITIES], gives, terms, takes.strip())
    for first, gives, terms, takes in re.findall(r"^\| (.+?) \| (.+) \|(.*?)\| (\w+) \|$", CURVATURE, re.M)
]


def test_every_quantity_has_its_row_with_the_settings_that_act_and_what_it_takes():
    assert sorted(name for names, *_ in ROWS for name in names) == sorted(QUANTITIES)
    for names, _, terms, takes in [row for row in ROWS if row[0]]:
        said = set(re.findall(r"\w+", terms)) - {"no", "probe"}
        assert said == {term for name in names for term in QUANTITIES[name].terms}, names
        assert {QUANTITIES[name].means for name in names} == {takes}, names


def test_every_column_and_curve_of_a_quantity_is_named_with_it():
    for names, gives, _, _ in ROWS:
        for name in names:
            quantity = QUANTITIES[name]
            for given in (*quantity.columns, *quantity.curves):
                kind = given.rpartition("_")[2]
                if given not in QUANTITIES and kind not in MATRICES:
                    assert f"`{given}`" in gives, given
