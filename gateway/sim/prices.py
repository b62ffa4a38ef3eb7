"""What endpoints cost here, and how many units a call uses.

`sim/units/<n>` uses n units a call, `sim/units/none` tells none; all others use 1.
`sim/unpriced`, and what lies below it, has no price.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

UNPRICED: Final = "sim/unpriced"
_UNITS: Final = "sim/units/"
_NUMBER: Final = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,12})?")
_LIST: Final = (("0.025", "image"), ("0.2", "second"), ("0.0011", "second"), ("0.05", "megapixel"))


@dataclass(frozen=True, slots=True)
class Price:
    unit_price: str
    """A decimal number."""
    unit: str
    currency: str = "USD"


class Prices:
    """The same for an endpoint at every start, unless set. `away`: an ask is answered with 503."""

    def __init__(self) -> None:
        self._set: dict[str, Price | None] = {}
        self.away = False

    def of(self, endpoint: str) -> Price | None:
        if endpoint in self._set:
            return self._set[endpoint]
        if endpoint == UNPRICED or endpoint.startswith(f"{UNPRICED}/"):
            return None
        return Price(*_LIST[sha256(endpoint.encode()).digest()[0] % len(_LIST)])

    def change(self, endpoint: str, price: Price | None) -> None:
        self._set[endpoint] = price

    def reset(self) -> None:
        self._set.clear()
        self.away = False


def is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def units_of(endpoint: str) -> str | None:
    """Units of a call that goes well; None: fal does not tell."""
    name = endpoint.removeprefix(_UNITS) if endpoint.startswith(_UNITS) else "1"
    if name == "none":
        return None
    return name if is_number(name) else "1"
