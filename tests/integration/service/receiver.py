"""A webhook receiver in a process of its own; it believes what the official verifier does.

``python receiver.py PORT SECRET… [--tls CERTIFICATE]`` serves on 127.0.0.1. POST /… is a delivery;
the path says how it is answered. GET /told?count=N waits for N deliveries.
"""

from __future__ import annotations

import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from standardwebhooks import Webhook, WebhookVerificationError

WAIT_SECONDS = 20

changed = threading.Condition()
told: list[dict[str, Any]] = []
secrets: list[str] = []
names: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        if path == "/secrets":
            secrets[:] = json.loads(body)
            return self.reply(200)
        entry = {
            "id": self.headers["webhook-id"],
            "path": path,
            "host": self.headers["Host"],
            "signatures": len(self.headers["webhook-signature"].split()),
            "body": json.loads(body),
            "verified": [self.verifies(secret, body) for secret in secrets],
        }
        entry["sni"] = names[-1] if names else None
        with changed:
            told.append(entry)
            changed.notify_all()
        self.answer(path)

    def verifies(self, secret: str, body: bytes) -> bool:
        try:
            Webhook(secret).verify(body, {k.lower(): v for k, v in self.headers.items()})
        except WebhookVerificationError:
            return False
        return True

    def answer(self, path: str) -> None:
        if path == "/slow":
            # It takes a byte of the answer's head a moment, for ever.
            while True:
                self.wfile.write(b"H")
                self.wfile.flush()
                time.sleep(0.05)
        if path == "/endless":
            for _ in range(100_000):
                self.wfile.write(b"X: " + b"x" * 1000)
        if path.startswith("/redirect"):
            self.send_response(302)
            self.send_header("Location", "/ok")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.reply({"/gone": 410, "/broken": 500}.get(path, 204))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        count = int(parse_qs(url.query).get("count", ["0"])[0])
        with changed:
            changed.wait_for(lambda: len(told) >= count, WAIT_SECONDS)
            body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def reply(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def main() -> None:
    port, *rest = sys.argv[1:]
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    if "--tls" in rest:
        *rest, _, certificate = rest
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _, name, __: names.append(name or "")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    secrets[:] = rest
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
