"""Weights of 8 bits: how near they are, and that nothing else changes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from models.quantise import in_blocks, quantised
from tests.support.onnx_models import model_of, value

RANDOM = np.random.default_rng(seed=2)
WEIGHTS = RANDOM.standard_normal((64, 16)).astype(np.float32)


def _product(rows: int) -> onnx.ModelProto:
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", TensorProto.FLOAT, ["batch", rows])],
        [value("y", TensorProto.FLOAT, ["batch", 16])],
        {"w": WEIGHTS[:rows]},
    )


def test_every_weight_is_within_half_a_step_of_its_block() -> None:
    numbers, scales = in_blocks(WEIGHTS)
    back = (numbers.astype(np.float32) - 128) * scales.reshape(16, 2, 1)
    error = np.abs(back - WEIGHTS.T.reshape(16, 2, 32)).max(axis=2)
    assert (error <= scales.reshape(16, 2) / 2 + 1e-6).all()


def test_a_block_of_zeros_stays_zero() -> None:
    numbers, scales = in_blocks(np.zeros((32, 4), np.float32))
    assert (numbers == 128).all()
    assert not scales.any()


def test_a_product_is_almost_what_it_was_and_the_same_in_every_batch() -> None:
    session = onnxruntime.InferenceSession(quantised(_product(64)).SerializeToString())
    x = RANDOM.standard_normal((8, 64)).astype(np.float32)
    x[1] *= 100  # a neighbour that would change the scale of all
    found = session.run(None, {"x": x})[0]
    alone = session.run(None, {"x": x[:1]})[0]
    assert np.allclose(found[0], alone[0], atol=1e-5)
    assert np.abs(found[0] - x[0] @ WEIGHTS).max() < 0.2


def test_a_matrix_without_whole_blocks_stays_as_it_is() -> None:
    assert [node.op_type for node in quantised(_product(40)).graph.node] == ["MatMul"]
