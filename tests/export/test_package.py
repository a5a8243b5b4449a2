import dataclasses
import hashlib
import io
import warnings
import zipfile

import numpy as np
import pytest
import torch
import yaml
from bioimageio.core import test_model as run_test
from bioimageio.spec import load_description
from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.data.network import own_architectures
from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.export import package as package_module
from s2d_zoo.export.description import Citation
from s2d_zoo.export.model_card import Finding
from s2d_zoo.export.package import write_package
from s2d_zoo.export.tolerance import Tolerance, measure_formats


def test_a_package_has_its_files_at_the_top(package):
    with zipfile.ZipFile(package) as archive:
        assert archive.namelist() == [
            "README.md",
            "cover.png",
            "rdf.yaml",
            "test_input.npy",
            "test_output.npy",
            "unet.py",
            "weights.onnx",
            "weights.pt",
            "weights_state_dict.pt",
        ]


def test_bioimageio_spec_takes_it_as_a_model(package):
    with zipfile.ZipFile(package) as archive:
        description = load_description(archive, perform_io_checks=True)
    assert isinstance(description, ModelDescr)
    assert description.id == "tiny-enhancer"
    warnings = [entry for entry in description.validation_summary.warnings if "FAIR" in entry.msg]
    assert {entry.loc[-1] for entry in warnings} <= {"sample_tensor", "git_repo", "version"}


def test_two_exports_are_equal_and_silent(package, model, enhancer, example, facts, tmp_path, capfd):
    torch.manual_seed(1)  # nothing may depend on the state of the process
    again = write_package(model, enhancer, example, tmp_path / "again.zip", facts=facts)
    assert again.read_bytes() == package.read_bytes()
    assert model.training
    assert capfd.readouterr() == ("", "")


def test_another_file_name_than_zip_is_refused(model, enhancer, example, facts, tmp_path):
    with pytest.raises(ConfigError, match=r"ending in \.zip"):
        write_package(model, enhancer, example, tmp_path / "model.pt", facts=facts)


def test_an_existing_file_is_replaced_only_when_asked(model, segmentor, example, facts, tmp_path):
    path = tmp_path / "model.zip"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        write_package(model, segmentor, example, path, facts=facts)
    assert path.read_text() == "mine"
    write_package(model, segmentor, example, path, facts=facts, overwrite=True)
    assert zipfile.is_zipfile(path)


def test_what_bioimageio_refuses_is_not_written(model, segmentor, attribution, example, facts, tmp_path):
    cite = (Citation(text="A preprint", doi="not a doi"),)
    details = dataclasses.replace(segmentor, attribution=dataclasses.replace(attribution, cite=cite))
    with pytest.raises(PackageError, match="doi"):
        write_package(model, details, example, tmp_path / "model.zip", facts=facts)
    assert not list(tmp_path.iterdir())


def test_a_description_of_something_else_is_refused(monkeypatch, model, segmentor, example, facts, tmp_path):
    built = package_module.rdf.build_rdf

    def as_dataset(*args, **kwargs):
        rdf = built(*args, **kwargs)
        return {**{key: rdf[key] for key in ("name", "description", "format_version")}, "type": "dataset"}

    monkeypatch.setattr(package_module.rdf, "build_rdf", as_dataset)
    with pytest.raises(PackageError, match="dataset"):
        write_package(model, segmentor, example, tmp_path / "model.zip", facts=facts)


# ---- judged before it is final


FINDING = Finding(program="QuPath", verdict="runs with limits", reasons=("T04: seams of 24 px",))


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_what_the_judge_found_is_in_the_card_and_the_hash_of_the_card_fits(model, enhancer, example, facts, tmp_path):
    seen = []

    def judge(draft):
        seen.append(members_of(draft))
        return (FINDING,)

    path = write_package(model, enhancer, example, tmp_path / "model.zip", facts=facts, judge=judge)
    members = members_of(path)
    (draft,) = seen
    assert "- **QuPath**: runs with limits\n  - T04: seams of 24 px\n" in members["README.md"].decode()
    assert "It found" not in draft["README.md"].decode()
    for files in (draft, members):
        stated = yaml.safe_load(files["rdf.yaml"])["config"]["s2d_zoo"]["files"]["README.md"]
        assert stated == hashlib.sha256(files["README.md"]).hexdigest()
    changed = {name for name in members if members[name] != draft[name]}
    assert changed == {"README.md", "rdf.yaml"}
    with zipfile.ZipFile(path) as archive:
        assert isinstance(load_description(archive, perform_io_checks=True), ModelDescr)


def test_a_judge_that_fails_leaves_the_old_file(model, segmentor, example, facts, tmp_path):
    def judge(_):
        raise PackageError("no verdict")

    path = tmp_path / "model.zip"
    for existing in (None, b"old"):
        if existing is not None:
            path.write_bytes(existing)
        with pytest.raises(PackageError, match="no verdict"):
            write_package(model, segmentor, example, path, facts=facts, judge=judge, overwrite=True)
        assert [one.read_bytes() for one in tmp_path.iterdir()] == ([] if existing is None else [existing])


# ---- fused models


@pytest.fixture(scope="module")
def fused_package(fused_parts, fused, facts, tmp_path_factory):
    path = tmp_path_factory.mktemp("package") / "fused.zip"
    return write_package(fused_parts.model, fused, fused_parts.image, path, facts=facts, unfused=fused_parts.unfused)


def test_a_fused_package_brings_its_architecture_and_what_its_parts_gave(fused_package, fused_parts):
    members = members_of(fused_package)
    assert {"pixel_forest.py", "unfused_output.npy"} <= set(members)
    assert "unet.py" not in members
    assert hashlib.sha256(members["pixel_forest.py"]).hexdigest() in own_architectures()
    tensors = {name: np.load(io.BytesIO(members[f"{name}.npy"])) for name in ("test_input", "unfused_output")}
    assert tensors["unfused_output"].dtype == np.float32
    np.testing.assert_array_equal(tensors["unfused_output"], fused_parts.unfused(tensors["test_input"]))


def test_bioimageio_spec_takes_a_fused_package_as_a_model(fused_package):
    with zipfile.ZipFile(fused_package) as archive:
        description = load_description(archive, perform_io_checks=True)
    assert isinstance(description, ModelDescr)
    assert "shallow2deep" not in description.tags


def test_a_fused_package_states_the_tolerances_that_were_measured(fused_package, fused_parts, tmp_path):
    with zipfile.ZipFile(fused_package) as archive:
        archive.extractall(tmp_path)
    config = yaml.safe_load((tmp_path / "rdf.yaml").read_text())["config"]
    test_input, output, unfused = (
        np.load(tmp_path / f"{name}.npy") for name in ("test_input", "test_output", "unfused_output")
    )
    own = Tolerance.covering([np.abs(unfused - output)])
    assert config["s2d_zoo"]["fused"]["tolerance"] == dataclasses.asdict(own)
    assert (np.abs(unfused - output) > own.absolute).mean() <= own.mismatched_per_million / 1e6
    formats = Tolerance.covering(
        measure_formats(fused_parts.model, tmp_path, test_input, steps=(fused_parts.model.step,) * 2),
        largest=output.max(),
    )
    (stated,) = config["bioimageio"]["reproducibility_tolerance"]
    assert stated["absolute_tolerance"] == formats.absolute
    assert stated["mismatched_elements_per_million"] == formats.mismatched_per_million


def test_parts_that_give_something_else_widen_the_tolerance(fused_parts, fused, facts, tmp_path):
    def give_more(values):  # than the fused network itself: in the real parts, rounding turns trees on some processors
        with torch.inference_mode():
            return fused_parts.model(torch.from_numpy(values)).numpy() + np.float32(3e-4)

    path = write_package(
        fused_parts.model,
        fused,
        fused_parts.image,
        tmp_path / "fused.zip",
        facts=facts,
        unfused=give_more,
    )
    own = yaml.safe_load(members_of(path)["rdf.yaml"])["config"]["s2d_zoo"]["fused"]
    assert own["tolerance"]["absolute"] == 5e-3


def test_time_and_size_are_in_the_card_of_a_fused_package_only(fused_package, package):
    card = members_of(fused_package)["README.md"].decode()
    assert "512 x 512 px take at most" in card
    assert "MB, with all weights formats" in card
    assert "512 x 512 px take" not in members_of(package)["README.md"].decode()


def test_two_fused_exports_are_equal_but_for_the_time(fused_parts, fused, facts, tmp_path, monkeypatch):
    monkeypatch.setattr(package_module, "describe_costs", lambda *_: ("no time at all",))
    first, second = (
        write_package(fused_parts.model, fused, fused_parts.image, path, facts=facts, unfused=fused_parts.unfused)
        for path in (tmp_path / "first.zip", tmp_path / "second.zip")
    )
    assert first.read_bytes() == second.read_bytes()
    assert "no time at all" in members_of(first)["README.md"].decode()


def test_bioimageio_cores_test_passes_every_format_of_a_fused_package(fused_package):
    with warnings.catch_warnings():  # of the library's own
        warnings.simplefilter("ignore")
        summary = run_test(fused_package)
    assert summary.status == "passed", summary.display()
    reproduced = {entry.loc[-1]: entry.status for entry in summary.details if entry.name.startswith("Reproduce")}
    assert reproduced == dict.fromkeys(["onnx", "pytorch_state_dict", "torchscript"], "passed")


def test_a_fused_model_is_compared_with_its_parts_and_no_other_is(
    fused_parts, fused, model, segmentor, example, facts, tmp_path
):
    path = tmp_path / "model.zip"
    with pytest.raises(ConfigError, match="give `unfused`"):
        write_package(fused_parts.model, fused, fused_parts.image, path, facts=facts)
    with pytest.raises(ConfigError, match="and no other"):
        write_package(model, segmentor, example, path, facts=facts, unfused=fused_parts.unfused)
    assert not path.exists()


@pytest.mark.parametrize("deterministic", [True, False])
def test_what_was_done_before_in_the_process_changes_nothing(
    package, model, enhancer, example, facts, tmp_path, monkeypatch, deterministic
):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", deterministic)  # as a training leaves it
    again = write_package(model, enhancer, example, tmp_path / "again.zip", facts=facts)
    assert again.read_bytes() == package.read_bytes()
    assert torch.backends.cudnn.deterministic is deterministic
