"""The text of an architecture as it goes into packages: one file that needs torch and the standard library only."""

from importlib import resources
from typing import Final

UNET_FILE: Final = "unet.py"
PIXEL_FOREST_FILE: Final = "pixel_forest.py"

_IMPORT: Final = b"from s2d_zoo.architectures.unet import UNet\n"


def packaged_source(name: str) -> bytes:
    """The file of that name; in ``pixel_forest.py`` the U-Net stands in front, where it is imported otherwise."""
    folder = resources.files("s2d_zoo.architectures")
    text = (folder / name).read_bytes()
    if name != PIXEL_FOREST_FILE:
        return text
    before, found, after = text.partition(_IMPORT)
    if not found:
        msg = f"Expected the line {_IMPORT!r} in {name}; the installed file was changed. Install s2d-zoo again."
        raise RuntimeError(msg)
    return (folder / UNET_FILE).read_bytes() + b"\n\n" + before + after
