"""The accounts at fal that the gateway may use. A job stays with the one that took it."""

from collections.abc import Mapping

from gateway.upstream.fal import Fal


class Accounts:
    """`fals` are by name, and never empty."""

    def __init__(self, fals: Mapping[str, Fal]) -> None:
        self._fals = dict(fals)
        self._first = next(iter(self._fals))

    def of(self, name: str) -> Fal:
        """The account that has a job; the first one for a job that says none."""
        return self._fals.get(name) or self._fals[self._first]

    def chosen(self, team: str) -> str:
        """The account for a new call of `team`."""
        return self._first

    def redacted(self, told: bytes) -> bytes:
        """What fal has told us elsewhere, without any of our keys."""
        for account in self._fals.values():
            told = account.redacted(told)
        return told
