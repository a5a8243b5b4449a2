"""Models from everywhere, whole or not at all."""

import io
import json
import shutil
import socket
import zipfile

import pytest
from filelock import FileLock
from tests.zoo.local_zoo import FILES, WEIGHTS, as_yaml, sha256

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import ConfigError, DownloadError, PackageError, UnsafePackageError, UserInputError
from s2d_zoo.zoo import download as module
from s2d_zoo.zoo.collection import find_model
from s2d_zoo.zoo.download import copy_package, download_model
from s2d_zoo.zoo.downloads import downloaded_models, models_dir, partial_dir, read_record
from s2d_zoo.zoo.fetching import fetch_file
from s2d_zoo.zoo.package_files import sha256_of

WEIGHTS_PATH = "/tiny-shark/files/weights.pt?version=v0"


def contents_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_whole(model, rdf=None):
    """The files are those of the tiny model, and the package opens."""
    found = contents_of(model.folder)
    assert {name: content for name, content in found.items() if name != "rdf.yaml"} == FILES
    assert model.files == {name: sha256(content) for name, content in found.items()}
    with open_package(model.folder) as opened:
        assert opened.rdf["name"] == "Tiny"
    assert list(partial_dir().glob("*/*")) == []


def zipped(folder):
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        for path in folder.iterdir():
            archive.write(path, path.name)
    return made.getvalue()


@pytest.fixture
def no_network(monkeypatch):
    """Any use of the network fails, whatever library it comes from."""

    def refuse(*_, **__):
        msg = "the network was used"
        raise AssertionError(msg)

    def call():
        for name in ("socket", "create_connection", "getaddrinfo", "gethostbyname"):
            monkeypatch.setattr(socket, name, refuse)

    return call


# ---- from where


@pytest.mark.parametrize(
    "name", ["tiny-shark", "Tiny-Shark", "bioimage-io/tiny-shark", "tiny-shark/v0", "tiny-shark/0"]
)
def test_a_model_is_fetched_by_its_id(zoo, name):
    model = download_model(name)
    assert_whole(model)
    assert (model.id, model.version) == ("tiny-shark", "v0")
    assert model.description_sha256 == zoo.items["tiny-shark"][0]["sha256"]
    assert read_record(model.folder.parent) == model


def test_a_model_is_fetched_by_its_doi(zoo, rdf):
    zoo.publish("nice-fish", rdf | {"id": "10.5281/zenodo.1/22"}, FILES)
    model = download_model("https://doi.org/10.5281/zenodo.22")
    assert_whole(model)
    assert model.id == "nice-fish"
    assert find_model("doi:10.5281/zenodo.1") == model.folder


def test_a_model_is_fetched_from_zenodo(server, zoo, rdf, tmp_path):
    server.put("/zenodo/6", json.dumps({"id": 7, "files": [{"key": "rdf.yaml"}]}).encode())
    server.put("/zenodo/7/rdf.yaml", as_yaml(rdf, tmp_path / "x.yaml"))
    for name, content in FILES.items():
        server.put(f"/zenodo/7/{name}", content)
    model = download_model("10.5281/zenodo.6")
    assert_whole(model)
    assert model.id == "10.5281/zenodo.7"
    assert find_model("10.5281/zenodo.6") == model.folder


@pytest.mark.parametrize("name", ["rdf.yaml", "bioimageio.YML"])
def test_a_model_is_fetched_by_the_address_of_its_description(server, rdf, tmp_path, name):
    url = server.put(f"/x/{name}", as_yaml(rdf, tmp_path / "x.yaml"))
    for file, content in FILES.items():
        server.put(f"/x/{file}", content)
    model = download_model(url)
    assert_whole(model)
    assert (model.id, model.source) == (None, url)
    assert find_model(url) == model.folder


@pytest.mark.parametrize("path", ["/x.zip", "/create-zip-file?version=v0"])
def test_a_model_is_fetched_by_the_address_of_a_zip(server, unpacked, path):
    assert_whole(download_model(server.put(path, zipped(unpacked))))


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_local_package_is_checked_and_copied(unpacked, tmp_path, kind):
    path = unpacked
    if kind == "zip":
        path = tmp_path / "local.zip"
        path.write_bytes(zipped(unpacked))
    assert_whole(download_model(path))
    assert_whole(download_model(str(path), offline=True))
    assert len(downloaded_models()) == 1


def test_a_bundled_model_is_a_local_package(no_network):
    no_network()
    model = download_model("nuclei-fluo-2d")
    assert (model.folder / "rdf.yaml").is_file()
    assert model.source.endswith("nuclei-fluo-2d.zip")


def test_a_model_that_the_lists_do_not_have_is_fetched_from_the_server(server, zoo, rdf, tmp_path):
    server.put("/newest/new-fish/rdf.yaml", as_yaml(rdf, tmp_path / "x.yaml"))
    for file, content in FILES.items():
        server.put(f"/newest/new-fish/{file}", content)
    model = download_model("new-fish")
    assert_whole(model)
    assert (model.id, model.version) == ("new-fish", None)


def test_a_description_that_names_addresses_is_made_local(server, zoo, rdf):
    url = server.put("/elsewhere/weights.pt", WEIGHTS)
    rdf["weights"]["torchscript"]["source"] = url
    zoo.publish("far-fish", rdf, {name: FILES[name] for name in ("input.npy", "README.md")})
    model = download_model("far-fish")
    assert_whole(model)
    with open_package(model.folder) as contents:
        assert contents.rdf["weights"]["torchscript"]["source"] == "weights.pt"
    assert model.description_sha256 != sha256_of(model.folder / "rdf.yaml")


@pytest.mark.realdata
def test_a_real_model_is_fetched_by_its_id(server, realdata_dir):
    folder = realdata_dir / "zoo" / "unet2d_nuclei_broad"
    for path in folder.iterdir():
        server.put(f"/newest/nuclei-broad/{path.name}", path.read_bytes())
    model = download_model("nuclei-broad")
    with open_package(model.folder) as contents:
        assert {reference.name for reference in contents.references()} < set(model.files)
    assert all((folder / name).read_bytes() == content for name, content in contents_of(model.folder).items())
    assert find_model("nuclei-broad") == model.folder


# ---- again


def test_a_model_that_has_not_changed_is_not_fetched_again(server, zoo):
    first = download_model("tiny-shark")
    server.asked.clear()
    assert download_model("tiny-shark") == first
    assert server.asked == []


def test_behind_an_address_only_the_description_is_fetched_again(server, zoo, rdf, tmp_path):
    url = zoo.items["tiny-shark"][0]["source"]
    first = download_model(url)
    server.asked.clear()
    assert download_model(url) == first
    assert [path for path, _ in server.asked] == ["/tiny-shark/files/rdf.yaml?version=v0"]
    server.resources[server.asked[0][0]].content = as_yaml(rdf | {"tags": ["new"]}, tmp_path / "x.yaml")
    assert download_model(url).description_sha256 != first.description_sha256


@pytest.mark.parametrize("by_id", [True, False])
def test_a_damaged_model_is_fetched_again(server, zoo, by_id):
    name = "tiny-shark" if by_id else zoo.items["tiny-shark"][0]["source"]
    (download_model(name).folder / "weights.pt").write_bytes(b"x")
    assert_whole(download_model(name))


def test_a_list_that_is_out_of_date_is_fetched_anew(zoo, rdf):
    download_model("tiny-shark")
    zoo.items.clear()
    zoo.publish("tiny-shark", rdf | {"description": "Changed in place."}, FILES)  # the old hash is wrong now
    shutil.rmtree(models_dir())
    assert download_model("tiny-shark").description_sha256 == zoo.items["tiny-shark"][0]["sha256"]
    zoo.publish("tiny-shark", rdf, FILES, version="v1", query="?version=v1")
    assert download_model("tiny-shark/v1").version == "v1"
    assert download_model("tiny-shark/v0").version == "v0"
    assert len(downloaded_models()) == 2


# ---- what goes wrong


def test_an_interrupted_download_goes_on_where_it_broke(server, zoo):
    server.resources[WEIGHTS_PATH].cuts = [4000, 0, 0, 0, *[0] * 3]
    with pytest.raises(DownloadError, match="4000 bytes came and are kept"):
        download_model("tiny-shark")
    assert downloaded_models() == ()
    assert not models_dir().exists()
    server.resources[WEIGHTS_PATH].cuts.clear()
    server.asked.clear()
    assert_whole(download_model("tiny-shark"))
    assert (WEIGHTS_PATH, "bytes=4000-") in server.asked
    # what had a hash and was complete is not fetched again
    assert server.count("/tiny-shark/files/input.npy?version=v0") == 0


@pytest.mark.parametrize(
    "damage", [{"content": b"evil"}, {"length": 10}, {"content": b""}], ids=["other", "short", "empty"]
)
def test_a_file_that_is_not_the_one_stated_is_refused(server, zoo, damage):
    for name, value in damage.items():
        setattr(server.resources[WEIGHTS_PATH], name, value)
    with pytest.raises(DownloadError, match="not the expected file"):
        download_model("tiny-shark")
    assert downloaded_models() == ()


def test_a_description_that_is_not_the_one_published_is_refused(server, zoo, rdf, tmp_path):
    evil = as_yaml(rdf | {"name": "Evil"}, tmp_path / "x.yaml")
    server.resources["/tiny-shark/files/rdf.yaml?version=v0"].content = evil
    with pytest.raises(DownloadError, match=r"rdf.yaml\?version=v0 is not the expected file"):
        download_model("tiny-shark")


def test_a_damaged_old_version_stays_until_the_new_one_is_whole(server, zoo, rdf):
    old = download_model("tiny-shark")
    zoo.items.clear()
    zoo.publish("tiny-shark", rdf | {"description": "New."}, FILES | {"weights.pt": b"wrong"})
    (old.folder / "README.md").write_bytes(b"mine")
    with pytest.raises(DownloadError):
        download_model("tiny-shark")
    assert (old.folder / "README.md").read_bytes() == b"mine"
    assert (old.folder / "weights.pt").read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"documentation": "../../x.md"}, UnsafePackageError, "outside of the package"),
        ({"documentation": "/etc/passwd"}, UnsafePackageError, "outside of the package"),
        ({"documentation": "file:///etc/passwd"}, UnsafePackageError, "no file of a package"),
        ({"documentation": "ftp://example.org/x.md"}, UnsafePackageError, "no file of a package"),
        ({"test_inputs": ["../x.npy"]}, UnsafePackageError, "no file of a package"),
        ({"test_inputs": ["none.npy"]}, DownloadError, "404"),
        ({"type": "dataset"}, PackageError, "found one of type 'dataset'"),
        ({"weights": {"x": {"source": "weights.pt", "sha256": "no"}}}, DownloadError, "64 hexadecimal digits"),
    ],
)
def test_descriptions_that_are_not_safe_or_not_models_are_refused(zoo, rdf, change, error, told):
    zoo.publish("evil-fish", rdf | change, FILES)
    with pytest.raises(error, match=told):
        download_model("evil-fish")
    assert downloaded_models() == ()
    if error is not DownloadError:
        assert not list(partial_dir().glob("*/*"))


def test_an_endless_alias_is_refused_before_anything_is_fetched(server):
    bomb = b"type: model\na: &a [x]\n" + b"".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 50)}]\n".encode()
        for before, name in zip("abcd", "bcde", strict=True)
    )
    with pytest.raises(UnsafePackageError, match="Aliases in YAML"):
        download_model(server.put("/rdf.yaml", bomb))
    assert server.count("/rdf.yaml") == len(server.asked) == 1


def test_what_is_no_description_and_no_zip_is_told(server):
    with pytest.raises(PackageError, match=r"Expected YAML|Expected a mapping"):
        download_model(server.put("/rdf.yaml", b"<html>"))
    with pytest.raises(PackageError, match="Expected a zip file"):
        download_model(server.put("/model", b"<html>"))
    with pytest.raises(DownloadError, match=r"expected at most 1048576 bytes"):
        download_model(server.put("/b/rdf.yaml", bytes(1024**2 + 1)))


def test_a_zip_that_reaches_out_is_refused(server):
    with zipfile.ZipFile(made := io.BytesIO(), "w") as archive:
        archive.writestr("../evil", "x")
    with pytest.raises(UnsafePackageError, match="lies outside of the package"):
        download_model(server.put("/x.zip", made.getvalue()))


def test_all_files_together_are_bounded(zoo, monkeypatch):
    monkeypatch.setattr(module, "_MAX_BYTES", len(WEIGHTS) + 5)
    with pytest.raises(DownloadError, match=r"README.md.* announces 6 bytes; expected at most 3 bytes"):
        download_model("tiny-shark")


def test_a_damaged_local_package_is_refused(unpacked):
    (unpacked / "weights.pt").write_bytes(b"x")
    with pytest.raises(PackageError, match="is not the file of the description"):
        download_model(unpacked)


def test_an_unknown_model_is_told_with_similar_ones(zoo):
    with pytest.raises(DownloadError, match=r"404.*Did you mean tiny-shark\?"):
        download_model("tiny-shrak")
    with pytest.raises(UserInputError, match=r"no version '7'. There are: v0"):
        download_model("tiny-shark/7")
    with pytest.raises(UserInputError, match="is no path that is there"):
        download_model("../tiny shark")
    with pytest.raises(DownloadError, match="begins with https"):
        download_model("ftp://example.org/rdf.yaml")


def test_without_any_list_an_id_is_still_tried(server):
    with pytest.raises(DownloadError, match=r"newest/some-fish/rdf.yaml.*404"):
        download_model("some-fish")
    assert server.count("/index.json") == 1


def test_two_at_a_time_do_not_write_into_the_same_files(zoo):
    partial_dir().mkdir(parents=True)
    with (
        FileLock(partial_dir() / "tiny-shark@v0.lock"),
        pytest.raises(DownloadError, match="is being fetched by another s2d-zoo right now"),
    ):
        download_model("tiny-shark")
    assert_whole(download_model("tiny-shark"))


# ---- offline


@pytest.mark.parametrize("name", ["tiny-shark", "tiny-shark/v0", "Tiny-Shark"])
def test_offline_the_cache_serves_and_the_network_is_not_used(zoo, no_network, name):
    first = download_model("tiny-shark")
    no_network()
    assert download_model(name, offline=True) == first
    with pytest.raises(AssertionError, match="the network was used"):
        download_model("other-shark")


@pytest.mark.parametrize("name", ["other-shark", "10.5281/zenodo.1", "https://example.org/rdf.yaml", "no such thing"])
def test_offline_what_is_not_there_is_told(no_network, name):
    no_network()
    with pytest.raises(DownloadError, match="is not in the cache"):
        download_model(name, offline=True)


def test_offline_a_damaged_model_is_told(zoo, no_network):
    model = download_model("tiny-shark")
    no_network()
    (model.folder / "weights.pt").write_bytes(b"x")
    with pytest.raises(DownloadError, match=r"are damaged: weights.pt. Download it again, online"):
        download_model("tiny-shark", offline=True)


def test_offline_a_local_description_that_names_addresses_is_refused(unpacked, rdf, no_network):
    as_yaml(rdf | {"documentation": "https://example.org/README.md"}, unpacked / "rdf.yaml")
    no_network()
    with pytest.raises(DownloadError, match="would have to be fetched"):
        download_model(unpacked, offline=True)


# ---- copies


def test_a_copy_is_put_where_it_is_wanted_and_replaces_nothing(zoo, tmp_path):
    model = download_model("tiny-shark")
    assert copy_package(model, tmp_path / "copy") == tmp_path / "copy"
    assert contents_of(tmp_path / "copy") == contents_of(model.folder)
    (tmp_path / "copy" / "mine").touch()
    with pytest.raises(ConfigError, match="exists already"):
        copy_package(model, tmp_path / "copy")
    copy_package(model, tmp_path / "copy", overwrite=True)
    assert contents_of(tmp_path / "copy") == contents_of(model.folder)


def test_progress_is_passed_on(zoo, monkeypatch):
    seen = []

    def fetch(*arguments, progress, **options):
        seen.append(progress)
        fetch_file(*arguments, progress=False, **options)

    monkeypatch.setattr(module, "fetch_file", fetch)
    download_model("tiny-shark", progress=True)
    assert seen == [True] * 4
