"""A TLS handshake between two ends in this process: real certificates, real refusals, no network."""

import ssl
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class End:
    """One side: what it shows, and what it trusts. Revocation is checked where a list is given."""

    certificate: Path
    key: Path
    trust: Path
    revoked: Path | None = None


def shake(server: End, client: End, name: str) -> str:
    """Connect a client to a server that asks for its certificate; the reason of the refusal, or nothing."""
    listening, calling = _context(server, ssl.PROTOCOL_TLS_SERVER), _context(client, ssl.PROTOCOL_TLS_CLIENT)
    listening.verify_mode = ssl.CERT_REQUIRED
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = calling.wrap_bio(down, up, server_hostname=name)
    far = listening.wrap_bio(up, down, server_side=True)
    waiting = [near, far]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as refusal:
                return f"{'server' if end.server_side else 'client'}: {refusal.verify_message}"
    return ""


def _context(end: End, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.load_cert_chain(end.certificate, end.key)
    context.load_verify_locations(end.trust)
    if end.revoked is not None:
        context.load_verify_locations(end.revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context
