"""Publication: a package is validated, and then sent to the zoo, or only shown as it would be sent."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from s2d_zoo.data.atomic import atomic_write, write_json
from s2d_zoo.data.package_contents import open_package
from s2d_zoo.errors import PackageError
from s2d_zoo.validate.rendering import in_words
from s2d_zoo.validate.report import ValidationReport
from s2d_zoo.validate.validation import validate_package
from s2d_zoo.zoo.collection import find_at_hand
from s2d_zoo.zoo.download import check_free
from s2d_zoo.zoo.downloads import DESCRIPTION
from s2d_zoo.zoo.publishing import Publication, SentFile, prepare, upload
from s2d_zoo.zoo.upload_access import OWN_MODELS_PAGE, ZOO_SERVER, Token, check_server, one_line
from s2d_zoo.zoo.upload_service import UploadService


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadPlan:
    """What would be sent."""

    files: tuple[SentFile, ...]  #: the description last, still without the id that the zoo will give
    requests: tuple[str, ...]  #: in words, one after another
    notes: tuple[str, ...]  #: what whoever publishes should know


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedModel:
    """What was sent, and waits for a review."""

    id: str  #: as the server gave it
    page: str  #: where to follow the review
    notes: tuple[str, ...]  #: as in `UploadPlan`


def plan_publication(
    package: Path,
    *,
    server: str = ZOO_SERVER,
    output: Path | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> UploadPlan:
    """Validate a package and say what would be sent; no network is used.

    Args:
        package: a zip or a folder.
        server: address of the upload service, or ``zoo``.
        output: folder for ``manifest.json``, the description (``rdf.yaml``) and ``upload.json``, which lists files and
            requests; nothing is written if None.
        overwrite: replace that folder.
        progress: show on stderr which check is running.

    Raises:
        ConfigError: if ``output`` is there, or ``server`` is no address.
        PackageError: if the package is not valid, or the zoo would refuse it.
        OSError: if ``output`` cannot be written.
    """
    server = check_server(server)
    if output is not None:
        check_free(output, overwrite=overwrite)
    with _checked(package, progress=progress) as publication:
        description = publication.write_description(publication.folder / DESCRIPTION)
        plan = UploadPlan(
            files=(*publication.files, description),
            requests=tuple(publication.requests(server)),
            notes=publication.notes,
        )
        if output is not None:
            _write_plan(plan, publication, output, server, overwrite=overwrite)
    return plan


def publish_package(package: Path, *, server: str, token: Token, progress: bool = False) -> StagedModel:
    """Validate a package, send it, and ask for a review; an interrupted upload goes on where it broke off.

    Args:
        package: a zip or a folder.
        server: address of the upload service, or ``zoo``.
        token: of whoever uploads.
        progress: show on stderr which check is running, and bars of what is sent.

    Raises:
        ConfigError: if ``server`` is no address, or not encrypted.
        PackageError: if the package is not valid, or the zoo would refuse it. Nothing was sent.
        UploadError: if the service refuses something, or cannot be asked.
        OSError: if the cache cannot be written.
    """
    service = UploadService(server, token)
    with _checked(package, progress=progress) as publication:
        id_ = upload(publication, service, progress=progress)
    return StagedModel(id=id_, page=_review_page(id_, service.server), notes=publication.notes)


@contextmanager
def _checked(package: Path, *, progress: bool) -> Iterator[Publication]:
    """A package that can be published, while it is open; validated as it is sent, but for the id of the service."""
    with open_package(package) as contents, tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        publication = prepare(contents, Path(name))
        report = validate_package(publication.folder, find_base=find_at_hand, progress=progress)
        if not report.passed:
            msg = f"{package} is not valid, and was not sent: {_failures(report)}. See s2d-zoo validate {package}."
            raise PackageError(msg)
        yield replace(publication, notes=(f"Validation: {in_words(report)}.", *publication.notes))


def _failures(report: ValidationReport) -> str:
    failed = [result for result in report.results if result.status == "failed"]
    return one_line("; ".join(f"{result.check.name} {result.message}" for result in failed))


def _write_plan(plan: UploadPlan, publication: Publication, output: Path, server: str, *, overwrite: bool) -> None:
    stamp = {"format": "s2d-zoo/upload", "format_version": 1}
    with atomic_write(output, overwrite=overwrite) as folder:
        folder.mkdir()
        write_json(folder / "manifest.json", publication.manifest)
        publication.write_description(folder / DESCRIPTION)
        write_json(folder / "upload.json", {**stamp, "server": server, **asdict(plan)})


def _review_page(id_: str, server: str) -> str:
    if server == ZOO_SERVER:
        # the zoo's web page leads there after an upload
        return f"https://bioimage.io/#/edit/{quote(id_, safe='')}/stage (yours: {OWN_MODELS_PAGE})"
    workspace, _, name = id_.rpartition("/")
    host = urlsplit(server)
    return f"{host.scheme}://{host.netloc}/{quote(workspace)}/artifacts/{name}?version=stage"
