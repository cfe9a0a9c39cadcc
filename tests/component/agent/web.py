"""A TLS web server that breaks off, grows, redirects and refuses as a test says."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Web:
    """A TLS server over one folder; `cut_at` breaks each body off there, `redirect` sends every GET away."""

    folder: Path
    port: int = 0
    authorization: str = ""
    cut_at: int = 0
    redirect: str = ""
    ranges: bool = True
    head: bool = True
    grow: bytes = b""
    requests: list[str] = field(default_factory=list)

    @property
    def uri(self) -> str:
        return f"https://localhost:{self.port}/adapters/vampire"


@contextmanager
def web_server(folder: Path, internal: Path) -> Iterator[Web]:
    web = Web(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            web.requests.append(f"{self.command} {self.path} {self.headers.get('Range', '')}".strip())
            if web.authorization and self.headers.get("Authorization") != web.authorization:
                return self.plain(401)
            if not web.head and not body:
                return self.plain(405)
            if web.redirect and body:
                self.send_response(302)
                self.send_header("Location", web.redirect)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return None
            path = web.folder / self.path.removeprefix("/adapters/vampire/")
            if not path.is_file():
                return self.plain(404)
            data = path.read_bytes()
            tag = f'"{hashlib.sha256(data).hexdigest()[:8]}"'
            begin = 0
            wanted = self.headers.get("Range", "")
            if web.ranges and wanted and self.headers.get("If-Range", tag) == tag:
                begin = int(wanted.removeprefix("bytes=").rstrip("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            else:
                self.send_response(200)
            rest = data[begin:] + (web.grow if body else b"")
            self.send_header("Content-Length", str(len(rest)))
            self.send_header("ETag", tag)
            self.end_headers()
            if body:
                self.close_connection = bool(web.cut_at)
                try:
                    self.wfile.write(rest[: web.cut_at] if web.cut_at else rest)
                except (ConnectionError, ssl.SSLEOFError):
                    self.close_connection = True  # an agent that has heard enough hangs up
            return None

        def plain(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(internal / "tls.crt", internal / "tls.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    web.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
