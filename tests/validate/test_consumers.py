import pytest

from s2d_zoo.validate.consumers import users_of

OURS = ("onnx", "pytorch_state_dict", "torchscript")


@pytest.mark.parametrize(
    ("name", "formats", "users"),
    [
        ("torchscript", OURS, {"core", "ilastik", "deepimagej", "qupath"}),
        ("onnx", OURS, {"core", "deepimagej"}),
        ("pytorch_state_dict", OURS, {"core"}),
        ("onnx", ("onnx", "pytorch_state_dict"), {"core", "deepimagej", "qupath"}),
        ("pytorch_state_dict", ("onnx", "pytorch_state_dict"), {"core", "ilastik"}),
        ("pytorch_state_dict", ("pytorch_state_dict",), {"core", "ilastik", "deepimagej"}),
        ("onnx", ("onnx",), {"core", "deepimagej", "qupath"}),
        ("tensorflow_saved_model_bundle", ("onnx", "tensorflow_saved_model_bundle"), {"core", "deepimagej", "qupath"}),
        ("keras_hdf5", ("keras_hdf5",), {"core"}),
    ],
)
def test_each_program_takes_the_formats_that_it_prefers(name, formats, users):
    assert {consumer.name for consumer in users_of(name, formats)} == users
