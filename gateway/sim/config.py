"""What can be set about a simulator."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SimConfig:
    """`origin` is how others reach the simulator.

    Below `data_dir` are stored objects and open jobs: what starts there again goes on with them.
    """

    origin: str
    data_dir: Path
    keys: frozenset[str] | None = field(default=None, repr=False)
    """The fal keys that are good, `id:secret`. None takes any."""
    user_id: str = "sim-user"
    """The account that webhooks are signed for."""
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Keys whose account webhooks are signed for as somebody else."""
    pace: float = 1.0
    """Multiplies every waiting and running time; 0.05 suits tests."""
    concurrency: int = 2
    """Jobs that an account may have running at once."""
    slots: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Keys whose account may have another number of them."""
    max_jobs: int = 10_000
    """Beyond, the oldest ended jobs are forgotten; with none ended, a submit is 503."""
    seed: int | None = None
    """Makes the signing keys the same at each start. None: new ones."""
    trust: Path | None = None
    """A certificate in PEM that webhooks may be served with, beside those that all trust."""
