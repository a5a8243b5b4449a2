"""Whether a forest delivers what an enhancer takes, and what to change if it does not."""

from dataclasses import dataclass
from typing import Final, get_args

from s2d_zoo.contract import FeatureContract, FilterName, PixelSize, RFContract, find_background
from s2d_zoo.errors import ContractMismatchError

#: a forest at another pixel size than the enhancer's, by more than this factor, should be rescaled
PIXEL_SIZE_TOLERANCE: Final = 1.5
#: shorter lengths (µm) are shown in nm
_NANOMETERS_BELOW: Final = 0.1
#: ilastik's largest
_LARGEST_SCALE: Final = 10.0
#: change of the enhanced IoU with forests on other features, mean and worst, as `benchmarks/contract_points.py` found
MEASURED: Final = {
    "without GaussianSmoothing": (-0.032, -0.156),
    "without LaplacianOfGaussian": (-0.000, -0.011),
    "without GaussianGradientMagnitude": (-0.000, -0.008),
    "without DifferenceOfGaussians": (-0.004, -0.024),
    "without StructureTensorEigenvalues": (-0.000, -0.006),
    "without HessianOfGaussianEigenvalues": (0.000, -0.003),
    "scales from 1.0": (-0.004, -0.011),
    "scales to 5.0": (-0.002, -0.006),
    "scales to 3.5": (0.000, -0.007),
    "scales to 1.6": (-0.004, -0.024),
    "scales 0.7 and 1.0": (-0.008, -0.022),
    "mixed scales to 5.0": (0.003, -0.007),
    "only GaussianSmoothing": (-0.013, -0.021),
    "also 2.5 and 7.0": (-0.006, -0.012),
    "also 20.0": (0.002, -0.005),
}
MEASURED_IN: Final = "benchmarks/results/contract_points.md"
_ALL: Final = len(get_args(FilterName))


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One point in which a forest does not deliver what an enhancer takes."""

    field: str  #: the contract's field
    expected: str
    found: str
    advice: str
    fatal: bool  #: the pair cannot be used at all

    def __str__(self) -> str:
        return f"{self.field}: the enhancer takes {self.expected}; the forest delivers {self.found}. {self.advice}"


def find_misfits(taken: RFContract, delivered: RFContract) -> tuple[Misfit, ...]:
    """Compare what an enhancer takes with what a forest delivers, the fatal points first."""
    candidates = (
        _compare_ndim(taken, delivered),
        _compare_roles(taken, delivered),
        _compare_meaning(taken, delivered),
        _compare_range(taken, delivered),
        _compare_pixel_size(taken, delivered),
        _compare_features(taken, delivered),
    )
    return tuple(sorted((misfit for misfit in candidates if misfit), key=lambda misfit: not misfit.fatal))


def check_fit(taken: RFContract, delivered: RFContract) -> tuple[Misfit, ...]:
    """Refuse a pair that cannot work; return what is only advisable.

    Raises:
        ContractMismatchError: listing every fatal misfit.
    """
    misfits = find_misfits(taken, delivered)
    fatal = [str(misfit) for misfit in misfits if misfit.fatal]
    if fatal:
        msg = "The forest does not fit the enhancer's RF contract. " + " ".join(fatal)
        raise ContractMismatchError(msg)
    return misfits


def matching_channels(taken: RFContract, delivered: RFContract) -> tuple[int, ...]:
    """Which of the forest's channels to feed to the enhancer, in the enhancer's order.

    Raises:
        ContractMismatchError: if a role is missing, or stands for several classes.
    """
    misfit = _compare_roles(taken, delivered)
    if misfit:
        raise ContractMismatchError(str(misfit))
    roles = [entry.role for entry in delivered.classes]
    return tuple(roles.index(role) for role in taken.roles)


def _compare_ndim(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.ndim == delivered.ndim:
        return None
    return Misfit(
        field="ndim",
        expected=f"{taken.ndim}D probabilities",
        found=f"{delivered.ndim}D",
        advice=f"Use a {delivered.ndim}D enhancer, or give the images as {taken.ndim}D.",
        fatal=True,
    )


def _compare_roles(taken: RFContract, delivered: RFContract) -> Misfit | None:
    names = {role: [entry.name for entry in delivered.classes if entry.role == role] for role in taken.roles}
    if all(len(found) == 1 for found in names.values()):
        return None
    listed = ", ".join(f"{i + 1}: {entry.name} ({entry.role})" for i, entry in enumerate(delivered.classes))
    return Misfit(
        field="channels",
        expected=f"one channel each of {', '.join(taken.roles)}",
        found=f"the classes {listed}",
        advice=_choose_label(delivered, default=2),
        fatal=True,
    )


def _compare_meaning(taken: RFContract, delivered: RFContract) -> Misfit | None:
    """Whether what stands for the foreground is called background."""
    named = find_background([entry.name for entry in delivered.classes])
    if named is None or "foreground" not in taken.roles or delivered.classes[named - 1].role != "foreground":
        return None
    return Misfit(
        field="classes",
        expected="probabilities of the objects as foreground",
        found=f"those of label {named}, which is called {delivered.classes[named - 1].name!r}",
        advice=_choose_label(delivered, default=1 if named != 1 else 2),
        fatal=True,
    )


def _choose_label(delivered: RFContract, *, default: int) -> str:
    listed = ", ".join(f"{label}: {entry.name}" for label, entry in enumerate(delivered.classes, start=1))
    return (
        f"Say which label is the foreground (of maps, which channel), e.g. --foreground {default}; there are {listed}."
    )


def _compare_range(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.value_range == delivered.value_range:
        return None
    (low, high), (lowest, highest) = taken.value_range, delivered.value_range
    return Misfit(
        field="value_range",
        expected=f"probabilities from {low:g} to {high:g}",
        found=f"values from {lowest:g} to {highest:g}",
        advice="Export them as 32 bit floating point, or divide them by the largest value that a probability can have; "
        "an 8-bit export must be divided by 255.",
        fatal=True,
    )


def _compare_pixel_size(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.pixel_size is None or delivered.pixel_size is None:
        return None
    factor = delivered.pixel_size.in_plane_micrometer / taken.pixel_size.in_plane_micrometer
    smallest, largest = taken.trained_zoom  # larger objects mean smaller pixels
    if 1 / PIXEL_SIZE_TOLERANCE / largest <= factor <= PIXEL_SIZE_TOLERANCE / smallest:
        return None
    nearest = _nearest_zoom(taken, factor)
    others = [_show_length(taken.pixel_size.at_zoom(zoom)) for zoom in (largest, smallest)]
    return Misfit(
        field="pixel_size",
        expected=f"pixels of {others[0]}" if others[0] == others[1] else f"pixels of {others[0]} to {others[1]}",
        found=f"pixels of {_show_length(delivered.pixel_size)}",
        advice=f"Rescale {_show_length(delivered.pixel_size)} to {_show_length(taken.pixel_size.at_zoom(nearest))}, by "
        f"{factor * nearest:.3g}: --rescale auto does it.",
        fatal=False,
    )


def rescale_factor(taken: RFContract, delivered: RFContract) -> float | None:
    """By which factor to resize probabilities so that objects have a size that the enhancer knows.

    1 where it was trained on objects of this size; of several sizes that it knows, the nearest one counts.

    Returns:
        The factor; None if a pixel size is unknown.
    """
    if taken.pixel_size is None or delivered.pixel_size is None:
        return None
    factor = delivered.pixel_size.in_plane_micrometer / taken.pixel_size.in_plane_micrometer
    return factor * _nearest_zoom(taken, factor)


def _nearest_zoom(taken: RFContract, factor: float) -> float:
    """How many times as large as at the enhancer's own pixel size objects are to be: as they are if it knows that."""
    smallest, largest = taken.trained_zoom
    return min(max(1 / factor, smallest), largest)


def _show_length(size: PixelSize) -> str:
    micrometer = size.in_plane_micrometer
    return f"{micrometer * 1e3:.3g} nm" if micrometer < _NANOMETERS_BELOW else f"{micrometer:.3g} µm"


def _compare_features(taken: RFContract, delivered: RFContract) -> Misfit | None:
    if taken.features is None or delivered.features is None:
        return None
    missing, extra = (
        _lacking(*pair) for pair in ((taken.features, delivered.features), (delivered.features, taken.features))
    )
    changes = []
    if missing:
        changes.append(f"add {_show(missing)}")
    if extra:
        changes.append(f"leave out {_show(extra)}")
    if taken.features.compute_in_2d != delivered.features.compute_in_2d:
        changes.append(f"compute them in {'2D' if taken.features.compute_in_2d else '3D'}")
    if not changes:
        return None
    return Misfit(
        field="features",
        expected=f"a forest on the features that it was trained with ({_count(taken.features)})",
        found=f"one on others ({_count(delivered.features)})",
        advice=f"To be like them: {'; '.join(changes)}. {_what_it_costs(missing, extra, delivered.features)}",
        fatal=False,
    )


def _lacking(wanted: FeatureContract, there: FeatureContract) -> dict[str, tuple[float, ...]]:
    """Filters and scales of the first that the second has not."""
    scales = {entry.name: set(entry.scales) for entry in there.filters}
    lacking = {
        entry.name: tuple(scale for scale in entry.scales if scale not in scales.get(entry.name, ()))
        for entry in wanted.filters
    }
    return {name: values for name, values in lacking.items() if values}


def _show(features: dict[str, tuple[float, ...]]) -> str:
    """``GaussianSmoothing at 5, 10``; filters that have the same scales together."""
    by_scales: dict[tuple[float, ...], list[str]] = {}
    for name, scales in features.items():
        by_scales.setdefault(scales, []).append(name)
    return ", ".join(
        f"{_show_filters(names)} at {', '.join(f'{scale:g}' for scale in scales)}"
        for scales, names in by_scales.items()
    )


def _show_filters(names: list[str]) -> str:
    return "all filters" if len(names) == _ALL else " and ".join(names)


def _what_it_costs(
    missing: dict[str, tuple[float, ...]], extra: dict[str, tuple[float, ...]], there: FeatureContract
) -> str:
    """How much the enhanced result changed with the most similar selection that was measured."""
    variant = _most_similar(missing, extra, {entry.name: entry.scales for entry in there.filters})
    if variant is None or not there.compute_in_2d:
        return "The enhancer can be used, but nobody has measured it with such features."
    mean, worst = MEASURED[variant]
    return (
        f"The enhancer can be used: with forests on the most similar selection that was measured ({variant}) the "
        f"enhanced IoU of nuclei changed by {mean:+.3f} on average, at worst by {worst:+.3f} ({MEASURED_IN})."
    )


def _most_similar(
    missing: dict[str, tuple[float, ...]], extra: dict[str, tuple[float, ...]], there: dict[str, tuple[float, ...]]
) -> str | None:
    """Key into `MEASURED`; None where nothing is similar."""
    gone = [name for name in missing if name not in there]
    scales = {scale for values in missing.values() for scale in values}
    largest = max(scale for values in there.values() for scale in values)
    if not missing:
        beyond = [scale for values in extra.values() for scale in values]
        return None if not beyond else "also 20.0" if max(beyond) > _LARGEST_SCALE else "also 2.5 and 7.0"
    if gone:
        one = gone[0] if len(gone) == 1 and len(missing) == 1 else None
        if "GaussianSmoothing" in gone:
            return "without GaussianSmoothing"
        return f"without {one}" if one else "only GaussianSmoothing"
    if max(scales) < 1:
        return "scales from 1.0"
    steps = ((1.0, "scales 0.7 and 1.0"), (1.6, "scales to 1.6"), (3.5, "scales to 3.5"), (5.0, "scales to 5.0"))
    if not any(1 <= scale < largest for scale in scales):
        return next((name for scale, name in steps if largest <= scale), "scales to 5.0")
    return "mixed scales to 5.0"


def _count(features: FeatureContract) -> str:
    scales = {scale for entry in features.filters for scale in entry.scales}
    filters = f"{len(features.filters)} filter{'' if len(features.filters) == 1 else 's'}"
    return f"{filters}, scale{'' if len(scales) == 1 else 's'} " + " to ".join(
        f"{scale:g}" for scale in sorted({min(scales), max(scales)})
    )
