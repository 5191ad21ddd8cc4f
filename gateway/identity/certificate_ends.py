"""When certificates end, for the metric that warns of it."""

from __future__ import annotations

import math

from cryptography import x509

from inference_mesh.pem_files import Pem


def ends_at_s(pem: Pem | None, called: str, authority_called: str) -> dict[str, float]:
    """Unix time at which the first certificate of each file ends, by the setting that names the file.

    called: the setting of the certificate, authority_called: that of the authority. pem: is good;
    None = nothing is known.
    """
    if pem is None:
        return {}
    found = {called: pem.certificate, authority_called: pem.authority}
    return {name: _first_end_s(text) for name, text in found.items() if text}


def _first_end_s(pem: bytes) -> float:
    """Not a number where this library does not read what the library of TLS does."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return math.nan
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)
