"""Stored files, as fal's CDN keeps them: on disk, public by an unguessable address."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import Final

MAX_OBJECTS: Final = 1_000
MAX_OBJECT: Final = 512 * 2**20
MAX_PARTS: Final = 1_000

_ID: Final = re.compile(r"[0-9a-f]{32}")
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class TooLarge(Exception):
    """More bytes than an object may have."""


class Unknown(Exception):
    """No such object, or a wrong signature."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object's place. `signature` is what an upload to it must show."""

    id: str
    name: str
    content_type: str
    signature: str
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "bytes"


class Objects:
    """`origin` is how browsers reach us; everything is kept below `directory`.

    The oldest objects are deleted beyond `most`; none may have more bytes than `largest`.
    """

    def __init__(
        self, origin: str, directory: Path, most: int = MAX_OBJECTS, largest: int = MAX_OBJECT
    ) -> None:
        self._base = f"{origin}/cdn"
        self._directory = directory
        self._most = most
        self._largest = largest

    async def reserve(self, name: str, content_type: str) -> Stored:
        """A place for a new object."""
        safe = _UNSAFE.sub("_", name)[-100:].lstrip(".") or "file"
        object_id = token_hex(16)
        stored = Stored(object_id, safe, content_type, token_hex(16), self._directory / object_id)
        await asyncio.to_thread(self._write_meta, stored)
        return stored

    async def keep(self, name: str, content_type: str, data: bytes) -> Stored:
        stored = await self.reserve(name, content_type)
        await asyncio.to_thread(stored.path.write_bytes, data)
        return stored

    async def find(self, object_id: str, signature: str | None = None) -> Stored:
        """Raises `Unknown`; with a signature, also when that is wrong."""
        if not _ID.fullmatch(object_id):
            raise Unknown
        stored = await asyncio.to_thread(self._read_meta, object_id)
        if signature is not None and signature != stored.signature:
            raise Unknown
        return stored

    async def write(self, stored: Stored, chunks: AsyncIterable[bytes], part: int = 0) -> str:
        """Store a body, or one part of it; gives its etag. Raises `TooLarge`."""
        path = self._part(stored, part) if part else stored.path
        digest, size = sha256(), 0
        with await asyncio.to_thread(path.open, "wb") as file:
            async for chunk in chunks:
                size += len(chunk)
                if size > self._largest:
                    raise TooLarge
                digest.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        return digest.hexdigest()[:32]

    async def join(self, stored: Stored, parts: list[int]) -> None:
        """Make one object of its parts. Raises `Unknown` if one is missing, or `TooLarge`."""
        await asyncio.to_thread(self._join, stored, parts)

    def upload_url(self, stored: Stored) -> str:
        return f"{self._base}/upload/{stored.id}/{stored.name}?signature={stored.signature}"

    def file_url(self, stored: Stored) -> str:
        return f"{self._base}/files/{stored.id}/{stored.name}"

    def _part(self, stored: Stored, number: int) -> Path:
        return stored.folder / f"part-{number}"

    def _join(self, stored: Stored, parts: list[int]) -> None:
        paths = [self._part(stored, number) for number in parts]
        if not all(path.is_file() for path in paths):
            raise Unknown
        if sum(path.stat().st_size for path in paths) > self._largest:
            raise TooLarge
        with stored.path.open("wb") as whole:
            for path in paths:
                with path.open("rb") as part:
                    shutil.copyfileobj(part, whole)
        for path in stored.folder.glob("part-*"):
            path.unlink()

    def _write_meta(self, stored: Stored) -> None:
        self._make_room()
        stored.folder.mkdir(parents=True)
        meta = {"name": stored.name, "type": stored.content_type, "signature": stored.signature}
        (stored.folder / "meta.json").write_text(json.dumps(meta))

    def _read_meta(self, object_id: str) -> Stored:
        folder = self._directory / object_id
        try:
            meta = json.loads((folder / "meta.json").read_text())
        except FileNotFoundError:
            raise Unknown from None
        return Stored(object_id, meta["name"], meta["type"], meta["signature"], folder)

    def _make_room(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        folders = [path for path in self._directory.iterdir() if _ID.fullmatch(path.name)]
        surplus = max(0, len(folders) - self._most + 1)
        for old in sorted(folders, key=lambda path: path.stat().st_mtime)[:surplus]:
            shutil.rmtree(old, ignore_errors=True)
