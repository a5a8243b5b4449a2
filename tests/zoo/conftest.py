"""A server, small models on it, and a cache of their own for these tests."""

import threading

import pytest
from tests.zoo.local_zoo import FILES, WEIGHTS, Server, Zoo, as_yaml, sha256
from tests.zoo.upload_stub import TOKEN, serving

from s2d_zoo.zoo import fetching
from s2d_zoo.zoo.upload_access import Token
from s2d_zoo.zoo.upload_service import UploadService


@pytest.fixture
def server():
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def stub():
    """A server that speaks the zoo's upload service."""
    with serving() as made:
        yield made


@pytest.fixture
def service(stub):
    """The upload service at that server, with a token that it takes."""
    return UploadService(stub.url(), Token(TOKEN))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """The cache of one test."""
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetching, "_WAIT", 0)
    monkeypatch.setattr(fetching, "_CHUNK_BYTES", 1000)
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def addresses(request, monkeypatch):
    """Where the zoo is: on our server, if a test has one; nowhere else at all."""
    base = request.getfixturevalue("server").url() if "server" in request.fixturenames else "http://127.0.0.1:1"
    monkeypatch.setenv("S2D_ZOO_COLLECTION_LIST", f"{base}/list.json")
    monkeypatch.setenv("BIOIMAGEIO_COLLECTION_INDEX_URL", f"{base}/index.json")
    monkeypatch.setenv("BIOIMAGEIO_COLLECTION_HTTP_PATTERN", f"{base}/newest/{{bioimageio_id}}/rdf.yaml")
    monkeypatch.setenv("S2D_ZOO_ZENODO_RECORD", f"{base}/zenodo/{{record}}")
    monkeypatch.setenv("S2D_ZOO_ZENODO_FILE", f"{base}/zenodo/{{record}}/{{name}}")


@pytest.fixture
def rdf():
    """The description of a model of three files."""
    return {
        "type": "model",
        "format_version": "0.5.4",
        "name": "Tiny",
        "id": "tiny-shark",
        "documentation": "README.md",
        "inputs": [{"id": "raw", "test_tensor": {"source": "input.npy", "sha256": sha256(FILES["input.npy"])}}],
        "weights": {"torchscript": {"source": "weights.pt", "sha256": sha256(WEIGHTS)}},
    }


@pytest.fixture
def unpacked(tmp_path, rdf):
    """The model as a folder."""
    folder = tmp_path / "unpacked"
    as_yaml(rdf, folder / "rdf.yaml")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def zoo(server, tmp_path, rdf):
    """A zoo with one model."""
    made = Zoo(server, tmp_path / "served")
    made.publish("tiny-shark", rdf, FILES)
    return made
