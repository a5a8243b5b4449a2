import dataclasses
import zipfile

import pytest
import torch
from bioimageio.spec import load_description
from bioimageio.spec.model.v0_5 import ModelDescr

from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.export import package as package_module
from s2d_zoo.export.description import Citation
from s2d_zoo.export.package import write_package


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
