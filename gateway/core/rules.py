"""What a plan says of a model's input: bounds, forced values, hosts of URLs."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, for the endpoints that the pattern `endpoint` matches, on the value at `path`."""

    endpoint: str
    path: str
