"""Who may call: fal keys, and the accounts behind them."""

from hashlib import sha256


class Access:
    """`keys` are the good ones; None takes any."""

    def __init__(self, keys: frozenset[str] | None) -> None:
        self._keys = keys

    def account(self, authorization: str | None) -> str | None:
        """The account of an `Authorization` value, None if it is no good.

        A name for the key's public half, which is the same for all who show that half.
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "key" or not key.strip():
            return None
        if self._keys is not None and key not in self._keys:
            return None
        return sha256(key.split(":")[0].encode()).hexdigest()[:12]
