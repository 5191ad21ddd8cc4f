"""Functions that a model may call: shown to it, and read out of what it writes."""
