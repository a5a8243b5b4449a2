"""Whether a classifier fits an enhancer, in plain words, before anything is trained."""

from dataclasses import dataclass
from pathlib import Path

from s2d_zoo.contract import RFContract
from s2d_zoo.contract_fit import Misfit, find_misfits
from s2d_zoo.data.axes import count_space_dims
from s2d_zoo.data.images import read_image
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.pipeline.probabilities import check_image, read_maps, with_pixel_size
from s2d_zoo.pipeline.projects import open_classifier
from s2d_zoo.zoo.collection import find_model


@dataclass(frozen=True, slots=True, kw_only=True)
class FitReport:
    """What an enhancer takes, what a classifier delivers, and where they differ."""

    enhancer: str
    source: str
    taken: RFContract
    delivered: RFContract
    misfits: tuple[Misfit, ...]  #: the fatal ones first

    @property
    def fits(self) -> bool:
        """Whether the pair can be used."""
        return not any(misfit.fatal for misfit in self.misfits)

    @property
    def verdict(self) -> str:
        """In one line."""
        if not self.fits:
            return f"{self.source} does not fit {self.enhancer}"
        return f"{self.source} fits {self.enhancer}" + (", with reservations" if self.misfits else "")

    def to_text(self) -> str:
        """In plain words, one point in a line."""
        listed = ", ".join(
            f"{label}: {entry.name} ({entry.role})" for label, entry in enumerate(self.delivered.classes, start=1)
        )
        lines = [
            self.verdict,
            f"  the enhancer takes: {', '.join(self.taken.roles)}, {self.taken.ndim}D",
            f"  the classifier delivers: {listed}, {self.delivered.ndim}D",
        ]
        lines += [f"  {'WRONG' if misfit.fatal else 'note'}: {misfit}" for misfit in self.misfits]
        return "\n".join(lines)


def check_fit_files(
    enhancer: str,
    *,
    classifier: Path | None = None,
    probabilities: Path | None = None,
    image: Path | None = None,
    foreground: int | None = None,
    axes: str | None = None,
    trust_code: bool = False,
) -> FitReport:
    """Compare an enhancer with a classifier, or with probabilities that one has made.

    Args:
        enhancer: id of a bundled model, or path of a package.
        classifier: a saved forest or an ilastik project.
        probabilities: maps, if there is no classifier.
        image: one that is to be classified, for its channels, axes and pixel size, and to tell which label is the
            objects'.
        foreground: label (of maps: channel) of the objects, counted from 1.
        axes: of the maps, or else of the image, where the file does not tell.
        trust_code: run Python code of the enhancer's package, if its network needs that.

    Raises:
        S2DZooError: for files that cannot be read, or a foreground that does not exist.
    """
    loaded = load_enhancer(find_model(enhancer), trust_code=trust_code)
    picture = None if image is None else read_image(image, axes=axes if probabilities is None else None)
    if probabilities is not None:
        ndim = loaded.contract.ndim if picture is None else count_space_dims(picture)
        delivered = read_maps(probabilities, ndim=ndim, foreground=foreground, axes=axes).contract
    else:
        images = () if picture is None else (picture,)
        opened = open_classifier(classifier or Path(), foreground=foreground, images=images)
        delivered = opened.contract
    if picture is not None:
        check_image(delivered, picture, str(image))
        delivered = with_pixel_size(delivered, picture)
    return FitReport(
        enhancer=loaded.id,
        source=str((classifier or probabilities or Path()).name),
        taken=loaded.contract,
        delivered=delivered,
        misfits=find_misfits(loaded.contract, delivered),
    )
