"""What of a package is sent, what is refused, and how an upload goes on after a break."""

import json
import logging
import math
import re
import shutil
from contextlib import suppress
from datetime import UTC, date, datetime

import pytest
from bioimageio.spec.utils import read_yaml
from filelock import FileLock
from tests.zoo.local_zoo import FILES, as_yaml, sha256
from tests.zoo.upload_stub import TOKEN, Fault, serving

from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError, UploadError
from s2d_zoo.zoo import upload_failures
from s2d_zoo.zoo.publishing import prepare, upload
from s2d_zoo.zoo.upload_access import Token
from s2d_zoo.zoo.upload_service import UploadService

OWN = {"s2d_zoo": {"kind": "enhancer"}, "other": 1}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(upload_failures, "_WAIT", 0)


@pytest.fixture
def rdf(rdf):
    return {**rdf, "license": "MIT", "authors": [{"name": "Ada", "github_user": "ada"}], "config": OWN}


@pytest.fixture
def prepared(tmp_path, unpacked):
    """Prepare the folder of the model, with another description."""

    def make(**changes):
        rdf = {**read_yaml(unpacked / "rdf.yaml"), **changes}
        as_yaml({key: value for key, value in rdf.items() if value is not None}, unpacked / "rdf.yaml")
        shutil.rmtree(tmp_path / "copies", ignore_errors=True)
        with open_package(unpacked) as contents:
            return prepare(contents, tmp_path / "copies")

    return make


@pytest.fixture
def states(cache):
    """The states of uploads that are in the cache."""
    return lambda: sorted((cache / "zoo" / "uploads").glob("*.json"))


# ---- what is sent


def test_files_are_those_that_the_description_names_with_size_and_hash(prepared, unpacked):
    (unpacked / "notes\x1b.txt").write_text("mine")
    publication = prepared()
    assert {file.name: (file.size, file.sha256) for file in publication.files} == {
        name: (len(content), sha256(content)) for name, content in FILES.items()
    }
    assert all((publication.folder / file.name).read_bytes() == FILES[file.name] for file in publication.files)
    assert publication.notes == (
        "The id tiny-shark is not sent: the zoo gives one. It is kept in config.s2d_zoo.local_id.",
        "Not sent, since the description does not name them: notes.txt.",
    )


def test_the_id_is_kept_as_a_local_one_and_the_zoos_takes_its_place(prepared, rdf, tmp_path):
    publication = prepared()
    config = {"s2d_zoo": {"kind": "enhancer", "local_id": "tiny-shark"}, "other": 1}
    expected = {**{key: value for key, value in rdf.items() if key != "id"}, "config": config}
    assert publication.manifest == expected
    publication.write_description(tmp_path / "without.yaml")
    assert read_yaml(tmp_path / "without.yaml") == expected
    written = publication.write_description(tmp_path / "with.yaml", "nice-fish")
    assert read_yaml(tmp_path / "with.yaml") == {**expected, "id": "nice-fish"}
    content = (tmp_path / "with.yaml").read_bytes()
    assert (written.name, written.size, written.sha256) == ("rdf.yaml", len(content), sha256(content))


@pytest.mark.parametrize("config", [None, OWN, {"other": 1}])
def test_a_package_without_an_id_is_sent_as_it_is(prepared, config):
    publication = prepared(id=None, config=config)
    assert publication.manifest.get("config") == config
    assert publication.notes == ()


def test_the_manifest_is_plain_json(prepared):
    added = {"day": date(2026, 1, 2), "range": [0.5, math.inf, math.nan], 3: True, "none": None}
    publication = prepared(timestamp=datetime(2026, 1, 2, 3, 4, tzinfo=UTC), config={**OWN, "added": added})
    manifest = json.loads(json.dumps(publication.manifest, allow_nan=False))
    assert manifest["timestamp"].startswith("2026-01-02T03:04")
    assert manifest["config"]["added"] == {"day": "2026-01-02", "range": [0.5, None, None], "3": True, "none": None}


@pytest.mark.parametrize(
    "people", [{"authors": None}, {"authors": [{"name": "Ada"}]}, {"authors": ["Ada"]}, {"authors": 3}]
)
def test_a_package_with_nobody_to_write_to_is_sent_with_a_word(prepared, people):
    assert "whom they can write to" in prepared(**people).notes[-1]
    assert "write to" not in str(prepared(maintainers=[{"github_user": "ada"}], **people).notes)


def test_the_requests_are_told_in_their_order(prepared):
    told = list(prepared().requests("https://zoo"))
    assert [re.match(r"POST https://zoo/(\w+): ?(\S*)", line).groups()[0] for line in told] == [
        "create",
        *["put_file"] * 4,
        "edit",
    ]
    assert "README.md" in " ".join(told[1:4])
    assert "rdf.yaml" in told[4]


# ---- what is refused


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"type": "dataset"}, "type 'dataset', and only models"),
        ({"license": None}, "no licence"),
        ({"config": None}, "'tiny-shark' was not given by s2d-zoo"),
        ({"config": {"s2d_zoo": 3}}, "'tiny-shark' was not given by s2d-zoo"),
        ({"config": {"s2d_zoo": {"local_id": "shark"}}}, "'tiny-shark' was not given by s2d-zoo"),
        ({"icon": "https://example.com/icon.png"}, r"on the network \('https://example.com/icon.png'\).*download"),
        ({"documentation": "READ\x07ME.md"}, r"cannot be shown \('READ\\x07ME.md'\)"),
        ({"documentation": "missing.md"}, "missing.md is named by the description, but is not there"),
        ({"inputs": [{"test_tensor": {"source": "input.npy", "sha256": "0" * 64}}]}, "not the file of the description"),
    ],
    ids=range(9),
)
def test_what_the_zoo_would_not_take_is_refused(prepared, changes, match):
    with pytest.raises(PackageError, match=match):
        prepared(**changes)


def test_every_reason_is_told(prepared):
    with pytest.raises(PackageError, match=r"unpacked cannot be published: its id .*; it has no licence"):
        prepared(config=None, license=None)


# ---- uploads, and how they go on


def test_all_files_arrive_the_description_last_and_no_state_stays(prepared, service, stub, states):
    publication = prepared()
    artifact = upload(publication, service)
    staged = stub.staged[artifact]
    assert {name: staged.files[name] for name in FILES} == FILES
    assert read_yaml(staged.files["rdf.yaml"].decode()) == {**publication.description, "id": "nice-fish"}
    assert staged.manifest == {**publication.manifest, "id": "nice-fish", "status": "request-review"}
    assert "id" not in stub.asked[0].json["manifest"]
    assert stub.calls()[-2:] == ["PUT rdf.yaml", "edit"]
    assert states() == []


@pytest.mark.parametrize("broken", ["PUT README.md", "PUT input.npy", "PUT weights.pt", "PUT rdf.yaml", "edit"])
def test_an_upload_goes_on_with_the_same_model_and_what_is_missing(prepared, service, stub, states, broken, caplog):
    stub.faults[broken] = [Fault(cut=100)] * 3
    with pytest.raises(UploadError, match=r"bioimage-io/nice-fish is staged, but not complete.*goes on"):
        upload(prepared(), service)
    (state,) = states()
    kept = json.loads(state.read_text())
    assert kept["artifact"] == "bioimage-io/nice-fish"
    there = stub.staged["bioimage-io/nice-fish"].files
    assert kept["sent"] == {name: sha256(content) for name, content in there.items()}
    stub.asked.clear()
    with caplog.at_level(logging.WARNING):
        assert upload(prepared(), service) == "bioimage-io/nice-fish"
    assert caplog.messages == ["Going on with bioimage-io/nice-fish, which was staged before."]
    sent_now = [call.removeprefix("PUT ") for call in stub.calls() if call.startswith("PUT")]
    assert set(sent_now) == {*FILES, "rdf.yaml"} - set(kept["sent"])
    assert stub.calls()[-1] == "edit"
    assert set(stub.staged["bioimage-io/nice-fish"].files) == {*FILES, "rdf.yaml"}
    assert len(stub.staged) == 1
    assert states() == []


def test_another_content_or_another_server_begins_anew(prepared, service, stub, states, unpacked):
    stub.faults["PUT"] = [Fault(400)] * 3
    with pytest.raises(UploadError):
        upload(prepared(), service)
    with serving() as other:
        other.faults["PUT"] = [Fault(400)]
        with pytest.raises(UploadError):
            upload(prepared(), UploadService(other.url(), Token(TOKEN)))
    with pytest.raises(UploadError):
        upload(prepared(name="Tiny two"), service)
    (unpacked / "README.md").write_text("# Other")
    with pytest.raises(UploadError):
        upload(prepared(name="Tiny"), service)
    assert len(stub.staged) == 3
    assert len(states()) == 4


def test_an_interruption_by_hand_is_gone_on_with(prepared, service, stub, monkeypatch):
    put = UploadService.put

    def interrupted(self, artifact, name, path, **how):
        if name == "weights.pt":
            raise KeyboardInterrupt
        put(self, artifact, name, path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(UploadService, "put", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upload(prepared(), service)
    upload(prepared(), service)
    assert stub.calls().count("create") == 1
    assert sorted(call for call in stub.calls() if "PUT" in call) == sorted(
        f"PUT {name}" for name in (*FILES, "rdf.yaml")
    )


def test_an_interruption_before_the_id_is_known_is_told(prepared, service, stub, states, monkeypatch, caplog):
    def interrupted(self, manifest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(UploadService, "create", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upload(prepared(), service)
    assert len(states()) == 1
    assert "interrupted" not in caplog.text
    stub.faults["create"] = [Fault(400)]
    with pytest.raises(UploadError, match="refused: 400"):
        upload(prepared(), service)
    assert "interrupted while it staged this model" in caplog.text
    assert states() == []  # this time it is known that there is none
    caplog.clear()
    upload(prepared(), service)
    assert "interrupted" not in caplog.text


def test_a_staged_model_that_was_deleted_is_begun_anew_by_the_next_call(prepared, service, stub, states):
    stub.faults["edit"] = [Fault(400)]
    with pytest.raises(UploadError, match="refused: 400"):
        upload(prepared(), service)
    stub.faults["edit"] = [Fault(404, {"detail": "gone"})]
    with pytest.raises(UploadError, match=r"gone.*probably deleted\. Call the same again to begin anew"):
        upload(prepared(), service)
    assert states() == []
    assert upload(prepared(), service) == "bioimage-io/nice-fish1"


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: "{",
        lambda kept: "[]",
        lambda kept: json.dumps({**kept, "format_version": 2}),
        lambda kept: json.dumps({**kept, "artifact": "../../other"}),
        lambda kept: json.dumps({**kept, "artifact": None}),
        lambda kept: json.dumps({**kept, "sent": 3}),
        lambda kept: json.dumps({"format": kept["format"]}),
    ],
    ids=range(7),
)
def test_a_damaged_state_is_not_used_and_told(prepared, service, stub, states, damage, caplog):
    stub.faults["edit"] = [Fault(400)]
    with pytest.raises(UploadError):
        upload(prepared(), service)
    (state,) = states()
    state.write_text(damage(json.loads(state.read_text())))
    assert upload(prepared(), service) == "bioimage-io/nice-fish1"
    assert "begins anew" in caplog.text


def test_two_uploads_of_one_package_do_not_mix(prepared, service, stub, cache):
    publication = prepared()
    lock = cache / "zoo" / "uploads" / f"{publication.key(service.server)}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock), pytest.raises(UploadError, match="being uploaded by another"):
        upload(publication, service)
    assert stub.asked == []


@pytest.mark.parametrize(
    "faults",
    [
        {"create": [Fault(403, {"detail": TOKEN})]},
        {"create": [Fault(200, {"id": f"bioimage-io/{TOKEN.lower()}"})]},
        {"put_file": [Fault(200, f"https://127.0.0.1:1/{TOKEN}")]},
        {"PUT": [Fault(500, TOKEN.encode())] * 3},
        {"edit": [Fault(409, {"detail": f"with {TOKEN}"})]},
        {},
    ],
    ids=range(6),
)
def test_the_token_is_in_no_file(prepared, service, stub, faults, tmp_path):
    stub.faults.update(faults)
    with suppress(UploadError):
        upload(prepared(), service, progress=True)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not any(TOKEN.lower().encode() in path.read_bytes().lower() for path in written)
