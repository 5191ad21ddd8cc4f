"""`python -m models.quantise FOLDER NEW_FOLDER`: an ONNX model with weights of 8 bits in its products.

A third less memory, almost the same answers, no more speed on a CPU. Weight-only: what goes through
the graph stays float, so that an answer never depends on its neighbours in a batch, as it does with
dynamic int8, where one scale is found for all of it.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

BITS, BLOCK = 8, 32
MIDDLE = 128
"""What stands for 0 in ONNX Runtime's MatMulNBits where no zero points are given."""
ACCURACY_LEVEL = 4
"""ONNX Runtime may compute blocks in int8, with a scale for each row and block."""
DOMAIN = "com.microsoft"


def quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with MatMulNBits in place of each product with a matrix of whole blocks."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        tensor = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is None or len(tensor.dims) != 2 or tensor.dims[0] % BLOCK:
            continue
        name = tensor.name
        if f"{name}.blocks" not in weights:
            blocks, scales = in_blocks(numpy_helper.to_array(tensor))
            added = [
                numpy_helper.from_array(blocks, f"{name}.blocks"),
                numpy_helper.from_array(scales, f"{name}.scales"),
            ]
            weights |= {one.name: one for one in added}
            graph.initializer.extend(added)
        rows, columns = tensor.dims
        product = helper.make_node(
            "MatMulNBits",
            [node.input[0], f"{name}.blocks", f"{name}.scales"],
            list(node.output),
            name=node.name,
            domain=DOMAIN,
            K=rows,
            N=columns,
            bits=BITS,
            block_size=BLOCK,
            accuracy_level=ACCURACY_LEVEL,
        )
        node.CopyFrom(product)
    _drop_unused(graph)
    changed.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return changed


def in_blocks(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix (rows, columns) as numbers (columns, blocks, 32) and scales (columns * blocks,)."""
    blocks = matrix.T.reshape(matrix.shape[1], -1, BLOCK).astype(np.float32)
    scales = np.abs(blocks).max(axis=2) / (MIDDLE - 1)
    steps = np.where(scales, scales, 1)[:, :, None]
    return (np.round(blocks / steps) + MIDDLE).astype(np.uint8), scales.reshape(-1).astype(np.float32)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def main() -> None:
    """Write the new folder."""
    parser = argparse.ArgumentParser(prog="python -m models.quantise", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with model.onnx")
    parser.add_argument("new_folder", type=Path, help="folder to make; it must not exist")
    options = parser.parse_args()
    model = quantised(onnx.load(str(options.folder / "model.onnx")))
    shutil.copytree(options.folder, options.new_folder, ignore=shutil.ignore_patterns("model.onnx"))
    (options.new_folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    print(f"wrote {options.new_folder}")


if __name__ == "__main__":
    main()
