"""W05 and S04: what is in a TorchScript file."""

import zipfile

import pytest
import torch

from s2d_zoo.data.torchscript_file import reason_not_to_run
from s2d_zoo.validate.torchscript_checks import check_script_safety, check_torchscript

CORE, FIJI, QUPATH, ILASTIK = "core", "deepimagej", "qupath", "ilastik"


class Upsampling(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(values, scale_factor=2.0)


class Fixed(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + torch.zeros(1, device=torch.device("cuda:0"))


@pytest.fixture
def found(folder, judged):
    def run():
        return {program: status for program, (status, _) in judged(check_torchscript).items()}

    return run


def script(model, path):
    """Save a scripted network."""
    torch.jit.script(model).save(path)


def replace_member(path, ending, old, new):
    """Change one file in the zip."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert any(name.endswith(ending) and old in content for name, content in members.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(old, new) if name.endswith(ending) else content)


class Overwriting(torch.nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.from_file("notes.txt", True, 10) + values


class Nested(torch.nn.Module):
    """Has submodules whose names are no words of the language, and variables with the names of operations."""

    def __init__(self):
        super().__init__()
        self.blocks = torch.nn.Sequential(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU()), torch.nn.ReLU())
        self.add_module("relu-1 a", torch.nn.ReLU())

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        save = self.blocks(values)
        load = getattr(self, "relu-1 a")(save)
        return save + load


def test_our_own_file_passes(judged):
    assert judged(check_torchscript)["all"] == ("passed", "known operations, saved from the CPU")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_scripted_network_that_enlarges_is_refused_by_older_versions(folder, judged):
    script(Upsampling(), folder.path / "weights.pt")
    found = judged(check_torchscript)
    assert set(found) == {FIJI, QUPATH, ILASTIK}
    for status, message in found.values():
        assert status == "failed"
        assert "_upsample_lanczos2d_aa" in message
        assert "torch.jit.trace" in message


def test_an_operation_newer_than_torch_20_is_refused_by_fiji_only(folder, found):
    replace_member(folder.path / "weights.pt", ".py", b"torch.relu(", b"torch.rms_norm(")
    assert found() == {FIJI: "failed"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_gpu_in_the_code_fails_for_all(folder, judged):
    script(Fixed(), folder.path / "weights.pt")
    status, message = judged(check_torchscript)["all"]
    assert status == "failed"
    assert "a GPU is written into the code" in message


def test_tensors_saved_from_a_gpu_cannot_be_loaded_without(folder, found):
    replace_member(folder.path / "weights.pt", "data.pkl", b"X\3\0\0\0cpu", b"X\6\0\0\0cuda:0")
    assert found() == {CORE: "failed", ILASTIK: "failed", FIJI: "limited", QUPATH: "limited"}


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.13.1", {"all": "passed"}), ("2.7.1+cu126", {"advice": "limited"}), ("3.0.0", {FIJI: "failed"})],
)
def test_the_stated_version_decides_the_engine(folder, found, version, expected):
    folder.rdf["weights"]["torchscript"]["pytorch_version"] = version
    assert found() == expected


def test_format_04_may_not_state_a_version(judged, old_format):
    status, message = judged(check_torchscript, old_format.save_as_is())[FIJI]
    assert status == "limited"
    assert "taken for 1.13" in message


def state_dict(path):
    path.write_bytes((path.parent / "weights_state_dict.pt").read_bytes())


def no_zip(path):
    path.write_bytes(b"no zip")


def cut(path):
    path.write_bytes(path.read_bytes()[:2000])


def bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/code/net.py", bytes(65 * 1024**2))


@pytest.mark.parametrize("change", [state_dict, no_zip, cut, bomb])
def test_another_file_fails_for_all(folder, judged, change):
    change(folder.path / "weights.pt")
    status, message = judged(check_torchscript)["all"]
    assert status == "failed"
    assert "expected a TorchScript file, but weights.pt cannot be read" in message


def test_without_torchscript_weights_there_is_nothing_to_check(folder, judged):
    found = judged(check_torchscript, folder.keep_weights("onnx").save())
    assert found["all"] == ("skipped", "there are no TorchScript weights")


# ---- S04


def say(path, line):
    """Put an operation into the code of our own file."""
    replace_member(path, ".py", b"torch.relu(", line.encode() + b"(")


def test_our_own_file_touches_no_files(folder, judged):
    assert judged(check_script_safety)["all"] == ("passed", "no operation on files in its code")
    assert reason_not_to_run(folder.path / "weights.pt") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("save", [script, lambda model, path: torch.jit.trace(model, torch.ones(1)).save(path)])
def test_ordinary_names_are_no_operations_on_files(tmp_path, save):
    save(Nested(), tmp_path / "weights.pt")
    assert reason_not_to_run(tmp_path / "weights.pt") is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_that_overwrites_those_of_the_user_is_refused_by_all(folder, judged):
    script(Overwriting(), folder.path / "weights.pt")
    status, message = judged(check_script_safety)["all"]
    assert status == "failed"
    assert message == ("the code of weights.pt reads or writes files of the user (from_file). Do not run this file")


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("torch.save", "(save)"),
        ("torch.load", "(load)"),
        ("ops.aten.save", "(save)"),
        ("ops.aten.from_file", "(from_file)"),
        ("ops.image.write_file", "(write_file)"),
        ("torch. # no.thing\n save", "(save)"),
        ('getattr(torch, "save")', "(save)"),
        ('getattr(torch, "from_" "file")', "hides the names"),
        ('getattr(torch, "from_\\146ile")', "hides the names"),
        ("f = getattr\n    f", "hides the names"),
    ],
)
def test_other_ways_to_say_so_are_seen(folder, operation, words):
    say(folder.path / "weights.pt", operation)
    assert words in reason_not_to_run(folder.path / "weights.pt")


def renamed_members(path, change):
    with zipfile.ZipFile(path) as archive:
        members = {change(name): archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def test_torch_reads_code_whatever_the_case_of_its_name(folder):
    path = folder.path / "weights.pt"
    say(path, "torch.save")
    renamed_members(path, lambda name: name.replace("/code/", "/CODE/").replace(".py", ".PY"))
    assert "(save)" in reason_not_to_run(path)


def behind_something(path):
    path.write_bytes(b"flatbuffer" + path.read_bytes())


def of_the_first_format(path):
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("weights/model.json", "{}")


@pytest.mark.parametrize("change", [state_dict, no_zip, cut, bomb, behind_something, of_the_first_format])
def test_a_file_whose_code_cannot_be_seen_is_not_run(folder, judged, change):
    change(folder.path / "weights.pt")
    status, message = judged(check_script_safety)["all"]
    assert status == "failed"
    assert "whose code can be looked at, but weights.pt cannot be read" in message


@pytest.mark.parametrize(("left", "words"), [("onnx", "there are no"), ("torchscript", "is not in the package")])
def test_without_torchscript_weights_there_is_nothing_to_touch(folder, judged, left, words):
    path = folder.keep_weights(left).save()
    (path / "weights.pt").unlink()
    status, message = judged(check_script_safety, path)["all"]
    assert status == "skipped"
    assert words in message
