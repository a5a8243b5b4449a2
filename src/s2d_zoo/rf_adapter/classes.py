"""The classes of a classifier: names, and what each label means."""

from collections.abc import Sequence

from s2d_zoo.contract import ClassContract, Role
from s2d_zoo.errors import ConfigError


def name_classes(
    n_classes: int, *, foreground: int = 2, names: Sequence[str] | None = None
) -> tuple[ClassContract, ...]:
    """Name label 1…n and say what each means.

    Args:
        n_classes: how many labels there are.
        foreground: the label of the objects to segment. With two classes the other one is the background.
        names: one for each label; ``background``, ``foreground`` and ``class 3`` and so on when ``None``.

    Raises:
        ConfigError: if the foreground is not one of the labels, or names are missing.
    """
    if not 1 <= foreground <= n_classes:
        msg = f"The foreground must be one of the labels 1…{n_classes}, got {foreground}."
        raise ConfigError(msg)
    if names is not None and len(names) != n_classes:
        msg = f"There are {n_classes} classes, but {len(names)} names: {', '.join(names)}."
        raise ConfigError(msg)
    if names is not None and not all(names):
        msg = f"Every class needs a name, got {list(names)}."
        raise ConfigError(msg)
    background = 1 if foreground != 1 else 2
    roles: dict[int, Role] = {foreground: "foreground", background: "background"}
    return tuple(
        ClassContract(
            name=names[label - 1] if names else roles.get(label, f"class {label}"), role=roles.get(label, "other")
        )
        for label in range(1, n_classes + 1)
    )


def choose_foreground_class(classes: Sequence[ClassContract], foreground: int) -> tuple[ClassContract, ...]:
    """The same classes, of which another one is the foreground.

    Args:
        classes: name and meaning of label 1…n.
        foreground: label of the objects to segment. What was background stays so, unless it is this label.

    Raises:
        ConfigError: if it is not one of the labels.
    """
    named = name_classes(len(classes), foreground=foreground, names=[entry.name for entry in classes])
    background = [label for label, entry in enumerate(classes, start=1) if entry.role == "background"]
    if len(background) != 1 or background[0] == foreground:
        return named
    roles: dict[int, Role] = {foreground: "foreground", background[0]: "background"}
    return tuple(
        entry.model_copy(update={"role": roles.get(label, "other")}) for label, entry in enumerate(named, start=1)
    )


def foreground_channels(classes: Sequence[ClassContract]) -> tuple[int, ...]:
    """Channel of the foreground (the first class where none is marked)."""
    return tuple(index for index, entry in enumerate(classes) if entry.role == "foreground") or (0,)
