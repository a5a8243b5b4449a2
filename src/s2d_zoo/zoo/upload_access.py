"""Who may upload, and where to: tokens, the addresses that they may be sent to, and ids of what was staged."""

import ipaddress
import os
import re
import unicodedata
from typing import Final, Self
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from s2d_zoo.errors import ConfigError

#: the upload service of the BioImage Model Zoo, and its page where one signs in and makes a token
ZOO_SERVER: Final = "https://hypha.aicell.io/public/services/artifact-manager"
ACCESS_PAGE: Final = "https://bioimage.io/#/api"

#: the zoo's page of one's own models, also of those that nobody else sees yet
OWN_MODELS_PAGE: Final = "https://bioimage.io/#/my-artifacts"
#: where the token is looked for, unless another variable is named
USUAL_VARIABLE: Final = "BIOIMAGEIO_HYPHA_UPLOAD_TOKEN"

#: what may stand behind "Bearer", RFC 6750; shorter ones could be part of any text
_SECRET: Final = re.compile(r"[A-Za-z0-9._~+/=-]{8,}")
#: workspace/name, or the name alone
_ID: Final = re.compile(r"(?:[A-Za-z0-9][\w.|@-]{0,99}/)?[a-z0-9][a-z0-9._-]{0,99}", flags=re.ASCII)


class Token(AuthBase):
    """What proves who uploads: it stands in the header of requests, and shows itself nowhere else.

    Args:
        secret: as the zoo gives it.

    Raises:
        ConfigError: if it can be no token.
    """

    def __init__(self, secret: str) -> None:
        if not _SECRET.fullmatch(secret.strip()):
            msg = (
                "Expected a token: at least 8 letters, digits and signs of ._~+/=-, without spaces. What was given is "
                f"none (it is not shown here). Copy it anew from {ACCESS_PAGE}."
            )
            raise ConfigError(msg)
        self._secret = secret.strip()

    @classmethod
    def from_environment(cls, variable: str) -> Self:
        """The token in an environment variable, which is removed: processes that are started from here do not get it.

        Raises:
            ConfigError: if the variable is not set, or holds no token.
        """
        secret = os.environ.get(variable, "")
        if not secret.strip():
            # no other name: somebody may have given the token in its place
            which = f"{USUAL_VARIABLE} is" if variable == USUAL_VARIABLE else "that --token-env names is"
            msg = (
                f"The environment variable {which} not set, or empty. Sign in and make a token at "
                f"{ACCESS_PAGE}, put it into that variable, and give --token-env the variable's name, not the token."
            )
            raise ConfigError(msg)
        token = cls(secret)
        del os.environ[variable]
        return token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request, as requests calls it."""
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request

    def __repr__(self) -> str:
        return "Token(not shown)"

    def is_in(self, text: str) -> bool:
        """Whether a text holds it, in whatever case: names of hosts are told in small letters."""
        return self._secret.lower() in text.lower()

    def redacted(self, text: str) -> str:
        """A text without it."""
        return re.sub(re.escape(self._secret), "(token)", text, flags=re.IGNORECASE)


def check_server(address: str) -> str:
    """The address of an upload service; ``zoo`` is that of the zoo.

    Raises:
        ConfigError: if it is none, or a token sent there could be read on the way.
    """
    if address == "zoo":
        return ZOO_SERVER
    if not re.fullmatch(r"https?://[^\s\\@?#]+", address) or not host_of(address):
        msg = (
            f"Expected zoo, or the address of an upload service such as {ZOO_SERVER} (without user, ? and #), as "
            "--server; found something else."  # not what: it may hold a password
        )
        raise ConfigError(msg)
    if address.startswith("http:") and not is_local(address):
        msg = f"{address} is not encrypted: your token could be read on the way. Give an address with https://."
        raise ConfigError(msg)
    return address.rstrip("/")


def own_models(server: str) -> str:
    """Where those who upload find what they have staged."""
    return OWN_MODELS_PAGE if server == ZOO_SERVER else "your models there"


def host_of(address: str) -> str:
    """The host of an address; empty if it has none."""
    try:
        return one_line(urlsplit(address).hostname or "")
    except ValueError:
        return ""


def origin_of(address: str) -> str:
    """Scheme and host; what follows may be signed."""
    return f"{address.partition(':')[0]}://{host_of(address)}" if host_of(address) else "on the same server"


def is_local(address: str) -> bool:
    """Whether an address is on this machine."""
    host = host_of(address)
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def one_line(text: str) -> str:
    """A text that a terminal shows as it is."""
    line = "".join(" " if char.isspace() else char for char in text)
    return " ".join("".join(char for char in line if not unicodedata.category(char).startswith("C")).split())


def is_staged_id(text: str) -> bool:
    """Whether this may be the id of a staged model: workspace/name, or the name alone."""
    return _ID.fullmatch(text) is not None
