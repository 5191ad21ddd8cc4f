"""`python -m models.minilm [--output DIR] [--force]`: makes the embedding model, once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from inference_mesh.cache import cache_dir
from models.minilm.fetch import FetchError
from models.minilm.make import is_complete, make
from models.minilm.verify import VerificationError


def main() -> int:
    """0 when the model is there, 1 with a sentence when it could not be made."""
    parser = argparse.ArgumentParser(prog="python -m models.minilm", description=__doc__)
    parser.add_argument(
        "--output",
        type=Path,
        default=cache_dir() / "models" / "minilm",
        help="folder to write to (default: $MESH_CACHE_DIR or ~/.cache/inference-mesh, then models/minilm)",
    )
    parser.add_argument("--force", action="store_true", help="make it again even if it is there")
    options = parser.parse_args()
    output: Path = options.output
    if not options.force and is_complete(output):
        print(f"minilm: already in {output}")
        return 0
    try:
        make(output, lambda line: print(line, flush=True))
    except (FetchError, VerificationError, OSError) as error:
        print(f"minilm: not made: {error}", file=sys.stderr)
        return 1
    print(f"minilm: wrote {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
