import time
import warnings
import zipfile
from contextlib import contextmanager

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.sandbox import Limits, Sandbox
from s2d_zoo.validate.static_checks import open_model

FORMATS = ("pytorch_state_dict", "torchscript", "onnx")


@contextmanager
def opened(path, **limits):
    """A sandbox for a package, and the package's test input."""
    with open_package(path) as contents:
        model = open_model(contents)
        yield Sandbox(model, Limits(**limits)), {"probabilities": np.load(contents.folder / "test_input.npy")}


def scripted(folder, module):
    """Let the package have one network only, which is a program."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(folder.path / "weights.pt")
    return folder.keep_weights("torchscript").save()


class Hanging(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        while bool(torch.isfinite(image).all()):
            image = image + 0.0
        return image


class Hungry(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.zeros([1_000_000_000_000]).sum()


class Greedy(nn.Module):
    """Takes some again and again."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        taken = [image]
        while bool(torch.isfinite(image).all()):
            taken.append(image.repeat([1, 1, 100, 100]))
        return taken[-1]


class Raising(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image[:, :, :3]], dim=1)


class Doubling(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image], dim=1)


class Counting(nn.Module):
    """Gives whole numbers, from 0 to 5."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image], dim=1).mul(5).round().to(torch.int64)


class Adding(nn.Module):
    """Several inputs and outputs."""

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([one, two], dim=1), one + two


@pytest.mark.parametrize("name", FORMATS)
def test_our_own_formats_may_run_and_give_the_test_output(package, name):
    with opened(package) as (sandbox, values):
        assert sandbox.reason_not_to_run(name) is None
        first, second = sandbox.timed_runs(name, [values, values])
    with zipfile.ZipFile(package) as archive, archive.open("test_output.npy") as file:
        expected = np.load(file)
    np.testing.assert_allclose(first.outputs["enhanced"], expected, atol=1e-6)
    np.testing.assert_array_equal(first.outputs["enhanced"], second.outputs["enhanced"])
    assert 0 < first.seconds < 60


def test_the_test_of_core_passes(package):
    with opened(package) as (sandbox, _):
        assert sandbox.test("onnx") is None


# ---- what is not run


def test_a_format_that_is_unknown_here_is_not_run(package):
    with opened(package) as (sandbox, _):
        assert "runs pytorch_state_dict, torchscript, onnx only" in sandbox.reason_not_to_run("keras_hdf5")


def test_python_code_of_others_is_not_run(folder):
    with (folder.path / "unet.py").open("a") as file:
        file.write("\nraise SystemExit\n")
    with opened(folder.save()) as (sandbox, _):
        assert "unet.py is not one of s2d-zoo" in sandbox.reason_not_to_run("pytorch_state_dict")
        assert sandbox.reason_not_to_run("torchscript") is None


def test_an_architecture_from_a_python_package_is_not_run(folder):
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"] = {"import_from": "os", "callable": "system"}
    with opened(folder.save()) as (sandbox, _):
        assert "another Python package" in sandbox.reason_not_to_run("pytorch_state_dict")


def test_custom_postprocessing_is_not_run(folder):
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "custom", "callable": "f", "source": "unet.py"}]
    with opened(folder.save()) as (sandbox, _):
        assert "postprocessing is Python code" in sandbox.reason_not_to_run("onnx")


def test_nothing_is_fetched(folder):
    folder.rdf["weights"]["onnx"]["source"] = "https://example.org/weights.onnx"
    with opened(folder.save_as_is()) as (sandbox, _):
        assert "example.org/weights.onnx is on the network" in sandbox.reason_not_to_run("onnx")
        assert sandbox.reason_not_to_run("torchscript") is None


def test_torchscript_that_would_write_into_another_file_is_not_run(folder):
    class Writing(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.from_file("victim.txt", shared=True, size=4).fill_(1)

    with opened(scripted(folder, Writing())) as (sandbox, _):
        assert "from_file" in sandbox.reason_not_to_run("torchscript")


def test_onnx_that_would_read_another_file_is_not_run(folder):
    graph = onnx.load(folder.path / "weights.onnx")
    for tensor in graph.graph.initializer:
        onnx.external_data_helper.set_external_data(tensor, location="../../secret.bin")
        tensor.ClearField("raw_data")
    (folder.path / "weights.onnx").write_bytes(graph.SerializeToString())
    with opened(folder.keep_weights("onnx").save()) as (sandbox, _):
        assert "secret.bin" in sandbox.reason_not_to_run("onnx")


# ---- core's rules


def test_authors_are_not_looked_up_on_the_network(folder):
    folder.rdf["authors"] = [{"name": "Ada", "github_user": "nobody-of-that-name"}]
    folder.keep_weights("onnx").rdf["weights"]["onnx"]["authors"] = folder.rdf["authors"]
    with opened(folder.save()) as (sandbox, _):
        assert sandbox.test("onnx") is None


def test_a_stated_tolerance_is_kept(folder):
    values = np.load(folder.path / "test_output.npy")
    np.save(folder.path / "test_output.npy", values + 0.004)
    folder.keep_weights("onnx").rdf["config"]["bioimageio"].pop("reproducibility_tolerance", None)
    with opened(folder.save()) as (sandbox, _):
        assert "Reproduce test outputs" in sandbox.test("onnx")
    folder.rdf["config"]["bioimageio"]["reproducibility_tolerance"] = [{"absolute_tolerance": 0.005}]
    with opened(folder.save()) as (sandbox, _):
        assert sandbox.test("onnx") is None


def test_a_file_that_was_changed_is_not_run(folder):
    with (folder.path / "weights.onnx").open("ab") as file:
        file.write(b"#")
    with opened(folder.save_as_is()) as (sandbox, values), pytest.raises(PackageError, match="does not fit its files"):
        sandbox.run("onnx", [values])


def test_errors_of_the_library_name_the_format(folder):
    (folder.path / "weights.onnx").write_bytes(b"no graph")
    with (
        opened(folder.keep_weights("onnx").save()) as (sandbox, values),
        pytest.raises(PackageError, match=r"onnx cannot be run: .*Protobuf"),
    ):
        sandbox.run("onnx", [values])


def test_errors_of_the_network_are_told(folder):
    with (
        opened(scripted(folder, Raising())) as (sandbox, values),
        pytest.raises(PackageError, match=r"torchscript cannot be run: .*Sizes of tensors must match"),
    ):
        sandbox.run("torchscript", [values])


def test_a_package_of_format_0_4_runs(old_format):
    with opened(old_format.save()) as (sandbox, values):
        assert sandbox.reason_not_to_run("torchscript") is None
        assert sandbox.test("torchscript") is None
        (output,) = sandbox.run("torchscript", [{"raw": values["probabilities"]}])
    np.testing.assert_allclose(output["enhanced"], np.load(old_format.path / "test_output.npy"), atol=1e-6)


def test_several_inputs_and_outputs_in_3d(folder):
    def tensor(name, channels, **axis):
        axes = [{"type": "batch"}, {"type": "channel", "channel_names": channels}]
        axes += [{"type": "space", "id": name, "size": size, **axis} for name, size in (("z", 3), ("y", 4), ("x", 5))]
        return {"id": name, "axes": axes, "test_tensor": {"source": f"{name}.npy", "sha256": ""}}

    ones = np.ones((1, 1, 3, 4, 5), dtype="float32")
    folder.rdf["inputs"] = [tensor("one", ["a"]), tensor("two", ["b"])]
    folder.rdf["outputs"] = [tensor("both", ["a", "b"]), tensor("sum", ["c"])]
    for name, values in {
        "one": ones,
        "two": 2 * ones,
        "both": np.concatenate([ones, 2 * ones], 1),
        "sum": 3 * ones,
    }.items():
        np.save(folder.path / f"{name}.npy", values)
    np.save(folder.path / "test_input.npy", ones)
    with opened(scripted(folder, Adding())) as (sandbox, _):
        assert sandbox.test("torchscript") is None
        (outputs,) = sandbox.run("torchscript", [{"one": ones, "two": 2 * ones}])
    assert list(outputs) == ["both", "sum"]
    np.testing.assert_array_equal(outputs["sum"], 3 * ones)
    assert outputs["both"].shape == (1, 2, 3, 4, 5)


def test_types_are_told_as_they_leave_the_network(folder):
    with opened(scripted(folder, Counting())) as (sandbox, values):
        (run,) = sandbox.timed_runs("torchscript", [values])
    assert run.types == {"enhanced": "int64"}
    assert run.outputs["enhanced"].dtype == np.float32
    assert run.outputs["enhanced"].max() == 5


def test_outputs_are_postprocessed(folder):
    folder.rdf["outputs"][0]["postprocessing"] = [{"id": "clip", "kwargs": {"min": 0.0, "max": 4.0}}]
    with opened(scripted(folder, Counting())) as (sandbox, values):
        (output,) = sandbox.run("torchscript", [values])
    assert output["enhanced"].max() == 4


@pytest.mark.parametrize("name", ["torchscript", "onnx"])
def test_a_number_of_threads_can_be_asked_for(package, name):
    with opened(package) as (sandbox, values):
        one, all_of_them = (sandbox.run(name, [values], threads=count)[0] for count in (1, 2))
    np.testing.assert_allclose(one["enhanced"], all_of_them["enhanced"], atol=1e-5)


# ---- networks that do harm


def test_a_network_that_hangs_is_ended(folder):
    begin = time.perf_counter()
    with (
        opened(scripted(folder, Hanging()), seconds=3) as (sandbox, values),
        pytest.raises(PackageError, match="torchscript did not end within 3 s"),
    ):
        sandbox.run("torchscript", [values])
    assert time.perf_counter() - begin < 60


def test_the_test_of_core_is_ended_too(folder):
    with (
        opened(scripted(folder, Hanging()), seconds=3) as (sandbox, _),
        pytest.raises(PackageError, match="torchscript did not end within 3 s"),
    ):
        sandbox.test("torchscript")


@pytest.mark.parametrize("module", [Hungry, Greedy])
def test_a_network_that_takes_all_memory_is_refused(folder, module):
    with opened(scripted(folder, module()), memory_gib=0.5) as (sandbox, values):
        with pytest.raises(PackageError, match=r"torchscript needs more than 0\.5 GiB of memory"):
            sandbox.run("torchscript", [values])
        if module is Hungry:
            with pytest.raises(PackageError, match=r"torchscript needs more than 0\.5 GiB of memory"):
                sandbox.test("torchscript")


def test_a_network_that_crashes_is_told_apart(folder):
    """A term in so many brackets that torch's parser runs out of stack."""
    path = scripted(folder, Doubling()) / "weights.pt"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            deep = content.replace(b"[image, image]", b"[image, " + b"(" * 200_000 + b"image" + b")" * 200_000 + b"]")
            archive.writestr(name, deep)
    with opened(folder.save()) as (sandbox, values):
        for attempt in (lambda: sandbox.run("torchscript", [values]), lambda: sandbox.test("torchscript")):
            with pytest.raises(PackageError, match=r"torchscript crashed: its process died of signal 11 \(SIGSEGV\)"):
                attempt()


def test_after_all_that_others_still_run(package):
    with opened(package) as (sandbox, values):
        (outputs,) = sandbox.run("onnx", [values])
    assert outputs["enhanced"].shape == (1, 2, 64, 64)
