"""An outage is told when it begins and when it is over, not at every try in between."""

import logging


class Outage:
    """`what` is what does not work while it lasts, such as "wake-ups"."""

    def __init__(self, log: logging.Logger, what: str) -> None:
        self._log = log
        self._what = what
        self._lasts = False

    def begun(self, why: str) -> None:
        if not self._lasts:
            self._log.warning("%s interrupted: %s", self._what, why)
        self._lasts = True

    def over(self) -> None:
        if self._lasts:
            self._log.warning("%s work again", self._what)
        self._lasts = False
