"""all-MiniLM-L6-v2, a sentence-embedding model: fetched, converted to ONNX without torch, verified."""
