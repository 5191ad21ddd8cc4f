"""The llama.cpp engine: text generation with continuous batching on llama-cpp-python."""
