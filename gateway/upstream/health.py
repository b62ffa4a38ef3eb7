"""Whose key fal refuses, as far as this process knows. What it finds out, others must be told."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from gateway.core.accounts import Out

_now: Final[Callable[[], float]] = time.time


class Health:
    """Two sides: what all processes know, and what this one has found out since."""

    def __init__(self, clock: Callable[[], float] = _now) -> None:
        self._clock = clock
        self._known: Mapping[str, Out] = {}
        self._refused: dict[str, Out] = {}
        self._worked: set[str] = set()

    def out(self, name: str) -> Out | None:
        """Why the account is out of use; None while it is in use."""
        if name in self._worked:
            return None
        return self._refused.get(name) or self._known.get(name)

    def refused(self, name: str, status: int) -> None:
        """fal has just answered 401 or 403 to the account's key."""
        self._worked.discard(name)
        if name not in self._known:
            self._refused.setdefault(name, Out(self._clock(), status))

    def worked(self, name: str) -> None:
        """fal has just taken a job of the account's."""
        if self.out(name) is not None:
            self._refused.pop(name, None)
            self._worked.add(name)

    @property
    def untold(self) -> tuple[dict[str, Out], set[str]]:
        """Which accounts were refused here and which worked, that others do not know of."""
        return dict(self._refused), set(self._worked)

    def told(self, known: Mapping[str, Out], refused: Mapping[str, Out], worked: set[str]) -> None:
        """What all know, who have heard of these `refused` and `worked`."""
        self._known = dict(known)
        for name, out in refused.items():
            if self._refused.get(name) is out:
                del self._refused[name]
        self._worked -= worked
