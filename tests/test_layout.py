"""The house rules that a program can check: floors, rooms, names, sizes, and calls that are not made here.

Every rule is a function from one source (or all of them) to complaints. The first half of the tests holds `src` to
the rules; the second half shows on small made-up sources that each rule can fail.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

PACKAGE = "s2d_zoo"
SRC = Path(__file__).resolve().parents[1] / "src"

STAGES = ("rf_adapter", "enhancer", "zoo", "finetune", "export", "validate")
#: lowest first; the package's own `__init__` (the public names) stands above all
FLOORS = (
    ("types", "errors", "architectures", "_version"),
    ("contract",),
    ("contract_fit",),
    ("data",),
    ("trainer",),
    STAGES,
    ("pipeline",),
    ("cli", "__main__"),
    ("",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

MAX_LINES = 320
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "misc", "common"}
UNSAFE_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
#: what an `except Exception` that swallows must say on its line
BROAD_REASON = re.compile(r"# noqa: BLE001 - \S")


@dataclass(frozen=True)
class Import:
    """One imported module or name."""

    target: str  #: dotted, with the name that is taken out of it
    line: int


@dataclass(frozen=True)
class Source:
    """One file of the package."""

    module: str  #: dotted, without ``__init__``
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """Every import, wherever it stands: at the top, inside functions, for type checkers only."""
        return tuple(self._find_imports())

    def _find_imports(self) -> Iterator[Import]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.split(".") if self.is_package else self.module.split(".")[:-1]
        above = package[: len(package) - (node.level - 1)]
        return ".".join([*above, *([node.module] if node.module else [])])

    @property
    def room(self) -> str:
        return room_of(self.module)

    def line(self, number: int) -> str:
        return self.text.splitlines()[number - 1]


def room_of(target: str) -> str:
    """The room of a dotted name of this package: its second part; of the package itself, nothing."""
    parts = target.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOOR_OF else ""


def is_own(target: str) -> bool:
    return target.split(".", maxsplit=1)[0] == PACKAGE


def is_private(name: str) -> bool:
    return name.startswith("_") and not (name.startswith("__") and name.endswith("__"))


def check_known_room(source: Source) -> Iterator[str]:
    """Every module stands on a floor."""
    parts = source.module.split(".")
    if len(parts) > 1 and parts[1] not in FLOOR_OF:
        yield f"{source.module}: no floor is known for {parts[1]!r}; add it to FLOORS and docs/explanation"


def check_floors(source: Source) -> Iterator[str]:
    """A module imports from floors below its own, or from its own room."""
    for found in source.imports:
        room = room_of(found.target)
        if is_own(found.target) and room != source.room and FLOOR_OF[room] >= FLOOR_OF[source.room]:
            yield f"{source.module}:{found.line} imports {found.target}, which is not on a floor below"


def check_stages_apart(source: Source) -> Iterator[str]:
    """The six stages never import each other: they meet in the pipeline."""
    for found in source.imports:
        room = room_of(found.target)
        if source.room in STAGES and is_own(found.target) and room in STAGES and room != source.room:
            yield f"{source.module}:{found.line} imports {found.target}, another stage"


def check_architectures(source: Source) -> Iterator[str]:
    """Architecture files travel inside packages: torch and the standard library only."""
    allowed = {"torch", *sys.stdlib_module_names}
    for found in source.imports:
        own_room = is_own(found.target) and room_of(found.target) == "architectures"
        if source.room == "architectures" and not own_room and found.target.split(".")[0] not in allowed:
            yield f"{source.module}:{found.line} imports {found.target}; only torch and the standard library may be"


def check_no_internals(source: Source) -> Iterator[str]:
    """Nothing from bioimageio's internals."""
    for found in source.imports:
        parts = found.target.split(".")
        if parts[0] == "bioimageio" and any(part.startswith("_internal") for part in parts):
            yield f"{source.module}:{found.line} imports {found.target}, which is internal"


def check_no_private_imports(source: Source) -> Iterator[str]:
    """A name with an underscore stays in its room; `_version` is a floor of its own."""
    for found in source.imports:
        if is_own(found.target) and source.room and room_of(found.target) == source.room:
            continue
        parts = found.target.split(".")
        if parts[:2] == [PACKAGE, "_version"]:
            parts = parts[2:]
        if any(is_private(part) for part in parts):
            yield f"{source.module}:{found.line} imports {found.target}, which is private"


def check_name(source: Source) -> Iterator[str]:
    """No module whose name says nothing."""
    for part in source.module.split("."):
        if part.strip("_") in VAGUE_NAMES:
            yield f"{source.module}: a module named {part!r} says nothing about what is in it"


def check_length(source: Source) -> Iterator[str]:
    """A file that has grown too long hides a second noun."""
    count = len(source.text.splitlines())
    if count > MAX_LINES:
        yield f"{source.module}: {count} lines, at most {MAX_LINES}"


def check_no_print(source: Source) -> Iterator[str]:
    """Commands echo, the library logs."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{source.module}:{node.lineno} prints"


def check_no_assert(source: Source) -> Iterator[str]:
    """An assert vanishes with -O; errors of ours say what to do."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Assert):
            yield f"{source.module}:{node.lineno} asserts"


def check_excepts(source: Source) -> Iterator[str]:
    """No bare except; `except Exception` raises something better, or says on its line why it may swallow."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield f"{source.module}:{node.lineno} has a bare except"
        elif (
            catches_everything(node.type)
            and not isinstance(node.body[-1], ast.Raise)
            and not BROAD_REASON.search(source.line(node.lineno))
        ):
            yield f"{source.module}:{node.lineno} swallows any exception without a '# noqa: BLE001 - reason'"


def catches_everything(caught: ast.expr) -> bool:
    entries = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(entry, ast.Name) and entry.id in {"Exception", "BaseException"} for entry in entries)


def check_no_pickle(source: Source) -> Iterator[str]:
    """Nothing that runs code when a file is read."""
    for found in source.imports:
        if found.target.split(".")[0] in UNSAFE_MODULES:
            yield f"{source.module}:{found.line} imports {found.target}"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            given = {entry.arg: entry.value for entry in node.keywords}
            if "allow_pickle" in given and not is_literally(given["allow_pickle"], False):
                yield f"{source.module}:{node.lineno} allows pickles"
            if ast.unparse(node.func) == "torch.load" and not is_literally(given.get("weights_only"), True):
                yield f"{source.module}:{node.lineno} calls torch.load without weights_only=True"


def is_literally(value: ast.expr | None, wanted: object) -> bool:
    return isinstance(value, ast.Constant) and value.value is wanted


def find_cycles(sources: Sequence[Source]) -> list[str]:
    """Modules that import each other, directly or around several corners."""
    modules = {source.module for source in sources}
    graph = {source.module: imported_modules(source, modules) for source in sources}
    reached = {module: reachable(graph, module) for module in graph}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }
    return sorted(" and ".join(sorted(group)) + " import each other" for group in groups)


def imported_modules(source: Source, modules: set[str]) -> set[str]:
    """The modules behind a source's imports: ``from a import b`` means ``a.b`` if that is a module, else ``a``."""
    found = set()
    for entry in source.imports:
        parent = entry.target.rpartition(".")[0]
        found |= {next((name for name in (entry.target, parent) if name in modules), "")}
    return found - {"", source.module}


def reachable(graph: Mapping[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(graph[module])
    return found


RULES: tuple[Callable[[Source], Iterator[str]], ...] = (
    check_known_room,
    check_floors,
    check_stages_apart,
    check_architectures,
    check_no_internals,
    check_no_private_imports,
    check_name,
    check_length,
    check_no_print,
    check_no_assert,
    check_excepts,
    check_no_pickle,
)


def read_sources() -> tuple[Source, ...]:
    sources = []
    for path in sorted((SRC / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        sources.append(Source(module, path.read_text(encoding="utf-8"), is_package=is_package))
    return tuple(sources)


SOURCES = read_sources()


# ---- the house


def test_all_of_src_is_read():
    modules = {source.module for source in SOURCES}
    assert {PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.cli", f"{PACKAGE}.cli.main"} <= modules
    assert all(f"{PACKAGE}.{stage}" in modules for stage in STAGES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.removeprefix("check_"))
def test_src_keeps_the_rule(rule):
    complaints = [complaint for source in SOURCES for complaint in rule(source)]
    assert not complaints, "\n".join(complaints)


def test_src_has_no_cycles():
    assert not find_cycles(SOURCES)


# ---- the rules themselves


def source(text="", module="s2d_zoo.export.package", *, is_package=False):
    return Source(module, text, is_package=is_package)


#: rule, module, text that breaks it
BROKEN = [
    (check_known_room, "s2d_zoo.attic", ""),
    (check_known_room, "s2d_zoo.attic.box", ""),
    (check_floors, "s2d_zoo.errors", "from s2d_zoo.types import CHANNEL"),
    (check_floors, "s2d_zoo.contract", "from s2d_zoo.data.axes import as_image"),
    (check_floors, "s2d_zoo.contract", "from s2d_zoo.data import axes"),
    (check_floors, "s2d_zoo.data.network", "import s2d_zoo.trainer"),
    (check_floors, "s2d_zoo.data.network", "from s2d_zoo import adapt"),
    (check_floors, "s2d_zoo.data.network", "from .. import adapt"),
    (check_floors, "s2d_zoo.data.network", "from ..trainer import train"),
    (check_floors, "s2d_zoo.trainer", "def later():\n    from s2d_zoo.finetune.finetuning import fit"),
    (check_floors, "s2d_zoo.pipeline.adapt", "if TYPE_CHECKING:\n    from s2d_zoo.cli.main import cli"),
    (check_stages_apart, "s2d_zoo.export.rdf", "from s2d_zoo.validate.checks import Check"),
    (check_stages_apart, "s2d_zoo.zoo.collection", "def later():\n    import s2d_zoo.enhancer.pretrained"),
    (check_architectures, "s2d_zoo.architectures.unet", "import numpy as np"),
    (check_architectures, "s2d_zoo.architectures.unet", "from s2d_zoo.types import CHANNEL"),
    (check_no_internals, "s2d_zoo.export.rdf", "from bioimageio.spec._internal.io import HashKwargs"),
    (check_no_internals, "s2d_zoo.export.rdf", "from bioimageio.spec import _internal"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from s2d_zoo.data.axes import _order"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from sklearn.tree import _tree"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "import torch._dynamo"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from s2d_zoo._version import _parse"),
    (check_no_private_imports, "s2d_zoo", "from s2d_zoo.data.axes import _order"),
    (check_name, "s2d_zoo.data.utils", ""),
    (check_name, "s2d_zoo._common", ""),
    (check_name, "s2d_zoo.helpers.axes", ""),
    (check_length, "s2d_zoo.data.axes", "x = 1\n" * 321),
    (check_no_print, "s2d_zoo.data.axes", "def show(x):\n    print(x)"),
    (check_no_assert, "s2d_zoo.data.axes", "assert True"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept:\n    raise"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept Exception:\n    pass"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept (OSError, BaseException) as e:\n    x = e"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept Exception:  # noqa: BLE001\n    pass"),
    (check_no_pickle, "s2d_zoo.data.axes", "import pickle"),
    (check_no_pickle, "s2d_zoo.data.axes", "def later():\n    from joblib import load"),
    (check_no_pickle, "s2d_zoo.data.axes", "np.load(path, allow_pickle=True)"),
    (check_no_pickle, "s2d_zoo.data.axes", "np.load(path, allow_pickle=trusted)"),
    (check_no_pickle, "s2d_zoo.data.axes", "torch.load(path)"),
    (check_no_pickle, "s2d_zoo.data.axes", "torch.load(path, weights_only=False)"),
]

#: rule, module, text that keeps it
KEPT = [
    (check_known_room, "s2d_zoo", ""),
    (check_known_room, "s2d_zoo.data.axes", ""),
    (check_floors, "s2d_zoo.data.network", "from s2d_zoo.data.axes import as_image"),
    (check_floors, "s2d_zoo.data.network", "from .axes import as_image"),
    (check_floors, "s2d_zoo.pipeline.adapt", "from s2d_zoo import _version\nimport numpy.typing"),
    (check_floors, "s2d_zoo", "from s2d_zoo.cli.main import cli"),
    (check_stages_apart, "s2d_zoo.pipeline.adapt", "import s2d_zoo.export.rdf\nimport s2d_zoo.validate.checks"),
    (check_architectures, "s2d_zoo.architectures.forest", "import math\nfrom torch import nn"),
    (check_architectures, "s2d_zoo.architectures.forest", "from s2d_zoo.architectures.unet import UNet"),
    (check_architectures, "s2d_zoo.data.axes", "import numpy"),
    (check_no_internals, "s2d_zoo.export.rdf", "from bioimageio.spec.utils import write_yaml"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from s2d_zoo._version import __version__"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from s2d_zoo import _version"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from __future__ import annotations"),
    (check_no_private_imports, "s2d_zoo.export.rdf", "from s2d_zoo.export.weights import _traced"),
    (check_name, "s2d_zoo.data.axes", ""),
    (check_length, "s2d_zoo.data.axes", "x = 1\n" * 320),
    (check_no_print, "s2d_zoo.data.axes", "figure.print('x')"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept (OSError, ValueError):\n    pass"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept Exception as e:\n    raise OSError from e"),
    (check_excepts, "s2d_zoo.data.axes", "try:\n    pass\nexcept Exception:  # noqa: BLE001 - a plug-in\n    pass"),
    (check_no_pickle, "s2d_zoo.data.axes", "np.load(path, allow_pickle=False)\ntorch.load(path, weights_only=True)"),
]


def name_of(value):
    return value.__name__.removeprefix("check_") if callable(value) else None


@pytest.mark.parametrize(("rule", "module", "text"), BROKEN, ids=name_of)
def test_a_rule_finds_what_breaks_it(rule, module, text):
    assert list(rule(source(text, module)))


@pytest.mark.parametrize(("rule", "module", "text"), KEPT, ids=name_of)
def test_a_rule_lets_pass_what_keeps_it(rule, module, text):
    assert not list(rule(source(text, module)))


def test_every_rule_can_fail():
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_a_relative_import_of_a_package_is_resolved():
    found = source("from .main import cli\nfrom ..errors import AxesError", "s2d_zoo.cli", is_package=True).imports
    assert [entry.target for entry in found] == ["s2d_zoo.cli.main.cli", "s2d_zoo.errors.AxesError"]


def test_a_cycle_is_found_around_corners_and_inside_functions():
    sources = [
        source("from s2d_zoo.data.b import x", "s2d_zoo.data.a"),
        source("from s2d_zoo.data import c", "s2d_zoo.data.b"),
        source("def later():\n    import s2d_zoo.data.a", "s2d_zoo.data.c"),
        source("from s2d_zoo.data.a import x", "s2d_zoo.data.d"),
    ]
    assert find_cycles(sources) == ["s2d_zoo.data.a and s2d_zoo.data.b and s2d_zoo.data.c import each other"]


def test_a_tree_of_imports_is_no_cycle():
    sources = [
        source("from s2d_zoo.cli.main import cli", "s2d_zoo.cli", is_package=True),
        source("from s2d_zoo.cli import options\nimport s2d_zoo.data.a", "s2d_zoo.cli.main"),
        source("", "s2d_zoo.cli.options"),
        source("import os", "s2d_zoo.data.a"),
    ]
    assert find_cycles(sources) == []
