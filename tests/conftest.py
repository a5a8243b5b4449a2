"""What all tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def realdata_dir():
    """The folder with the real data sets: S2D_ZOO_DATA, else shared/data beside the checkout; skips without it."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("S2D_ZOO_DATA") or beside)
    if not (folder / "nuclei_gowt1").is_dir():
        pytest.skip(f"no real data in {folder}; set S2D_ZOO_DATA")
    return folder
