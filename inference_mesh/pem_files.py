"""The files of a TLS connection: read, and good together, before gRPC gets them.

gRPC itself would only refuse every handshake, and not say why.
"""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path

from inference_mesh.config.errors import ConfigError, Problem


@dataclasses.dataclass(frozen=True, slots=True)
class Pem:
    """What the files say; empty = there is no such file."""

    authority: bytes
    certificate: bytes
    private_key: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class PemFiles:
    """A certificate and its key, an authority that signs the other side's, or all three."""

    authority: Path | None
    certificate: Path | None = None
    private_key: Path | None = None

    def read(self, known: Pem | None = None) -> Pem:
        """What the files say now. Raises ConfigError naming the one that is missing or wrong.

        known: what is good already, and is not checked again.
        """
        while True:
            found = self._read()
            if found == known:
                return found
            self._check()
            if self._read() == found:  # else what was checked is not what was read
                return found

    def _read(self) -> Pem:
        return Pem(*map(_bytes_of, (self.authority, self.certificate, self.private_key)))

    def _check(self) -> None:
        """By path: the library takes a certificate and its key in no other way."""
        if self.authority is not None:
            _check_certificates(self.authority)
        if self.certificate is not None and self.private_key is not None:
            _check_pair(self.certificate, self.private_key)


def _check_certificates(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, ValueError):
        raise ConfigError(str(path), (Problem("", "has no certificate in the form PEM"),)) from None
    except OSError as error:
        raise _unreadable(path, error) from None


def _check_pair(certificate: Path, private_key: Path) -> None:
    _check_certificates(certificate)
    try:
        # With a password, so that a key that needs one is refused and not asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, private_key, password="")
    except (ssl.SSLError, ValueError) as error:
        is_other = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        message = f"is not the key of {certificate}" if is_other else "must be PEM, without a password"
        raise ConfigError(str(private_key), (Problem("", message),)) from None
    except OSError as error:
        raise _unreadable(private_key, error) from None


def _bytes_of(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(str(path), (Problem("", f"cannot be read: {error.strerror}"),))
