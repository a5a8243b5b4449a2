"""Public datasets: the registry, the download, the preparation, and the local folder."""

import hashlib
import http.server
import io
import threading
import zipfile

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import xarray as xr

from s2d_zoo.data import datasets
from s2d_zoo.data.cache import cache_dir
from s2d_zoo.data.dataset_originals import prepare
from s2d_zoo.data.dataset_registry import Original
from s2d_zoo.data.datasets import dataset_names, describe_dataset, load_dataset
from s2d_zoo.data.images import read_image, write_image
from s2d_zoo.errors import AxesError, DownloadError, ImageFileError, UserInputError

NAMES = (
    "membrane_cortex",
    "membrane_isbi",
    "mito_epfl",
    "mito_vnc",
    "nuclei_dsb_fluo",
    "nuclei_dsb_histo",
    "nuclei_gowt1",
    "nuclei_hela",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("S2D_ZOO_DATA", raising=False)
    monkeypatch.setenv("S2D_ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def host(tmp_path):
    """A web server on this machine; what lies in its folder can be fetched."""
    folder = tmp_path / "host"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args, **options):
            super().__init__(*args, directory=str(folder), **options)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def image_bytes(values, suffix):
    return iio.imwrite("<bytes>", values, extension=suffix)


def write_ctc(path, *, missing=(), dtype="uint16"):
    rng = np.random.default_rng(0)
    sequences = {"01": (13, 52), "02": (75, 79)}
    with zipfile.ZipFile(path, "w") as file:
        for sequence, frames in sequences.items():
            for frame in frames:
                values = rng.integers(100, 4000 if dtype == "uint16" else 250, (12, 14)).astype(dtype)
                file.writestr(f"HeLa/{sequence}/t{frame:03}.tif", tiff_bytes(values))
                if frame not in missing:
                    labels = np.full((12, 14), frame, np.uint16)
                    file.writestr(f"HeLa/{sequence}_GT/SEG/man_seg{frame:03}.tif", tiff_bytes(labels))


def tiff_bytes(values):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values)
    return buffer.getvalue()


def publish(monkeypatch, host, name, path):
    """Make the registry expect this file at the local host."""
    description = describe_dataset(name)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    changes = {"url": f"{host}/{path.name}", "sha256": sha256}
    original = Original.model_validate({**description.original.model_dump(), **changes})
    changed = description.model_copy(update={"original": original})
    monkeypatch.setattr(datasets, "describe_dataset", lambda _name: changed)
    return original


# --- registry


def test_all_datasets_are_described_with_licence_and_citation():
    assert dataset_names() == NAMES
    for name in NAMES:
        description = describe_dataset(name)
        assert description.name == name
        assert description.license
        assert description.citation
        assert set(description.splits) == {"train", "test"}
        assert description.original is None or set(description.original.labels) <= set(description.labels)


def test_an_unknown_dataset_is_answered_with_the_known():
    with pytest.raises(UserInputError, match=r"'mitos'.*mito_vnc"):
        describe_dataset("mitos")


@pytest.mark.parametrize(("split", "label", "answer"), [("val", None, "train, test"), ("test", "golgi", "mito_inst")])
def test_an_unknown_split_or_label_is_answered_with_the_known(split, label, answer):
    with pytest.raises(UserInputError, match=answer):
        load_dataset("mito_vnc", split, label=label)


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("S2D_ZOO_CACHE")
    assert cache_dir().name == "s2d-zoo"


# --- local folder


@pytest.fixture
def data_dir(tmp_path):
    folder = tmp_path / "data"
    plane = xr.DataArray(np.ones((6, 7), np.uint8), dims=("y", "x"))
    for name in ("b", "a"):
        write_image(folder / f"nuclei_gowt1/test/raw/{name}.tif", plane)
        write_image(folder / f"nuclei_gowt1/test/label/{name}.tif", plane.astype(np.uint16))
    for kind in ("raw", "mito", "membrane"):
        write_image(folder / f"mito_vnc/test/{kind}.tif", plane.expand_dims(z=3))
    return folder


def test_images_are_read_from_a_folder_in_the_order_of_their_names(data_dir):
    found = load_dataset("nuclei_gowt1", "test", data_dir=data_dir)
    assert [entry.name for entry in found] == ["a", "b"]
    assert found[0].image.dims == ("channel", "y", "x")
    assert found[0].labels.dims == ("y", "x")
    assert found[0].labels.dtype == np.uint16
    assert found[0].image.attrs["pixel_size"].x == 0.24


def _write_gowt1(folder, size):
    image = xr.DataArray(np.arange(size**2, dtype=np.uint16).reshape(1, size, size), dims=("channel", "y", "x"))
    write_image(folder / "nuclei_gowt1/train/raw/t21.tif", image)
    write_image(folder / "nuclei_gowt1/train/label/t21.tif", image.isel(channel=0))
    return image


def test_the_rim_without_labels_is_cut_off_where_asked_for(tmp_path):
    image = _write_gowt1(tmp_path, 103)
    (whole,) = load_dataset("nuclei_gowt1", "train", data_dir=tmp_path)
    (inner,) = load_dataset("nuclei_gowt1", "train", data_dir=tmp_path, without_rim=True)
    assert whole.labels.shape == (103, 103)
    np.testing.assert_array_equal(inner.image.values, image.values[:, 50:53, 50:53])
    np.testing.assert_array_equal(inner.labels.values, image.values[0, 50:53, 50:53])
    assert inner.image.attrs["pixel_size"].x == 0.24


def test_an_image_that_is_all_rim_is_refused(tmp_path):
    _write_gowt1(tmp_path, 100)
    assert load_dataset("nuclei_gowt1", "train", data_dir=tmp_path)
    with pytest.raises(UserInputError, match=r"t21 of nuclei_gowt1 should be larger than its rim of 50 px"):
        load_dataset("nuclei_gowt1", "train", data_dir=tmp_path, without_rim=True)


def test_nothing_is_cut_off_where_all_is_labelled(data_dir):
    (first, *_) = load_dataset("mito_vnc", "test", data_dir=data_dir, without_rim=True)
    (whole, *_) = load_dataset("mito_vnc", "test", data_dir=data_dir)
    xr.testing.assert_identical(first.image, whole.image)


def test_sections_of_a_stack_are_images(data_dir, monkeypatch):
    monkeypatch.setenv("S2D_ZOO_DATA", str(data_dir))
    found = load_dataset("mito_vnc", "test", label="membrane")
    assert [entry.name for entry in found] == ["000", "001", "002"]
    assert found[2].image.dims == ("channel", "y", "x")
    assert found[2].labels.dims == ("y", "x")
    assert found[2].image.attrs["pixel_size"].unit == "nanometer"


def test_a_missing_label_file_is_said(data_dir):
    with pytest.raises(ImageFileError, match=r"synapse\.tif"):
        load_dataset("mito_vnc", "test", data_dir=data_dir, label="synapse")


def test_labels_of_another_size_are_refused(data_dir):
    labels = xr.DataArray(np.ones((6, 8), np.uint16), dims=("y", "x"))
    write_image(data_dir / "nuclei_gowt1/test/label/a.tif", labels, overwrite=True)
    with pytest.raises(AxesError, match="image a of nuclei_gowt1"):
        load_dataset("nuclei_gowt1", "test", data_dir=data_dir)


def test_a_folder_without_the_dataset_is_refused(data_dir):
    with pytest.raises(UserInputError, match=r"should hold a folder nuclei_hela .*, but does not"):
        load_dataset("nuclei_hela", "test", data_dir=data_dir)
    with pytest.raises(UserInputError, match=r"should hold a folder nuclei_hela .*, but .*nowhere is not there"):
        load_dataset("nuclei_hela", "test", data_dir=data_dir / "nowhere")


# --- download


def test_an_original_is_fetched_and_prepared_once(host, monkeypatch):
    folder, url = host
    write_ctc(folder / "hela.zip")
    publish(monkeypatch, url, "nuclei_hela", folder / "hela.zip")
    train = load_dataset("nuclei_hela", "train")
    assert [entry.name for entry in train] == ["t13", "t52"]
    assert [int(entry.labels.max()) for entry in train] == [13, 52]
    assert train[0].image.dtype == np.uint8
    assert int(train[0].image.min()) == 0
    assert int(train[0].image.max()) == 255
    (folder / "hela.zip").unlink()
    assert [entry.name for entry in load_dataset("nuclei_hela", "test")] == ["t75", "t79"]


def test_a_folder_in_the_environment_without_the_dataset_leads_to_the_download(host, monkeypatch, data_dir):
    folder, url = host
    monkeypatch.setenv("S2D_ZOO_DATA", str(data_dir))
    write_ctc(folder / "hela.zip", dtype="uint8")
    publish(monkeypatch, url, "nuclei_hela", folder / "hela.zip")
    image = load_dataset("nuclei_hela", "train")[0].image
    assert int(image.min()) >= 100  # 8 bit stays as it is


def test_a_wrong_file_is_deleted_and_both_hashes_are_told(host, monkeypatch, tmp_path):
    folder, url = host
    write_ctc(folder / "hela.zip")
    original = publish(monkeypatch, url, "nuclei_hela", folder / "hela.zip")
    (folder / "hela.zip").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="--data-dir") as caught:
        load_dataset("nuclei_hela", "train")
    assert original.url in str(caught.value)
    assert original.sha256 in str(caught.value)
    assert hashlib.sha256(b"something else").hexdigest() in str(caught.value)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_file_that_is_not_there_is_a_download_error(host, monkeypatch):
    folder, url = host
    write_ctc(folder / "hela.zip")
    publish(monkeypatch, url, "nuclei_hela", folder / "hela.zip")
    (folder / "hela.zip").unlink()
    with pytest.raises(DownloadError, match=r"404.*--data-dir"):
        load_dataset("nuclei_hela", "train")


def test_a_dataset_without_a_known_checksum_is_not_downloaded():
    with pytest.raises(DownloadError, match=r"no original with a known SHA-256.*epfl\.ch.*--data-dir"):
        load_dataset("mito_epfl", "train")
    with pytest.raises(DownloadError, match="no original"):
        prepare(describe_dataset("mito_epfl"), None, None)


def test_a_label_that_cannot_be_prepared_is_not_downloaded():
    with pytest.raises(DownloadError, match="'synapse'"):
        load_dataset("mito_vnc", "train", label="synapse")


# --- preparation


def test_a_sequence_that_lacks_frames_is_refused(tmp_path):
    write_ctc(tmp_path / "a.zip", missing=(52,))
    with pytest.raises(DownloadError, match="0 sequences with labels for all of t13, t52"):
        prepare(describe_dataset("nuclei_hela"), tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("name", ["../evil.tif", "/etc/evil.tif", "a/../../evil.tif", "C:\\evil.tif", "..\\evil.tif"])
def test_names_that_lead_out_of_the_archive_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(name, b"")
    with pytest.raises(DownloadError, match="lead out of it"):
        prepare(describe_dataset("nuclei_hela"), tmp_path / "a.zip", tmp_path / "out")


def test_an_original_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(DownloadError, match="not built as expected"):
        prepare(describe_dataset("nuclei_hela"), tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize(("name", "channels"), [("nuclei_dsb_fluo", 1), ("nuclei_dsb_histo", 3)])
def test_masks_of_single_nuclei_become_instances(tmp_path, name, channels):
    description = describe_dataset(name)
    values = np.full((8, 9, 4), 7, np.uint8)
    values[..., 0] = 7 if channels == 1 else 9
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for entry in (*description.splits["train"], *description.splits["test"][1:]):
            root = f"train-hand/{entry}{'0' * 52}"
            file.writestr(f"{root}/images/x.png", image_bytes(values, ".png"))
            for index in range(2):
                mask = np.zeros((8, 9), np.uint8)
                mask[index * 4 : index * 4 + 2] = 255
                file.writestr(f"{root}/masks/m{index}.png", image_bytes(mask, ".png"))
    prepare(description, tmp_path / "a.zip", tmp_path / "data" / name)
    found = load_dataset(name, "test", data_dir=tmp_path / "data")
    assert [entry.name for entry in found] == list(description.splits["test"][1:])
    assert found[0].image.sizes["channel"] == channels
    assert np.unique(found[0].labels).tolist() == [0, 1, 2]


def test_an_archive_with_few_of_the_images_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    with pytest.raises(DownloadError, match="0 of 100 images of split train"):
        prepare(describe_dataset("nuclei_dsb_fluo"), tmp_path / "a.zip", tmp_path / "out")


def test_sections_become_stacks(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for z in range(20):
            file.writestr(f"vnc-master/stack1/raw/{z:02}.tif", tiff_bytes(np.full((8, 9), z, np.uint8)))
            mask = np.eye(8, 9, dtype=np.uint8) * 91
            file.writestr(f"vnc-master/stack1/mitochondria/{z:02}.png", image_bytes(mask, ".png"))
    prepare(describe_dataset("mito_vnc"), tmp_path / "a.zip", tmp_path / "data" / "mito_vnc")
    test = load_dataset("mito_vnc", "test", data_dir=tmp_path / "data")
    assert [int(entry.image.max()) for entry in test] == [16, 17, 18, 19]
    assert int(test[0].labels.sum()) == 8


def test_a_stack_that_lacks_sections_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("vnc-master/stack1/raw/00.tif", tiff_bytes(np.zeros((8, 9), np.uint8)))
    with pytest.raises(DownloadError, match="1 raw sections and 0 masks"):
        prepare(describe_dataset("mito_vnc"), tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("membrane_value", [0, 1])
def test_the_rarer_value_is_membrane(tmp_path, membrane_value):
    labels = np.full((30, 8, 9), 1 - membrane_value, np.uint8)
    labels[:, 3] = membrane_value
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((30, 8, 9), np.uint8)
        file["labels/membranes"] = labels
    prepare(describe_dataset("membrane_isbi"), tmp_path / "a.h5", tmp_path / "data" / "membrane_isbi")
    test = load_dataset("membrane_isbi", "test", data_dir=tmp_path / "data")
    assert len(test) == 6
    assert np.array_equal(test[0].labels.values, (labels[0] == membrane_value).astype(np.uint8))


def test_membranes_of_three_values_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((30, 8, 9), np.uint8)
        file["labels/membranes"] = (np.arange(30 * 72).reshape(30, 8, 9) % 3).astype(np.uint8)
    with pytest.raises(DownloadError, match="3 values"):
        prepare(describe_dataset("membrane_isbi"), tmp_path / "a.h5", tmp_path / "out")


# --- the real data


@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
def test_the_real_folder_has_what_the_registry_says(realdata_dir, name):
    description = describe_dataset(name)
    found = load_dataset(name, "test", data_dir=realdata_dir)
    assert tuple(entry.name for entry in found) == description.splits["test"]
    for entry in found:
        assert entry.image.dims == ("channel", "y", "x")
        assert entry.image.dtype == np.uint8
        assert entry.image.sizes["channel"] == (3 if "histo" in name else 1)
        assert int(entry.labels.max()) > 0
        assert entry.image.attrs.get("pixel_size") == description.pixel_size


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["nuclei_gowt1", "nuclei_hela"])
def test_every_labelled_nucleus_reaches_into_the_field_of_interest(realdata_dir, name):
    rim = describe_dataset(name).unlabelled_rim
    for split in ("train", "test"):
        for entry in load_dataset(name, split, data_dir=realdata_dir):
            labels = entry.labels.values
            assert set(np.unique(labels)) == set(np.unique(labels[rim:-rim, rim:-rim]))


@pytest.mark.realdata
@pytest.mark.parametrize("name", NAMES)
def test_the_training_names_are_those_of_the_registry(realdata_dir, name):
    description = describe_dataset(name)
    folder = realdata_dir / name / "train"
    if description.layout == "images":
        assert tuple(sorted(path.stem for path in (folder / "raw").iterdir())) == description.splits["train"]
    else:
        assert read_image(folder / "raw.tif").sizes["z"] == len(description.splits["train"])


@pytest.mark.realdata
@pytest.mark.parametrize("name", ["mito_vnc", "mito_epfl", "membrane_isbi", "membrane_cortex"])
def test_every_label_of_the_registry_is_in_the_real_folder(realdata_dir, name):
    labels = set(describe_dataset(name).labels)
    for split in ("train", "test"):
        assert {path.stem for path in (realdata_dir / name / split).glob("*.tif")} - {"raw"} == labels
