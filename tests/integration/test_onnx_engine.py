"""The ONNX engine with real sessions: tensors in and out, and which files it loads."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from inference_mesh import tensors
from inference_mesh.errors import InvalidInputError, ModelNotReadyError, PayloadMismatchError
from inference_mesh.v1 import payload_pb2
from tests.support.onnx_engine import Counts, answer, arrays_of, embed_payload, running, tensors_payload
from tests.support.onnx_models import identity_model, lookup_model, model_of, two_input_model, value, write
from tests.support.processes import IRIS
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings


async def test_iris_knows_a_setosa() -> None:
    async with running(IRIS) as engine:
        chunk = await answer(engine, tensors_payload(features=np.array([[5.1, 3.5, 1.4, 0.2]], np.float32)))
    arrays = arrays_of(chunk)
    assert list(arrays) == ["label", "probabilities"]
    assert arrays["label"].tolist() == [0]
    assert chunk.usage == payload_pb2.Usage()
    assert chunk.timing is not None
    assert chunk.timing.compute_s > 0


async def test_only_the_requested_outputs_are_answered_in_their_order() -> None:
    features = np.array([[5.1, 3.5, 1.4, 0.2]] * 3, np.float32)
    async with running(IRIS) as engine:
        chunk = await answer(engine, tensors_payload(["probabilities"], features=features))
        swapped = await answer(engine, tensors_payload(["probabilities", "label"], features=features))
    assert {name: array.shape for name, array in arrays_of(chunk).items()} == {"probabilities": (3, 3)}
    assert list(arrays_of(swapped)) == ["probabilities", "label"]


async def test_the_model_describes_its_tensors() -> None:
    async with running(IRIS, version="7") as engine:
        model = engine.model
    assert (model.name, model.version, model.runtime) == ("model", "7", "onnxruntime")
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in model.inputs] == [
        ("features", "FP32", [-1, 4])
    ]
    assert [spec.name for spec in model.outputs] == ["label", "probabilities"]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (TensorProto.BOOL, np.bool_),
        (TensorProto.INT8, np.int8),
        (TensorProto.INT16, np.int16),
        (TensorProto.INT32, np.int32),
        (TensorProto.INT64, np.int64),
        (TensorProto.UINT8, np.uint8),
        (TensorProto.UINT16, np.uint16),
        (TensorProto.UINT32, np.uint32),
        (TensorProto.UINT64, np.uint64),
        (TensorProto.FLOAT16, np.float16),
        (TensorProto.FLOAT, np.float32),
        (TensorProto.DOUBLE, np.float64),
    ],
)
async def test_every_datatype_comes_back_as_it_was_sent(tmp_path: Path, kind: int, dtype: type) -> None:
    sent: np.ndarray = np.array([[0, 1], [1, 0], [1, 1]], dtype=dtype)
    async with running(write(identity_model(kind), tmp_path)) as engine:
        (received,) = arrays_of(await answer(engine, tensors_payload(x=sent))).values()
    assert received.dtype == sent.dtype
    assert received.tolist() == sent.tolist()


async def test_texts_come_back_as_the_same_bytes(tmp_path: Path) -> None:
    sent = np.array([["a", ""], ["é\0🐶", "d" * 5000]], dtype=object)
    async with running(write(identity_model(TensorProto.STRING), tmp_path)) as engine:
        (received,) = arrays_of(await answer(engine, tensors_payload(x=sent))).values()
    assert [[element.decode() for element in row] for row in received] == sent.tolist()


async def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    async with running(write(identity_model(TensorProto.STRING, ["n"]), tmp_path)) as engine:
        with pytest.raises(InvalidInputError):
            await answer(engine, tensors_payload(x=np.array([b"\xff\xfe"], dtype=object)))


async def test_a_scalar_and_a_batch_of_none_are_answered(tmp_path: Path) -> None:
    async with running(write(identity_model(TensorProto.FLOAT, []), tmp_path / "scalar")) as engine:
        (scalar,) = arrays_of(await answer(engine, tensors_payload(x=np.array(3, np.float32)))).values()
    async with running(write(identity_model(TensorProto.FLOAT), tmp_path / "empty")) as engine:
        (empty,) = arrays_of(await answer(engine, tensors_payload(x=np.zeros((0, 2), np.float32)))).values()
    assert scalar.shape == ()
    assert empty.shape == (0, 2)


GOOD = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    "payload",
    [
        tensors_payload(),
        tensors_payload(other=GOOD),
        tensors_payload(features=GOOD, other=GOOD),
        tensors_payload(features=GOOD.astype(np.float64)),
        tensors_payload(features=GOOD[0]),
        tensors_payload(features=np.zeros((1, 5), np.float32)),
        tensors_payload(features=np.zeros((1, 4, 1), np.float32)),
        tensors_payload(["nothing"], features=GOOD),
        tensors_payload(["label", "label"], features=GOOD),
        payload_pb2.Payload(
            tensors=payload_pb2.Tensors(tensors=[tensors.from_array("features", GOOD)] * 2),
        ),
        payload_pb2.Payload(
            tensors=payload_pb2.Tensors(
                tensors=[payload_pb2.Tensor(name="features", datatype="FP32", shape=[1, 4], data=b"\0" * 15)]
            )
        ),
        payload_pb2.Payload(
            tensors=payload_pb2.Tensors(
                tensors=[payload_pb2.Tensor(name="features", datatype="FP32", shape=[-1, 4], data=b"")]
            )
        ),
    ],
)
async def test_tensors_that_do_not_fit_are_refused_before_they_are_queued(
    payload: payload_pb2.Payload,
) -> None:
    observer = Counts()
    async with running(IRIS, observer) as engine:
        with pytest.raises(InvalidInputError):
            await answer(engine, payload)
    assert observer.batches == []


async def test_a_payload_of_another_kind_is_refused() -> None:
    async with running(IRIS) as engine:
        for payload in (embed_payload("text"), payload_pb2.Payload()):
            with pytest.raises(PayloadMismatchError):
                await answer(engine, payload)


async def test_several_inputs_and_outputs_are_divided_rightly(tmp_path: Path) -> None:
    async with running(write(two_input_model(), tmp_path), sessions=1) as engine:
        arrays = [np.full((1 + place % 3, 3), place, np.float32) for place in range(20)]
        chunks = await asyncio.gather(
            *[answer(engine, tensors_payload(a=array, b=array)) for array in arrays]
        )
    for array, chunk in zip(arrays, chunks, strict=True):
        answered = arrays_of(chunk)
        assert np.array_equal(answered["sum"], array + array)
        assert np.array_equal(answered["product"], array * array)


@pytest.mark.parametrize(
    ("operator", "settings"),
    [("Softmax", {"axis": 0}), ("CumSum", None), ("Transpose", {"perm": [1, 0]}), ("Relu", {})],
)
async def test_requests_share_a_batch_only_if_the_model_treats_rows_alone(
    tmp_path: Path, operator: str, settings: dict[str, Any] | None
) -> None:
    inputs = ["x"] if settings is not None else ["x", "axis"]
    model = model_of(
        [helper.make_node(operator, inputs, ["y"], **(settings or {}))],
        [value("x", TensorProto.FLOAT, ["n", "m"])],
        [value("y", TensorProto.FLOAT, ["n", "m"])],
        {"axis": np.array(0, np.int64)} if settings is None else None,
    )
    rows = [np.full((1, 2), place, np.float32) for place in range(12)]
    async with running(write(model, tmp_path), sessions=1) as engine:
        alone = [arrays_of(await answer(engine, tensors_payload(x=row)))["y"] for row in rows]
        chunks = await asyncio.gather(*[answer(engine, tensors_payload(x=row)) for row in rows])
    for expected, chunk in zip(alone, chunks, strict=True):
        assert np.array_equal(arrays_of(chunk)["y"], expected)


async def test_shapes_that_do_not_fit_each_other_are_the_callers_fault(tmp_path: Path) -> None:
    shape = ["n", "m"]
    model = model_of(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [value("a", TensorProto.FLOAT, shape), value("b", TensorProto.FLOAT, ["k", "l"])],
        [value("y", TensorProto.FLOAT, None)],
    )
    async with running(write(model, tmp_path)) as engine:
        with pytest.raises(InvalidInputError):
            await answer(
                engine, tensors_payload(a=np.zeros((2, 3), np.float32), b=np.zeros((4, 5), np.float32))
            )


async def test_a_truncated_model_is_refused_at_every_length(tmp_path: Path) -> None:
    whole = (IRIS / "model.onnx").read_bytes()
    for size in range(0, len(whole), 7):
        (tmp_path / "model.onnx").write_bytes(whole[:size])
        with pytest.raises(ModelNotReadyError):
            await OnnxEngine(OnnxSettings(tmp_path, "model"), Counts()).load()


async def test_a_damaged_model_is_refused_or_loads_but_never_harms_the_process(tmp_path: Path) -> None:
    random = np.random.default_rng(seed=5)
    for _ in range(60):
        damaged = bytearray((IRIS / "model.onnx").read_bytes())
        for place in random.integers(0, len(damaged), 3):
            damaged[place] = random.integers(256)
        (tmp_path / "model.onnx").write_bytes(damaged)
        engine = OnnxEngine(OnnxSettings(tmp_path, "model"), Counts())
        with contextlib.suppress(ModelNotReadyError):
            await engine.load()
        await engine.close()


async def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(b"\0" * 16)
    model = lookup_model(layers=1, width=4)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    with pytest.raises(ModelNotReadyError):
        await OnnxEngine(OnnxSettings(write(model, tmp_path / "model"), "model"), Counts()).load()


@pytest.mark.parametrize(
    "description",
    [
        b"{",
        b"[]",
        b'{"task": "sing"}',
        b'{"max_tokens": -1}',
        b'{"pooling": 3}',
        b'{"task": "embed"}',
        b"\xff",
    ],
)
async def test_a_wrong_model_json_is_refused(tmp_path: Path, description: bytes) -> None:
    write(identity_model(TensorProto.FLOAT), tmp_path)
    (tmp_path / "model.json").write_bytes(description)
    with pytest.raises(ModelNotReadyError):
        await OnnxEngine(OnnxSettings(tmp_path, "model"), Counts()).load()


async def test_a_path_without_a_model_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "none.onnx"):
        with pytest.raises(ModelNotReadyError):
            await OnnxEngine(OnnxSettings(path, "model"), Counts()).load()


async def test_an_absent_provider_is_refused() -> None:
    ort = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ModelNotReadyError, match="onnxruntime-gpu"):
        await OnnxEngine(OnnxSettings(IRIS, "iris", provider="cuda"), Counts()).load()


async def test_a_model_of_a_datatype_without_arrays_is_refused_by_name(tmp_path: Path) -> None:
    write(identity_model(TensorProto.BFLOAT16), tmp_path)
    with pytest.raises(ModelNotReadyError, match="bfloat16"):
        await OnnxEngine(OnnxSettings(tmp_path, "model"), Counts()).load()


async def test_a_tensor_of_a_datatype_without_arrays_is_refused_with_what_is_taken(tmp_path: Path) -> None:
    write(identity_model(TensorProto.FLOAT), tmp_path)
    tensor = payload_pb2.Tensor(name="x", datatype="BF16", shape=[1, 2], data=bytes(4))
    async with running(tmp_path) as engine:
        with pytest.raises(InvalidInputError, match="FP32"):
            await answer(engine, payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=[tensor])))
