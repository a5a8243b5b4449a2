"""`publish` as it is called; everything behind it is tested in tests/zoo and tests/pipeline."""

import logging

import pytest
from tests.zoo.upload_stub import TOKEN, Fault, serving

from s2d_zoo.pipeline import publish as publish_module
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo import upload_failures


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    def validate(path, **options):
        return validate_package(path, select=("S", "F01", "F02"), **options)

    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BIOIMAGEIO_HYPHA_UPLOAD_TOKEN", TOKEN)
    monkeypatch.setattr(publish_module, "validate_package", validate)
    monkeypatch.setattr(upload_failures, "_WAIT", 0)


@pytest.fixture
def stub():
    with serving() as made:
        yield made


def test_a_dry_run_tells_files_on_stdout_and_requests_on_stderr(call, package, monkeypatch, tmp_path):
    monkeypatch.delenv("BIOIMAGEIO_HYPHA_UPLOAD_TOKEN")
    outcome = call("publish", package, "--dry-run", "--output", tmp_path / "plan", "--quiet")
    assert outcome.exit_code == 0
    rows = [line.split("\t") for line in outcome.stdout.splitlines()]
    assert [len(row) for row in rows] == [3] * len(rows)
    assert rows[-1][0] == "rdf.yaml"
    assert outcome.stderr.startswith("1. POST https://hypha.aicell.io/public/services/artifact-manager/create")
    assert "tiny-enhancer is not sent" in outcome.stderr
    assert outcome.stderr.endswith("Nothing was sent.\n")
    assert {path.name for path in (tmp_path / "plan").iterdir()} == {"manifest.json", "rdf.yaml", "upload.json"}
    assert call("publish", package, "--dry-run", "--output", tmp_path / "plan").exit_code == 2
    assert call("publish", package, "--dry-run", "--output", tmp_path / "plan", "--overwrite").exit_code == 0


def test_an_upload_ends_with_the_id_and_where_to_follow_the_review(call, package, stub, monkeypatch):
    monkeypatch.delenv("BIOIMAGEIO_HYPHA_UPLOAD_TOKEN")
    monkeypatch.setenv("MINE", TOKEN)
    outcome = call("publish", package, "--server", stub.url(), "--token-env", "MINE")
    page = stub.url("/bioimage-io/artifacts/nice-fish?version=stage")
    assert (outcome.exit_code, outcome.stdout) == (0, f"staged: bioimage-io/nice-fish\nreview: {page}\n")
    assert "weights.onnx" in outcome.stderr  # a bar
    assert "tiny-enhancer is not sent" in outcome.stderr
    assert (
        "weights.onnx" not in call("publish", package, "--server", stub.url(), "--token-env", "MINE", "--quiet").stderr
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Give --dry-run to see what would be sent, or --server"),
        (("--server", "zoo", "--output", "plan"), "--output is for --dry-run only"),
        (("--server", "http://zoo.example"), "not encrypted"),
        (("--server", "zoo", "--token-env", TOKEN), "not set, or empty"),
    ],
)
def test_a_call_that_cannot_be_meant_is_misuse(call, package, arguments, said):
    outcome = call("publish", package, *arguments)
    assert (outcome.exit_code, outcome.stdout) == (2, "")
    assert said in outcome.message
    assert TOKEN not in outcome.stderr


def test_a_package_that_is_not_there_is_misuse(call, tmp_path):
    assert call("publish", tmp_path / "none.zip", "--dry-run").exit_code == 2


def test_a_package_that_fails_is_not_sent(call, folder, stub):
    folder.rdf["inputs"] = []
    outcome = call("publish", folder.save_as_is(), "--server", stub.url())
    assert outcome.exit_code == 1
    assert "is not valid, and was not sent: F01" in outcome.message
    assert stub.asked == []


@pytest.mark.parametrize(
    "faults",
    [
        {"create": [Fault(401, {"detail": f"expired: {TOKEN}"})]},
        {"create": [Fault(cut=0)]},
        {"create": [Fault(200, {"id": f"bioimage-io/{TOKEN.lower()}"})]},
        {"create": [Fault(307, location=f"http://127.0.0.1:1/{TOKEN}")]},
        {"put_file": [Fault(200, f"https://127.0.0.1:1/{TOKEN}")]},
        {"put_file": [Fault(500, TOKEN.encode())] * 3},
        {"PUT": [Fault(cut=10)] * 3},
        {"edit": [Fault(409, {"detail": ["with", TOKEN]})]},
    ],
    ids=range(8),
)
def test_no_failure_tells_the_token(call, package, stub, faults, tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    stub.faults.update(faults)
    outcome = call("publish", package, "--server", stub.url())
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    told = [outcome.stderr, caplog.text, *(str(vars(record)) for record in caplog.records)]
    told += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(caplog.records) > 0
    assert not any(TOKEN.lower() in text.lower() for text in told)
    monkeypatch.setenv("BIOIMAGEIO_HYPHA_UPLOAD_TOKEN", TOKEN)  # it was taken out
    assert call("publish", package, "--server", stub.url()).exit_code == 0
