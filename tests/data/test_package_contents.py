import errno
import stat
import time
import zipfile
from pathlib import Path

import pytest
from bioimageio.spec.utils import read_yaml

from s2d_zoo.data import package_contents
from s2d_zoo.data.package_contents import is_outside, open_package
from s2d_zoo.errors import PackageError, UnsafePackageError, UserInputError

RDF = ("rdf.yaml", "type: model")
MERGED = "{new}: &{new} {{<<: [{old}]}}\n"
STEPS = list(zip("abcdefgh", "bcdefghi", strict=True))


def test_a_zip_is_unpacked_and_tidied_away(package):
    with open_package(package) as contents:
        assert contents.rdf["id"] == "tiny-enhancer"
        assert (contents.folder / "weights.pt").is_file()
        assert contents.source == package
    assert not contents.folder.exists()


def test_a_folder_is_used_where_it_lies(folder):
    with open_package(folder.path) as contents:
        assert contents.folder == folder.path
    assert folder.path.exists()


def test_every_file_that_the_description_names_is_found(package):
    with open_package(package) as contents:
        references = {entry.name: entry for entry in contents.references()}
        names = {path.name for path in contents.folder.iterdir()}
    assert set(references) == names - {"rdf.yaml"}
    assert all(entry.sha256 for entry in references.values())
    assert references["unet.py"].where == "weights.pytorch_state_dict.architecture"


def test_a_character_as_icon_is_no_file(zipped):
    with open_package(
        zipped([("rdf.yaml", "icon: 🧬\ncovers: [{source: a.png}, b.png]\nconfig: {a: {source: c}}")])
    ) as (contents):
        assert [entry.name for entry in contents.references()] == ["a.png", "b.png"]


def test_an_id_in_place_of_a_path_is_told_how_to_have_the_model():
    with (
        pytest.raises(UserInputError, match="s2d-zoo download nowhere-at-all --output"),
        open_package(Path("nowhere-at-all")),
    ):
        pass


def test_nothing_at_the_path_is_misuse(tmp_path):
    with pytest.raises(UserInputError, match=r"no package at .*none\.zip"), open_package(tmp_path / "none.zip"):
        pass


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    path = tmp_path / "text.zip"
    path.write_text("hello")
    with pytest.raises(PackageError, match="Expected a zip file"), open_package(path):
        pass


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_truncated_zip_is_refused(package, tmp_path, share):
    content = package.read_bytes()
    path = tmp_path / "truncated.zip"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(PackageError, match="export it again"), open_package(path):
        pass


def test_a_zip_with_a_damaged_member_is_refused(package, tmp_path):
    content = bytearray(package.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "damaged.zip"
    path.write_bytes(content)
    with pytest.raises(PackageError, match="cannot be unpacked"), open_package(path):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_is_refused_however_it_is_compressed(tmp_path, method):
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("rdf.yaml", "type: model\n" * 100)
    content = bytearray(path.read_bytes())
    content[42:47] = b"\xff" * 5  # where the method says how it was compressed
    path.write_bytes(content)
    with pytest.raises(PackageError, match="cannot be unpacked"), open_package(path):
        pass


def test_a_name_too_long_for_a_file_system_is_refused(zipped):
    path = zipped([RDF, ("a" * 300, "x")])
    with pytest.raises(PackageError, match="a' has a name that is too long"), open_package(path):
        pass


def test_a_name_that_is_no_text_is_refused(zipped):
    path = zipped([RDF, ("é.txt", "x")])
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(PackageError, match="cannot be unpacked"), open_package(path):
        pass


def test_a_full_disk_is_not_the_fault_of_the_package(package, monkeypatch):
    def extractall(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", extractall)
    with pytest.raises(OSError, match="No space left"), open_package(package):
        pass


@pytest.mark.parametrize("names", [["a", "a/b"], ["a/b", "A"], ["a/b/c", "a/b"]])
def test_a_file_that_is_also_a_folder_is_refused(zipped, names):
    path = zipped([RDF, *((name, "x") for name in names)])
    with pytest.raises(UnsafePackageError, match="readers differ"), open_package(path):
        pass


def test_folders_may_be_listed_and_left_out(zipped):
    with open_package(zipped([RDF, ("a/", ""), ("a/b", "x"), ("c/d", "x"), ("c/e", "x")])) as contents:
        assert (contents.folder / "a" / "b").is_file()
        assert (contents.folder / "c" / "e").is_file()


@pytest.mark.parametrize("name", ["../evil", "/etc/passwd", "a/../../b", "C:\\x", "..\\x", "\\\\host\\x"])
def test_a_member_outside_of_the_package_is_not_unpacked(zipped, name):
    path = zipped([RDF, (name, "x")])
    with pytest.raises(UnsafePackageError, match="outside of the package"), open_package(path):
        pass
    assert is_outside(name)


@pytest.mark.parametrize("name", ["a\0b", "a" * 256, "b/" + "ä" * 128])
def test_a_name_that_no_file_can_have_is_not_in_a_package(name):
    assert is_outside(name)


@pytest.mark.parametrize("name", ["a", "a/b.c", "a..b", "...", "a" * 255, "a/" * 200 + "b"])
def test_ordinary_names_are_inside(name):
    assert not is_outside(name)


def test_a_link_is_not_unpacked(zipped):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(UnsafePackageError, match="is a link"), open_package(zipped([RDF, (link, "/etc")])):
        pass


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_is_there_twice_is_refused(zipped):
    with pytest.raises(UnsafePackageError, match="there twice"), open_package(zipped([RDF, RDF])):
        pass


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("weights.pt", "Weights.PT"),
        ("straße", "STRASSE"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"),
        ("a/b", "a//b"),
        ("a/b", "a/./b"),
    ],
)
def test_names_that_are_one_file_on_some_system_are_refused(zipped, one, other):
    path = zipped([RDF, (one, "x"), (other, "y")])
    with pytest.raises(UnsafePackageError, match="there twice: readers differ"), open_package(path):
        pass


def test_a_package_of_far_too_many_files_is_not_unpacked(zipped):
    path = zipped([RDF, *((str(number), "") for number in range(10_000))])
    with pytest.raises(UnsafePackageError, match="holds 10001 files, expected at most 10000"), open_package(path):
        pass


def test_a_package_that_is_far_too_large_is_not_unpacked(zipped, monkeypatch):
    monkeypatch.setattr(package_contents, "_MAX_BYTES", 10)
    with pytest.raises(UnsafePackageError, match="unpacks to"), open_package(zipped([RDF])):
        pass


def test_a_description_that_is_far_too_large_is_not_read(zipped, monkeypatch):
    monkeypatch.setattr(package_contents, "_MAX_RDF_BYTES", 10)
    with pytest.raises(UnsafePackageError, match="at most 10"), open_package(zipped([RDF])):
        pass


def test_a_description_that_names_a_file_elsewhere_is_refused(zipped, tmp_path):
    path = zipped([("rdf.yaml", "weights: {onnx: {source: ../../secret}}")])
    with pytest.raises(UnsafePackageError, match=r"weights\.onnx .* names '\.\./\.\./secret'"), open_package(path):
        pass


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("model/rdf.yaml", "")], "found no description"),
        ([("rdf.yaml", "a: [")], "Expected YAML"),
        ([("rdf.yaml", b"\xff\xfe\xff")], "Expected YAML"),
        ([("rdf.yaml", "- a")], "Expected a mapping .* found list"),
        ([("rdf.yaml", "")], "Expected a mapping .* found NoneType"),
        ([("rdf.yaml", "a: !!bool foo")], "Expected YAML"),
        ([("rdf.yaml", "!!bool x: 1")], "Expected YAML"),
        ([("rdf.yaml", 'a: !!int ""')], "Expected YAML"),
        ([("rdf.yaml", 'a: !!float ""')], "Expected YAML"),
        ([("rdf.yaml", "? [[a]]\n: 1")], "Expected YAML"),
        ([("rdf.yaml", 'documentation: "a\\0b.md"')], "no name of a file"),
        ([("rdf.yaml", f"documentation: {'a' * 300}")], "no name of a file"),
    ],
)
def test_a_package_without_a_readable_description_is_refused(zipped, members, message):
    with pytest.raises(PackageError, match=message), open_package(zipped(members)):
        pass


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{n}: &{n} [{', '.join(['*' + p] * 10)}]\n" for p, n in zip("abcdef", "bcdefg", strict=True)),
        "a: &a {k: 1}\n" + "".join(MERGED.format(new=n, old=", ".join(["*" + p] * 9)) for p, n in STEPS),
        # the tag of a merge key, in other words
        "%TAG !m! tag:yaml.org,2002:mer\n---\na: &a {k: 1}\n"
        + "".join(MERGED.format(new=n, old=", ".join(["*" + p] * 9)) for p, n in STEPS).replace("<<", "!m!ge x"),
        "a: &a [*a]\n",
        "a: &a {<<: [*a, *a], k: 1}\n",
    ],
    ids=["many", "merged", "merged by tag", "endless", "merged into itself"],
)
def test_aliases_that_grow_without_end_are_refused_at_once(zipped, text):
    start = time.monotonic()
    with pytest.raises(UnsafePackageError, match="Aliases"), open_package(zipped([("rdf.yaml", text)])):
        pass
    assert time.monotonic() - start < 5  # a fraction of a second; without end if they are followed


@pytest.mark.filterwarnings("error")
def test_ordinary_aliases_and_merges_are_read_as_ever(zipped, tmp_path):
    text = (
        "type: model\naxis: &axis {type: space, size: 64}\ny: {<<: *axis, id: y}\nx: {<<: [*axis], id: x}\n"
        "again: *axis\nother: &axis 1\n"
    )
    with open_package(zipped([("rdf.yaml", text)])) as contents:
        assert contents.rdf["y"] == {"type": "space", "size": 64, "id": "y"}
        assert contents.rdf["again"] == {"type": "space", "size": 64}
    (tmp_path / "plain.yaml").write_text(text.replace("&axis 1", "1"))
    assert contents.rdf == read_yaml(tmp_path / "plain.yaml")


def test_an_address_that_leads_out_of_the_package_is_refused(zipped):
    rdf = "type: model\nattachments: [{source: 'xx://../../../../etc/hostname'}]"
    with pytest.raises(UnsafePackageError, match="outside"), open_package(zipped([("rdf.yaml", rdf)])):
        pass
