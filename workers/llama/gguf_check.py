"""Reads the header of a GGUF file and refuses what llama.cpp would abort on.

Owns the reading of metadata and tensor table. Does not read weights. Some damage (duplicate
tokens, an absurd layer count) makes llama.cpp end the whole process, so it is found here.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import dataclasses
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from inference_mesh.errors import ModelNotReadyError

Scalar = int | float | bool | str
Value = Scalar | tuple[Scalar, ...]

MAX_HEADER_BYTES = 256 << 20
MAX_ENTRIES = 65_536
MAX_ARRAY_ITEMS = 4 << 20
MAX_STRING_BYTES = 8 << 20
MAX_LAYERS = 512
VOCABULARY = "tokenizer.ggml.tokens"
KEPT_ARRAY_ITEMS = 1024
"""Longer arrays (vocabulary, merges, scores) are checked and forgotten."""

_COUNTS = (
    "context_length", "embedding_length", "feed_forward_length", "attention.head_count",
    "attention.head_count_kv", "attention.key_length", "attention.value_length",
)  # fmt: skip

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9

_TENSOR_TYPES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
    16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82),
    23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2),
    34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Elements and bytes of one block, by ggml type. Others are left to llama.cpp to judge."""


@dataclasses.dataclass(frozen=True, slots=True)
class GgufSummary:
    """What the header says: scalars and short arrays of the metadata, and the sizes."""

    metadata: Mapping[str, Value]
    vocabulary_size: int
    parameter_count: int
    size_bytes: int
    tensor_names: frozenset[str] = frozenset()

    @property
    def architecture(self) -> str:
        """Name of the architecture, e.g. "llama"."""
        return str(self.metadata["general.architecture"])

    @property
    def context_length(self) -> int:
        """Tokens that the model was trained on at a time; 0 = the file does not say."""
        return self._number("context_length", 0)

    def of_architecture(self, key: str) -> Value | None:
        """The metadata value of a key that begins with the architecture's name; None if absent."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def kv_bytes_per_token(self, value_bytes: float = 2.0) -> int:
        """Bytes that one token takes in the KV cache, over all layers (an upper bound).

        value_bytes: of one number; 2 = F16.
        """
        layers = self._number("block_count", 1)
        heads = self._number("attention.head_count", 1)
        width = self._number("embedding_length", 1) // max(heads, 1)
        per_head = self._number("attention.key_length", width) + self._number("attention.value_length", width)
        kv_heads = self.metadata.get(f"{self.architecture}.attention.head_count_kv", heads)
        total_heads = sum(int(n) for n in kv_heads) if isinstance(kv_heads, tuple) else int(kv_heads) * layers
        return math.ceil(value_bytes * per_head * total_heads)

    def _number(self, key: str, default: int) -> int:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        return int(max(value)) if isinstance(value, tuple) else int(value)


def read_gguf(path: Path) -> GgufSummary:
    """The summary of a sound file. Raises ModelNotReadyError with what is wrong."""
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            return _read(file, size_bytes, path.name)
    except OSError as error:
        raise ModelNotReadyError(f"the model file {path.name} cannot be read: {error.strerror}") from error
    except _DamagedError as error:
        raise ModelNotReadyError(f"the model file {path.name} is damaged: {error}") from error


def _read(file: BinaryIO, size_bytes: int, name: str) -> GgufSummary:
    header = _Reader(file, min(size_bytes, MAX_HEADER_BYTES))
    if header.take(4) != b"GGUF":
        raise ModelNotReadyError(f"{name} is not a GGUF file")
    version = header.number("<I")
    if version not in (2, 3):
        raise _DamagedError(f"GGUF version {version}; supported are 2 and 3")
    tensor_count, entry_count = header.number("<Q"), header.number("<Q")
    if tensor_count > MAX_ENTRIES or entry_count > MAX_ENTRIES:
        raise _DamagedError(
            f"{tensor_count} tensors and {entry_count} metadata entries; at most {MAX_ENTRIES}"
        )
    metadata, vocabulary_size = _read_metadata(header, entry_count)
    _check_metadata(metadata)
    tensors = _read_tensors(header, tensor_count, metadata, size_bytes)
    names = frozenset(tensor.name for tensor in tensors)
    return GgufSummary(
        metadata, vocabulary_size, sum(tensor.elements for tensor in tensors), size_bytes, names
    )


def _read_metadata(header: _Reader, count: int) -> tuple[dict[str, Value], int]:
    metadata: dict[str, Value] = {}
    vocabulary_size = 0
    for _ in range(count):
        key = header.text()
        if key in metadata:
            raise _DamagedError(f"metadata key {key!r} occurs twice")
        value = header.value(header.number("<I"))
        if key == VOCABULARY:
            vocabulary_size = _check_vocabulary(value)
        is_long = isinstance(value, tuple) and len(value) > KEPT_ARRAY_ITEMS
        metadata[key] = () if is_long else value
    return metadata, vocabulary_size


def _check_vocabulary(tokens: Value) -> int:
    if not isinstance(tokens, tuple) or not tokens:
        raise _DamagedError("the vocabulary is empty")
    if len(set(tokens)) != len(tokens):
        raise _DamagedError("a token occurs twice in the vocabulary")
    return len(tokens)


def _check_metadata(metadata: Mapping[str, Value]) -> None:
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        raise _DamagedError("general.architecture is missing")
    layers = metadata.get(f"{architecture}.block_count")
    if not isinstance(layers, int) or not 1 <= layers <= MAX_LAYERS:
        raise _DamagedError(f"{architecture}.block_count is {layers}; allowed: 1 to {MAX_LAYERS}")
    for key in _COUNTS:
        value = metadata.get(f"{architecture}.{key}", 1)
        if not _is_count(value):
            raise _DamagedError(f"{architecture}.{key} is {value!r}; allowed: 1 or more")
    for name, value in metadata.items():
        if isinstance(value, float) and not _is_sound(name, value):
            raise _DamagedError(f"{name} is {value}")


def _is_sound(name: str, value: float) -> bool:
    """True if finite; an epsilon below 0 aborts llama.cpp."""
    return math.isfinite(value) and (value >= 0 or not name.endswith("epsilon"))


def _is_count(value: Value) -> bool:
    """True for a positive integer, or one for each layer of which some are positive."""
    numbers = value if isinstance(value, tuple) else (value,)
    return all(isinstance(number, int) and number >= 0 for number in numbers) and any(numbers)


def _read_tensors(
    header: _Reader, count: int, metadata: Mapping[str, Value], size_bytes: int
) -> list[_Tensor]:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise _DamagedError(f"general.alignment is {alignment}; it must be a power of two")
    tensors = [_read_tensor(header) for _ in range(count)]
    if len({tensor.name for tensor in tensors}) != count:
        raise _DamagedError("a tensor occurs twice")
    data_start = -(-header.position // alignment) * alignment
    for tensor in tensors:
        if tensor.offset % alignment:
            raise _DamagedError(f"tensor {tensor.name!r} is not aligned")
        if data_start + tensor.offset + tensor.size_bytes > size_bytes:
            raise _DamagedError(f"it ends before tensor {tensor.name!r} does (truncated file?)")
    return tensors


@dataclasses.dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    elements: int
    offset: int
    size_bytes: int


def _read_tensor(header: _Reader) -> _Tensor:
    name = header.text()
    dimensions = header.number("<I")
    if not 1 <= dimensions <= 4:
        raise _DamagedError(f"tensor {name!r} has {dimensions} dimensions; allowed: 1 to 4")
    shape = [header.number("<Q") for _ in range(dimensions)]
    elements = 1
    for extent in shape:
        elements *= extent
    if not 1 <= elements < 1 << 62:
        raise _DamagedError(f"tensor {name!r} has {elements} elements")
    kind, offset = header.number("<I"), header.number("<Q")
    block, block_bytes = _TENSOR_TYPES.get(kind, (1, 0))
    if shape[0] % block:
        raise _DamagedError(f"the rows of tensor {name!r} are not whole blocks of {block}")
    return _Tensor(name, elements, offset, elements // block * block_bytes)


class _DamagedError(Exception):
    """What is wrong with the file, as the end of a sentence."""


class _Reader:
    """Reads little-endian values from the start of a file, never past a limit."""

    def __init__(self, file: BinaryIO, limit_bytes: int) -> None:
        self._file = file
        self._limit = limit_bytes
        self.position = 0

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        if self.position + size > self._limit:
            raise _DamagedError("it ends within its header (truncated file?)")
        data = self._file.read(size)
        if len(data) != size:
            raise _DamagedError("it ends within its header (truncated file?)")
        self.position += size
        return data

    def number(self, form: str) -> int:
        """The next integer of a `struct` form."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def text(self) -> str:
        """The next string; what is not UTF-8 in it is kept as surrogates."""
        size = self.number("<Q")
        if size > MAX_STRING_BYTES:
            raise _DamagedError(f"it has a text of {size} bytes")
        return self.take(size).decode("utf-8", errors="surrogateescape")

    def value(self, kind: int) -> Value:
        """The next metadata value of a GGUF type."""
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array(self.number("<I"), self.number("<Q"))
        return self._scalars(kind, 1)[0]

    def _array(self, kind: int, count: int) -> tuple[Scalar, ...]:
        if count > MAX_ARRAY_ITEMS:
            raise _DamagedError(f"it has a list of {count} items")
        if kind == _STRING:
            return tuple(self.text() for _ in range(count))
        return self._scalars(kind, count)

    def _scalars(self, kind: int, count: int) -> tuple[Scalar, ...]:
        if kind not in _SCALARS:
            raise _DamagedError(f"it has a value of unknown type {kind}")
        code = _SCALARS[kind][1]
        return struct.unpack(f"<{count}{code}", self.take(count * struct.calcsize(_SCALARS[kind])))
