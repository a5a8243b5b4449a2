"""An enhancer trained further on a target, from files to a package."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.contract import RFContract
from s2d_zoo.data.model_description import read_model_description
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import PackagedModel
from s2d_zoo.data.scribbles import hold_out_strokes
from s2d_zoo.enhancer.prediction import Enhancer
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import ConfigError
from s2d_zoo.export.description import Attribution, ModelDetails
from s2d_zoo.export.inheritance import inherit_attribution
from s2d_zoo.export.lineage import BaseModel, Parent, describe_base
from s2d_zoo.export.model_card import CardFacts
from s2d_zoo.pipeline.base_models import OpenedBase, find_base, stated_parent
from s2d_zoo.pipeline.classification import refuse_existing
from s2d_zoo.pipeline.enhancer_finetuning import EnhancerFinetuneSettings, EnhancerTraining, finetune_enhancer
from s2d_zoo.pipeline.finetuning import (
    Finetuned,
    difference_of,
    held_out_figures,
    limits_of,
    refuse_unchanged,
    refuse_worse,
)
from s2d_zoo.pipeline.inputs import AdaptInputs, named_hashes
from s2d_zoo.pipeline.record import describe_run, training_details, whole_minutes
from s2d_zoo.pipeline.sources import read_inputs
from s2d_zoo.pipeline.training_report import write_training_report
from s2d_zoo.pipeline.validated import write_finetuned_validated, write_validated
from s2d_zoo.pipeline.words import ModelWords
from s2d_zoo.rf_adapter.persistence import digest_classifier
from s2d_zoo.validate.report import ValidationReport


def finetune_enhancer_files(
    inputs: AdaptInputs,
    output: Path,
    *,
    settings: EnhancerFinetuneSettings,
    words: ModelWords,
    foreground: int | None = None,
    held_out: float = 0.2,
    allow_worse: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Finetuned:
    """Train an enhancer further on strokes, and write it as a package with a report beside it.

    Args:
        inputs: images with strokes, or an ilastik project; the enhancer; labels of all pixels as ground truth, if any.
        output: the package, ``*.zip``.
        settings: of forests and training.
        words: what the package says of itself.
        foreground: label of the objects in the strokes; 2, or as a project's names say, when ``None``.
        held_out: share of the strokes that it is tested on.
        allow_worse: write it even if it is worse than its start.
        overwrite: replace what is there.
        progress: show progress bars on stderr.

    Raises:
        NotImprovedError: if it ends worse than it began on the held-out strokes; only the report is written then.
        ConfigError: if the output is there already or is no zip, or the enhancer's licence does not allow the chosen
            one.
        UserInputError: for anything wrong with images or strokes.
        PackageError: if the enhancer cannot be read.
    """
    started = time.perf_counter()
    if output.suffix != ".zip":
        msg = f"An enhancer becomes a package: expected an --output that ends in .zip, got {output}."
        raise ConfigError(msg)
    start = _open(inputs, words.attribution)
    refuse_existing(output, overwrite=overwrite, inputs=(start.package,))
    data = read_inputs(inputs, foreground=foreground)
    settings = replace(settings, selection=settings.selection or data.selection)
    split = hold_out_strokes(data.scribbles, fraction=held_out, seed=settings.seed)
    hashes = inputs.named_hashes(data.found_images) | named_hashes({"dense labels": inputs.ground_truth})
    options = {"settings": settings, "foreground": data.foreground, "held_out": held_out, "allow_worse": allow_worse}
    run = describe_run("finetune-enhancer", options=options, hashes=hashes, seed=settings.seed)
    provenance = {key: run[key] for key in ("inputs", "options", "seed", "versions")}
    provenance["strokes"] = {"training": split.n_training, "held_out": split.n_held_out}
    reported = {**provenance, "base_model": start.lineage.to_json()}
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as folder:
        done = finetune_enhancer(
            start.enhancer,
            data.images,
            split.training,
            settings,
            folder=Path(folder),
            foreground=data.foreground,
            dense=data.ground_truth,
            held_out=split.held_out,
            allow_worse=True,  # so that the report can say by how much
            progress="enhancer" if progress else None,
        )
    provenance["forests_sha256"] = [digest_classifier(forest) for forest in done.forests]
    provenance["wall_time_minutes"] = whole_minutes(time.perf_counter() - started)
    difference = difference_of(start.enhancer.model, done.enhancer.model)
    reported |= {key: provenance[key] for key in ("forests_sha256", "wall_time_minutes")}
    report = write_training_report(
        output, reported, training=done.training, difference=difference, allow_worse=allow_worse
    )
    refuse_worse(done.training, report, allow=allow_worse)
    refuse_unchanged(difference, start.lineage.id)
    details = ModelDetails(
        id=words.id,
        name=words.name,
        description=words.description,
        attribution=words.attribution,
        kind="enhancer",
        contract=_contract(start.enhancer, done.delivered, settings),
        base_model=start.lineage,
        config={"provenance": provenance},
    )
    facts = CardFacts(
        training_data=words.training_data or f"{len(data.images)} image(s) given by the user: {', '.join(data.names)}",
        training_data_license=words.training_data_license,
        strokes=f"{split.n_training} strokes for training and {split.n_held_out} held out for testing"
        + ("; all pixels were labelled as well" if data.ground_truth else ""),
        seed=settings.seed,
        evaluation="On strokes that neither the enhancer nor a forest saw" if done.training.end else "",
        figures=held_out_figures(done.training),
        limits=limits_of(done.training),
        training_details=training_details(settings.training),
        lineage=(
            (
                f"Base model: the enhancer {start.lineage.id}, licence {start.description.license}: "
                f"{start.description.description}"
            ),
            f"Trained further on the output of {settings.n_forests} Random Forests fitted on strokes",
        ),
    )
    validation = _write(start, done, details, facts, output, overwrite=overwrite, progress=progress)
    return Finetuned(training=done.training, report=report, difference=difference, validation=validation)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """What the training begins from."""

    package: Path
    enhancer: Enhancer
    parent: Parent | None
    lineage: BaseModel
    description: ModelDescr


def _open(inputs: AdaptInputs, attribution: Attribution) -> _Start:
    package, parent, source = find_base(inputs.enhancer)
    enhancer = load_enhancer(package, trust_code=inputs.trust_code)
    began_from = enhancer.model.weights_format if isinstance(enhancer.model, PackagedModel) else "pytorch_state_dict"
    with open_package(package) as contents:
        parent = parent or stated_parent(contents.rdf)
        lineage = describe_base(contents, began_from=began_from, parent=parent, source=source)
        description = read_model_description(contents)
    inherit_attribution(description, attribution)  # refuses a licence before anything is computed
    return _Start(package=package, enhancer=enhancer, parent=parent, lineage=lineage, description=description)


def _contract(enhancer: Enhancer, delivered: RFContract, settings: EnhancerFinetuneSettings) -> RFContract:
    """What it takes now: as before, and where nothing was known of the forests, those that it has learnt."""
    before = enhancer.contract
    target = f"strokes on the target, in {settings.n_forests} draws"
    # objects are of the target's size now; which that is in px, strokes do not tell
    size = {"pixel_size": delivered.pixel_size, "object_diameter": None}
    if before.forest.implementation != "unknown":
        forest = before.forest.model_copy(update={"labels": f"{before.forest.labels}; then {target}"})
        return before.model_copy(update={"forest": forest, **size})
    labels = f"{target}; those of the first training are unknown"
    forest = delivered.forest.model_copy(update={"n_source_forests": settings.n_forests, "labels": labels})
    return before.model_copy(
        update={"features": delivered.features, "forest": forest, "raw_channels": delivered.raw_channels, **size}
    )


def _write(
    start: _Start,
    done: EnhancerTraining,
    details: ModelDetails,
    facts: CardFacts,
    output: Path,
    *,
    overwrite: bool,
    progress: bool,
) -> ValidationReport:
    before, after = start.enhancer.model, done.enhancer.model
    if isinstance(before, PackagedModel) and isinstance(after, PackagedModel):
        base = OpenedBase(package=start.package, model=before, parent=start.parent, lineage=start.lineage)
        return write_finetuned_validated(
            base, after, details, done.example, output, facts=facts, overwrite=overwrite, progress=progress
        )
    if not isinstance(after, UNet):
        msg = f"Expected one of s2d-zoo's own networks, found {type(after).__name__}."
        raise TypeError(msg)
    details = replace(details, attribution=inherit_attribution(start.description, details.attribution))
    return write_validated(after, details, done.example, output, facts=facts, overwrite=overwrite, progress=progress)
