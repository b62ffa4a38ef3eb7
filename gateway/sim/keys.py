"""The keys that webhooks are signed with: Ed25519, published as a JWKS, rotated on demand."""

from base64 import urlsafe_b64encode
from hashlib import sha256
from secrets import token_bytes

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class SigningKeys:
    """Starts with two published keys, of which the newest signs, as after a rotation.

    `padded` publishes them with `=` at the end: the description leaves open whether fal does.
    """

    def __init__(self, seed: int | None) -> None:
        self.padded = False
        self._seed = token_bytes(32) if seed is None else str(seed).encode()
        self._made = 0
        self._keys: list[Ed25519PrivateKey] = []
        self.rotate()
        self.rotate()

    def rotate(self, drop: bool = False) -> None:
        """Sign with a new key from now on; `drop` withdraws all older ones."""
        self._made += 1
        secret = sha256(b"%s/%d" % (self._seed, self._made)).digest()
        kept = [] if drop else self._keys[-4:]
        self._keys = [*kept, Ed25519PrivateKey.from_private_bytes(secret)]

    @property
    def newest(self) -> Ed25519PrivateKey:
        return self._keys[-1]

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        raw = [key.public_key().public_bytes_raw() for key in reversed(self._keys)]
        xs = [urlsafe_b64encode(each).decode() for each in raw]
        xs = xs if self.padded else [x.rstrip("=") for x in xs]
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x} for x in xs]}
