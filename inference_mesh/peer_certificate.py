"""The names in the certificate of who calls.

Owns how they are read. Which tenant a name is, or whether it is a gateway's, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SUBJECT_ALTERNATIVE_NAME = "x509_subject_alternative_name"
MAX_NAMES = 64


def certificate_names(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """The subject alternative names of a client's verified certificate; none without one.

    auth_context: grpc's, of one call. gRPC asks a client for a certificate only if it also
    verifies it, so what stands there is verified.
    """
    names = tuple(auth_context.get(SUBJECT_ALTERNATIVE_NAME, ()))
    if len(names) > MAX_NAMES:
        return ()
    return tuple(name.decode("utf-8", "replace") for name in names)
