"""Secrets that are kept in the data directory, where the operator has set none."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr

from gateway.settings.sources import SettingsError


def admin_key(given: SecretStr | None, data_dir: Path, *, create: bool) -> str:
    """The credential of the admin API: as set, else as kept in `admin_key` there.

    Raises `SettingsError`, also for none where it is not to be created.
    """
    if given is not None:
        return given.get_secret_value()
    path = data_dir / "admin_key"
    try:
        if not path.exists() and not create:
            raise SettingsError(
                f"GATEWAY_ADMIN_KEY is not set, and {path} is not there: set it as the gateway "
                "has it, or run this in the folder of a gateway that `fal-gateway run` started"
            )
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            create_file(path, secrets.token_urlsafe(32))
        kept = path.read_text().strip()
    except OSError as error:
        raise SettingsError(f"{error.filename or path}: {error.strerror}") from None
    if not kept.isascii() or not kept.isprintable() or len(kept) < 32:
        raise SettingsError(f"{path}: must hold the admin key, at least 32 characters")
    return kept


def create_file(path: Path, text: str) -> None:
    """A file that only we may read, whole or not at all; an existing one is left as it is."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
