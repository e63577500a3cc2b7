"""Digests by which files and settings are told apart."""

import hashlib


def short_digest(content: bytes | str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of `content`, of a text's UTF-8: 64 bits, enough for one project's."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()[:16]
