"""The runtime that MLServer loads to serve MiniLM: text in, vectors out. Runs in MLServer's environment.

Each text is padded to the longest of its batch. threads_outside of model-settings.json's `extra`:
0 = a batch is computed in the event loop by a session of two threads, the way MLServer's own runtimes
do; else in so many threads beside it, each run by one thread, as cheap as it can be written there.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
import tokenizers
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

CORES = 2


class MiniLm(MLModel):  # type: ignore[misc, unused-ignore]
    """Takes `text`, BYTES (batch, 1); answers `embedding`, FP32 (batch, 384)."""

    async def load(self) -> bool:
        """Read the folder that model-settings.json names."""
        folder = Path(self.settings.parameters.uri)
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.enable_padding()
        outside = int(self.settings.parameters.extra["threads_outside"])
        self._threads = concurrent.futures.ThreadPoolExecutor(outside) if outside else None
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1 if outside else CORES
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch, as MLServer joined it."""
        texts = [text.decode() if isinstance(text, bytes) else text for text in payload.inputs[0].data]
        if self._threads is None:
            vectors = self._embed(texts)
        else:
            loop = asyncio.get_running_loop()
            vectors = await loop.run_in_executor(self._threads, self._embed, texts)
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("embedding", vectors)]
        )

    def _embed(self, texts: list[str]) -> np.ndarray:
        encodings = self._tokenizer.encode_batch_fast(texts)
        feeds = {
            "input_ids": np.array([one.ids for one in encodings], dtype=np.int64),
            "attention_mask": np.array([one.attention_mask for one in encodings], dtype=np.int64),
        }
        return np.asarray(self._session.run(["embedding"], feeds)[0])
