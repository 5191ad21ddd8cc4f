"""Why no connection to a worker comes about, where TLS is the reason. Pure.

gRPC tells it in the words of its TLS library, and of a refused certificate only that the
connection was closed (grpcio 1.85.1).
"""

from __future__ import annotations

import re

import grpc

from inference_mesh.client_tls import ClientTls

_UNTRUSTED = re.compile(r"CERTIFICATE_VERIFY_FAILED: ([a-zA-Z -]+)")


def connection_trouble(error: grpc.aio.AioRpcError, tls: ClientTls | None, name: str) -> str:
    """One sentence for the operator; empty if it is not TLS.

    error: of a first call on a connection. tls: of the gateway, None = plaintext. name: that the
    worker's certificate is checked for.
    """
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return (
            "it does not take this gateway for one: see its tls_gateway_names and this one's worker_tls_cert"
        )
    details = error.details() or ""
    if error.code() is not grpc.StatusCode.UNAVAILABLE or not details.startswith("failed to connect"):
        return ""
    if "Socket closed" in details or "Connection reset" in details:
        return _closed(tls)
    if untrusted := _UNTRUSTED.search(details):
        return f"its certificate is not to be trusted by worker_tls_ca: {untrusted[1]}"
    if "Hostname Verification" in details:
        return f"its certificate is not for the name {name}"
    if "WRONG_VERSION_NUMBER" in details:
        return "it does not speak TLS, and worker_tls_ca is set"
    return "no TLS comes about with it" if "handshake failed" in details else ""


def _closed(tls: ClientTls | None) -> str:
    """What a worker that hangs up before anything was said may want."""
    if tls is None:
        return "it closes the connection: it may speak TLS, and worker_tls_ca is not set"
    if tls.cert is None:
        return "it closes the connection: it may ask for a certificate, and worker_tls_cert is not set"
    return "it closes the connection: it may not trust the certificate worker_tls_cert"
