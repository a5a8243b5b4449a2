"""What a user gives to `adapt`: files, and their hashes."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.errors import ConfigError

_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptInputs:
    """Files to work on.

    Raises:
        ConfigError: if files that belong together are not equally many.
    """

    enhancer: str  #: id of a bundled or downloaded model, or path of a package
    images: tuple[Path, ...] = ()  #: with a project: one for each of its images, or none, which means where it says
    scribbles: tuple[Path, ...] = ()  #: one for each image; may be missing where there are probabilities
    ilastik_project: Path | None = None  #: has strokes, features and a trained forest
    base_model: str | None = None  #: what the segmentor is trained from: as the enhancer; a fresh network where None
    trust_code: bool = False  #: run Python code of these packages, if their networks need that
    retrain: bool = False  #: fit a new forest on the project's labels, instead of using its own
    probabilities: tuple[Path, ...] = ()  #: made by another classifier, one for each image
    ground_truth: tuple[Path, ...] = ()  #: none, or one for each image; for scores only
    test_images: tuple[Path, ...] = ()  #: further images, never trained on
    test_ground_truth: tuple[Path, ...] = ()  #: none, or one for each test image
    axes: str | None = None  #: of the images, e.g. "yxc", where the files do not tell

    def __post_init__(self) -> None:
        self._check_source()
        strokes_needed = self.ilastik_project is None and not self.probabilities
        pairs = (
            ("--scribbles", self.scribbles, "--image", self.images, strokes_needed),
            ("--probabilities", self.probabilities, "--image", self.images, False),
            ("--ground-truth", self.ground_truth, "--image", self.images or self._of_project(), False),
            ("--test-ground-truth", self.test_ground_truth, "--test-image", self.test_images, False),
        )
        for option, files, of, partners, needed in pairs:
            if len(files) != len(partners) and (needed or files):
                msg = f"{option} was given {len(files)} times and {of} {len(partners)} times: give one for each."
                raise ConfigError(msg)

    def _of_project(self) -> tuple[Path, ...]:
        """As many as there is ground truth: how many images a project has is known once it is open."""
        return self.ground_truth if self.ilastik_project is not None else ()

    def _check_source(self) -> None:
        """One of strokes, project and probabilities, and what goes with it."""
        if self.ilastik_project is not None and (self.scribbles or self.probabilities):
            msg = "An ilastik project has strokes and a forest of its own: leave out --scribbles and --probabilities."
        elif self.retrain and self.ilastik_project is None:
            msg = "--retrain is for the labels of an ilastik project: give --ilastik-project."
        elif self.probabilities and self.test_images:
            msg = "--test-image needs a classifier, which --probabilities has not. Score on --ground-truth instead."
        elif self.ilastik_project is None and not self.images:
            msg = "No image was given. Use --image FILE, once for each image."
        elif self.ilastik_project is None and not self.scribbles and not self.probabilities:
            msg = "Nothing to learn from: give --scribbles, --ilastik-project or --probabilities."
        else:
            return
        raise ConfigError(msg)

    def named_hashes(self, found: Sequence[Path] = ()) -> dict[str, str]:
        """SHA-256 of images and strokes by kind, number and file name: folders are nobody's business.

        Args:
            found: images that a project led to.
        """
        return named_hashes(
            {
                "image": self.images or found,
                "scribbles": self.scribbles,
                "ilastik project": () if self.ilastik_project is None else (self.ilastik_project,),
                "probabilities": self.probabilities,
            }
        )

    def hashes(self, found: Sequence[Path] = ()) -> dict[str, str]:
        """SHA-256 of every file that was given, by path (of folders: over their files in order of name).

        Args:
            found: images that a project led to.
        """
        project = () if self.ilastik_project is None else (self.ilastik_project,)
        images = (*(self.images or found), *self.scribbles, *project, *self.probabilities)
        files = (*images, *self.ground_truth, *self.test_images, *self.test_ground_truth)
        return {str(path): hash_path(path) for path in files}


def named_hashes(kinds: Mapping[str, Sequence[Path]]) -> dict[str, str]:
    """SHA-256 of files by kind, number and file name: folders are nobody's business."""
    return {
        f"{kind} {number}, {path.name}": hash_path(path)
        for kind, paths in kinds.items()
        for number, path in enumerate(paths, start=1)
    }


def hash_path(path: Path) -> str:
    """SHA-256 of a file, or of all files of a folder in order of name; of ``file.h5:/key``, of the file."""
    if not path.exists() and ":" in str(path):
        path = Path(str(path).rsplit(":", maxsplit=1)[0])
    if not path.is_dir():
        return sha256_of(path)
    digest = hashlib.sha256()
    for member in sorted(member for member in path.rglob("*") if member.is_file()):
        digest.update(str(member.relative_to(path)).encode())
        with member.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
