"""Signature: request ids that only this server can have made.

Feedback names the answer it is about. The signature in the name lets every worker tell a genuine
answer from a made-up one without asking the store, also while the store is away.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from serving.api import private_file

KEY_FILE = "signing.key"
MIN_SECRET_LENGTH = 32
_MAC_BYTES = 8
_MAC_DIGITS = 2 * _MAC_BYTES
_EVENT_ID = re.compile(r"[0-9a-f]{32}")


class SignatureError(ValueError):
    """There is no usable signing key; the message names where it comes from and the remedy."""


class Signer:
    """Makes and checks request ids: an event id and its 64-bit keyed BLAKE2b, 48 hex digits.

    64 bits are enough where every guess costs a request: at a million forgeries a second one is
    expected to pass in 300 000 years.
    """

    def __init__(self, secret: bytes) -> None:
        """Sign with a secret of any length; equal secrets make equal signatures."""
        key = hashlib.blake2b(secret, digest_size=32, person=b"request id").digest()
        self._keyed = hashlib.blake2b(key=key, digest_size=_MAC_BYTES)

    def sign(self, event_id: str) -> str:
        """The request id of an event id, which begins with it."""
        return event_id + self._mac(event_id)

    def check(self, request_id: str) -> bool:
        """Whether this key signed a request id; takes as long for a near miss as for any other."""
        event_id, mac = request_id[:-_MAC_DIGITS], request_id[-_MAC_DIGITS:]
        # What is no event id at all is refused by its form, which is no secret.
        if _EVENT_ID.fullmatch(event_id) is None or not mac.isascii():
            return False
        return hmac.compare_digest(mac, self._mac(event_id))

    def _mac(self, event_id: str) -> str:
        mac = self._keyed.copy()
        mac.update(event_id.encode())
        return mac.hexdigest()


def open_signer(data_dir: Path, secret: str | None) -> Signer:
    """The signer of a server, the same in every worker and after every restart.

    Args:
        data_dir: where a secret of our own is kept, readable by its owner only.
        secret: `CASCADE_SIGNING_KEY`; without one a secret is made at the first start.

    Raises:
        SignatureError: the secret is too short, or the file cannot be used.
    """
    if secret is not None:
        if len(secret) < MIN_SECRET_LENGTH:
            raise SignatureError(
                f"CASCADE_SIGNING_KEY has {len(secret)} characters and needs at least "
                f"{MIN_SECRET_LENGTH}; make one with `openssl rand -hex 32`"
            )
        return Signer(secret.encode())
    path = data_dir / KEY_FILE
    try:
        # Of workers that start together one keeps its secret, and all read that one.
        if not path.exists():
            private_file.create(path, secrets.token_hex(32))
        kept = path.read_text()
    except OSError as error:
        raise SignatureError(
            f"{path} cannot be used ({error.strerror}); make it readable and its folder writable, "
            "or set CASCADE_SIGNING_KEY"
        ) from error
    if len(kept) < MIN_SECRET_LENGTH:
        raise SignatureError(
            f"{path} has {len(kept)} characters and needs at least {MIN_SECRET_LENGTH}; restore "
            "it, or remove it: feedback to earlier answers is then refused"
        )
    return Signer(kept.encode())
