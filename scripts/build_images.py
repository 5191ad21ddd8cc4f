"""Builds the images of the Dockerfile with docker, podman or buildah, whichever works here.

`make images` builds the four of the CPU, `make images ARGS=worker-llama-gpu` another. What stands
after `--` goes to the engine as it is: `ARGS="-- --build-arg PYTHON_IMAGE=…"`. Needs the standard
library only.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("docker", "podman", "buildah")
IMAGES = ("gateway", "rest-bridge", "worker-llama", "worker-onnx")
GPU_IMAGES = ("worker-llama-gpu", "worker-onnx-gpu")
REPOSITORY = "docker.io/inference-mesh"
"""Said in full: podman would otherwise name them localhost/…, which no manifest has."""

ANSWER_LIMIT_S = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Build; 0, or what the engine ended with."""
    own, flags = split(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(own)
    engine: str | None = options.engine or working_engine(_answers)
    if engine is None:
        print(f"images: none of {', '.join(ENGINES)} works here; install one of them", file=sys.stderr)
        return 1
    for target in options.images or IMAGES:
        command = build_command(engine, target, f"{options.repository}/{target}:{options.tag}", flags)
        print(shlex.join(command), flush=True)
        code = 0 if options.dry_run else subprocess.run(command, cwd=ROOT, check=False).returncode
        if code != 0:
            print(f"images: {engine} could not build {target}", file=sys.stderr)
            return code
    return 0


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our own arguments, and those after `--`, which are the engine's."""
    words = [*arguments]
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def build_command(engine: str, target: str, image: str, flags: Sequence[str] = ()) -> list[str]:
    """How an engine builds one target; its context is the root of the checkout."""
    layers = [] if engine == "docker" else ["--layers"]
    return [engine, "build", *layers, "--target", target, "--tag", image, *flags, "."]


def working_engine(answers: Callable[[str], bool]) -> str | None:
    """The first engine that answers: a docker command without its daemon does not."""
    return next((engine for engine in ENGINES if answers(engine)), None)


def version() -> str:
    """The version of this checkout, which images are tagged with."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def _answers(engine: str) -> bool:
    if shutil.which(engine) is None:
        return False
    try:
        ended = subprocess.run([engine, "info"], capture_output=True, timeout=ANSWER_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.build_images", description=__doc__)
    every = (*IMAGES, *GPU_IMAGES)
    # No choices: argparse would hold an empty list against them.
    parser.add_argument(
        "images", nargs="*", type=_one_of(every), metavar="IMAGE", help=f"of {', '.join(every)}"
    )
    parser.add_argument("--engine", choices=ENGINES, help="default: the first that works")
    parser.add_argument("--repository", default=REPOSITORY, help="what stands before the name [%(default)s]")
    parser.add_argument("--tag", default=version(), help="[%(default)s]")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    return parser


def _one_of(names: Sequence[str]) -> Callable[[str], str]:
    def image(word: str) -> str:
        if word not in names:
            raise argparse.ArgumentTypeError(f"there is no image {word}")
        return word

    return image


if __name__ == "__main__":
    sys.exit(main())
