"""Checks of the repository that no linter makes: sizes, leaks, large files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_BINARY_BYTES = 20_000_000
MAX_TEXT_LENGTH = 500_000
BINARY_SUFFIXES = {".gguf", ".onnx", ".binpb", ".png"}
GENERATED = re.compile(r"_pb2(_grpc)?\.py$")

# Written in pieces, so that this file does not find itself.
FORBIDDEN = {
    "a path of somebody's machine": re.compile(
        r"(?<![\w.$}])/(?:work" + r"|home/\w+|root" + r"|Users/\w+)/|/tmp/bash" + "_jobs"
    ),
    "the host of a package registry": re.compile(
        r"\b(?:py" + r"pi|python" + r"hosted|npm" + r"js)\.(?:org|com|io)\b|\bdeb\.deb" + r"ian\."
    ),
    "a private key": re.compile("-----BEGIN [A-Z ]*PRIVATE" + " KEY-----"),
    "an API key": re.compile(r"\bmesh_[a-z0-9]{8}_[A-Za-z0-9_-]{43}\b"),
    "somebody's token": re.compile(r"\b(?:AKIA[0-9A-Z]{16}|gh[opsu]_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{34})\b"),
}


def main() -> int:
    """Print every problem; 0 if there is none."""
    problems = list(all_problems(tracked_files()))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def tracked_files() -> list[Path]:
    """Files that git tracks or would track."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def all_problems(files: list[Path]) -> Iterator[str]:
    """One sentence for each thing that is wrong."""
    binaries = [path for path in files if path.suffix in BINARY_SUFFIXES]
    total = sum(path.stat().st_size for path in binaries)
    if total > MAX_BINARY_BYTES:
        yield f"binary files are {total} bytes together; allowed are {MAX_BINARY_BYTES}"
    for path in files:
        if path in binaries:
            continue
        name = path.relative_to(ROOT).as_posix()
        try:
            yield from text_problems(name, path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            yield f"{name}: a binary file of an unknown kind"


def text_problems(name: str, text: str) -> Iterator[str]:
    """What is wrong with one text file."""
    if len(text) > MAX_TEXT_LENGTH:
        yield f"{name}: {len(text)} characters; allowed are {MAX_TEXT_LENGTH}"
    for what, pattern in FORBIDDEN.items():
        found = pattern.search(text)
        if found:
            yield f"{name}:{text.count(chr(10), 0, found.start()) + 1}: names {what}"
    if name.endswith(".py") and not GENERATED.search(name):
        yield from _python_problems(name, text)


def _python_problems(name: str, text: str) -> Iterator[str]:
    lines = len(text.splitlines())
    if lines > MAX_FILE_LINES:
        yield f"{name}: {lines} lines; allowed are {MAX_FILE_LINES}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MAX_FUNCTION_LINES:
                yield f"{name}:{node.lineno}: {node.name} has {size} lines; allowed are {MAX_FUNCTION_LINES}"


if __name__ == "__main__":
    sys.exit(main())
