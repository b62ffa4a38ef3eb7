"""What the settings say."""

import argparse
import json

from gateway.settings import load, reference


def config(parsed: argparse.Namespace) -> int:
    """Print the effective configuration, or the JSON Schema of the file."""
    if parsed.what == "schema":
        print(json.dumps(reference.schema(), indent=2))
    else:
        print(reference.check(load(file=parsed.config)))
    return 0
