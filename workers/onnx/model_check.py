"""Whether an ONNX file is safe to hand to ONNX Runtime: it parses and reads only its folder.

Owns the checks before a session exists. A graph can name other files as "external data";
these must be plain files below the model's own folder, so that a model from elsewhere can
not read the machine's files. Source: CVE-2022-25882, CVE-2024-27318, CVE-2026-27489.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError

from inference_mesh.errors import ModelNotReadyError

# An EPContext node names a compiled file in an attribute: another way out of the folder.
FORBIDDEN_OPERATORS = frozenset({"EPContext"})


def check_model(graph_path: Path) -> None:
    """Raises ModelNotReadyError unless the file is a whole ONNX model that reads only its folder."""
    model = _parse(graph_path)
    for node in _nodes(model):
        if node.op_type in FORBIDDEN_OPERATORS:
            raise ModelNotReadyError(f"'{graph_path.name}' has an {node.op_type} node, which is not allowed")
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            _check_external(tensor, graph_path)


def _parse(graph_path: Path) -> onnx.ModelProto:
    try:
        model = onnx.ModelProto.FromString(graph_path.read_bytes())
    except (DecodeError, OSError, ValueError) as error:
        raise ModelNotReadyError(f"'{graph_path.name}' is damaged or not an ONNX file") from error
    if not model.ir_version or not model.graph.output or not model.opset_import:
        raise ModelNotReadyError(f"'{graph_path.name}' is damaged or not an ONNX file: it has no graph")
    return model


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """Every graph of the model itself, without those inside nodes."""
    yield model.graph
    for training in model.training_info:
        yield training.initialization
        yield training.algorithm


def _nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node, also those of functions and of graphs inside nodes."""
    waiting = [node for graph in _graphs(model) for node in graph.node]
    for function in model.functions:
        waiting += function.node
        waiting += [node for value in function.attribute_proto for node in value.g.node]
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                waiting.extend(graph.node)


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: initializers and attributes, dense and sparse, at any depth."""
    for graph in _graphs(model):
        yield from _initializers(graph)
    for function in model.functions:
        yield from _attribute_tensors(function.attribute_proto)
    for node in _nodes(model):
        yield from _attribute_tensors(node.attribute)


def _attribute_tensors(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            yield sparse.values
            yield sparse.indices
        for graph in (attribute.g, *attribute.graphs):
            yield from _initializers(graph)


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices


def _check_external(tensor: onnx.TensorProto, graph_path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    reason = _refusal(location, graph_path.parent)
    if reason is None and graph_path.is_symlink():
        reason = f"cannot be checked: '{graph_path.name}' is a symbolic link; copy the files into one folder"
    if reason is None:
        reason = _range_refusal(entries, (graph_path.parent / location).stat().st_size)
    if reason is not None:
        raise ModelNotReadyError(f"external data '{location[:128]}' {reason}")


def _refusal(location: str, folder: Path) -> str | None:
    """Why the file may not be read, or None."""
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if not location or "\0" in location:
        return "names no file"
    if posix.is_absolute() or windows.drive or windows.root:
        return "is an absolute path; it must be inside the model's folder"
    if ".." in posix.parts or ".." in windows.parts:
        return "leads out of the model's folder"
    path = folder
    for part in posix.parts:
        path = path / part
        if path.is_symlink():
            return "is a symbolic link; it must be a plain file inside the model's folder"
    return _file_refusal(path)


def _file_refusal(path: Path) -> str | None:
    try:
        status = path.stat()
    except OSError:
        return "does not exist"
    if not stat.S_ISREG(status.st_mode):
        return "is not a plain file"
    if status.st_nlink > 1:
        return "has more than one name (a hard link); copy it into the model's folder"
    return None


def _range_refusal(entries: dict[str, str], size_bytes: int) -> str | None:
    """Why offset and length do not lie within the file, or None."""
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or 0)
    except ValueError:
        return "has an offset or length that is not a number"
    if offset < 0 or length < 0 or offset + length > size_bytes:
        return f"is damaged: it has {size_bytes} bytes, the model reads {length} from {offset} on"
    return None
