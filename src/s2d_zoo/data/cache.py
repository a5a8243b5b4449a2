"""Where downloads are kept. Imports next to nothing: also commands that only list models ask."""

import os
from pathlib import Path
from typing import Final

import platformdirs

_VARIABLE: Final = "S2D_ZOO_CACHE"


def cache_dir() -> Path:
    """``S2D_ZOO_CACHE``, else the user's cache directory."""
    return Path(os.environ.get(_VARIABLE) or platformdirs.user_cache_dir("s2d-zoo"))
