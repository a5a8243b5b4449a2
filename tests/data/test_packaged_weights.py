"""What of weights is not in test_packaged_model.py: networks of our own, and files elsewhere."""

import zipfile
from dataclasses import replace

import pytest
import torch
from tests.validate.foreign import enhancer_of_the_zoo, quick

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.packaged_model import load_packaged_model
from s2d_zoo.data.packaged_weights import choose_weights
from s2d_zoo.enhancer.pretrained import load_enhancer
from s2d_zoo.errors import PackageError


def test_our_own_network_needs_no_trust(folder):
    path = folder.keep_weights("pytorch_state_dict").save()
    with open_package(path) as contents:
        model = load_packaged_model(contents)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.network(image), load_enhancer(path).model(image))


def test_our_own_file_with_another_callable_needs_trust(folder):
    folder.keep_weights("pytorch_state_dict").rdf["weights"]["pytorch_state_dict"]["architecture"]["callable"] = "nn"
    with pytest.raises(PackageError, match="--trust-code"), open_package(folder.save()) as contents:
        load_packaged_model(contents)


def test_code_that_lies_elsewhere_is_not_looked_at(folder):
    enhancer_of_the_zoo(folder)
    del folder.rdf["weights"]["torchscript"]
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"] = "../net.py:UNet2d"
    (folder.path.parent / "net.py").write_text("", encoding="utf-8")
    with (
        pytest.raises(PackageError, match=r"are not in the package: \.\./net\.py"),
        open_package(folder.save()) as contents,
    ):
        load_packaged_model(contents, trust_code=True)


def test_no_weights_at_all_are_told(folder):
    with (
        open_package(quick(folder).save()) as contents,
        pytest.raises(PackageError, match="has weights as nothing only"),
    ):
        choose_weights(replace(contents, rdf={"weights": {"onnx": None}}))


def replace_in_code(path, old, new):
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(old, new) if name.endswith(".py") else content)


def test_torchscript_whose_code_is_no_code_is_told(folder):
    replace_in_code(quick(folder).path / "weights.pt", b"torch.relu(", b"torch.relu(((")
    with (
        pytest.raises(PackageError, match=r"TorchScript weights of .* cannot be read: RuntimeError"),
        open_package(folder.save()) as contents,
    ):
        load_packaged_model(contents)


@pytest.mark.parametrize(
    ("file", "words"), [("net.py", "gives dict, no torch.nn.Module"), ("net.txt", "Python code in net.txt")]
)
def test_code_that_makes_no_network_is_told(folder, file, words):
    (folder.path / file).write_text("def make():\n    return {}\n", encoding="utf-8")
    entry = folder.keep_weights("pytorch_state_dict").rdf["weights"]["pytorch_state_dict"]
    entry["architecture"] = {"source": file, "callable": "make", "sha256": "", "kwargs": {}}
    with pytest.raises(PackageError, match=words), open_package(folder.save()) as contents:
        load_packaged_model(contents, trust_code=True)
