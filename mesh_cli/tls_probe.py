"""Why no connection with a target comes about, told by a handshake of our own.

gRPC tells it too, but in the words of its TLS library, and of a missing client certificate nothing.
"""

from __future__ import annotations

import contextlib
import socket
import ssl

from inference_mesh.client_tls import ClientTls

LIMIT_S = 2.0
ANSWER_LIMIT_S = 0.3
"""How long a server may take to refuse a finished handshake; one that does not is content."""


def handshake_problem(host: str, port: int, tls: ClientTls | None) -> str | None:
    """What keeps client and target apart; None if it is not TLS.

    tls: None = the client speaks plaintext. The files must be good: a client was made of them.
    """
    try:
        if tls is None:
            return (
                "it speaks TLS; --tls-ca names its certificate authority" if _speaks_tls(host, port) else None
            )
        _shake_hands(host, port, _verified(tls), tls.name or host)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not to be trusted: {error.verify_message}"
    except ssl.SSLError:
        if not _speaks_tls(host, port):
            return "it does not speak TLS; leave --tls-ca out"
        if tls is not None and tls.cert is None:
            return "it asks for a client's certificate; give --tls-cert and --tls-key"
        return "it refuses the client's certificate"
    except OSError:  # it hangs, or has gone
        return None
    return None


def _speaks_tls(host: str, port: int) -> bool:
    """Whether the target begins a handshake. Raises OSError if it says nothing at all."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent to whoever this is
    try:
        with _connection(host, port) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)  # a refusal in the words of TLS


def _shake_hands(host: str, port: int, context: ssl.SSLContext, name: str) -> None:
    """Come to terms with the target. Raises ssl.SSLError, or OSError if it says nothing."""
    with _connection(host, port) as plain, context.wrap_socket(plain, server_hostname=name) as secure:
        secure.settimeout(ANSWER_LIMIT_S)
        with contextlib.suppress(TimeoutError):
            # TLS 1.3: a server refuses the client's certificate after the client is done.
            if not secure.recv(1):
                raise ssl.SSLError("closed after the handshake")


def _verified(tls: ClientTls) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.set_alpn_protocols(["h2"])
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def _connection(host: str, port: int) -> socket.socket:
    return socket.create_connection((host, port), LIMIT_S)
