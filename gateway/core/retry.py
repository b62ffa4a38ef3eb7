"""When to try again. Pure arithmetic: the caller brings the random number."""

from typing import Final

_ASK_AFTER: Final = (5.0, 15.0, 45.0, 120.0, 240.0)
"""The last one for ever: fal may drop a result of 10 KB or more after six minutes."""
_PULL_AFTER: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_DELIVER_AFTER: Final = (5.0, 30.0, 120.0, 600.0)
"""The last one as often as there are attempts left."""
_JITTER: Final = 0.2


def ask_after(asks: int, pull: bool) -> float:
    """Seconds until fal is asked about an open job that it was asked about `asks` times before.

    `pull`: without a webhook, asking is the only way to learn of the end.
    """
    pauses = _PULL_AFTER if pull else _ASK_AFTER
    return pauses[min(asks, len(pauses) - 1)]


def deliver_after(attempt: int, random: float) -> float:
    """Seconds until a delivery is tried again, after `attempt` (from 0) failed.

    Up to a fifth more or less, by `random` in [0, 1), so that a receiver that comes back is not
    met by all at once.
    """
    pause = _DELIVER_AFTER[min(attempt, len(_DELIVER_AFTER) - 1)]
    return pause * (1 - _JITTER + 2 * _JITTER * random)
