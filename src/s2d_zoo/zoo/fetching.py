"""One file from the network: bounded, resumed where it broke off, checked, and there whole or not at all.

pooch brings the file into place and compares its SHA-256; what it lacks is added here, as a downloader of its kind: the
rest of a file is asked for (HTTP Range), no more is taken than was announced or allowed, and no redirect leads to
another scheme, such as ``file:``.
"""

import hashlib
import logging
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urljoin, urlsplit

import pooch
import requests
from tqdm import tqdm

from s2d_zoo.errors import DownloadError

#: what came of a chunk is lost where the connection breaks
_CHUNK_BYTES: Final = 2**16
#: until a server answers, and between two chunks of what it sends; seconds
_TIMEOUT: Final = (10.0, 30.0)
#: in a row, without a byte more than before
_MAX_FAILURES: Final = 3
#: seconds, times the number of failures
_WAIT: Final = 1.0
_MAX_REDIRECTS: Final = 10
#: answers after which it is worth asking again
_TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


class _BrokenOffError(Exception):
    """An answer that ended early, or that cannot be used as it is; the next may be better."""


#: requests calls it a chunk, a connection or a timeout, depending on where it broke
_BROKEN_OFF: Final = (
    _BrokenOffError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def fetch_file(
    url: str, path: Path, *, parts: Path, max_bytes: int, sha256: str | None = None, progress: bool = False
) -> None:
    """Fetch a file; one that is there with the right SHA-256 already is kept, and nothing is fetched.

    Args:
        url: its address, http or https.
        path: where it goes; what is there is replaced.
        parts: folder for what came of files that are not complete. The next call goes on from there.
        max_bytes: a longer file is refused.
        sha256: what it must have; None if that is not known.
        progress: whether a bar is drawn on stderr.

    Raises:
        DownloadError: if it cannot be fetched, is too long, or has another SHA-256.
        OSError: if it cannot be written.
    """
    _check_sha256(sha256, url)
    if sha256 is None:  # pooch takes any file with this name for the right one
        path.unlink(missing_ok=True)
    # pooch tells of every file, and how to pin one without a hash, which is not for our readers
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        pooch.retrieve(
            url,
            known_hash=sha256 and f"sha256:{sha256.lower()}",
            fname=path.name,
            path=path.parent,
            downloader=_Downloader(
                parts / hashlib.sha256(url.encode()).hexdigest()[:32],
                max_bytes=max_bytes,
                is_checked=sha256 is not None,
                progress=progress,
            ),
        )
    except ValueError as error:
        # so pooch reports a wrong hash, after it has deleted the file; requests' own errors are told below
        msg = (
            f"{url} is not the expected file: {error} Nothing was kept. Try again; if it stays so, the file was "
            "changed after it was published: tell those who published it."
        )
        raise DownloadError(msg) from error
    finally:
        logger.setLevel(level)


def fetch_bytes(url: str, *, max_bytes: int, progress: bool = False) -> bytes:
    """Fetch something short, such as a list.

    Raises:
        DownloadError: if it cannot be fetched or is too long.
    """
    with tempfile.TemporaryDirectory(prefix="s2d-zoo-") as name:
        path = Path(name) / "fetched"
        fetch_file(url, path, parts=Path(name) / "parts", max_bytes=max_bytes, progress=progress)
        return path.read_bytes()


def check_address(url: str) -> None:
    """Refuse everything but http and https.

    Raises:
        DownloadError: for another scheme, or no host.
    """
    try:
        address = urlsplit(url)
    except ValueError as error:
        msg = f"{url!r} is no address: {error}. Give one that begins with https://."
        raise DownloadError(msg) from error
    if address.scheme not in {"http", "https"} or not address.hostname:
        msg = f"Expected an address that begins with https://, found {url!r}. Nothing else is fetched."
        raise DownloadError(msg)


def _check_sha256(sha256: str | None, url: str) -> None:
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        msg = f"Expected 64 hexadecimal digits as SHA-256 of {url}, found {sha256!r}. Its description is damaged."
        raise DownloadError(msg)


class _Downloader:
    """What pooch calls to get a file (its own class for this neither resumes nor stops)."""

    def __init__(self, part: Path, *, max_bytes: int, is_checked: bool, progress: bool) -> None:
        self._part = part
        #: what the server called the version of the file that the part is of (ETag or date)
        self._version = part.with_suffix(".version")
        self._max_bytes = max_bytes
        self._is_checked = is_checked
        self._progress = progress

    def __call__(self, url: str, output_file: str, _pooch: Any) -> None:  # noqa: ANN401 - as pooch calls it
        self._part.parent.mkdir(parents=True, exist_ok=True)
        failures, most = 0, self._received()
        while True:
            try:
                self._receive(url)
                break
            except _BROKEN_OFF as error:
                failures = 0 if self._received() > most else failures + 1
                most = max(most, self._received())
                if failures == _MAX_FAILURES:
                    msg = (
                        f"Could not fetch {url}: {error} {most} bytes came and are kept; the same command goes on from "
                        "there if the server allows it. Check the network and try again."
                    )
                    raise DownloadError(msg) from error
                time.sleep(_WAIT * failures)
            except (requests.RequestException, ValueError) as error:  # ValueError: where a redirect is no address
                msg = f"Could not fetch {url}: {error}. Check the name and try again later."
                raise DownloadError(msg) from error
        self._part.replace(output_file)
        self._version.unlink(missing_ok=True)

    def _received(self) -> int:
        return self._part.stat().st_size if self._part.exists() else 0

    def _receive(self, url: str) -> None:
        """Ask once for what is missing."""
        have = self._received()
        with _open(url, self._headers(have)) as response:
            if response.status_code in _TRY_AGAIN:
                msg = f"The server answered {response.status_code} {response.reason}."
                raise _BrokenOffError(msg)
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self._begin_again("The server has no such part of the file.")
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0
                version = _version_of(response)
                self._version.write_text(version, encoding="utf-8")
            elif _first_byte(response) != have:
                self._begin_again("The server sent another part of the file than was asked for.")
            self._store(response, have, url)

    def _headers(self, have: int) -> Mapping[str, str]:
        # lengths and ranges are those of the file only where it is not compressed on the way
        headers = {"Accept-Encoding": "identity"}
        version = self._version.read_text(encoding="utf-8") if have and self._version.exists() else ""
        if version:
            headers["If-Range"] = version
        if have and (version or self._is_checked):  # else nobody would notice halves of two versions
            headers["Range"] = f"bytes={have}-"
        return headers

    def _begin_again(self, reason: str) -> None:
        self._part.unlink(missing_ok=True)
        raise _BrokenOffError(reason)

    def _store(self, response: requests.Response, have: int, url: str) -> None:
        """Append to the part, or begin it anew where ``have`` is 0."""
        total = _stated_length(response, have)
        if total is not None and total > self._max_bytes:
            self._refuse(url, f"announces {total} bytes")
        name = unquote(urlsplit(url).path.rpartition("/")[2])
        with (
            self._part.open("ab" if have else "wb") as file,
            tqdm(total=total, initial=have, desc=name, unit="B", unit_scale=True, disable=not self._progress) as bar,
        ):
            for chunk in response.iter_content(_CHUNK_BYTES):
                have += len(chunk)
                if have > self._max_bytes:
                    self._refuse(url, "goes on and on")
                file.write(chunk)
                bar.update(len(chunk))

    def _refuse(self, url: str, what: str) -> None:
        self._part.unlink(missing_ok=True)
        msg = f"{url} {what}; expected at most {self._max_bytes} bytes. It is not fetched."
        raise DownloadError(msg)


@contextmanager
def _open(url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
    """Follow redirects by hand: every address on the way is judged."""
    for _ in range(_MAX_REDIRECTS):
        check_address(url)
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT, allow_redirects=False) as response:
            if not response.is_redirect:
                yield response
                return
            target = urljoin(url, response.headers["location"])
        if url.startswith("https:") and target.startswith("http:"):
            msg = f"{url} leads to {target}, which is not encrypted. It is not fetched."
            raise DownloadError(msg)
        url = target
    msg = f"{url} leads from one address to the next more than {_MAX_REDIRECTS} times. It is not fetched."
    raise DownloadError(msg)


def _version_of(response: requests.Response) -> str:
    """What tells this version of the file from another; empty where the server does not say."""
    etag: str = response.headers.get("ETag", "")
    weak = etag.startswith("W/")  # the same to a reader, not byte by byte
    return response.headers.get("Last-Modified", "") if weak or not etag else etag


def _first_byte(response: requests.Response) -> int | None:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _stated_length(response: requests.Response, have: int) -> int | None:
    """Bytes of the whole file, as announced; None if it is not, or counts what is compressed."""
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal() or response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    return have + int(length)
