"""Which ONNX files are handed to ONNX Runtime, and which are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference_mesh.errors import ModelNotReadyError
from tests.support.onnx_models import identity_model, logits_model, model_of, value, write
from workers.onnx.model_check import check_model

DATA = np.arange(4, dtype=np.float32)


def _external(location: str, **entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, entry in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=entry)
    return tensor


def _adding_model(tensor: TensorProto) -> onnx.ModelProto:
    """Y = x + w, w as given."""
    model = model_of(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n", 4])],
        [value("y", TensorProto.FLOAT, ["n", 4])],
    )
    model.graph.initializer.append(tensor)
    return model


def _check(model: onnx.ModelProto, folder: Path) -> None:
    check_model(write(model, folder) / "model.onnx")


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file outside the model's folder."""
    path = tmp_path / "secret.bin"
    path.write_bytes(DATA.tobytes())
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The model's folder."""
    path = tmp_path / "model"
    path.mkdir()
    return path


def test_data_in_a_plain_file_of_the_folder_is_allowed(folder: Path) -> None:
    (folder / "weights").mkdir()
    (folder / "weights" / "w.bin").write_bytes(DATA.tobytes())
    _check(_adding_model(_external("weights/w.bin", offset="0", length="16")), folder)


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize("location", ["../secret.bin", "sub/../../secret.bin", "..\\secret.bin"])
def test_data_above_the_folder_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(ModelNotReadyError, match="leads out"):
        _check(_adding_model(_external(location)), folder)


@pytest.mark.parametrize("prefix", ["", "C:"])
def test_data_at_an_absolute_path_is_refused(folder: Path, secret: Path, prefix: str) -> None:
    with pytest.raises(ModelNotReadyError, match="absolute"):
        _check(_adding_model(_external(f"{prefix}{secret}")), folder)


def test_data_behind_a_symbolic_link_is_refused(folder: Path, secret: Path) -> None:
    (folder / "w.bin").symlink_to(secret)
    with pytest.raises(ModelNotReadyError, match="symbolic link"):
        _check(_adding_model(_external("w.bin")), folder)


def test_data_in_a_linked_folder_is_refused(folder: Path, secret: Path) -> None:
    (folder / "sub").symlink_to(secret.parent)
    with pytest.raises(ModelNotReadyError, match="symbolic link"):
        _check(_adding_model(_external("sub/secret.bin")), folder)


def test_data_behind_a_hard_link_is_refused(folder: Path, secret: Path) -> None:
    (folder / "w.bin").hardlink_to(secret)
    with pytest.raises(ModelNotReadyError, match="hard link"):
        _check(_adding_model(_external("w.bin")), folder)


@pytest.mark.parametrize("location", ["", "missing.bin", "a\0b", "."])
def test_data_that_is_no_file_is_refused(folder: Path, location: str) -> None:
    with pytest.raises(ModelNotReadyError):
        _check(_adding_model(_external(location)), folder)


@pytest.mark.parametrize(
    ("offset", "length"), [("8", "16"), ("-4", "4"), ("0", "-1"), ("x", "4"), ("9" * 5000, "1")]
)
def test_a_range_outside_the_file_is_refused(folder: Path, offset: str, length: str) -> None:
    (folder / "w.bin").write_bytes(DATA.tobytes())
    with pytest.raises(ModelNotReadyError):
        _check(_adding_model(_external("w.bin", offset=offset, length=length)), folder)


def test_a_model_behind_a_link_may_not_have_external_data(folder: Path, tmp_path: Path) -> None:
    (folder / "w.bin").write_bytes(DATA.tobytes())
    write(_adding_model(_external("w.bin")), tmp_path / "elsewhere")
    (folder / "model.onnx").symlink_to(tmp_path / "elsewhere" / "model.onnx")
    with pytest.raises(ModelNotReadyError, match="symbolic link"):
        check_model(folder / "model.onnx")


def _in_constant(tensor: TensorProto) -> onnx.ModelProto:
    model = identity_model(TensorProto.FLOAT, ["n", 4])
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))
    return model


def _in_sparse_constant(tensor: TensorProto) -> onnx.ModelProto:
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64))
    sparse = helper.make_sparse_tensor(tensor, indices, [4])
    model = identity_model(TensorProto.FLOAT, ["n", 4])
    model.graph.node.append(helper.make_node("Constant", [], ["c"], sparse_value=sparse))
    return model


def _in_sparse_initializer(tensor: TensorProto) -> onnx.ModelProto:
    indices = numpy_helper.from_array(np.arange(4, dtype=np.int64))
    model = identity_model(TensorProto.FLOAT, ["n", 4])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [4]))
    return model


def _in_subgraph(tensor: TensorProto) -> onnx.ModelProto:
    branch = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["r"])], "b", [], [value("r", TensorProto.FLOAT, [4])], [tensor]
    )
    deeper = helper.make_graph(
        [helper.make_node("If", ["t"], ["q"], then_branch=branch, else_branch=branch)],
        "d",
        [],
        [value("q", TensorProto.FLOAT, [4])],
    )
    model = identity_model(TensorProto.FLOAT, ["n", 4])
    model.graph.node.append(helper.make_node("If", ["t"], ["c"], then_branch=deeper, else_branch=deeper))
    return model


def _in_function(tensor: TensorProto) -> onnx.ModelProto:
    model = identity_model(TensorProto.FLOAT, ["n", 4])
    constant = helper.make_node("Constant", [], ["c"], value=tensor)
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("local", "F", [], ["c"], [constant], opsets))
    return model


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    "place", [_in_constant, _in_sparse_constant, _in_sparse_initializer, _in_subgraph, _in_function]
)
def test_external_data_is_found_wherever_a_tensor_can_hide(folder: Path, place: object) -> None:
    assert callable(place)
    with pytest.raises(ModelNotReadyError, match="leads out"):
        _check(place(_external("../secret.bin")), folder)


def test_a_compiled_context_that_names_a_file_is_refused(folder: Path) -> None:
    model = identity_model(TensorProto.FLOAT)
    model.graph.node.append(
        helper.make_node("EPContext", [], ["c"], domain="com.microsoft", ep_cache_context="/x")
    )
    with pytest.raises(ModelNotReadyError, match="EPContext"):
        _check(model, folder)


def test_files_that_are_no_models_are_refused(folder: Path) -> None:
    for content in (b"", b"not a model", b"\0" * 100, b"GGUF" + b"\0" * 64):
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(ModelNotReadyError):
            check_model(folder / "model.onnx")


def test_most_truncations_are_seen_before_a_session_is_made(folder: Path) -> None:
    whole = logits_model({"happy": [1.0, 0.0]}).SerializeToString()
    refused = 0
    for size in range(len(whole)):
        (folder / "model.onnx").write_bytes(whole[:size])
        try:
            check_model(folder / "model.onnx")
        except ModelNotReadyError:
            refused += 1
    assert refused >= 0.9 * len(whole)
