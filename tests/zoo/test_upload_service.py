"""The service by its stub: what is asked, and what is made of answers, good and bad."""

import logging
import ssl

import pytest
import requests
from tests.zoo.upload_stub import TOKEN, Fault
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProxyError, SSLError

from s2d_zoo.errors import ConfigError, UploadError
from s2d_zoo.zoo import upload_failures, upload_service
from s2d_zoo.zoo.upload_access import Token
from s2d_zoo.zoo.upload_service import StagedModelGoneError, UploadService

MANIFEST = {"type": "model", "name": "Tiny"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(upload_failures, "_WAIT", 0)
    monkeypatch.setattr(upload_service, "_TIMEOUT", (2, 0.3))


@pytest.fixture(autouse=True)
def nothing_told(caplog, capfd):
    """Whatever happens, the token is in no log, even at its finest, and on no stream."""
    caplog.set_level(logging.DEBUG)
    yield
    records = caplog.get_records("call")
    told = [*capfd.readouterr(), *(f"{record.getMessage()} {vars(record)}" for record in records)]
    assert not any(TOKEN.lower() in text.lower() for text in told)


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(bytes(range(256)) * 500)
    return path


def failing(call, match, kind=UploadError):
    """What is said when something fails: never the token, never a signed address."""
    with pytest.raises(kind, match=match) as caught:
        call()
    error, said = caught.value, ""
    while error is not None:
        said += f"{error!r} {vars(error)}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert TOKEN.lower() not in said.lower()
    assert "5ecret" not in said
    return str(caught.value)


def test_a_model_is_staged_filled_and_handed_in(service, stub, weights):
    artifact = service.create(MANIFEST)
    service.put(artifact, "weights.pt", weights, progress=True)
    service.request_review(artifact, {**MANIFEST, "id": "nice-fish"})
    assert artifact == "bioimage-io/nice-fish"
    assert stub.calls() == ["create", "put_file", "PUT weights.pt", "edit"]
    create, put_file, put, edit = stub.asked
    assert create.path == "/services/artifact-manager/create"
    assert create.json == {
        "parent_id": "bioimage-io/bioimage.io",
        "alias": "{animal_adjective}-{animal}",
        "type": "model",
        "manifest": MANIFEST,
        "version": "stage",
    }
    assert put_file.json == {"artifact_id": artifact, "file_path": "weights.pt"}
    assert put.body == weights.read_bytes()
    assert put.headers["Content-Type"] == ""
    assert put.headers["Content-Length"] == str(len(put.body))
    assert not {"Authorization", "Transfer-Encoding"} & set(put.headers)
    manifest = {**MANIFEST, "id": "nice-fish", "status": "request-review"}
    assert edit.json == {"artifact_id": artifact, "version": "stage", "manifest": manifest}
    for one in (create, put_file, edit):
        assert one.headers["Authorization"] == f"Bearer {TOKEN}"
        assert one.headers["Content-Type"] == "application/json"


def test_an_empty_file_is_sent_with_its_length(service, stub, tmp_path):
    (tmp_path / "empty").touch()
    service.put(service.create(MANIFEST), "empty", tmp_path / "empty")
    assert stub.asked[-1].headers["Content-Length"] == "0"
    assert "Transfer-Encoding" not in stub.asked[-1].headers


@pytest.mark.parametrize("fault", [Fault(500), Fault(503), Fault(cut=1000), Fault(pause=0.6)], ids=repr)
@pytest.mark.parametrize("call", ["put_file", "PUT"])
def test_what_fails_for_a_moment_is_sent_again_to_a_new_address(service, stub, weights, call, fault):
    artifact = service.create(MANIFEST)
    stub.faults[call] = [fault, fault]
    service.put(artifact, "weights.pt", weights)
    assert stub.staged[artifact].files == {"weights.pt": weights.read_bytes()}
    assert stub.calls().count("put_file") == 3


def test_a_review_is_asked_for_again_after_a_moment(service, stub):
    artifact = service.create(MANIFEST)
    stub.faults["edit"] = [Fault(502), Fault(cut=0)]
    service.request_review(artifact, MANIFEST)
    assert stub.staged[artifact].manifest["status"] == "request-review"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(500, {"detail": "Database is\n down \x1b[31m"}), "500 Internal Server Error: Database is down"),
        (Fault(502, b"<html>Bad gateway</html>"), r"502 Bad Gateway\."),
        (Fault(cut=0), "no connection, or a cut one"),
        (Fault(pause=0.6), "no answer in time"),
    ],
    ids=repr,
)
def test_what_keeps_failing_is_told(service, stub, weights, fault, said):
    artifact = service.create(MANIFEST)
    stub.faults["PUT weights.pt"] = [fault] * 3
    message = failing(lambda: service.put(artifact, "weights.pt", weights), f"Could not send weights.pt.*{said}")
    assert "\x1b" not in message
    stub.faults["edit"] = [fault] * 3
    failing(lambda: service.request_review(artifact, MANIFEST), f"Could not ask for a review.*{said}")


@pytest.mark.parametrize("fault", [Fault(500), Fault(cut=0), Fault(pause=0.6)], ids=repr)
def test_a_model_is_staged_once_where_nobody_knows_whether_it_worked(service, stub, fault):
    stub.faults["create"] = [fault]
    failing(lambda: service.create(MANIFEST), "may have been staged nevertheless: look at your models there")
    assert len(stub.asked) == 1


def test_a_model_is_staged_again_where_the_server_is_only_busy(service, stub):
    stub.faults["create"] = [Fault(429), Fault(503)]
    assert service.create(MANIFEST) == "bioimage-io/nice-fish"
    stub.faults["create"] = [Fault(503)] * 3
    message = failing(lambda: service.create(MANIFEST), "503 Service Unavailable.*Call the same again later")
    assert "nevertheless" not in message


def test_a_server_that_is_not_there_is_told():
    service = UploadService("http://127.0.0.1:1", Token(TOKEN))
    message = failing(
        lambda: service.create(MANIFEST), r"no connection to 127\.0\.0\.1; check the .*Nothing was staged"
    )
    assert "nevertheless" not in message
    failing(lambda: service.request_review("a/b", MANIFEST), "Could not ask for a review")


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_token_is_told_with_where_to_get_one(service, stub, status):
    stub.faults["create"] = [Fault(status, {"detail": "expired"})]
    failing(lambda: service.create(MANIFEST), f"{status} .*expired.*https://bioimage.io/#/api")


def test_a_token_of_nobody_is_refused_by_the_stub(stub):
    service = UploadService(stub.url(), Token("another-token"))
    failing(lambda: service.create(MANIFEST), "403 Forbidden: PermissionError: invalid token")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"detail": ["name is", "taken"]}, 'name is", "taken'),
        ({"error": "taken"}, "taken"),
        (b"\xff taken \x07", "taken"),
        ({"detail": f"do not use {TOKEN.upper()} here"}, r"do not use \(token\) here"),
        (f"Bearer {TOKEN[:9]}\x00{TOKEN[9:]}".encode(), r"Bearer \(token\)"),
        ({"detail": "x" * 290 + TOKEN}, r"x\(token\)"),
        ({"detail": "x" * 5000}, "x{300}…"),
        (b"[" * 100_000, r"\[{300}…"),
        (b"", r"409 Conflict\. Change"),
    ],
    ids=range(9),
)
def test_a_refusal_is_told_in_the_servers_words_cleaned(service, stub, reply, said):
    stub.faults["create"] = [Fault(409, reply)]
    assert len(failing(lambda: service.create(MANIFEST), f"refused: 409 Conflict.*{said}|{said}")) < 600


@pytest.mark.parametrize(
    "reply",
    [
        *({}, [], None, {"id": None}, {"id": 7}, {"id": ""}, {"id": "../../etc"}, {"id": "bioimage-io/a\x1b[31m"}),
        *({"id": "a/b/c"}, {"id": "a/" + "b" * 500}, {"id": f"bioimage-io/{TOKEN.lower()}"}),
    ],
    ids=range(11),
)
def test_a_model_without_an_id_is_no_model(service, stub, reply):
    stub.faults["create"] = [Fault(200, reply)]
    failing(lambda: service.create(MANIFEST), "Expected the id of the staged model")


@pytest.mark.parametrize("call", ["create", "put_file", "edit"])
def test_an_answer_that_says_that_it_failed_is_a_failure_whatever_its_status(service, stub, weights, call):
    stub.faults[call] = [Fault(200, {"success": False, "detail": f"Quota of {TOKEN} is used up"})]

    def publish():
        artifact = service.create(MANIFEST)
        service.put(artifact, "weights.pt", weights)
        service.request_review(artifact, MANIFEST)

    failing(publish, r"refused: Quota of \(token\) is used up")


@pytest.mark.parametrize("reply", [b"", b"<html>Sign in</html>", b"{" * 100_000])
def test_an_answer_that_is_no_json_is_refused(service, stub, reply):
    stub.faults["create"] = [Fault(200, reply)]
    failing(lambda: service.create(MANIFEST), "Expected JSON from .*/create")


def test_an_answer_without_end_is_not_read(service, stub, monkeypatch):
    monkeypatch.setattr(upload_service, "_MAX_ANSWER_BYTES", 1000)
    stub.faults["create"] = [Fault(200, b"x" * 200_000)]
    failing(lambda: service.create(MANIFEST), "more than 1000 bytes")


@pytest.mark.parametrize(
    "address",
    [
        *("file:///etc/passwd", "ftp://store/a", "http://store.example/a?5ecret", "https://", "http://[", "", 7, None),
        *({"url": "https://a"}, f"https://store.example/{TOKEN}", f"http://127.0.0.1:1/?t={TOKEN.lower()}"),
    ],
    ids=range(11),
)
def test_files_are_sent_to_no_address_that_a_lying_server_likes(service, stub, weights, address):
    artifact = service.create(MANIFEST)
    stub.faults["put_file"] = [Fault(200, address)]
    failing(lambda: service.put(artifact, "weights.pt", weights), "Expected an address with https://")
    assert stub.calls() == ["create", "put_file"]


def test_an_encrypted_service_sends_no_file_unencrypted(weights, monkeypatch):
    service = UploadService("https://zoo.example", Token(TOKEN))
    monkeypatch.setattr(service, "_post", lambda *_: "http://127.0.0.1:1/a?5ecret")
    failing(lambda: service.put("a/b", "weights.pt", weights), "Expected an address with https://")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://127.0.0.1:1/create?5ecret", "http://127.0.0.1"),
        (f"https://{TOKEN}.example/", r"https://\(token\).example"),
        ("/other", "on the same server"),
    ],
)
def test_no_redirect_is_followed(service, stub, weights, location, target):
    stub.faults["create"] = [Fault(307, location=location)]
    failing(lambda: service.create(MANIFEST), f"leads to another address .{target}.")
    artifact = service.create(MANIFEST)
    stub.faults["PUT"] = [Fault(302, location=location)]
    failing(lambda: service.put(artifact, "weights.pt", weights), f"The storage at 127.0.0.1 leads to .*{target}")
    assert stub.calls() == ["create", "create", "put_file", "PUT weights.pt"]


def test_a_storage_that_refuses_is_no_matter_of_the_token(service, stub, weights):
    artifact = service.create(MANIFEST)
    stub.faults["PUT"] = [Fault(403, b"<Error>AccessDenied</Error>")]
    failing(lambda: service.put(artifact, "weights.pt", weights), "The storage at 127.0.0.1 refused: 403")


def test_a_model_that_is_gone_is_told_apart(service, weights):
    failing(lambda: service.put("a/b", "weights.pt", weights), "Artifact does not exist", StagedModelGoneError)


def test_a_server_that_does_not_speak_tls_is_told_without_trying_again(stub):
    address = stub.url().replace("http:", "https:")
    service = UploadService(address, Token(TOKEN))
    service._session.trust_env = False
    failing(lambda: service.create(MANIFEST), r"no encrypted connection to 127\.0\.0\.1|no connection, or a cut one")
    assert stub.asked == []


def inside(cause):
    """As urllib3 and requests wrap it."""
    return requests.exceptions.SSLError(MaxRetryError(None, "/?5ecret", reason=SSLError(cause)))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (inside(ssl.SSLCertVerificationError("5ecret")), "no certificate that is valid here. Nothing was sent."),
        (inside(ssl.SSLEOFError("5ecret")), "no connection, or a cut one.*may have been staged nevertheless"),
        (requests.exceptions.SSLError(SSLError(ssl.SSLEOFError("5ecret"))), "a cut one.*staged nevertheless"),
        (
            requests.exceptions.ProxyError(
                MaxRetryError(None, "/?5ecret", reason=ProxyError("5ecret", NewConnectionError(None, "5ecret")))
            ),
            "no connection to 127.0.0.1; check the address and the network. Nothing was staged",
        ),
        (requests.exceptions.ReadTimeout("5ecret"), "no answer in time.*may have been staged nevertheless"),
    ],
    ids=range(5),
)
def test_what_went_wrong_on_the_way_is_told(service, monkeypatch, error, said):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(service._session, "request", fail)
    failing(lambda: service.create(MANIFEST), said)


@pytest.mark.parametrize("error", [requests.exceptions.InvalidURL("5ecret"), UnicodeError("5ecret")])
def test_what_requests_says_is_not_repeated(service, monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(service._session, "request", fail)
    failing(lambda: service.create(MANIFEST), f"Could not ask 127.0.0.1 .{type(error).__name__}.")


def test_passwords_and_proxies_of_the_environment_stay_out_of_it(stub, weights, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ada password 5ecret\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    service = UploadService(stub.url(), Token(TOKEN))
    for trust in (False, True):
        if trust:  # as towards an encrypted server; the proxy is left out here only
            monkeypatch.delenv("http_proxy")
            service._session.trust_env = True
        artifact = service.create(MANIFEST)
        service.put(artifact, "weights.pt", weights)
        create, _, put = stub.asked[-3:]
        assert create.headers["Authorization"] == f"Bearer {TOKEN}"
        assert "Authorization" not in put.headers


def test_a_server_is_asked_only_where_its_address_may_be(stub):
    with pytest.raises(ConfigError, match="not encrypted"):
        UploadService("http://zoo.example", Token(TOKEN))


def test_what_a_server_says_is_told_without_addresses_that_give_access():
    service = UploadService("http://127.0.0.1:9", Token("secret-token"))
    said = service._words('no: https://storage.example/bucket/file?X-Signature=abc and "http://b.example/c" end')
    assert said == 'no: https://storage.example/… and "http://b.example/…" end'
