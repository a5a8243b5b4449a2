"""What may go wrong between here and an upload service, and what of it is worth trying again."""

import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import requests
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from s2d_zoo.errors import UploadError

#: where no whole answer came
BROKEN_OFF: Final = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_MAX_ATTEMPTS: Final = 3
#: seconds, times the number of failures
_WAIT: Final = 2.0
#: the other side went away; other faults of TLS are found before anything is sent
_CUT: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_T = TypeVar("_T")


class TryAgainError(Exception):
    """No answer, or one that may be better next time; something may have been done."""


class BusyError(TryAgainError):
    """The server has not done anything: it says so, or was never reached."""


def repeat(step: Callable[[], _T], *, after: type[TryAgainError]) -> _T:
    """What a step returns, which is tried some times; the last error is raised."""
    for failures in range(1, _MAX_ATTEMPTS):
        try:
            return step()
        except after:
            time.sleep(_WAIT * failures)
    return step()


def explain(error: requests.RequestException, host: str) -> TryAgainError | UploadError:
    """What one of `BROKEN_OFF` means, without what requests says: that may hold a signed address."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UploadError(f"{host} has no certificate that is valid here. Nothing was sent.")
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _CUT):
            return UploadError(f"There is no encrypted connection to {host} ({cause.reason}). Check the address.")
        if isinstance(cause, ConnectTimeoutError | NewConnectionError):
            return BusyError(f"there is no connection to {host}; check the address and the network.")
    if isinstance(error, requests.Timeout):
        return TryAgainError("there was no answer in time.")
    return TryAgainError("no connection, or a cut one.")


def _causes(error: object) -> Iterator[Exception]:
    """An error and those that it was made of, by requests and urllib3, proxies included."""
    while isinstance(error, Exception):
        yield error
        inner = (getattr(error, "reason", None), getattr(error, "original_error", None), *error.args[:1])
        error = next((one for one in inner if isinstance(one, Exception)), None)
