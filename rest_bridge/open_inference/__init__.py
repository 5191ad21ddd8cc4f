"""The Open Inference Protocol v2 over REST: its messages turned into those of its gRPC form and back."""
