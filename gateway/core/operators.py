"""What is told to whoever runs the gateway, on the command line."""

from typing import ClassVar


class NotDone(Exception):
    """What the operator wants is not done. The message, one line, says why and what to do."""

    exit_code: ClassVar[int] = 1


class NotStarted(NotDone):
    """Nothing was begun: a setting is wrong, or something is missing."""

    exit_code = 2
