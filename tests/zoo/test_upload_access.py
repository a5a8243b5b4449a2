"""Tokens that show themselves nowhere, and addresses that they may be sent to."""

import os

import pytest
import requests
from tests.zoo.upload_stub import TOKEN

from s2d_zoo.errors import ConfigError
from s2d_zoo.zoo.upload_access import (
    OWN_MODELS_PAGE,
    USUAL_VARIABLE,
    ZOO_SERVER,
    Token,
    check_server,
    host_of,
    one_line,
    origin_of,
    own_models,
)


def test_a_token_comes_from_the_environment_and_stands_in_the_header_only(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", f"{TOKEN}\n")
    token = Token.from_environment("MY_TOKEN")
    request = requests.Request("POST", "https://zoo/create", auth=token).prepare()
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in f"{token} {token!r} {request!r}"


def test_processes_that_are_started_later_do_not_get_the_token(monkeypatch):
    monkeypatch.setenv("MINE", TOKEN)
    Token.from_environment("MINE")
    assert "MINE" not in os.environ


@pytest.mark.parametrize(
    "secret", ["short", "two words", "line\nbreak-in-it", "nötleast8", 'quote"quote', "a\0bcdefgh"]
)
def test_what_can_be_no_token_is_refused_and_not_shown(secret):
    with pytest.raises(ConfigError, match="not shown here") as caught:
        Token(secret)
    assert secret not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_a_variable_that_is_not_set_is_told_without_its_name_which_may_be_the_token(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv(TOKEN, value)
    with pytest.raises(ConfigError, match=r"not set, or empty.*bioimage\.io/#/api") as caught:
        Token.from_environment(TOKEN)
    assert TOKEN not in str(caught.value)


def test_where_ones_models_are_depends_on_the_server():
    assert own_models(ZOO_SERVER) == OWN_MODELS_PAGE
    assert own_models("https://zoo.example") == "your models there"


def test_the_usual_variable_is_told_by_its_name(monkeypatch):
    monkeypatch.delenv(USUAL_VARIABLE, raising=False)
    with pytest.raises(ConfigError, match=f"variable {USUAL_VARIABLE} is not set, or empty"):
        Token.from_environment(USUAL_VARIABLE)


def test_a_token_is_taken_out_of_texts_in_whatever_case():
    token = Token(TOKEN)
    assert token.is_in(f"https://{TOKEN.lower()}.example")
    assert token.redacted(f"a {TOKEN} b {TOKEN.upper()}") == "a (token) b (token)"
    assert not token.is_in(TOKEN[:-1])


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("zoo", ZOO_SERVER),
        (f"{ZOO_SERVER}/", ZOO_SERVER),
        ("http://localhost:9/am", "http://localhost:9/am"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_servers_are_the_zoo_encrypted_ones_and_this_machine(given, address):
    assert check_server(given) == address


@pytest.mark.parametrize(
    "address",
    [
        "http://hypha.aicell.io/am",
        "http://localhost.example.org",
        "http://127.0.0.1.example.org",
        "http://10.0.0.1",
        "http://[::2]",
    ],
)
def test_a_token_is_not_sent_where_it_could_be_read_on_the_way(address):
    with pytest.raises(ConfigError, match="not encrypted"):
        check_server(address)


@pytest.mark.parametrize(
    "address",
    [
        *("", "hypha.aicell.io", "ftp://a", "file:///etc/passwd", "https://", "https:///create", "https://[a"),
        *("http://localhost@example.org", "https://ada:5ecret@example.org", "http://localhost\\@example.org"),
        *("https://a?5ecret", "https://a#5ecret", "https://a b", "https://a\n"),
    ],
)
def test_what_is_no_address_of_a_server_is_refused_and_not_shown(address):
    with pytest.raises(ConfigError, match="--server; found something else") as caught:
        check_server(address)
    assert "5ecret" not in str(caught.value)


def test_hosts_are_told_without_what_follows():
    assert origin_of("https://Store.example/a?X-Amz-Signature=5ecret") == "https://store.example"
    assert origin_of("/elsewhere?5ecret") == "on the same server"
    assert host_of("http://[") == ""
    assert host_of("https://ev\x1bil.example/") == "evil.example"


def test_a_line_holds_nothing_that_moves_the_cursor():
    assert one_line("a\x1b[2J\r\nb\u202e\u200b c\ud800\t") == "a[2J b c"
