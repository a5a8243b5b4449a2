"""One run of `adapt`: what goes in, what was chosen, and the folder that it writes to."""

import re
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from s2d_zoo.contract import ClassContract, ProbabilityPredictor, RFContract
from s2d_zoo.data.atomic import read_json, write_json
from s2d_zoo.data.scribbles import StrokeSplit, hold_out_strokes
from s2d_zoo.enhancer.prediction import Enhancer, check_rescale
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Attribution, check_words
from s2d_zoo.finetune.finetuning import SegmentorSettings
from s2d_zoo.finetune.pseudo_labels import DEFAULT_CONFIDENCE
from s2d_zoo.pipeline.base_models import OpenedBase, check_base_model, open_base_model
from s2d_zoo.pipeline.cell_files import differing
from s2d_zoo.pipeline.fusion import FusionSettings
from s2d_zoo.pipeline.inputs import AdaptInputs, hash_path
from s2d_zoo.pipeline.record import describe_run
from s2d_zoo.pipeline.sources import AdaptData, read_inputs
from s2d_zoo.pipeline.words import id_from_name
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.zoo.collection import find_model

RUN_FILE: Final = "run.json"
CLASSIFIER_FILE: Final = "classifier.safetensors"
SEGMENTOR_FILE: Final = "segmentor.safetensors"
MODEL_DESCRIPTION: Final = (
    "Segments foreground and boundary in raw images. Trained on pseudo-labels that an enhancer made from "
    "a Random Forest and a few brush strokes."
)
_CHECKPOINTS: Final = "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class PseudoLabelSettings:
    """How pseudo-labels are made.

    Raises:
        ConfigError: if there is no forest, or the confidence is out of range.
    """

    n_forests: int = 5  #: fitted on resampled strokes; their agreement weighs the labels
    confidence: float = DEFAULT_CONFIDENCE  #: how sure a forest's enhanced output must be, in [0.5, 1)
    held_out: float = 0.2  #: share of the strokes of each class that the segmentor is tested on

    def __post_init__(self) -> None:
        if self.n_forests < 1:
            msg = f"At least one forest is needed for pseudo-labels, got {self.n_forests}."
            raise ConfigError(msg)
        if not 0.5 <= self.confidence < 1:
            msg = f"The confidence must lie in [0.5, 1), got {self.confidence}."
            raise ConfigError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptSettings:
    """Everything that can be chosen.

    Raises:
        ConfigError: for a name that bioimage.io does not take, a negative seed, or an absurd factor.
    """

    attribution: Attribution
    model_name: str = "Segmentor adapted with s2d-zoo"
    class_names: tuple[str, ...] | None = None  #: one for each label of the strokes
    foreground: int | None = None  #: label of the objects in the strokes; 2, or as a project's names say, when None
    forest: ForestSettings = field(default_factory=ForestSettings)
    pseudo_labels: PseudoLabelSettings = field(default_factory=PseudoLabelSettings)
    rescale: float | Literal["auto"] = 1.0  #: resize probabilities by this before the enhancer, and back after it
    segmentor: SegmentorSettings = field(default_factory=SegmentorSettings)
    allow_worse: bool = False  #: give out a segmentor that ends worse than it began
    fusion: FusionSettings = field(default_factory=FusionSettings)
    seed: int = 0

    def __post_init__(self) -> None:
        for identifier, name in ((self.model_id, self.model_name), (self.fused_id, f"{self.model_name} (fused)")):
            check_words(identifier=identifier, name=name, description=MODEL_DESCRIPTION)
        if self.rescale != "auto":
            check_rescale(self.rescale)
        _ = self.seeded_segmentor

    @property
    def model_id(self) -> str:
        """Id of the segmentor's package, from its name."""
        return id_from_name(self.model_name)

    @property
    def fused_id(self) -> str:
        """Id of the fused package."""
        return f"{self.model_id}-fused"

    @property
    def seeded_segmentor(self) -> SegmentorSettings:
        """Settings of the segmentor, with this run's seed."""
        return replace(self.segmentor, training=replace(self.segmentor.training, seed=self.seed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """An opened run: files read, folder prepared."""

    inputs: AdaptInputs
    settings: AdaptSettings
    output: Path
    data: AdaptData
    enhancer: Enhancer
    enhancer_package: Path
    base: OpenedBase | None  #: what the segmentor is trained from; a fresh network where None
    split: StrokeSplit
    run: dict[str, Any]
    show_progress: bool

    @property
    def classes(self) -> tuple[ClassContract, ...]:
        """Name and meaning of label 1, 2, … of the strokes."""
        return self.data.classes

    @property
    def foreground(self) -> int:
        """Label of the objects in the strokes."""
        return self.data.foreground

    def rescale_factor(self, delivered: RFContract) -> float:
        """By which factor probabilities are resized before the enhancer."""
        rescale = self.settings.rescale
        return self.enhancer.rescale_factor(delivered) if rescale == "auto" else float(rescale)

    def label(self, text: str) -> str | None:
        """Label of a progress bar, or none."""
        return text if self.show_progress else None

    def checkpoints(self, name: str) -> Path:
        """Where a training keeps its checkpoints."""
        return self.output / _CHECKPOINTS / name

    def image_folder(self, index: int) -> Path:
        """Where the maps of an image go."""
        return self.output / "images" / f"{index + 1:02d}-{_file_name(self.data.names[index])}"

    def test_image_folder(self, index: int) -> Path:
        """Where the maps of a test image go."""
        return self.output / "images" / f"test-{index + 1:02d}-{self.inputs.test_images[index].stem}"

    def forget_checkpoints(self) -> None:
        """Remove all checkpoints, once the run is over."""
        shutil.rmtree(self.output / _CHECKPOINTS, ignore_errors=True)


def open_job(
    inputs: AdaptInputs,
    settings: AdaptSettings,
    output: Path,
    *,
    classifier: ProbabilityPredictor | None = None,
    existing: Literal["refuse", "overwrite", "resume"] = "refuse",
    progress: bool = True,
) -> Job:
    """Read and check everything, then prepare the folder.

    Args:
        inputs: files to work on.
        settings: what to do with them.
        output: folder for the results.
        classifier: gives the probabilities; None to fit a forest, or to use what the inputs name.
        existing: what to do if the folder is not empty: refuse; begin anew and replace files; or go on with the
            same run where it was interrupted.
        progress: show progress bars on stderr.

    Raises:
        UserInputError: for anything wrong with the inputs.
        ConfigError: if the folder is not empty, or holds another run.
        PackageError: if the enhancer cannot be read.
    """
    _check_folder(output, existing)
    package = find_model(inputs.enhancer)
    enhancer = load_enhancer(package, trust_code=inputs.trust_code)
    base = None if inputs.base_model is None else open_base_model(inputs.base_model, trust_code=inputs.trust_code)
    data = read_inputs(inputs, foreground=settings.foreground, class_names=settings.class_names, classifier=classifier)
    _check_enhancer(enhancer, package, data, settings)
    hashes = {**inputs.hashes(data.found_images), f"enhancer {inputs.enhancer}": hash_path(package)}
    if base is not None:
        check_base_model(base, data.images, settings.attribution, names=data.names)
        hashes[f"base model {inputs.base_model}"] = hash_path(base.package)
    options: dict[str, object] = {"inputs": inputs, "settings": settings}
    if classifier is not None:
        options["classifier"] = {"type": type(classifier).__name__, "contract": classifier.contract}
    run = describe_run("adapt", options=options, hashes=hashes, seed=settings.seed)
    job = Job(
        inputs=inputs,
        settings=settings,
        output=output,
        data=data,
        enhancer=enhancer,
        enhancer_package=package,
        base=base,
        split=hold_out_strokes(data.scribbles, fraction=settings.pseudo_labels.held_out, seed=settings.seed),
        run=run,
        show_progress=progress,
    )
    if existing == "resume":
        _check_same_run(output / RUN_FILE, run)
    else:
        job.forget_checkpoints()
        _remove_earlier(output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / RUN_FILE, run)
    return job


def _remove_earlier(output: Path) -> None:
    """Remove what an earlier run wrote here, and nothing else: two runs side by side would be taken for one."""
    if not (output / RUN_FILE).is_file():  # then whatever is here is not ours
        return
    for name in ("images", "packages", "validation"):
        shutil.rmtree(output / name, ignore_errors=True)
    for name in ("report.html", "report.json", CLASSIFIER_FILE, SEGMENTOR_FILE):
        (output / name).unlink(missing_ok=True)


def _file_name(name: str) -> str:
    """Of an image's name, what a folder can be called."""
    return re.sub(r"[^\w.+-]+", "_", Path(name).stem)


def _check_enhancer(enhancer: Enhancer, package: Path, data: AdaptData, settings: AdaptSettings) -> None:
    """Refuse what the first forest would show not to fit, before there is one."""
    for predictor in data.predictors:  # maps may differ in their values
        enhancer.check(predictor.contract)
    enhancer.check(data.delivered)
    if settings.rescale == "auto":
        check_rescale(enhancer.rescale_factor(data.delivered))
    if package.name in (f"{settings.model_id}.zip", f"{settings.fused_id}.zip"):
        msg = f"Another model and the enhancer would both be written to {package.name}. Choose another --name."
        raise ConfigError(msg)


def _check_folder(output: Path, existing: str) -> None:
    if output.exists() and not output.is_dir():
        msg = f"{output} is a file; the output must be a folder."
        raise ConfigError(msg)
    if existing == "refuse" and output.is_dir() and any(output.iterdir()):
        msg = (
            f"The output folder {output} is not empty. Give another one, or --overwrite to replace its results, "
            "or --resume to go on with an interrupted run."
        )
        raise ConfigError(msg)


def _check_same_run(path: Path, run: dict[str, Any]) -> None:
    if not path.is_file():
        msg = f"There is no run to resume: {path} is missing. Leave --resume out to begin."
        raise ConfigError(msg)
    found = read_json(path)
    changed = differing(run, found)
    if changed:
        msg = f"{path} is of a run with other {', '.join(changed)}. Resume with the same files, options and versions."
        raise ConfigError(msg)
