import numpy as np
import pytest
import torch

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.parity import open_format, reason_not_to_run, run_core_test, undisturbed

FORMATS = ("pytorch_state_dict", "torchscript", "onnx")


@pytest.mark.parametrize("name", FORMATS)
def test_our_own_formats_may_run_and_give_the_test_output(package, name):
    with open_package(package) as contents, undisturbed():
        assert reason_not_to_run(contents, name) is None
        values = np.load(contents.folder / "test_input.npy")
        with open_format(contents, name) as run:
            np.testing.assert_allclose(run(values), np.load(contents.folder / "test_output.npy"), atol=1e-6)


def test_a_format_that_is_unknown_here_is_not_run(package):
    with open_package(package) as contents:
        assert "runs pytorch_state_dict, torchscript, onnx only" in reason_not_to_run(contents, "keras_hdf5")


def test_python_code_of_others_is_not_run(folder):
    with (folder.path / "unet.py").open("a") as file:
        file.write("\nraise SystemExit\n")
    with open_package(folder.save()) as contents:
        assert "unet.py is not one of s2d-zoo" in reason_not_to_run(contents, "pytorch_state_dict")
        assert reason_not_to_run(contents, "torchscript") is None


def test_an_architecture_from_a_python_package_is_not_run(folder):
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"] = {"import_from": "os", "callable": "system"}
    with open_package(folder.save()) as contents:
        assert "another Python package" in reason_not_to_run(contents, "pytorch_state_dict")


def test_custom_postprocessing_is_not_run(folder):
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "custom", "callable": "f", "source": "unet.py"}]
    with open_package(folder.save()) as contents:
        assert "postprocessing is Python code" in reason_not_to_run(contents, "onnx")


def test_authors_are_not_looked_up_on_the_network(folder):
    folder.rdf["authors"] = [{"name": "Ada", "github_user": "nobody-of-that-name"}]
    folder.keep_weights("onnx").rdf["weights"]["onnx"]["authors"] = folder.rdf["authors"]
    with open_package(folder.save()) as contents, undisturbed():
        assert run_core_test(contents, "onnx") is None


def test_a_stated_tolerance_is_kept(folder):
    values = np.load(folder.path / "test_output.npy")
    np.save(folder.path / "test_output.npy", values + 0.004)
    folder.keep_weights("onnx")
    with open_package(folder.save()) as contents, undisturbed():
        assert "Reproduce test outputs" in run_core_test(contents, "onnx")
    folder.rdf["config"]["bioimageio"]["reproducibility_tolerance"] = [{"absolute_tolerance": 0.005}]
    with open_package(folder.save()) as contents, undisturbed():
        assert run_core_test(contents, "onnx") is None


def test_test_tensors_of_a_wrong_shape_are_told(folder):
    np.save(folder.path / "test_input.npy", np.zeros((1, 2, 64, 64), dtype="float32"))
    folder.keep_weights("onnx")
    with open_package(folder.save()) as contents, undisturbed():
        assert "test_tensor" in run_core_test(contents, "onnx")


def test_errors_of_the_library_name_the_format(folder):
    (folder.path / "weights.onnx").write_bytes(b"no graph")
    folder.keep_weights("onnx")
    with (
        open_package(folder.save()) as contents,
        undisturbed(),
        pytest.raises(PackageError, match="onnx cannot be run"),
        open_format(contents, "onnx"),
    ):
        pass


def test_the_process_stays_as_it_was():
    torch.use_deterministic_algorithms(True)
    try:
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        expected = torch.rand(1), np.random.rand()  # noqa: NPY002
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002
        with undisturbed():
            torch.manual_seed(0)
            np.random.seed(0)  # noqa: NPY002
            torch.use_deterministic_algorithms(False)
        assert (torch.rand(1), np.random.rand()) == expected  # noqa: NPY002
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
