"""tiny-chat with weights of 32 bits: the same model, without what rounds its activations.

With quantised weights llama.cpp rounds each row of activations to 8 bits, so that a difference in
their last bit, as between one batch and another, now and then moves the logits by 0.1 and more.
With these weights it stays a difference in the last bits.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from pathlib import Path

import numpy as np

F32, Q8_0 = 0, 8
BLOCK = np.dtype([("scale", "<f2"), ("values", "i1", 32)])
TEXT, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
ALIGNMENT = 32


@dataclasses.dataclass(frozen=True)
class _Tensor:
    name: bytes
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Reader:
    """The parts of a GGUF file, front to back."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int:
        """The next number of this struct format."""
        (value,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return int(value)

    def text(self) -> bytes:
        """The next text."""
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size : self.at]

    def skip_value(self, kind: int) -> None:
        """Go past a value of the metadata."""
        if kind == TEXT:
            self.text()
        elif kind == ARRAY:
            item, count = self.number("I"), self.number("Q")
            for _ in range(count):
                self.skip_value(item)
        else:
            self.at += SIZES[kind]

    def tensor(self) -> _Tensor:
        """The next tensor's description."""
        name, rank = self.text(), self.number("I")
        shape = tuple(self.number("Q") for _ in range(rank))
        return _Tensor(name, shape, self.number("I"), self.number("Q"))


def write_exact(source: Path, target: Path) -> Path:
    """Write a Q8_0 model with weights of 32 bits; gives the target."""
    reader = _Reader(source.read_bytes())
    reader.at = 8
    count, entries = reader.number("Q"), reader.number("Q")
    for _ in range(entries):
        reader.text()
        reader.skip_value(reader.number("I"))
    head = [reader.data[: reader.at]]
    tensors = [reader.tensor() for _ in range(count)]
    base = -(-reader.at // ALIGNMENT) * ALIGNMENT
    body: list[bytes] = []
    offset = 0
    for tensor in tensors:
        raw = _values(reader.data, base, tensor).astype("<f4").tobytes()
        described = struct.pack("<Q", len(tensor.name)) + tensor.name + struct.pack("<I", len(tensor.shape))
        described += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape) + struct.pack("<IQ", F32, offset)
        head.append(described)
        body.append(raw + bytes(-len(raw) % ALIGNMENT))
        offset += len(body[-1])
    start = b"".join(head)
    target.write_bytes(start + bytes(-len(start) % ALIGNMENT) + b"".join(body))
    return target


def _values(data: bytes, base: int, tensor: _Tensor) -> np.ndarray:
    size, at = math.prod(tensor.shape), base + tensor.offset
    if tensor.kind == F32:
        return np.frombuffer(data, "<f4", size, at)
    if tensor.kind != Q8_0:
        raise ValueError(f"{tensor.name!r} is of the GGML type {tensor.kind}; known are {F32} and {Q8_0}")
    blocks = np.frombuffer(data, BLOCK, size // 32, at)
    scaled: np.ndarray = blocks["scale"].astype(np.float32)[:, None] * blocks["values"]
    return scaled.reshape(-1)
