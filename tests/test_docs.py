"""The documentation names what is there, all of it, and nothing else."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import click
import pytest
from ruyaml import YAML

from s2d_zoo import errors
from s2d_zoo.cli import cli
from s2d_zoo.contract import FeatureContract, ForestContract, RFContract
from s2d_zoo.validate.checks import Check

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted(DOCS.rglob("*.md"))
#: what a reader meets first, beside the documentation
ROOT_PAGES = [path for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md") if (path := ROOT / name).is_file()]


def commands_of(group, prefix=""):
    """Every command by its name as it is typed, those of groups within groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands_of(cli))
ERRORS = [name for name, value in vars(errors).items() if isinstance(value, type)]


def options_of(command):
    """Every option of a command but --help, which all have."""
    return [entry for entry in command.params if isinstance(entry, click.Option) and "--help" not in entry.opts]


def sections(path):
    """Heading of the second level → text below it."""
    parts = re.split(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def first_column(text):
    """What stands as code in the first column of the tables."""
    cells = re.findall(r"^\| ([^|]+) \|", text, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def code_blocks(text, *languages):
    """Fenced blocks of some languages, indented ones too, without their indentation."""
    for indent, language, block in re.findall(r"^( *)```(\w*)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL):
        if language in languages:
            yield re.sub(f"^{indent}", "", block, flags=re.MULTILINE)


def command_lines(text):
    """Calls of s2d-zoo in shell blocks and in running text, as lists of words."""
    lines = [line for block in code_blocks(text, "bash", "sh") for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`(s2d-zoo [^`]+)`", prose.replace("\n", " "))
    for line in lines:
        words = shlex.split(line, comments=True)
        for position, word in enumerate(words):
            if word.rpartition("/")[2] == "s2d-zoo":
                yield words[position + 1 :]
                break


def wrong_words(words):
    """What in a call is no command or option: ``--version`` and the like stand before any command."""
    if not words or words[0].startswith("-"):
        return [word for word in words if word not in {"--version", "--help", "-h"}]
    if words[0] == "COMMAND":
        return []
    name = next((name for name in COMMANDS if words[: len(name.split())] == name.split()), None)
    if name is None:
        return words[:1]
    known = {name for option in COMMANDS[name].params for name in option.opts} | {"--help", "-h"}
    return [word for word in words[1:] if word.startswith("--") and word.partition("=")[0] not in known]


def links(path):
    """Links to other files, as (text, file, anchor); images too; not those in code."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield target, (path.parent / name).resolve() if name else path, anchor


def anchors(path):
    """Anchors of the headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def page_id(path):
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else None


# ---- the command line


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_and_its_options_have_help(name):
    assert COMMANDS[name].help
    without = [entry.opts[0] for entry in options_of(COMMANDS[name]) if not entry.help]
    assert not without, f"s2d-zoo {name}: no help for {', '.join(without)}"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_lists_exactly_the_options_of_a_command(name):
    listed = first_column(sections(REFERENCE / "cli.md")[name])
    assert listed == [option for entry in options_of(COMMANDS[name]) for option in entry.opts]


def test_the_reference_lists_exactly_the_commands():
    assert list(sections(REFERENCE / "cli.md")) == list(COMMANDS)


@pytest.mark.parametrize("path", [*PAGES, *ROOT_PAGES], ids=page_id)
def test_commands_in_texts_exist(path):
    calls = list(command_lines(path.read_text(encoding="utf-8")))
    wrong = [f"s2d-zoo {shlex.join(words)}: {wrong_words(words)}" for words in calls if wrong_words(words)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("```bash\ns2d-zoo demo \\\n  --overwrite\n```", []),
        ("    ```bash\n    .venv/bin/s2d-zoo demo --colour red\n    ```", ["--colour"]),
        ("use `s2d-zoo paint` for it", ["paint"]),
        ("`s2d-zoo --version` and `s2d-zoo list --tag x`", []),
    ],
)
def test_a_wrong_command_in_a_text_is_found(text, wrong):
    assert [word for words in command_lines(text) for word in wrong_words(words)] == wrong


# ---- catalogues


def test_the_reference_lists_every_check_with_its_sentence():
    text = (REFERENCE / "checks.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([A-Z]\d\d) \| ([^|]+) \| [^|]+ \|$", text, flags=re.MULTILINE))
    assert rows == {check.name: check.value for check in Check}


def test_the_reference_lists_every_error():
    assert first_column((REFERENCE / "errors.md").read_text(encoding="utf-8")) == ERRORS


@pytest.mark.parametrize("model", [RFContract, FeatureContract, ForestContract])
def test_the_reference_lists_every_key_of_the_contract(model):
    listed = first_column((REFERENCE / "rf-contract.md").read_text(encoding="utf-8"))
    assert set(model.model_fields) <= set(listed)


def test_the_published_schema_is_that_of_the_code():
    expected = json.dumps(RFContract.json_schema(), indent=2, sort_keys=True) + "\n"
    assert (REFERENCE / "rf-contract.schema.json").read_text(encoding="utf-8") == expected


# ---- pages


@pytest.mark.parametrize("path", [*PAGES, *ROOT_PAGES], ids=page_id)
def test_links_resolve(path):
    broken = [
        target
        for target, file, anchor in links(path)
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file))
    ]
    assert not broken


@pytest.mark.parametrize("path", [*PAGES, *ROOT_PAGES], ids=page_id)
def test_names_in_python_examples_exist(path):
    for block in code_blocks(path.read_text(encoding="utf-8"), "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "s2d_zoo":
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize("card", sorted(ROOT.glob("model_cards/*/README.md")), ids=lambda path: path.parent.name)
def test_the_commands_of_a_card_name_no_folder_of_whose_machine_made_it(card):
    text = card.read_text(encoding="utf-8")
    commands = re.findall(r"s2d-zoo (?:pretrain|evaluate) [^`\n]+", text)
    assert commands
    assert [one for one in commands if re.search(r"[\s=\"']/", one)] == []


def test_figures_of_enhancers_in_the_readme_are_those_of_their_tables():
    lines = re.findall(r"^\| (?:enhancer|\[).+", sections(ROOT / "README.md")["Does it help?"], re.MULTILINE)
    (_, _, *methods), *rows = [line.strip("| ").split(" | ") for line in lines]
    assert len(rows) == 4
    for link, dataset, *figures in rows:
        page = ROOT / re.search(r"\((.+)\)", link)[1]
        _, table = re.split(rf"^#+ {dataset}.*$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        found = []
        for method in methods:
            # at 5, 15 and 40 strokes, and without any: of the direct network and all true labels this one only
            _, at_15, _, without = re.search(rf"^\| {method} \| (.+) \|$", table, re.MULTILINE)[1].split(" | ")
            found.append((without if at_15 == "–" else at_15)[:5])
        assert found == figures


def test_every_page_is_in_the_navigation():
    settings = YAML(typ="safe").load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

    def flat(entry):
        if isinstance(entry, str):
            return [entry]
        return [name for part in (entry.values() if isinstance(entry, dict) else entry) for name in flat(part)]

    assert sorted(flat(settings["nav"])) == sorted(str(path.relative_to(DOCS)) for path in PAGES)
