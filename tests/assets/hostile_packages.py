"""Packages that nobody should open, load or run: ``python -m tests.assets.hostile_packages FOLDER`` makes them all.

Every function takes an unpacked good package (`Folder` of tests/conftest.py) and the path of a *marker*: a file that
must not be there afterwards, and that comes into being if code of the package is run, or its names are followed. It
returns the path of a zip or a folder. What must be said of it is listed in `HOSTILE`.
"""

import io
import pickle
import stat
import struct
import sys
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

#: values of float32 that take 10 GB
TEN_GB = 2_500_000_000
MIB = 1024**2

CODE = """
import pathlib

import torch

pathlib.Path({marker!r}).write_text("code was run")


class Net(torch.nn.Conv2d):
    def forward(self, image):
        return torch.sigmoid(super().forward(image))
"""


class Reduced:
    """Unpickled, it opens a file for writing."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


class WritingWhenRun(nn.Module):
    """Saves its input."""

    def __init__(self, marker: str):
        super().__init__()
        self.marker = marker

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        torch.save(image, self.marker)
        return torch.cat([image, image], dim=1)


class WritingWhenLoaded(nn.Module):
    """Saves a tensor as soon as it is unpickled."""

    def __init__(self, marker: str):
        super().__init__()
        self.marker = marker

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([image, image], dim=1)

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.marker, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.marker = state[0]
        self.training = state[1]
        torch.save(torch.zeros(1), self.marker)


class MappingFiles(nn.Module):
    """Maps a file into memory, which makes it."""

    def __init__(self, marker: str):
        super().__init__()
        self.marker = marker

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mapped = torch.from_file(self.marker, shared=True, size=4, dtype=torch.uint8).fill_(88)
        return torch.cat([image, image], dim=1) + 0 * mapped.sum()


# ---- zips that must not be unpacked


def parent_name(folder, marker):
    """A member that would be written beside the package."""
    return packed(folder, (f"../{marker.name}", "x"))


def absolute_name(folder, marker):
    """A member that says where on the disk it wants to be."""
    return packed(folder, (str(marker), "x"))


def link(folder, marker):
    """A link to the folder of the marker, and a file below it."""
    entry = zipfile.ZipInfo("shortcut")
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return packed(folder, (entry, str(marker.parent)), (f"shortcut/{marker.name}", "x"))


def bomb_by_ratio(folder, marker):
    """Zeros, a thousand times smaller in the zip."""
    return packed(folder, ("zeros.npy", bytes(80 * MIB)), compression=zipfile.ZIP_DEFLATED)


def bomb_by_size(folder, marker):
    """A member that declares 10 GB."""
    path = packed(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("large.npy", "x")
        archive.infolist()[-1].file_size = 4 * TEN_GB
    return path


def bomb_by_count(folder, marker):
    """More files than any model has."""
    return packed(folder, *((f"files/{number}", "") for number in range(10_001)))


def packed(folder, *more, compression=zipfile.ZIP_STORED):
    """The package as a zip with more members; written to the disk as the names are, whatever they are."""
    path = folder.path.with_name(f"{folder.path.name}.zip")
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as archive:
        for file in sorted(folder.path.iterdir()):
            archive.write(file, file.name)
        for name, content in more:
            archive.writestr(name, content)
    return path


# ---- descriptions that must not be read


def alias_bomb(folder, marker):
    """Nine lists of nine aliases each: some hundred million entries."""
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    steps = zip("abcdefgh", "bcdefghi", strict=True)
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in steps]
    return described(folder, "\n".join(lines))


def python_tag(folder, marker):
    """YAML that would call a function of Python."""
    return described(folder, f"danger: !!python/object/apply:builtins.open [{str(marker)!r}, w]")


def described(folder, lines):
    """Add lines to the description."""
    with (folder.path / "rdf.yaml").open("a", encoding="utf-8") as file:
        file.write(f"\n{lines}\n")
    return folder.path


# ---- weights and tensors that must not be loaded


def pickle_in_state_dict(folder, marker):
    """Weights that call a function when they are unpickled."""
    published(folder, "pytorch_state_dict")
    torch.save({"head.weight": Reduced(marker)}, folder.path / "weights_state_dict.pt")
    return folder.save()


def bare_pickle(folder, marker):
    """The same as a pickle without a zip around it, as torch saved until 2020."""
    published(folder, "pytorch_state_dict")
    content = pickle.dumps({"head.weight": Reduced(marker)}, protocol=2)
    (folder.path / "weights_state_dict.pt").write_bytes(content)
    return folder.save()


def pickle_in_test_tensor(folder, marker):
    """An array of objects."""
    published(folder, "torchscript")
    np.save(folder.path / "test_input.npy", np.array([Reduced(marker)], dtype=object), allow_pickle=True)
    return folder.save()


def wrong_hash(folder, marker):
    """Other weights than those that the description names."""
    published(folder, "torchscript").save()
    with (folder.path / "weights.pt").open("ab") as file:
        file.write(b"x")
    return folder.path


def truncated_torchscript(folder, marker):
    """The first half of the file, whose hash is stated."""
    return truncated(published(folder, "torchscript"), "weights.pt")


def truncated_state_dict(folder, marker):
    """The first half of the file, whose hash is stated."""
    return truncated(published(folder, "pytorch_state_dict"), "weights_state_dict.pt")


def truncated_onnx(folder, marker):
    """The first half of the file, whose hash is stated."""
    return truncated(published(folder, "onnx"), "weights.onnx")


def truncated(folder, name):
    content = (folder.path / name).read_bytes()
    (folder.path / name).write_bytes(content[: len(content) // 2])
    return folder.save()


def huge_test_tensor(folder, marker):
    """An array that declares 10 GB, in a file of some bytes."""
    published(folder, "torchscript")
    header = io.BytesIO()
    shape = (1, 1, 50_000, TEN_GB // 50_000)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    (folder.path / "test_input.npy").write_bytes(header.getvalue() + bytes(64))
    return folder.save()


def huge_state_dict(folder, marker):
    """Values that declare 10 GB, where some bytes are."""
    published(folder, "pytorch_state_dict")
    enlarge_first_values(folder.path / "weights_state_dict.pt")
    return folder.save()


def huge_torchscript(folder, marker):
    """The same, which torch takes over into memory that is not its own."""
    published(folder, "torchscript")
    enlarge_first_values(folder.path / "weights.pt")
    return folder.save()


def enlarge_first_values(path):
    """Declare the values of the first tensor as 10 GB: its number of values stands at the end of a tuple of five."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    listed = next(name for name in members if name.endswith("/data.pkl"))
    content = members[listed]
    place = content.index(b"cpu") + len(b"cpu")
    place += 2 if content[place : place + 1] == b"q" else 0  # the word is noted for later
    width = {b"K": 2, b"M": 3, b"J": 5}[content[place : place + 1]]
    large = b"\x8a\x08" + struct.pack("<q", TEN_GB)
    members[listed] = content[:place] + large + content[place + width :]
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in members.items():
            archive.writestr(name, value)


def compressed_torchscript(folder, marker):
    """Values that unpack to a thousand times their size, inside of the weights."""
    published(folder, "torchscript")
    with zipfile.ZipFile(folder.path / "weights.pt", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        root = archive.namelist()[0].partition("/")[0]
        archive.writestr(f"{root}/data/1000", bytes(80 * MIB))
    return folder.save()


def huge_onnx(folder, marker):
    """A constant that declares 10 GB, and holds nothing."""
    published(folder, "onnx")
    network = onnx.load(folder.path / "weights.onnx")
    network.graph.initializer.append(onnx.TensorProto(name="large", data_type=1, dims=[50_000, TEN_GB // 50_000]))
    onnx.save(network, folder.path / "weights.onnx")
    return folder.save()


# ---- code that must not be run


def architecture_that_writes(folder, marker):
    """Python code that does something as soon as it is imported."""
    published(folder, "pytorch_state_dict")
    (folder.path / "net.py").write_text(CODE.format(marker=str(marker)), encoding="utf-8")
    torch.save(nn.Conv2d(1, 2, 3, padding=1).state_dict(), folder.path / "weights_state_dict.pt")
    kwargs = {"in_channels": 1, "out_channels": 2, "kernel_size": 3, "padding": 1}
    architecture = {"source": "net.py", "callable": "Net", "sha256": "", "kwargs": kwargs}
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"] = architecture
    return folder.save()


def script_that_writes_when_loaded(folder, marker):
    """TorchScript that saves a tensor when it is loaded."""
    return scripted(folder, WritingWhenLoaded(str(marker)))


def script_that_writes_when_run(folder, marker):
    """TorchScript that saves its input."""
    return scripted(folder, WritingWhenRun(str(marker)))


def script_that_maps_a_file(folder, marker):
    """TorchScript that maps a file into memory."""
    return scripted(folder, MappingFiles(str(marker)))


def scripted(folder, network):
    published(folder, "torchscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(folder.path / "weights.pt")
    return folder.save()


def keras_only(folder, marker):
    """Weights whose reader runs what they say."""
    published(folder)
    (folder.path / "weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    folder.rdf["weights"] = {"keras_hdf5": {"source": "weights.h5", "sha256": "", "tensorflow_version": "2.12"}}
    return folder.save()


def published(folder, *formats):
    """As enhancers were published before there were RF contracts: they are read as models of others are."""
    del folder.rdf["config"]["s2d_zoo"]
    return folder.keep_weights(*formats) if formats else folder


# ---- what must be said of them


@dataclass(frozen=True)
class Hostile:
    """A package, and how it is refused."""

    make: Callable
    says: str  #: pattern of what is said by whoever loads it: the file, and the reason
    check: str  #: of `validate`, which fails, or warns of code
    finds: str = ""  #: pattern of what that check says, if it is something else
    opens: bool = True  #: as data, of which nothing is loaded
    copies: bool = True  #: `download` does not know that file from another
    copying: str = ""  #: pattern of what is said where it does, if it is something else

    @property
    def name(self):
        return self.make.__name__


def _zip(make, says):
    return Hostile(make, says, "S01", opens=False, copies=False)


HOSTILE = (
    _zip(parent_name, r"\.\./marker\.txt' lies outside of the package"),
    _zip(absolute_name, r"/marker\.txt' lies outside of the package"),
    _zip(link, r"'shortcut' is a link"),
    _zip(bomb_by_ratio, r"unpacks to \d+ times its size, expected at most 100 times.*zeros\.npy"),
    _zip(bomb_by_size, r"unpacks to 9\.3 GiB, expected at most 4.*large\.npy"),
    _zip(bomb_by_count, r"holds 100\d\d files, expected at most 10000"),
    _zip(alias_bomb, r"rdf\.yaml is not safe to read: expected at most 100000 entries.*Aliases"),
    Hostile(python_tag, r"rdf\.yaml.*ConstructorError", "F00", opens=False, copies=False),
    Hostile(pickle_in_state_dict, r"weights_state_dict\.pt .*wants to call io\.open", "S02"),
    Hostile(bare_pickle, r"weights_state_dict\.pt .*wants to call io\.open", "S02"),
    Hostile(pickle_in_test_tensor, r"(?s)test.input.*Python objects", "F05", r"test_input\.npy"),
    Hostile(
        wrong_hash,
        r"weights\.pt, are not those that its description names",
        "F02",
        r"weights\.pt",
        copies=False,
        copying=r"weights\.pt is not the file of the description",
    ),
    Hostile(truncated_torchscript, r"weights\.pt cannot be read", "S04"),
    Hostile(truncated_state_dict, r"weights_state_dict\.pt .*is damaged, or was cut short", "S02"),
    Hostile(truncated_onnx, r"weights\.onnx", "W04", r"weights\.onnx cannot be read"),
    Hostile(huge_test_tensor, r"(?s)test.input.*cannot be read", "F05", r"test_input\.npy"),
    Hostile(huge_state_dict, r"weights_state_dict\.pt .*declares 9\.31 GiB of values", "S02"),
    Hostile(huge_torchscript, r"weights\.pt declares 9\.31 GiB of values", "S04"),
    Hostile(compressed_torchscript, r"weights\.pt holds compressed values", "S04"),
    Hostile(huge_onnx, r"weights\.onnx", "W04", r"weights\.onnx declares 2\.5e\+09 values in large"),
    Hostile(architecture_that_writes, r"net\.py of the package, SHA-256 [0-9a-f]{64}.*--trust-code", "S02", r"net\.py"),
    Hostile(script_that_writes_when_loaded, r"weights\.pt reads or writes files of the user \(save\)", "S04"),
    Hostile(script_that_writes_when_run, r"weights\.pt reads or writes files of the user \(save\)", "S04"),
    Hostile(script_that_maps_a_file, r"weights\.pt reads or writes files of the user \(from_file\)", "S04"),
    Hostile(keras_only, r"keras_hdf5 only, which cannot be trained \(weights\.h5\)", "W03", r"found keras_hdf5"),
)
#: which nobody should make room for
HUGE = (
    "bomb_by_size",
    "huge_test_tensor",
    "huge_state_dict",
    "huge_torchscript",
    "compressed_torchscript",
    "huge_onnx",
)


def make_all(folder: Path) -> dict[str, Path]:
    """Make all of them out of the enhancer that comes with s2d-zoo, each in a folder of its own."""
    from tests.conftest import Folder  # noqa: PLC0415 - pytest loads it by itself

    from s2d_zoo.zoo.collection import bundled_models  # noqa: PLC0415

    good = bundled_models()[0].path
    made = {}
    for hostile in HOSTILE:
        place = folder / hostile.name
        place.mkdir(parents=True)
        made[hostile.name] = hostile.make(Folder(place / "package", good), place / "marker.txt")
    return made


if __name__ == "__main__":
    for name, path in make_all(Path(sys.argv[1])).items():
        print(f"{name}: {path}")  # noqa: T201
