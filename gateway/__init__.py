"""The one policy point: who may call, how much, and which replica answers."""
