"""Packages in the shapes that other tools give them, each with one fault, which its name and docstring tell.

Every function takes an unpacked good package (`Folder` of tests/conftest.py), changes it, and returns the path to
validate. The shapes are those that were met in published packages and in the writers of other tools. What their
validation must find lies beside, in golden/NAME.json.
"""

import hashlib
import warnings
import zipfile

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn import functional

#: as if downloaded: too short to be a zip of anything
_PAGE = b"<!DOCTYPE html><html><body>404: this model has moved</body></html>"


class TwoLevels(nn.Module):
    """A network of another tool: foreground and boundary from one channel, looking 7 px far."""

    def __init__(self, norm=nn.Identity, features=4):
        super().__init__()
        self.first = nn.Conv2d(1, features, 3, padding=1)
        self.norm = norm(features)
        self.second = nn.Conv2d(features, features, 3, padding=1)
        self.last = nn.Conv2d(2 * features, 2, 1)

    def forward(self, image):
        fine = torch.relu(self.norm(self.first(image)))
        coarse = torch.relu(self.second(functional.max_pool2d(fine, 2)))
        coarse = functional.interpolate(coarse, scale_factor=2.0, mode="nearest")
        return torch.sigmoid(self.last(torch.cat([fine, coarse], dim=1)))


class OfIntegers(TwoLevels):
    """Takes uint8."""

    def forward(self, image):
        return super().forward(image.to(torch.float32) / 255)


class OfTwoImages(TwoLevels):
    """Takes two images."""

    def forward(self, image, other):
        return super().forward(image + other)


class OfWholeNumbers(TwoLevels):
    """Gives int64."""

    def forward(self, image):
        return (super().forward(image) * 255).round().to(torch.int64)


class OfVolumes(nn.Module):
    """Looks one voxel far."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 3, padding=1)

    def forward(self, image):
        return torch.sigmoid(self.layer(image))


class OfSmallImages(nn.Module):
    """Takes up to 300 px."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.size(3) > 300:
            raise ValueError("too large")
        return torch.cat([image, image], dim=1)


class WritingElsewhere(nn.Module):
    """Maps a file into memory, and writes into it."""

    def __init__(self, victim):
        super().__init__()
        self.victim = victim

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        elsewhere = torch.from_file(self.victim, shared=True, size=4, dtype=torch.uint8)
        written = elsewhere.fill_(88)
        return torch.cat([image, image], dim=1) + 0 * written.sum()  # else torch would leave it out


class Hanging(nn.Module):
    """Never comes to an end."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        while bool(torch.isfinite(image).all()):
            image = image + 0.0
        return torch.cat([image, image], dim=1)


class Hungry(nn.Module):
    """Takes 400 GB."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        everything = torch.ones([100_000_000_000])
        return torch.cat([image, image], dim=1) * everything[0]


def quick(folder):
    """Leave TorchScript only, which all four programs run, to save time."""
    return folder.keep_weights("torchscript")


def axes_of(folder, kind="space"):
    """Axes of one kind, of inputs and outputs."""
    tensors = (*folder.rdf["inputs"], *folder.rdf["outputs"])
    return [axis for tensor in tensors for axis in tensor["axes"] if axis["type"] == kind]


def set_sizes(folder, **changes):
    """Change the sizes of the input's axes."""
    for axis in folder.rdf["inputs"][0]["axes"][2:]:
        axis["size"].update(changes)


def load_network(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.load(folder.path / "weights.pt", map_location="cpu")


def put_network(folder, network, *inputs, script=False):
    """Replace the network by another one, as TorchScript."""
    quick(folder)
    network.eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        made = torch.jit.script(network) if script else torch.jit.trace(network, inputs, check_trace=False)
        made.save(folder.path / "weights.pt")


def renew_test(folder, *arrays, output=None, convert=lambda values: values):
    """Write new test inputs and what the network gives for them."""
    for tensor, values in zip(folder.rdf["inputs"], arrays, strict=True):
        np.save(folder.path / tensor["test_tensor"]["source"], values)
    if output is None:
        with torch.no_grad():
            output = load_network(folder)(*(torch.from_numpy(convert(values)) for values in arrays)).numpy()
    np.save(folder.path / "test_output.npy", output)


def image_of(height=64, width=None, dtype="float32"):
    """A test image, batch channel y x."""
    values = np.random.default_rng(1).random((1, 1, height, width or height))
    return (values * 255).astype("uint8") if dtype == "uint8" else values.astype(dtype)


def seeded(network):
    """The same weights each time, and not too small."""
    generator = torch.Generator().manual_seed(2)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.5
    return network


def as_it_was(folder):
    """No fault at all, so that the others can be compared with it."""
    return quick(folder).save()


# ---- what cannot be opened


def not_a_zip(folder):
    """A page that a server gave in place of the file."""
    path = folder.path.with_name("model.zip")
    path.write_bytes(_PAGE)
    return path


def cut_short(folder):
    """A download that ended early."""
    path = packed(folder)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def climbs_out(folder):
    """A zip that would write beside its folder."""
    path = packed(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../.bashrc", "echo")
    return path


def in_a_folder_of_its_own(folder):
    """Zipped by the file manager: everything lies one folder deeper."""
    return packed(folder, below="model/")


def packed(folder, below=""):
    path = folder.path.with_name("model.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.path.iterdir()):
            archive.write(file, below + file.name)
    return path


# ---- how the description is written


def files_as_mappings(folder):
    """bioimageio.spec 0.5.11 and later write covers and documentation so."""
    quick(folder).rdf["format_version"] = "0.5.12"
    folder.rdf["documentation"] = {"source": "README.md", "sha256": ""}
    folder.rdf["covers"] = [{"source": "cover.png", "sha256": ""}]
    return folder.save()


def defaults_left_out(folder):
    """bioimageio.spec's writer leaves out what equals a default: the id of x, and offsets of 0."""
    for axis in axes_of(quick(folder)):
        if axis["id"] == "x":
            del axis["id"]
        axis["size"].pop("offset", None)
    return folder.save()


def no_model_id(folder):
    """Not yet uploaded: the zoo gives the id; but there is a config, so that Fiji looks for one."""
    del quick(folder).rdf["id"]
    return folder.save()


def author_on_github(folder):
    """A GitHub user whom bioimageio.spec does not know by heart, and so looks up."""
    quick(folder).rdf["authors"] = [{"name": "Ada", "github_user": "ada-of-the-engine"}]
    return folder.save()


def config_of_deepimagej(folder):
    """Without allow_tiling, Fiji does not tile."""
    quick(folder).rdf["config"]["deepimagej"] = {"pyramidal_model": False}
    return folder.save()


def batch_axis_with_id(folder):
    """Older versions of JDLL take the id for a letter."""
    for axis in axes_of(quick(folder), "batch"):
        axis["id"] = "batch"
    return folder.save()


def pixel_size_as_scale(folder):
    """Fiji takes the scale of an axis for a factor between input and output."""
    for axis in axes_of(quick(folder)):
        axis.update(unit="micrometer", scale=0.5)
    return folder.save()


def weights_in_a_subfolder(folder):
    """Fiji looks at the top of the package only."""
    (folder.path / "weights").mkdir()
    (folder.path / "weights.pt").rename(folder.path / "weights" / "weights.pt")
    quick(folder).rdf["weights"]["torchscript"]["source"] = "weights/weights.pt"
    return folder.save()


def segmentor_tagged_as_enhancer(folder):
    """ilastik would offer it for probabilities, and it takes raw images."""
    quick(folder)
    folder.rdf["config"]["s2d_zoo"].pop("rf_contract")
    return folder.save()


# ---- axes, sizes, halo, types, processing


def smallest_size_no_multiple_of_step(folder):
    """Fiji's tiles are multiples of the step."""
    set_sizes(quick(folder), min=68, step=8)
    renew_test(folder, image_of(68))
    return folder.save()


def halo_too_small(folder):
    """Seven pixels of what the network looks at are missing."""
    for axis in quick(folder).rdf["outputs"][0]["axes"][2:]:
        axis["halo"] = 4
    return folder.save()


def instance_norm(folder):
    """A normalisation over the tile: the default of several tools."""
    network = seeded(TwoLevels(norm=nn.InstanceNorm2d))
    put_network(folder, network, torch.from_numpy(image_of()))
    renew_test(folder, image_of())
    return folder.save()


def uint8_input(folder):
    """Fiji and ilastik send float32."""
    quick(folder).rdf["inputs"][0]["data"] = {"type": "uint8"}
    values = image_of(dtype="uint8")
    put_network(folder, seeded(OfIntegers()), torch.from_numpy(values))
    renew_test(folder, values)
    return folder.save()


def whole_numbers(folder):
    """int64 where float32 is described: bioimageio.core converts it, and Fiji does not."""
    put_network(folder, seeded(OfWholeNumbers()), torch.from_numpy(image_of()))
    renew_test(folder, image_of(), output=load_network(folder)(torch.from_numpy(image_of())).numpy().astype("float32"))
    return folder.save()


def volumes(folder):
    """3D, which QuPath does not run; nobody measured its tiles."""
    for tensor in (*quick(folder).rdf["inputs"], *folder.rdf["outputs"]):
        y = tensor["axes"][2]
        size = {**y["size"], "axis_id": "z"} if "axis_id" in y["size"] else y["size"]
        tensor["axes"].insert(2, {**y, "id": "z", "size": size})
    folder.rdf["config"]["s2d_zoo"]["rf_contract"]["ndim"] = 3
    values = image_of()[:, :, None].repeat(64, axis=2)
    put_network(folder, seeded(OfVolumes()), torch.from_numpy(values))
    renew_test(folder, values)
    return folder.save()


def one_size_only(folder):
    """Traced for one size, and described so."""
    for axis in quick(folder).rdf["inputs"][0]["axes"][2:]:
        axis["size"] = 64
    return folder.save()


def fails_above_300_px(folder):
    """Whatever was tried here was smaller; ilastik and QuPath feed 512 px."""
    put_network(folder, OfSmallImages(), script=True)
    renew_test(folder, image_of(), output=np.concatenate([image_of(), image_of()], axis=1))
    return folder.save()


def two_inputs(folder):
    """ilastik, Fiji's window and QuPath take one image."""
    one, two = image_of(), image_of()[..., ::-1].copy()
    put_network(folder, seeded(OfTwoImages()), torch.from_numpy(one), torch.from_numpy(two))
    first = folder.rdf["inputs"][0]
    second = {**first, "id": "other", "test_tensor": {"source": "test_other.npy", "sha256": ""}}
    second["axes"] = [*first["axes"][:2]]
    for axis in first["axes"][2:]:
        size = {"tensor_id": first["id"], "axis_id": axis["id"], "offset": 0}
        second["axes"].append({**axis, "size": size})
    folder.rdf["inputs"].append(second)
    renew_test(folder, one, two)
    return folder.save()


def per_channel_fixed_statistics(folder):
    """Fiji's reader fails on lists of means, and QuPath skips the step."""
    step = {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": [0.0], "std": [1.0], "axis": "channel"}}
    quick(folder).rdf["inputs"][0]["preprocessing"] = [step]
    return folder.save()


def statistics_of_each_plane(folder):
    """Fiji normalises another way than asked for; ilastik and QuPath do it tile by tile."""
    step = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"], "eps": 1e-6}}
    quick(folder).rdf["inputs"][0]["preprocessing"] = [step]
    renew_test(folder, image_of(), convert=lambda values: (values - values.mean()) / (values.std() + 1e-6))
    return folder.save()


# ---- weights


def onnx_of_the_new_exporter(folder):
    """torch.onnx.export(dynamo=True): opset 20, IR version 10, which Fiji's runtime does not read."""
    quick(folder)
    graph = onnx.load(folder.path / "weights.onnx")
    graph.ir_version = 10
    graph.opset_import[0].version = 20
    onnx.save(graph, folder.path / "weights.onnx")
    folder.rdf["weights"]["onnx"] = {"source": "weights.onnx", "sha256": "", "opset_version": 20}
    return folder.save()


def scripted_torchscript(folder):
    """Scripted, with F.interpolate: the older libtorch in Fiji and QuPath cannot load it."""
    put_network(folder, seeded(TwoLevels()), script=True)
    renew_test(folder, image_of())
    return folder.save()


def onnx_only(folder):
    """ilastik has no runtime for it, nor has QuPath as it comes."""
    return folder.keep_weights("onnx").save()


def other_weights_than_hashed(folder):
    """Retrained, and the hash forgotten."""
    put_network(folder, seeded(TwoLevels()), torch.from_numpy(image_of()))
    return folder.save_as_is()


def weights_left_out(folder):
    """Named, but not in the package."""
    (folder.path / "weights.pt").unlink()
    return folder.path


def weights_of_nan(folder):
    """bioimageio.core's test lets NaN pass: it counts elements whose difference is above the tolerance."""
    network = seeded(TwoLevels())
    network.last.weight.data.fill_(torch.nan)
    put_network(folder, network, torch.from_numpy(image_of()))
    renew_test(folder, image_of(), output=np.full((1, 2, 64, 64), 0.5, dtype="float32"))
    return folder.save()


def formats_that_disagree(folder):
    """ONNX of a later training; without a stated tolerance bioimageio.core's test lets that pass."""
    folder.keep_weights("torchscript", "onnx").rdf["weights"]["onnx"]["parent"] = "torchscript"
    folder.rdf["config"]["bioimageio"].pop("reproducibility_tolerance", None)
    graph = onnx.load(folder.path / "weights.onnx")
    bias = next(one for one in graph.graph.initializer if one.name.endswith("head.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(3e-3), bias.name))
    onnx.save(graph, folder.path / "weights.onnx")
    return folder.save()


def hanging(folder):
    """Loads, and never gives an output."""
    put_network(folder, Hanging(), script=True)
    renew_test(folder, image_of(), output=np.concatenate([image_of(), image_of()], axis=1))
    return folder.save()


def hungry(folder):
    """Takes more memory than the machine has."""
    put_network(folder, Hungry(), script=True)
    renew_test(folder, image_of(), output=np.concatenate([image_of(), image_of()], axis=1))
    return folder.save()


def writes_elsewhere(folder):
    """TorchScript has operations on files: this one writes into victim.txt, beside the package."""
    put_network(folder, WritingElsewhere(str(folder.path.with_name("victim.txt"))), script=True)
    renew_test(folder, image_of(), output=np.concatenate([image_of(), image_of()], axis=1))
    return folder.save()


def fortran_test_input(folder):
    """Transposed before it was saved: QuPath reads C order only."""
    np.save(quick(folder).path / "test_input.npy", np.asfortranarray(np.load(folder.path / "test_input.npy")))
    return folder.save()


# ---- whole packages


def fixed_size_with_own_code(folder):
    """BiaPy: 256 px and no other size, a state dict, and the code of its own architecture."""
    folder.keep_weights("pytorch_state_dict")
    (folder.path / "unet.py").rename(folder.path / "resunet.py")
    with (folder.path / "resunet.py").open("a") as file:
        file.write("\nprint('Welcome')\n")
    folder.rdf["weights"]["pytorch_state_dict"]["architecture"]["source"] = "resunet.py"
    for axis in axes_of(folder):
        axis["size"] = 256
        axis.pop("halo", None)
    renew_test(folder, image_of(256))
    return folder.save()


def enhancer_of_the_zoo(folder):
    """An enhancer as published in 2022: format 0.4, min-max per sample, InstanceNorm, code of its own."""
    values = image_of(256)
    put_network(folder, seeded(TwoLevels(norm=nn.InstanceNorm2d, features=8)), torch.from_numpy(values))
    renew_test(folder, values, convert=lambda array: (array - array.min()) / (array.max() - array.min() + 1e-6))
    (folder.path / "network.py").write_text("class UNet2d: ...\n", encoding="utf-8")
    torch.save(TwoLevels(features=8).state_dict(), folder.path / "weights_state_dict.pt")
    tensor = {"axes": "bcyx", "data_range": [float("-inf"), float("inf")], "data_type": "float32"}
    folder.rdf = {
        **{key: folder.rdf[key] for key in ("type", "license", "documentation", "covers", "tags", "authors", "cite")},
        "format_version": "0.4.10",
        "id": "10.5281/zenodo.1/2",
        "name": "EnhancerMitochondriaEM2D",
        "description": "Prediction enhancer for segmenting mitochondria in EM images.",
        "config": {"bioimageio": {"nickname": "hiding-blowfish", "nickname_icon": "🐡"}},
        "timestamp": "2022-07-08T17:02:28.049385",
        "training_data": {"id": "ilastik/mitoem_segmentation_challenge"},
        "inputs": [
            {
                **tensor,
                "name": "input0",
                "shape": {"min": [1, 1, 256, 256], "step": [0, 0, 16, 16]},
                "preprocessing": [
                    {
                        "name": "scale_range",
                        "kwargs": {"axes": "cyx", "min_percentile": 0, "max_percentile": 100, "mode": "per_sample"},
                    }
                ],
            }
        ],
        "outputs": [
            {
                **tensor,
                "name": "output0",
                "halo": [0, 0, 32, 32],
                "shape": {"reference_tensor": "input0", "scale": [1.0, 2.0, 1.0, 1.0], "offset": [0, 0, 0, 0]},
            }
        ],
        "test_inputs": ["test_input.npy"],
        "test_outputs": ["test_output.npy"],
        "weights": {
            "pytorch_state_dict": {
                "source": "weights_state_dict.pt",
                "sha256": "",
                "architecture": "network.py:UNet2d",
                "architecture_sha256": hashlib.sha256((folder.path / "network.py").read_bytes()).hexdigest(),
                "kwargs": {"depth": 4, "in_channels": 1, "out_channels": 2},
            },
            "torchscript": {"source": "weights.pt", "sha256": ""},
        },
    }
    return folder.save()


def enhancer_of_format_0_4(folder):
    """The same with stored statistics: QuPath reads the halo of this format, so that there are no seams."""
    enhancer_of_the_zoo(folder)
    values = image_of(256)
    put_network(folder, seeded(TwoLevels()), torch.from_numpy(values))
    del folder.rdf["inputs"][0]["preprocessing"]
    with torch.no_grad():
        np.save(folder.path / "test_output.npy", load_network(folder)(torch.from_numpy(values)).numpy())
    return folder.save()


FOREIGN = (
    as_it_was,
    not_a_zip,
    cut_short,
    climbs_out,
    in_a_folder_of_its_own,
    files_as_mappings,
    defaults_left_out,
    no_model_id,
    author_on_github,
    config_of_deepimagej,
    batch_axis_with_id,
    pixel_size_as_scale,
    weights_in_a_subfolder,
    segmentor_tagged_as_enhancer,
    smallest_size_no_multiple_of_step,
    halo_too_small,
    instance_norm,
    uint8_input,
    whole_numbers,
    volumes,
    one_size_only,
    fails_above_300_px,
    two_inputs,
    per_channel_fixed_statistics,
    statistics_of_each_plane,
    onnx_of_the_new_exporter,
    scripted_torchscript,
    onnx_only,
    other_weights_than_hashed,
    weights_left_out,
    weights_of_nan,
    formats_that_disagree,
    hanging,
    hungry,
    writes_elsewhere,
    fortran_test_input,
    fixed_size_with_own_code,
    enhancer_of_the_zoo,
    enhancer_of_format_0_4,
)
