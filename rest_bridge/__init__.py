"""The REST bridge: JSON over HTTP for what the gateway speaks in gRPC."""
