"""The admin API of a running gateway, as the commands for operators call it."""

import argparse
import json
import ssl
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import certifi
import httpx
import yaml

from gateway.core.operators import NotDone
from gateway.settings import Settings, load_without_fal
from gateway.settings.kept import admin_key

TIMEOUT: Final = 10.0
"""Seconds that an answer may take."""


@dataclass(frozen=True, slots=True)
class Api:
    """The admin API of one gateway."""

    http: httpx.Client

    def ask(self, method: str, path: str, **more: Any) -> Any:
        """The answer's JSON, or None. Raises `NotDone`."""
        try:
            answer = self.http.request(method, f"/admin/v1/{path}", **more)
        except httpx.TransportError as error:
            raise NotDone(_unreached(str(self.http.base_url), error)) from None
        if answer.status_code == 401:
            raise NotDone(
                "the gateway does not know this admin key: GATEWAY_ADMIN_KEY must be as the "
                "gateway has it, or run this in the folder in which the gateway runs"
            )
        if not answer.is_success:
            raise NotDone(_reason(answer))
        return answer.json() if answer.content else None

    def pages(self, path: str, params: Mapping[str, str], rows: str) -> Generator[Any]:
        """All that `rows` holds, page after page."""
        cursor: dict[str, str] = {}
        while True:
            page = self.ask("GET", path, params={**params, **cursor})
            yield from page[rows]
            if page["next"] is None:
                return
            cursor = {"cursor": page["next"]}

    def rules(self, file: str) -> Any:
        """A plan's rules as a file has them, `-` is standard input. Raises `NotDone`."""
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text("utf-8")
            rules = yaml.safe_load(text)
            json.dumps(rules, allow_nan=False)  # YAML has more than can be sent
            return rules
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise NotDone(f"{file}: {' '.join(str(error).split())}") from None


def _unreached(url: str, error: httpx.TransportError) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"the certificate of {url} is not trusted here, or is for another name: "
            "SSL_CERT_FILE names a file with its authority"
        )
    return (
        f"no gateway answers at {url} ({type(error).__name__}): "
        "is it running? --url says where it is"
    )


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"what answers at {answer.request.url} is no gateway (status {answer.status_code})"


@contextmanager
def reached(parsed: argparse.Namespace) -> Generator[Api]:
    settings = load_without_fal(file=parsed.config)
    url = parsed.url or _own_url(settings)
    key = admin_key(settings.admin_key, settings.data_dir, create=False)
    with httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}"},
        timeout=TIMEOUT,
        verify=_authorities(),
        trust_env=not _here(url),  # no proxy stands between this machine and itself
    ) as http:
        yield Api(http)


def _authorities() -> ssl.SSLContext:
    """Those of the system, or of SSL_CERT_FILE in their place, and those that the web trusts."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _here(url: str) -> bool:
    """Is it on this machine? Raises `NotDone` for what is no address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in {"http", "https"} else None
    except ValueError:
        host = None
    if host is None:
        raise NotDone(f"--url must be http:// or https:// and a host, not {url!r}")
    return host in {"127.0.0.1", "localhost", "::1"}


def _own_url(settings: Settings) -> str:
    return f"{'https' if settings.tls.cert else 'http'}://127.0.0.1:{settings.port}"
