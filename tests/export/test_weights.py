import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from s2d_zoo.architectures.unet import UNet
from s2d_zoo.data.network import network_kwargs
from s2d_zoo.errors import PackageError
from s2d_zoo.export import weights


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A network of 2 input channels, and its weights written twice."""
    torch.manual_seed(0)
    model = weights.for_export(UNet(2, features=2, depth=2, input_offset=(0.1, 0.3), input_scale=(2.0, 0.5)))
    folders = tuple(tmp_path_factory.mktemp("weights") for _ in range(2))
    for folder in folders:
        weights.write_weights(
            model, folder, example=torch.rand(1, 2, 64, 64), input_name="probabilities", output_name="enhanced"
        )
    return model, *folders


def test_two_exports_are_equal(written):
    _, first, second = written
    names = {path.name for path in first.iterdir()}
    assert names == {"unet.py", "weights.onnx", "weights.pt", "weights_state_dict.pt"}
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_no_path_of_this_machine_is_in_the_files(written):
    here = str(Path(weights.__file__).parents[2]).encode()
    for path in written[1].iterdir():
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                assert not any(here in archive.read(name) for name in archive.namelist())
        assert here not in path.read_bytes()


def test_every_format_gives_the_same_on_another_size(written):
    model, folder, _ = written
    image = torch.rand(2, 2, 76, 60)
    expected = model(image).detach().numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = torch.jit.load(folder / weights.TORCHSCRIPT_FILE)
        np.testing.assert_allclose(script(image).detach().numpy(), expected, atol=1e-6)
    session = onnxruntime.InferenceSession(folder / weights.ONNX_FILE)
    found = session.run(["enhanced"], {"probabilities": image.numpy()})[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_network_is_built_again_from_its_arguments_and_state_dict(norm):
    model = weights.for_export(UNet(3, features=2, depth=1, norm=norm, input_offset=(0.1, 0.2, 0.3)))
    again = UNet(**network_kwargs(model))
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    again.load_state_dict(torch.load(buffer, weights_only=True))
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(again.eval()(image), model(image))


def test_the_onnx_versions_are_those_that_fiji_reads(written):
    graph = onnx.load(written[1] / weights.ONNX_FILE)
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", 17)]
    assert graph.ir_version == 8
    onnx.checker.check_model(graph)


def test_an_onnx_file_of_another_version_is_refused(written, tmp_path):
    graph = onnx.load(written[1] / weights.ONNX_FILE)
    graph.ir_version = 10
    onnx.save(graph, tmp_path / "weights.onnx")
    with pytest.raises(PackageError, match=r"IR version 8 .* found .* IR version 10"):
        weights.check_onnx(tmp_path / "weights.onnx")


def test_the_architecture_is_copied_verbatim(written):
    assert (written[1] / "unet.py").read_bytes() == Path(weights.__file__).parents[1].joinpath(
        "architectures/unet.py"
    ).read_bytes()


def test_the_network_of_the_caller_stays_as_it_was(model):
    copied = weights.for_export(model)
    assert model.training
    assert not copied.training


def test_weights_that_are_not_finite_are_refused(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(PackageError, match=r"found NaN or infinity in encoder\.0.* and others"):
        weights.for_export(model)
