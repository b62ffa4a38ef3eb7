"""Exits 0 when the gateway in this container answers `/healthz` with 200."""

import http.client
import os
import ssl
import sys


def main() -> int:
    """Asks over loopback, past any proxy; the certificate is the business of those outside."""
    port = int(os.environ.get("GATEWAY_PORT", "8787"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    if os.environ.get("GATEWAY_TLS_CERT"):
        anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=anyone)
    try:
        connection.request("GET", "/healthz")
        return int(connection.getresponse().status != http.client.OK)
    except (OSError, http.client.HTTPException) as error:
        print(f"the gateway does not answer: {error}", file=sys.stderr)
        return 1


raise SystemExit(main())
