"""TLS between the agents of two machines.

::

    host esx1                                                              host esx2
    esx1.crt, esx1.key  <── TLS 1.3, both show a certificate ──>  esx2.crt, esx2.key
    trusted.crt                                                            trusted.crt

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=esx1 \\
        -keyout esx1.key -out esx1.crt                 and trusted.crt: the certificates of all hosts, one after another

It hides what is said and finds every change. Which host it is that the other side belongs to, and that it may talk, is
what the session finds out: hosts are reached by address, so that names in certificates say nothing.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from vilab.errors import AdminError


def tls_context(certificate: Path, key: Path, trusted: Path, *, listens: bool) -> ssl.SSLContext:
    """For ``TcpListener`` (``listens``) or ``connect``.

    Parameters
    ----------
    certificate, key : of this host, PEM.
    trusted : certificates of the other hosts, or of who signs them, PEM.

    Raises ``AdminError`` for files that are no such thing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if listens else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # hosts are reached by address
    context.verify_mode = ssl.CERT_REQUIRED
    for path in (certificate, key, trusted):
        if not path.is_file():
            raise AdminError(f"There is no file {path} for TLS: make a certificate and its key with openssl.")
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        raise AdminError(f"{certificate} and {key} are no certificate with its key ({cause(error)}).") from None
    try:
        context.load_verify_locations(trusted)
    except (ssl.SSLError, OSError) as error:
        raise AdminError(f"{trusted} has no certificates of other hosts ({cause(error)}).") from None
    return context


def cause(error: Exception) -> str:
    """In a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
