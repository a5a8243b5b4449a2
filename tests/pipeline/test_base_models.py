"""A model of another package, trained further and exported again: with its lineage, or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.export.bases import make_base

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import AxesError, ConfigError, NotImprovedError, PackageError, UnsafePackageError
from s2d_zoo.export.description import Attribution, Author
from s2d_zoo.finetune import finetuning as training_loop
from s2d_zoo.pipeline.adapt import adapt
from s2d_zoo.pipeline.base_models import open_base_model
from s2d_zoo.pipeline.enhancer_files import finetune_enhancer_files
from s2d_zoo.pipeline.enhancer_finetuning import EnhancerFinetuneSettings
from s2d_zoo.pipeline.finetuning import FinetuneFiles, finetune_files
from s2d_zoo.pipeline.inputs import AdaptInputs
from s2d_zoo.pipeline.report import write_report
from s2d_zoo.pipeline.words import ModelWords
from s2d_zoo.rf_adapter.classifier import ForestSettings
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.validation import validate_package

PREPROCESSING = ({"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}},)


def segmentor(folder, *, change=lambda rdf: None, **options):
    """A package as `make_base` makes it, for raw images."""

    def untagged(rdf):
        rdf["tags"] = ["nuclei"]
        change(rdf)

    return make_base(folder, change=untagged, **options)


@pytest.fixture
def base(tmp_path):
    """Somebody's segmentor of two channels, CC-BY-4.0, published as tiny-base, version 1.0.0."""
    return segmentor(tmp_path / "base", preprocessing=PREPROCESSING)


@pytest.fixture
def words(tiny_settings):
    return ModelWords(
        name="My finetuned model", description="Mine.", attribution=replace(tiny_settings().attribution, license="MIT")
    )


@pytest.fixture
def files(run, base):
    folder = run.output / "images" / "01-cells"
    return FinetuneFiles(
        images=run.inputs.images,
        pseudo_labels=(folder / "pseudo_labels.tif",),
        weights=(folder / "pseudo_label_weights.tif",),
        held_out=run.inputs.scribbles,
        base_model=base,
    )


def finetune(files, output, tiny_settings, words, **options):
    settings = tiny_settings().seeded_segmentor
    return finetune_files(
        files, output, settings=settings, words=words, progress=False, **{"allow_worse": True, **options}
    )


def described(package):
    with open_package(package) as contents:
        return dict(contents.rdf)


@pytest.mark.usefixtures("quick_validation")
def test_the_package_names_what_it_was_made_from(files, base, tmp_path, tiny_settings, words):
    output = tmp_path / "mine.zip"
    done = finetune(files, output, tiny_settings, words)
    rdf = described(output)
    assert rdf["parent"] == {"id": "tiny-base", "version": "1.0.0"}
    assert rdf["id"] == "my-finetuned-model"
    assert [author["name"] for author in rdf["authors"]] == ["Grace Hopper", "Ada"]
    provenance = rdf["config"]["s2d_zoo"]["provenance"]
    start = sha256_of(base / "net.pt")
    assert provenance["base_model"]["weights"]["torchscript"]["sha256"] == start
    assert set(provenance) >= {"inputs", "options", "seed", "versions", "wall_time_minutes"}
    kinds = {name.partition(" 1")[0] for name in provenance["inputs"]}
    assert kinds == {"image", "pseudo-labels", "weights", "held-out strokes"}
    assert done.difference.changed
    report = validate_package(output, select=["L", "S", "F", "C"], find_base=lambda *_: base)
    assert report.passed
    (lineage,) = [result for result in report.results if result.check is Check.L03]
    assert lineage.status == "passed"
    assert "4 of its 4 stored tensors differ" in lineage.message


@pytest.mark.usefixtures("quick_validation")
def test_the_same_training_gives_the_same_bytes(files, tmp_path, tiny_settings, words):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        finetune(files, tmp_path / name / "mine.zip", tiny_settings, words)
    assert (tmp_path / "a" / "mine.zip").read_bytes() == (tmp_path / "b" / "mine.zip").read_bytes()


def test_one_that_got_worse_leaves_its_report_and_no_package(files, tmp_path, tiny_settings, words, monkeypatch):
    monkeypatch.setattr(training_loop, "_compare", lambda *_, **__: "IoU 0.100, before 0.900")
    output = tmp_path / "out" / "mine.zip"
    output.parent.mkdir()
    with pytest.raises(NotImprovedError, match=r"IoU 0\.100, before 0\.900"):
        finetune(files, output, tiny_settings, words, allow_worse=False)
    assert sorted(path.name for path in output.parent.iterdir()) == ["mine.report.json", "mine.report.md"]
    facts = json.loads((output.parent / "mine.report.json").read_text())
    assert facts["provenance"]["base_model"]["id"] == "tiny-base"


def test_a_version_makes_a_model_published(tmp_path):
    def without(rdf):
        del rdf["version"]

    base = open_base_model(segmentor(tmp_path / "nameless", change=without))
    assert (base.parent, base.id) == (None, "tiny-base")
    assert open_base_model(segmentor(tmp_path / "named")).parent.version == "1.0.0"


def test_weights_that_cannot_be_trained_are_refused_with_the_way_out(tmp_path):
    def only_onnx(rdf):
        rdf["weights"] = {"onnx": {key: value for key, value in rdf["weights"]["onnx"].items() if key != "parent"}}

    with pytest.raises(PackageError, match=r"cannot be trained.*teacher.*--probabilities"):
        open_base_model(segmentor(tmp_path / "onnx", change=only_onnx))


def test_code_of_a_package_is_not_run_unless_it_is_trusted(tmp_path):
    written = tmp_path / "written"

    def with_code(rdf):
        folder = tmp_path / "code"
        (folder / "net.py").write_text(f"open({str(written)!r}, 'w').close()\n")
        (folder / "state.pt").write_bytes(b"")
        architecture = {"source": "net.py", "callable": "Net", "kwargs": {}}
        rdf["weights"] = {
            "pytorch_state_dict": {"source": "state.pt", "pytorch_version": "2.0.0", "architecture": architecture}
        }

    with pytest.raises(UnsafePackageError, match=r"net\.py of the package, SHA-256 .*--trust-code"):
        open_base_model(segmentor(tmp_path / "code", change=with_code))
    assert not written.exists()


@pytest.mark.parametrize(
    ("licence", "chosen", "reason"),
    [
        ("CC-BY-NC-4.0", "MIT", "excludes commercial use"),
        ("CC-BY-SA-4.0", "MIT", "share alike"),
        ("CC-BY-ND-4.0", "CC-BY-ND-4.0", "no derivatives"),
    ],
)
def test_a_licence_that_the_base_does_not_allow_is_refused_first(
    files, tmp_path, tiny_settings, words, licence, chosen, reason
):
    def strict(rdf):
        rdf["license"] = licence

    files = replace(files, base_model=segmentor(tmp_path / "strict", change=strict))
    words = replace(words, attribution=replace(words.attribution, license=chosen))
    with pytest.raises(ConfigError, match=reason):
        finetune(files, tmp_path / "mine.zip", tiny_settings, words)
    assert not (tmp_path / "mine.report.md").exists()


def test_images_that_the_base_does_not_take_are_refused(files, tmp_path, tiny_settings, words):
    files = replace(files, base_model=segmentor(tmp_path / "colours", channels=3))
    with pytest.raises(AxesError, match=r"tiny-base takes 2D images with 3 channel\(s\), but cells\.tif has 1"):
        finetune(files, tmp_path / "mine.zip", tiny_settings, words)


def test_an_enhancer_is_no_segmentor(run, tmp_path):
    for package in (make_base(tmp_path / "tagged"), run.inputs.enhancer):
        with pytest.raises(PackageError, match=r"is an enhancer: .*Give it as --enhancer"):
            open_base_model(package)


def test_a_model_that_gives_the_background_first_is_refused(files, tmp_path, tiny_settings, words):
    def named(rdf):
        rdf["outputs"][0]["axes"][1]["channel_names"] = ["background", "nuclei"]

    files = replace(files, base_model=segmentor(tmp_path / "swapped", change=named))
    with pytest.raises(AxesError, match="gives the channels background, nuclei"):
        finetune(files, tmp_path / "mine.zip", tiny_settings, words)


@pytest.mark.usefixtures("quick_validation")
def test_an_enhancers_licence_and_authors_go_into_what_it_is_fused_into(run, folder, tmp_path, tiny_settings):
    folder.rdf["license"] = "CC-BY-NC-4.0"
    inputs = replace(run.inputs, enhancer=str(folder.save()))
    for number, licence in enumerate(("MIT", "CC-BY-NC-4.0")):
        settings = tiny_settings(attribution=Attribution(authors=(Author(name="Grace"),), license=licence))
        result = adapt(inputs, settings, tmp_path / str(number), progress=False)
        if licence == "MIT":
            assert result.fused is None
            assert "excludes commercial use" in result.not_fused
        else:
            rdf = described(tmp_path / str(number) / "packages" / "tiny-segmentor-fused.zip")
            assert [author["name"] for author in rdf["authors"]] == ["Ada", "Grace"]


# ---- in a whole run


@pytest.mark.usefixtures("quick_validation")
def test_adapt_trains_it_and_compares_with_what_it_was(run, base, tmp_path, tiny_settings):
    inputs = replace(run.inputs, base_model=str(base))
    result = adapt(inputs, tiny_settings(allow_worse=True), tmp_path / "out", progress=False)
    page = write_report(result).read_text()
    assert "base model, untouched" in page
    assert "<code>tiny-base</code>, version 1.0.0" in page
    facts = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {"base model, untouched", "segmentor"} <= set(facts["scores"]["training"])
    assert facts["weights_difference"]["changed"] == 4
    rdf = described(result.packages[0])
    assert rdf["parent"] == {"id": "tiny-base", "version": "1.0.0"}
    provenance = rdf["config"]["s2d_zoo"]["provenance"]
    assert provenance["forest_sha256"]
    assert provenance["options"]["segmentor"]["weighting"] == "consensus"
    assert "attribution" not in provenance["options"]
    # the card has the figures with their baselines
    with open_package(result.packages[0]) as contents:
        card = (contents.folder / "README.md").read_text()
    for words in ("base model, untouched", "RF", "segmentor, strokes only", "sure pseudo-labels"):
        assert words in card, words


@pytest.mark.usefixtures("quick_validation")
def test_adapt_keeps_its_report_where_the_model_got_worse(run, base, tmp_path, tiny_settings, monkeypatch):
    monkeypatch.setattr(training_loop, "_compare", lambda *_, **__: "IoU 0.100, before 0.900")
    inputs = replace(run.inputs, base_model=str(base))
    result = adapt(inputs, tiny_settings(), tmp_path / "out", progress=False)
    page = write_report(result).read_text()
    assert not result.good
    assert "There is no segmentor" in page
    assert "IoU 0.100, before 0.900" in page
    assert not (tmp_path / "out" / "packages" / "tiny-segmentor.zip").exists()


# ---- enhancers


@pytest.fixture
def enhancer_inputs(run):
    return AdaptInputs(images=run.inputs.images, scribbles=run.inputs.scribbles, enhancer=run.inputs.enhancer)


@pytest.fixture
def enhancer_settings(tiny_settings):
    segmentor = tiny_settings().seeded_segmentor
    return EnhancerFinetuneSettings(
        n_forests=2,
        forest=ForestSettings(n_estimators=3),
        patches=segmentor.patches,
        training=segmentor.training,
        seed=1,
    )


@pytest.mark.usefixtures("quick_validation")
def test_an_enhancer_of_ours_becomes_another_one(enhancer_inputs, enhancer_settings, tmp_path, words):
    output = tmp_path / "enhancer.zip"
    done = finetune_enhancer_files(
        enhancer_inputs, output, settings=enhancer_settings, words=words, allow_worse=True, progress=False
    )
    rdf = described(output)
    own = rdf["config"]["s2d_zoo"]
    assert own["kind"] == "enhancer"
    assert "shallow2deep" in rdf["tags"]
    assert "parent" not in rdf  # it is not published
    assert own["provenance"]["base_model"]["id"] == "tiny-enhancer"
    before = described(Path(enhancer_inputs.enhancer))["config"]["s2d_zoo"]["rf_contract"]
    assert own["rf_contract"]["channels"] == before["channels"]
    assert own["rf_contract"]["forest"]["labels"] == "strokes; then strokes on the target, in 2 draws"
    assert len(own["provenance"]["forests_sha256"]) == 2
    again = load_enhancer(output)
    assert not np.array_equal(
        again.model.head.weight.detach(), load_enhancer(Path(enhancer_inputs.enhancer)).model.head.weight.detach()
    )
    assert done.report.read_text().startswith("# Training of enhancer.zip")
    assert validate_package(output, select=["L", "C", "F"], find_base=lambda *_: Path(enhancer_inputs.enhancer)).passed


@pytest.mark.usefixtures("quick_validation")
def test_a_published_enhancer_gets_a_contract_of_the_forests_that_it_has_learnt(
    enhancer_inputs, enhancer_settings, tmp_path, words
):
    def as_enhancer(rdf):
        rdf["tags"] = ["shallow2deep"]

    published = make_base(tmp_path / "published", change=as_enhancer)
    inputs = replace(enhancer_inputs, enhancer=str(published))
    assert load_enhancer(published).contract.features is None
    output = tmp_path / "enhancer.zip"
    finetune_enhancer_files(inputs, output, settings=enhancer_settings, words=words, allow_worse=True, progress=False)
    again = load_enhancer(output)
    assert again.contract.features is not None
    assert (again.contract.forest.implementation, again.contract.forest.n_source_forests) == ("sklearn", 2)
    rdf = described(output)
    assert rdf["parent"] == {"id": "tiny-base", "version": "1.0.0"}
    assert rdf["config"]["s2d_zoo"]["kind"] == "enhancer"


@pytest.mark.usefixtures("quick_validation")
def test_labels_of_all_pixels_are_learnt_too(enhancer_inputs, enhancer_settings, run, tmp_path, words, nuclei):
    write_image(tmp_path / "truth.tif", nuclei[1])
    assert read_image(run.inputs.images[0]).sizes["y"] == nuclei[1].sizes["y"]
    inputs = replace(enhancer_inputs, ground_truth=(tmp_path / "truth.tif",))
    results = []
    for number, given in enumerate((inputs, enhancer_inputs)):
        output = tmp_path / f"{number}.zip"
        finetune_enhancer_files(
            given, output, settings=enhancer_settings, words=words, allow_worse=True, progress=False
        )
        results.append(load_enhancer(output).model.head.weight.detach().numpy())
    assert not np.array_equal(*results)


def test_an_enhancer_becomes_a_package_only(enhancer_inputs, enhancer_settings, tmp_path, words):
    with pytest.raises(ConfigError, match=r"ends in \.zip"):
        finetune_enhancer_files(enhancer_inputs, tmp_path / "x.safetensors", settings=enhancer_settings, words=words)
