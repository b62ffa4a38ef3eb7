"""The races of `tests/store/test_races.py`, a hundred times each: `python -m tests.bench.races`."""

import os
import subprocess
import sys
from pathlib import Path

ROUNDS = "100"


def main() -> int:
    races = Path(__file__).parents[1] / "store" / "test_races.py"
    command = [sys.executable, "-m", "pytest", "-q", "--durations=3", str(races)]
    return subprocess.run(
        command, env={**os.environ, "RACE_ROUNDS": ROUNDS}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
