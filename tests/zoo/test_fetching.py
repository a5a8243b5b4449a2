"""Fetching one file from a server that cuts, lies, dawdles and leads astray."""

import gzip

import pytest
from tests.zoo.local_zoo import sha256

from s2d_zoo.data.hashing import sha256_of
from s2d_zoo.errors import DownloadError
from s2d_zoo.zoo import fetching
from s2d_zoo.zoo.fetching import check_address, fetch_bytes, fetch_file

CONTENT = bytes(range(256)) * 50


@pytest.fixture
def fetch(tmp_path):
    """Fetch to a path, and give what is there then."""

    def call(url, **options):
        path = tmp_path / "there" / "file.bin"
        options = {"max_bytes": 10**6, "parts": tmp_path / "parts", **options}
        fetch_file(url, path, **options)
        return path.read_bytes()

    return call


@pytest.fixture
def left(tmp_path):
    """What lies around after a call: finished files, and parts."""

    def names():
        return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.glob("[tp]*/*") if path.is_file())

    return names


def test_a_file_arrives_whole_and_nothing_else_stays(server, fetch, left):
    assert fetch(server.put("/a", CONTENT), sha256=sha256(CONTENT).upper()) == CONTENT
    assert left() == ["there/file.bin"]


def test_the_hash_of_a_file(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "file") == sha256(CONTENT)


def test_a_file_that_is_there_already_is_not_fetched_again(server, fetch):
    url = server.put("/a", CONTENT)
    for _ in range(2):
        fetch(url, sha256=sha256(CONTENT))
    assert server.count("/a") == 1


def test_a_file_whose_hash_is_not_known_is_always_fetched(server, fetch):
    fetch(server.put("/a", b"old"))
    assert fetch(server.put("/a", b"new")) == b"new"


def test_a_cut_connection_is_resumed_where_it_broke(server, fetch):
    url = server.put("/a", CONTENT, cuts=[3000, 4000])
    assert fetch(url, sha256=sha256(CONTENT)) == CONTENT
    assert server.asked == [("/a", None), ("/a", "bytes=3000-"), ("/a", "bytes=7000-")]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, fetch, left):
    url = server.put("/a", CONTENT, cuts=[3000, 0, 0, 0])
    with pytest.raises(DownloadError, match=r"3000 bytes came and are kept; the same command goes on"):
        fetch(url, sha256=sha256(CONTENT))
    assert not any(name.startswith("there") for name in left())
    server.asked.clear()
    assert fetch(url, sha256=sha256(CONTENT)) == CONTENT
    assert server.asked == [("/a", "bytes=3000-")]
    assert left() == ["there/file.bin"]


@pytest.mark.parametrize("how", [{"etag": '"1"'}, {"etag": None, "modified": "Sat, 21 Nov 2026 16:00:00 GMT"}])
def test_without_a_hash_it_is_resumed_if_the_server_tells_versions_apart(server, fetch, how):
    url = server.put("/a", CONTENT, cuts=[3000], **how)
    assert fetch(url) == CONTENT
    assert server.asked[1] == ("/a", "bytes=3000-")


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_hash_and_a_version_it_begins_again(server, fetch, etag):
    assert fetch(server.put("/a", CONTENT, cuts=[3000], etag=etag)) == CONTENT
    assert server.asked == [("/a", None), ("/a", None)]


def test_a_file_that_changed_in_between_is_not_glued_together(server, fetch):
    with pytest.raises(DownloadError):
        fetch(server.put("/a", CONTENT, cuts=[3000, 0, 0, 0]))
    changed = CONTENT[::-1]
    assert fetch(server.put("/a", changed, etag='"2"')) == changed


def test_a_server_without_ranges_sends_all_again(server, fetch):
    assert fetch(server.put("/a", CONTENT, cuts=[3000], ranges=False), sha256=sha256(CONTENT)) == CONTENT


def test_a_server_that_always_cuts_at_the_same_place_is_given_up(server, fetch):
    with pytest.raises(DownloadError, match="3000 bytes came"):
        fetch(server.put("/a", CONTENT, cuts=[3000] * 9, ranges=False))
    assert server.count("/a") == 4


def test_a_part_that_begins_elsewhere_is_not_used(server, fetch):
    resource = server.put("/a", CONTENT, cuts=[3000], shift=5)
    assert fetch(resource, sha256=sha256(CONTENT)) == CONTENT
    assert server.asked == [("/a", None), ("/a", "bytes=3000-"), ("/a", None)]


def test_a_part_longer_than_the_file_is_thrown_away(server, fetch):
    with pytest.raises(DownloadError):
        fetch(server.put("/a", CONTENT, cuts=[3000, 0, 0, 0]), sha256=sha256(b"short"))
    assert fetch(server.put("/a", b"short"), sha256=sha256(b"short")) == b"short"


def test_a_wrong_hash_is_told_and_nothing_is_kept(server, fetch, left):
    url = server.put("/a", CONTENT)
    with pytest.raises(DownloadError, match=rf"(?s)is not the expected file: .*{sha256(b'other')}.*Nothing was kept"):
        fetch(url, sha256=sha256(b"other"))
    assert left() == []


def test_a_hash_that_is_none_is_told(server, fetch):
    with pytest.raises(DownloadError, match=r"Expected 64 hexadecimal digits.*'abc'"):
        fetch(server.put("/a", CONTENT), sha256="abc")


def test_a_file_that_is_announced_as_longer_than_it_is_is_no_file(server, fetch, left):
    with pytest.raises(DownloadError, match="12000 bytes came"):
        fetch(server.put("/a", CONTENT, length=99_999))
    assert not any(name.startswith("there") for name in left())


def test_a_file_that_is_announced_as_shorter_than_it_is_has_the_wrong_hash(server, fetch, left):
    with pytest.raises(DownloadError, match="not the expected file"):
        fetch(server.put("/a", CONTENT, length=100), sha256=sha256(CONTENT))
    assert left() == []


@pytest.mark.parametrize(
    ("length", "told"), [(None, "announces 12800 bytes"), (-1, "goes on and on"), (10**12, "announces 10{12} bytes")]
)
def test_a_file_that_is_too_long_is_refused(server, fetch, left, length, told):
    with pytest.raises(DownloadError, match=rf"{told}; expected at most 5000 bytes"):
        fetch(server.put("/a", CONTENT, length=length), max_bytes=5000)
    assert not any("." not in name for name in left())


def test_files_are_asked_for_as_they_are_so_that_lengths_and_ranges_are_theirs(server, fetch):
    fetch(server.put("/a", CONTENT))
    assert server.encodings == {"identity"}


def test_a_compressed_answer_is_measured_by_what_comes_out_of_it(server, fetch):
    url = server.put("/a", gzip.compress(bytes(10**5)), encoding="gzip")
    assert fetch(url) == bytes(10**5)
    with pytest.raises(DownloadError, match="goes on and on"):
        fetch(url, max_bytes=10**4)


def test_a_server_that_falls_silent_is_given_up(server, fetch, monkeypatch):
    monkeypatch.setattr(fetching, "_TIMEOUT", (0.2, 0.2))
    monkeypatch.setattr(fetching, "_MAX_FAILURES", 1)
    with pytest.raises(DownloadError, match="timed out"):
        fetch(server.put("/a", CONTENT, pause=1, ranges=False))


def test_a_slow_server_is_waited_for(server, fetch):
    assert fetch(server.put("/a", CONTENT, pause=0.2)) == CONTENT


def test_an_error_that_may_pass_is_asked_again_and_others_are_not(server, fetch):
    assert fetch(server.put("/a", CONTENT, statuses=[503, 429])) == CONTENT
    with pytest.raises(DownloadError, match=r"404.*Check the name"):
        fetch(server.url("/none"))
    assert server.count("/none") == 1
    with pytest.raises(DownloadError, match="answered 500"):
        fetch(server.put("/b", CONTENT, statuses=[500] * 3))


def test_redirects_are_followed_and_resumed(server, fetch):
    server.put("/a", location="/b")
    server.put("/b", CONTENT, cuts=[3000])
    assert fetch(server.url("/a"), sha256=sha256(CONTENT)) == CONTENT
    assert server.asked[-1] == ("/b", "bytes=3000-")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[x"])
def test_redirects_to_anything_but_http_are_refused(server, fetch, target):
    with pytest.raises(DownloadError, match=r"Expected an address that begins|Invalid IPv6 URL. Check the name"):
        fetch(server.put("/a", location=target))
    assert server.count("/a") == 1


def test_redirects_without_an_end_are_refused(server, fetch):
    with pytest.raises(DownloadError, match="more than 10 times"):
        fetch(server.put("/a", location="/a"))


def test_an_encrypted_address_does_not_lead_to_an_open_one(server, fetch, monkeypatch):
    server.put("/a", location="http://example.org/b")
    ask = fetching.requests.get
    monkeypatch.setattr(fetching.requests, "get", lambda url, **how: ask(url.replace("https:", "http:"), **how))
    with pytest.raises(DownloadError, match="which is not encrypted"):
        fetch(server.url("/a").replace("http:", "https:"))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "x.yaml", "https:///x", "http://[x"])
def test_other_addresses_are_refused(url):
    with pytest.raises(DownloadError, match="address"):
        check_address(url)


def test_something_short_is_fetched_as_bytes(server):
    assert fetch_bytes(server.put("/a", b"[]"), max_bytes=10) == b"[]"


def test_progress_goes_to_stderr_only_if_wanted(server, fetch, capfd):
    fetch(server.put("/my%20file.bin", CONTENT), progress=True)
    shown = capfd.readouterr()
    assert "my file.bin" in shown.err
    fetch(server.put("/b", CONTENT))
    assert capfd.readouterr() == ("", "")
    assert shown.out == ""
