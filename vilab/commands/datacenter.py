"""What all hosts of a datacenter have in common: a secret, and the certificates of a TLS connection."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from vilab.errors import AdminError
from vilab.migration.agent_tls import tls_context

SHORTEST_SECRET_BYTES = 16


def read_secret(path: Path) -> bytes:
    """The datacenter's. Raises ``AdminError``: it cannot be read, or could be guessed."""
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise AdminError(f"The secret of the datacenter cannot be read from {path}: {error.strerror}.") from None
    if len(secret) < SHORTEST_SECRET_BYTES:
        raise AdminError(
            f"{path} has {len(secret)} bytes, which could be guessed: a secret has {SHORTEST_SECRET_BYTES} at least; "
            f"make one with: head -c 32 /dev/urandom | base64 > {path}"
        )
    return secret


def tls_pair(files: Sequence[Path] | None) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """For who calls, and for calling."""
    if files is None:
        return None, None
    certificate, key, trusted = files
    called = tls_context(certificate, key, trusted, listens=True)
    return called, tls_context(certificate, key, trusted, listens=False)
