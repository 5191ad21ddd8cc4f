"""The ONNX Runtime engine: dynamic batching of texts and tensors, without waiting."""
