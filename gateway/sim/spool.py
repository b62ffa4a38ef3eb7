"""Open jobs on disk, a file each, so that they outlive the simulator as fal's outlive ours."""

import logging
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from gateway.sim.model import Call, Job, Outcome

SUFFIX: Final = ".json"

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """What is left of a job. `outcome` is an end that would not come by itself again."""

    created_at: float
    call: Call
    outcome: Outcome | None = None


class Spool:
    """Files below `directory`, which nobody else may read: inputs are somebody's own.

    Trouble with them is logged and no more: a job that cannot be kept runs all the same.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def keep(self, job: Job, outcome: Outcome | None = None) -> None:
        """Write a job's file, whole or not at all. Its headers stay out: the key is among them."""
        data = msgspec.json.encode(Kept(job.created_at, replace(job.call, headers=()), outcome))
        path = self._path(job.id)
        draft = path.with_suffix(".draft")
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(draft, "wb", opener=_private) as file:
                file.write(data)
            draft.replace(path)
        except OSError as error:
            _log.warning("job %s is not kept: %s", job.id, error)

    def forget(self, job_id: str) -> None:
        _remove(self._path(job_id))

    def found(self) -> list[tuple[str, Kept]]:
        """Ids and jobs as the last simulator left them, oldest first."""
        paths = list(self._directory.iterdir()) if self._directory.exists() else []
        jobs = [(path.stem, kept) for path in paths if (kept := _read(path))]
        return sorted(jobs, key=lambda job: job[1].created_at)

    def _path(self, job_id: str) -> Path:
        return self._directory / f"{job_id}{SUFFIX}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: Path) -> Kept | None:
    """What a file holds; one that holds no job is removed."""
    try:
        if path.suffix != SUFFIX:
            raise ValueError("not a job's file")
        UUID(path.stem)
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except (OSError, ValueError, RecursionError) as error:
        _log.warning("dropped %s: %s", path, type(error).__name__)
        _remove(path)
        return None


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
