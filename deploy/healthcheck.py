"""Exits 0 when the gateway in this container answers `/healthz` with 200."""

import http.client
import os
import ssl
import sys


def main() -> int:
    """Asks over loopback, past any proxy; the certificate is the business of those outside."""
    port = int(os.environ.get("GATEWAY_PORT", "8787"))
    connection = (
        http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=2, context=ssl._create_unverified_context()
        )
        if os.environ.get("GATEWAY_TLS_CERT")
        else http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    )
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != http.client.OK)
    except OSError as error:
        print(f"the gateway does not answer: {error}", file=sys.stderr)
        return 1


raise SystemExit(main())
