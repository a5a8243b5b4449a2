"""Recipes: everything that makes a published enhancer, in one TOML file.

A recipe has the fields of `PretrainSettings`, and ``targets``, the datasets on which its worth is measured. What is
left out is as by default. Nothing but the recipe, the datasets and the machine decides what comes out.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as fields_of
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from s2d_zoo.data.written_description import value_at
from s2d_zoo.errors import ConfigError
from s2d_zoo.pipeline.pretrain import PretrainSettings
from s2d_zoo.pipeline.quality_inputs import QualityTarget

_TARGETS: Final = "targets"
_OTHER_SEEDS: Final = (("forests",), ("enhancer", "training"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A published enhancer: how it is made, and what it should serve."""

    pretrain: PretrainSettings
    targets: tuple[QualityTarget, ...] = ()

    @property
    def id(self) -> str:
        """Of the enhancer."""
        return self.pretrain.id


def read_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file, e.g. one of ``recipes/`` in the repository.

    Raises:
        ConfigError: if there is no such file, it is no TOML, or it says something that cannot be done; always with the
            name of the entry.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"Cannot read the recipe {path}: {error.strerror or error}. Recipes are TOML files, see recipes/."
        raise ConfigError(msg) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path} is not valid TOML: {error}"
        raise ConfigError(msg) from error
    targets = table.pop(_TARGETS, [])
    for name, *inner in _OTHER_SEEDS:
        entry = value_at(table, name, *inner)
        if isinstance(entry, dict) and "seed" in entry:
            msg = f"{path}: leave out {'.'.join([name, *inner])}.seed: the one seed of the recipe decides everything."
            raise ConfigError(msg)
    try:
        pretrain = _build(PretrainSettings, table)
        recipe = Recipe(pretrain=pretrain, targets=_build(tuple[QualityTarget, ...], targets, _TARGETS))
    except ConfigError as error:  # of a setting that makes no sense: say where it stands
        msg = f"{path}: {error}"
        raise ConfigError(msg) from error
    return recipe


def _build(kind: Any, table: Any, name: str = "") -> Any:  # noqa: ANN401 - tables in, settings out
    try:
        built = TypeAdapter(kind).validate_python(table)
    except ValidationError as error:
        told = "; ".join(_told(one, name) for one in error.errors())
        msg = f"the recipe cannot be used: {told}{'' if told.endswith('?') else '.'}"
        raise ConfigError(msg) from error
    _refuse_unknown(table, built, name)
    return built


def _told(error: ErrorDetails, name: str) -> str:
    """One problem with its place; our own messages say what was found."""
    place = ".".join(filter(None, (name, *map(str, error["loc"])))) or "as a whole"
    ours = error.get("ctx", {}).get("error")
    if ours:
        return f"{place}: {str(ours).rstrip('.')}"
    if error["type"] == "missing" and isinstance(error["input"], Mapping):  # the table in which it should be
        return f"{place}: {error['msg']} (found {', '.join(error['input']) or 'nothing'})"
    return f"{place}: {error['msg']} (found {error['input']!r:.60})"


def _refuse_unknown(table: object, built: object, name: str) -> None:
    """Entries that no setting took are misspelt: pydantic would pass over them."""
    if isinstance(table, Sequence) and isinstance(built, Sequence) and not isinstance(table, str):
        for number, (entry, one) in enumerate(zip(table, built, strict=False)):
            _refuse_unknown(entry, one, f"{name}.{number}".lstrip("."))
    if not isinstance(table, Mapping) or not is_dataclass(built):
        return
    known = [field.name for field in fields_of(built)]
    for key, entry in table.items():
        where = f"{name}.{key}".lstrip(".")
        if key not in known:
            similar = get_close_matches(key, known, n=1)
            meant = f" Did you mean {similar[0]}?" if similar else f" There are: {', '.join(known)}."
            msg = f"there is no setting {where}.{meant}"
            raise ConfigError(msg)
        _refuse_unknown(entry, getattr(built, key), where)
