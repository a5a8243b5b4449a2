"""Validation before publication: what fails is not sent; a plan needs no network."""

import json
import re
import socket

import pytest
from bioimageio.spec.utils import read_yaml
from tests.zoo.upload_stub import TOKEN, serving

from s2d_zoo.errors import ConfigError, PackageError
from s2d_zoo.pipeline import publish
from s2d_zoo.pipeline.publish import plan_publication, publish_package
from s2d_zoo.validate.checks import Check
from s2d_zoo.validate.report import CheckResult, ValidationReport
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo import upload_failures
from s2d_zoo.zoo.upload_access import ZOO_SERVER, Token


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(upload_failures, "_WAIT", 0)
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    """Only the checks that do not run the network."""

    def validate(path, **options):
        return validate_package(path, select=("S", "F", "C", "L"), **options)

    monkeypatch.setattr(publish, "validate_package", validate)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def stub():
    with serving() as made:
        yield made


def test_a_plan_tells_files_and_requests_without_a_network(quick, no_network, package, tmp_path, cache):
    plan = plan_publication(package)
    assert plan.files[-1].name == "rdf.yaml"
    assert {"README.md", "weights.onnx", "unet.py"} < {file.name for file in plan.files}
    assert plan.requests[0].startswith(f"POST {ZOO_SERVER}/create")
    assert len(plan.requests) == len(plan.files) + 2
    assert plan.notes[0].startswith("Validation: passed")
    assert "tiny-enhancer is not sent" in plan.notes[1]
    assert plan.notes[-1].startswith("Everybody will read of its limits: ")
    assert list(tmp_path.iterdir()) == []


def test_a_plan_is_written_where_that_is_wanted(quick, no_network, package, tmp_path):
    plan = plan_publication(package, server="https://zoo/am", output=tmp_path / "plan")
    manifest = json.loads((tmp_path / "plan" / "manifest.json").read_text())
    assert manifest == read_yaml(tmp_path / "plan" / "rdf.yaml")
    assert "id" not in manifest
    assert manifest["config"]["s2d_zoo"]["local_id"] == "tiny-enhancer"
    listed = json.loads((tmp_path / "plan" / "upload.json").read_text())
    assert (listed["format"], listed["format_version"]) == ("s2d-zoo/upload", 1)
    assert listed["server"] == "https://zoo/am"
    assert [file["sha256"] for file in listed["files"]] == [file.sha256 for file in plan.files]
    assert listed["requests"] == list(plan.requests)
    with pytest.raises(ConfigError, match="--overwrite"):
        plan_publication(package, output=tmp_path / "plan")
    before = (tmp_path / "plan" / "upload.json").read_bytes()
    plan_publication(package, server="https://zoo/am", output=tmp_path / "plan", overwrite=True)
    assert (tmp_path / "plan" / "upload.json").read_bytes() == before


def test_a_package_is_sent_and_its_review_can_be_followed(quick, package, stub, cache):
    staged = publish_package(package, server=stub.url(), token=Token(TOKEN))
    assert staged.id == "bioimage-io/nice-fish"
    assert staged.page == stub.url("/bioimage-io/artifacts/nice-fish?version=stage")
    assert "tiny-enhancer is not sent" in staged.notes[1]
    files = stub.staged[staged.id].files
    assert {file.name for file in plan_publication(package).files} == set(files)
    assert not list(cache.rglob("*.json"))


def test_at_the_zoo_the_review_is_followed_on_its_page(quick, package, monkeypatch):
    monkeypatch.setattr(publish, "upload", lambda *_, **__: "bioimage-io/nice-fish")
    page = publish_package(package, server="zoo", token=Token(TOKEN)).page
    assert page.startswith("https://bioimage.io/#/edit/bioimage-io%2Fnice-fish/stage")


def test_what_was_sent_is_a_package_that_passes(quick, package, stub, tmp_path):
    staged = publish_package(package, server=stub.url(), token=Token(TOKEN))
    for name, content in stub.staged[staged.id].files.items():
        path = tmp_path / "received" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    report = publish.validate_package(tmp_path / "received")
    assert report.passed
    assert all(result.status != "limited" for result in report.results if result.check is Check.F03)


@pytest.mark.parametrize("call", [plan_publication, publish_package])
def test_a_package_that_fails_a_check_is_not_sent(quick, folder, stub, call):
    folder.rdf["description"] = None
    path = folder.save()
    how = {"token": Token(TOKEN)} if call is publish_package else {}
    with pytest.raises(PackageError, match=rf"{re.escape(str(path))} is not valid, and was not sent: F\d\d .*validate"):
        call(path, server=stub.url(), **how)
    assert stub.asked == []


def test_all_checks_are_asked_about_what_is_sent_and_all_failures_told(package, stub, monkeypatch):
    seen = []

    def validate(path, **options):
        seen.append((sorted(file.name for file in path.iterdir()), options.keys()))
        results = (
            CheckResult(check=Check.T01, status="failed", message="tiles\x1b[2J differ"),
            CheckResult(check=Check.F01, status="passed", message="good"),
            CheckResult(check=Check.R01, status="failed", message="not the same"),
        )
        return ValidationReport(package=str(path), results=results)

    monkeypatch.setattr(publish, "validate_package", validate)
    with pytest.raises(PackageError, match=r"T01 tiles\[2J differ; R01 not the same\. See s2d-zoo validate"):
        publish_package(package, server=stub.url(), token=Token(TOKEN))
    ((names, options),) = seen
    assert {"rdf.yaml", "weights.pt"} < set(names)
    assert not {"select", "ignore", "consumers"} & options
    assert stub.asked == []


def test_a_server_that_a_token_must_not_go_to_is_refused_before_all_else(package):
    with pytest.raises(ConfigError, match="not encrypted"):
        publish_package(package, server="http://zoo.example", token=Token(TOKEN))


@pytest.mark.slow
def test_a_package_of_ours_is_published_with_every_check(package, stub):
    assert publish_package(package, server=stub.url(), token=Token(TOKEN)).id in stub.staged
