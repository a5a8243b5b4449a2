"""The zoo's upload service: it stages a model, takes its files, and is asked for a review.

The service is Hypha's artifact manager, and the requests are those that it documents for the zoo:

    POST SERVER/create      the manifest, version "stage" → the id of the staged model
    POST SERVER/put_file    the name of a file → an address, signed for this file
    PUT  that address       the bytes of the file as they are, with an empty Content-Type
    POST SERVER/edit        the manifest with status "request-review"

The token goes to SERVER only, and only where nobody can listen: no redirect is followed, and the signed addresses,
which lead to a storage, are asked without it. No message holds the token or a signed address, whatever is answered.
"""

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from tqdm import tqdm
from tqdm.utils import CallbackIOWrapper

from s2d_zoo.errors import UploadError
from s2d_zoo.zoo.upload_access import (
    ACCESS_PAGE,
    Token,
    check_server,
    host_of,
    is_local,
    is_staged_id,
    one_line,
    origin_of,
    own_models,
)
from s2d_zoo.zoo.upload_failures import BROKEN_OFF, BusyError, TryAgainError, explain, repeat

#: what a new model is made of, besides its manifest. The server chooses words for the alias.
NEW_MODEL: Final[Mapping[str, str]] = {
    "parent_id": "bioimage-io/bioimage.io",
    "alias": "{animal_adjective}-{animal}",
    "type": "model",
    "version": "stage",
}

#: seconds, until a connection is there or takes more bytes, and until an answer comes; a storage takes its time
_TIMEOUT: Final = (30.0, 120.0)
#: of an answer: an id, an address, or the manifest again
_MAX_ANSWER_BYTES: Final = 4 * 1024**2
_CHUNK_BYTES: Final = 2**16
#: answers that say that nothing was done yet
_BUSY: Final = frozenset({425, 429, 503})
#: answers after which it is worth asking again; something may have been done
_TRY_AGAIN: Final = frozenset({408, 500, 502, 504})
#: of what a server says, characters
_MAX_WORDS: Final = 300

#: scheme and host, and what follows them
_ADDRESS: Final = re.compile(r"(https?://[^/\s?#\"']+)[/?#][^\s\"']*", re.IGNORECASE)
#: its warnings quote addresses
_LOGGER: Final = logging.getLogger("urllib3")

_T = TypeVar("_T")


class StagedModelGoneError(UploadError):
    """The server does not know the model that was staged before."""


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    reason: str
    content: bytes
    location: str  #: of a redirect, else empty


class UploadService:
    """An upload service, asked in the name of whoever has the token.

    What fails for a moment (no connection, 5xx) is tried again some times. `create` only where nothing was done for
    sure: else nobody would know whether there are two models then.
    """

    def __init__(self, server: str, token: Token) -> None:
        self.server = check_server(server)
        self._token = token
        self._session = requests.Session()
        # a proxy of the environment would get what is meant for this machine, not encrypted
        self._session.trust_env = self.server.startswith("https:")

    def create(self, manifest: Mapping[str, Any]) -> str:
        """Stage a new model.

        Args:
            manifest: its description, plain JSON, without an id.

        Returns:
            The id that the server gave it, e.g. ``bioimage-io/affable-shark``.

        Raises:
            UploadError: if the server refuses it, or cannot be asked.
        """
        body = {**NEW_MODEL, "manifest": manifest}
        try:
            answer = repeat(lambda: self._post("create", body), after=BusyError)
        except BusyError as error:
            msg = f"Could not stage the model at {self.server}: {error} Nothing was staged. Call the same again later."
            raise UploadError(msg) from None
        except TryAgainError as error:
            msg = (
                f"Could not stage the model at {self.server}: {error} It may have been staged nevertheless: look at "
                f"{own_models(self.server)} and delete it there, then call this again."
            )
            raise UploadError(msg) from None
        found = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(found, str) or not is_staged_id(found) or self._token.is_in(found):
            msg = f"Expected the id of the staged model from {self.server}, found {self._words(answer) or 'nothing'}."
            raise UploadError(msg)
        return found

    def put(self, artifact: str, name: str, path: Path, *, progress: bool = False) -> None:
        """Send a file of a staged model; one of the same name that is there is replaced.

        Args:
            artifact: id of the model.
            name: of the file in the package.
            path: where it lies.
            progress: whether a bar is drawn on stderr.

        Raises:
            StagedModelGoneError: if the server does not know the model.
            UploadError: if it cannot be sent.
        """

        def step() -> None:
            # signed for some minutes only, so each attempt asks anew
            address = self._check_storage(self._post("put_file", {"artifact_id": artifact, "file_path": name}))
            size = path.stat().st_size
            with (
                path.open("rb") as file,
                tqdm(total=size, desc=name, unit="B", unit_scale=True, disable=not progress) as bar,
            ):
                # requests sends an empty file object in chunks, which a signed address does not take
                data = CallbackIOWrapper(bar.update, file, "read") if size else b""
                answer = self._send("PUT", address, data=data, headers={"Content-Type": ""}, auth=_without_token)
            self._check(answer, f"The storage at {host_of(address)}")

        self._repeat_or_fail(step, f"send {name}")

    def request_review(self, artifact: str, manifest: Mapping[str, Any]) -> None:
        """Say that the model is complete.

        Raises:
            StagedModelGoneError: if the server does not know the model.
            UploadError: if the server refuses it, or cannot be asked.
        """
        body = {
            "artifact_id": artifact,
            "version": NEW_MODEL["version"],
            "manifest": {**manifest, "status": "request-review"},
        }
        self._repeat_or_fail(lambda: self._post("edit", body), "ask for a review")

    def _repeat_or_fail(self, step: Callable[[], _T], what: str) -> _T:
        try:
            return repeat(step, after=TryAgainError)
        except TryAgainError as error:
            msg = f"Could not {what} ({self.server}): {error} Call the same again later."
            raise UploadError(msg) from None

    def _post(self, call: str, body: Mapping[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON can hold
        answer = self._send("POST", f"{self.server}/{call}", json=body, auth=self._token)
        if answer.status in {401, 403}:
            msg = (
                f"{self.server} does not take the token for this ({self._said(answer)}): it is wrong or has expired, "
                f"or the model is somebody else's. Make a new token at {ACCESS_PAGE} and call this again."
            )
            raise UploadError(msg)
        if answer.status == requests.codes.not_found:
            msg = f"{self.server} does not know this: {self._said(answer)}. Is --server the right one?"
            raise StagedModelGoneError(msg)
        self._check(answer, self.server)
        try:
            reply = json.loads(answer.content)
        except (ValueError, RecursionError):
            msg = f"Expected JSON from {self.server}/{call}, found {self._said(answer)}. Is this an upload service?"
            raise UploadError(msg) from None
        if isinstance(reply, dict) and reply.get("success") is False:  # a failure, whatever the status says
            msg = f"{self.server} refused: {self._words(reply)}. Change what it asks for, and call this again."
            raise UploadError(msg)
        return reply

    def _send(self, method: str, url: str, **how: Any) -> _Answer:  # noqa: ANN401 - as requests takes it
        try:
            with (
                _quiet(_LOGGER),
                self._session.request(
                    method, url, timeout=_TIMEOUT, allow_redirects=False, stream=True, **how
                ) as response,
            ):
                return _Answer(
                    response.status_code,
                    response.reason or "",
                    _read(response),
                    response.headers.get("Location", "") if response.is_redirect else "",
                )
        # `from None`: what requests says may hold a signed address
        except BROKEN_OFF as error:
            raise explain(error, host_of(url)) from None
        except (requests.RequestException, ValueError) as error:
            msg = f"Could not ask {host_of(url)} ({type(error).__name__}). Check the address and the network."
            raise UploadError(msg) from None

    def _check(self, answer: _Answer, who: str) -> None:
        """Raise unless all went well."""
        if answer.status in _BUSY | _TRY_AGAIN:
            msg = f"the server answered {self._said(answer)}."
            raise (BusyError if answer.status in _BUSY else TryAgainError)(msg)
        if answer.location:
            target = self._token.redacted(one_line(origin_of(answer.location)))
            msg = f"{who} leads to another address ({target}), which is not followed. Is --server the right one?"
            raise UploadError(msg)
        if answer.status // 100 != 2:
            msg = f"{who} refused: {self._said(answer)}. Change what it asks for, and call this again."
            raise UploadError(msg)

    def _check_storage(self, address: object) -> str:
        """A signed address, if it is one: a server may not make us send files to wherever it likes."""
        if isinstance(address, str) and not self._token.is_in(address) and host_of(address):
            scheme = urlsplit(address).scheme
            if scheme == "https" or (scheme == "http" and self.server.startswith("http:") and is_local(address)):
                return address
        msg = f"Expected an address with https:// to send a file to from {self.server}, found something else."
        raise UploadError(msg)

    def _said(self, answer: _Answer) -> str:
        """An answer in words."""
        text = answer.content.decode("utf-8", errors="replace")
        try:
            said: object = json.loads(text)
        except (ValueError, RecursionError):
            said = "" if text.lstrip().startswith("<") else text  # a page for browsers tells nothing
        reason = self._words(answer.reason)
        words = self._words(said)
        return f"{answer.status} {reason}".rstrip() + (f": {words}" if words else "")

    def _words(self, said: object) -> str:
        """What a server says, as a short line for a terminal."""
        detail = said.get("detail", said) if isinstance(said, dict) else said
        text = detail if isinstance(detail, str) else json.dumps(detail)
        text = _ADDRESS.sub(r"\1/…", one_line(text))  # a signed one gives access
        text = self._token.redacted(text)  # before it is cut: a part of a token tells something too
        return text if len(text) <= _MAX_WORDS else f"{text[:_MAX_WORDS]}…"


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _without_token(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """In place of what requests would find by itself, in the address or in ``.netrc``."""
    return request


def _read(response: requests.Response) -> bytes:
    content = b""
    for chunk in response.iter_content(_CHUNK_BYTES):
        content += chunk
        if len(content) > _MAX_ANSWER_BYTES:
            msg = f"{host_of(response.url)} answers more than {_MAX_ANSWER_BYTES} bytes. Is this an upload service?"
            raise UploadError(msg)
    return content
