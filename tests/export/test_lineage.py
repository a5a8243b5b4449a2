"""What is recorded of the model that a training began from."""

import pytest
from tests.export.bases import make_base

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.data.weights_values import digest_values
from s2d_zoo.errors import PackageError
from s2d_zoo.export.lineage import Parent, describe_base, local_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_base(tmp_path_factory.mktemp("lineage") / "base")


def test_every_format_has_its_hash_and_the_one_that_counts_that_of_its_values(folder):
    with open_package(folder) as contents:
        base = describe_base(contents, began_from="torchscript", source="10.5281/zenodo.1")
    assert base.to_json() == {
        "id": "tiny-base",
        "version": "1.0.0",
        "source": "10.5281/zenodo.1",
        "weights": {
            "torchscript": {
                "sha256": sha256_of(folder / "net.pt"),
                "values_sha256": digest_values(folder / "net.pt"),
            },
            "onnx": {"sha256": sha256_of(folder / "net.onnx")},
        },
    }
    assert not base.published


def test_a_published_base_is_called_as_the_zoo_calls_it(folder):
    with open_package(folder) as contents:
        base = describe_base(contents, began_from="onnx", parent=Parent(id="affable-shark", version="2"))
    assert (base.id, base.version, base.published) == ("affable-shark", "2", True)
    assert set(base.weights["onnx"]) == {"sha256"}, "ONNX is no zip of torch"


def test_a_package_without_id_is_called_by_its_name(tmp_path):
    def change(rdf):
        del rdf["id"], rdf["version"]

    with open_package(make_base(tmp_path / "mine", onnx=False, change=change)) as contents:
        base = describe_base(contents, began_from="torchscript")
    assert (base.id, base.version) == ("Tiny base", None)


def test_weights_that_are_not_there_are_refused(folder):
    with open_package(folder) as contents, pytest.raises(PackageError, match="no weights as pytorch_state_dict"):
        describe_base(contents, began_from="pytorch_state_dict")


@pytest.mark.parametrize("source", ["https://example.com/net.pt", "../net.pt", "missing.pt", 3])
def test_weights_elsewhere_are_none_of_the_package(folder, source):
    with open_package(folder) as contents:
        contents.rdf["weights"]["onnx"] = {"source": source}
        assert local_weights(contents, "onnx") is None
        assert local_weights(contents, "torchscript") == contents.folder / "net.pt"
