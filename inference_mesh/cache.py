"""Where the mesh keeps what is slow to make: one folder outside every repository."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$MESH_CACHE_DIR`, or `~/.cache/inference-mesh`. It need not exist."""
    configured = os.environ.get("MESH_CACHE_DIR")
    return Path(configured) if configured else Path.home() / ".cache" / "inference-mesh"
