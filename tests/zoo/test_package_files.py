"""Which files a description names, in both formats, and which of them are refused."""

import pytest
from bioimageio.spec.utils import read_yaml
from tests.zoo.local_zoo import as_yaml, sha256

from s2d_zoo.data.package_contents import PackageContents
from s2d_zoo.errors import PackageError, UnsafePackageError
from s2d_zoo.zoo.package_files import collect, copy_checked, named_files


def opened(folder, **rdf):
    """A package of which only the description is there."""
    as_yaml(rdf, folder / "rdf.yaml")
    return PackageContents(source=folder, folder=folder, rdf_name="rdf.yaml", rdf=rdf)


def test_files_of_format_0_4_are_found_where_that_has_them(tmp_path):
    contents = opened(
        tmp_path,
        covers=["cover.png"],
        documentation="./doc.md",
        links=["doc.md"],
        test_inputs=["in.npy"],
        test_outputs=["out.npy", 3],
        sample_inputs=["in.tif", "./in.tif"],
        sample_outputs=["out.tif"],
        attachments={"files": ["macro.ijm"]},
        config={"thumbnails": {"cover.png": "small.png"}, "source": "no"},
        training_data={"id": "x", "source": "https://data.org/index.html"},
        weights={
            "pytorch_state_dict": {
                "source": "weights.pt",
                "sha256": "a" * 64,
                "architecture": "unet.py:UNet",
                "architecture_sha256": "b" * 64,
                "dependencies": "conda:environment.yaml",
            },
            "torchscript": {"source": "weights.pt", "architecture": "torch_em.model.UNet"},
            "onnx": 3,
        },
    )
    found = {file.name: file for file in named_files(contents)}
    assert set(found) == {
        *("weights.pt", "doc.md", "cover.png", "in.npy", "out.npy", "in.tif", "out.tif", "macro.ijm"),
        *("unet.py", "environment.yaml"),
    }
    assert found["weights.pt"].sha256 == "a" * 64
    assert found["unet.py"].sha256 == "b" * 64
    assert found["unet.py"].texts == ("unet.py:UNet",)


@pytest.mark.parametrize("rdf", [{}, {"weights": 3, "attachments": [], "test_inputs": 3}])
def test_a_description_without_files_names_none(tmp_path, rdf):
    assert named_files(opened(tmp_path, **rdf)) == ()


def test_addresses_become_names_that_are_free(tmp_path):
    contents = opened(
        tmp_path,
        documentation="https://a.org/b/README.md?x=1",
        covers=["cover.png", "https://a.org/c/cover.png", "https://b.org/cover%20a.png"],
        test_inputs=["http://a.org/d/cover.png"],
    )
    assert [file.name for file in named_files(contents)] == [
        *("README.md", "cover.png", "cover_2.png", "cover a.png", "cover_3.png")
    ]


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "C:\\x", "a\\..\\..\\x", "https://a.org/", "https://a.org/x%2f..%2f..%2fy", "", "."]
)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(UnsafePackageError, match="no file of a package"):
        named_files(opened(tmp_path, test_inputs=[name]))


@pytest.mark.parametrize(
    "names", [["a.npy", "A.npy"], ["rdf.yaml"], ["RDF.yaml"], ["x", "https://a.org/bioimageio.yaml"]]
)
def test_files_that_would_replace_each_other_are_refused(tmp_path, names):
    with pytest.raises(UnsafePackageError, match="would have one name, or one of them that of the description"):
        named_files(opened(tmp_path, test_inputs=names))


def test_too_many_files_are_refused(tmp_path):
    with pytest.raises(UnsafePackageError, match="it names 1001 files, expected at most 1000"):
        named_files(opened(tmp_path, test_inputs=[f"{number}.npy" for number in range(1001)]))


def test_a_file_with_two_hashes_is_refused(tmp_path):
    weights = {name: {"source": "w.pt", "sha256": name * 64} for name in "ab"}
    with pytest.raises(PackageError, match=r"states two SHA-256 of w\.pt"):
        named_files(opened(tmp_path, weights=weights))
    weights = {name: {"source": "w.pt", "sha256": name * 64} for name in "aA"}
    assert len(named_files(opened(tmp_path, weights=weights))) == 1


def collected(contents, base, folder):
    """Collect files that hold the place that they came from."""
    seen = {}

    def bring(place, path, sha256):
        seen[str(place)] = sha256
        path.write_text(str(place))

    return collect(contents, base, folder, bring), seen


def test_files_are_brought_from_beside_the_description_of_the_same_version(tmp_path):
    contents = opened(tmp_path / "a", weights={"x": {"source": "sub/w 1.pt", "sha256": "a" * 64}})
    names, seen = collected(contents, "https://zoo/shark/files/rdf.yaml?version=v0", tmp_path / "b")
    assert names == ("rdf.yaml", "sub/w 1.pt")
    assert seen == {"https://zoo/shark/files/sub/w%201.pt?version=v0": "a" * 64}
    assert (tmp_path / "b" / "sub" / "w 1.pt").is_file()
    assert (tmp_path / "b" / "rdf.yaml").read_bytes() == (tmp_path / "a" / "rdf.yaml").read_bytes()


def test_names_that_look_like_addresses_of_another_kind_stay_names(tmp_path):
    contents = opened(tmp_path / "a", test_inputs=["file:x"])
    assert list(collected(contents, "https://zoo/rdf.yaml", tmp_path / "b")[1]) == ["https://zoo/file%3Ax"]


def test_addresses_in_the_description_become_names(tmp_path):
    url = "https://a.org/files/unet.py"
    contents = opened(
        tmp_path / "a",
        name="n",
        documentation=url.replace("unet", "doc"),
        config={"kept": f"{url}:UNet"},
        training_data={"source": url},
        weights={"x": {"architecture": f"{url}:UNet", "dependencies": f"conda:{url}", "kwargs": {"depth": 3}}},
        covers=[url.replace("unet", "cover"), "b.png"],
    )
    names, seen = collected(contents, tmp_path, tmp_path / "b")
    assert set(names) == {"rdf.yaml", "doc.py", "cover.py", "unet.py", "b.png"}
    assert str(tmp_path / "b.png") in seen
    assert read_yaml(tmp_path / "b" / "rdf.yaml") == {
        "name": "n",
        "documentation": "doc.py",
        "config": {"kept": f"{url}:UNet"},
        "training_data": {"source": url},
        "weights": {"x": {"architecture": "unet.py:UNet", "dependencies": "conda:unet.py", "kwargs": {"depth": 3}}},
        "covers": ["cover.py", "b.png"],
    }


def test_a_link_out_of_a_local_package_is_refused(tmp_path):
    (tmp_path / "secret").write_text("x")
    contents = opened(tmp_path / "a", test_inputs=["link"])
    (tmp_path / "a" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafePackageError, match="leads out of it"):
        collected(contents, tmp_path / "a", tmp_path / "b")


def test_a_local_file_is_copied_if_it_is_the_one_stated(tmp_path):
    (tmp_path / "a").write_bytes(b"x")
    for stated in (None, sha256(b"x").upper()):
        copy_checked(tmp_path / "a", tmp_path / "b", stated)
        assert (tmp_path / "b").read_bytes() == b"x"
    with pytest.raises(PackageError, match=r"expected SHA-256 c+, found "):
        copy_checked(tmp_path / "a", tmp_path / "b", "c" * 64)
    with pytest.raises(PackageError, match=r"is not there\. Get a complete package"):
        copy_checked(tmp_path / "none", tmp_path / "b", None)
