"""A proxy that breaks off answers where a killed server would: after the headers."""

import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@contextmanager
def cutting(url: str, path: str, times: int) -> Iterator[tuple[str, Counter[str]]]:
    """Its address, and how many answers of each path were asked for.

    Args:
        url: of the server behind it.
        path: whose answers are broken off.
        times: how many of them.
    """
    asked: Counter[str] = Counter()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            behind = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
            headers = {"content-type": self.headers.get("content-type", "application/json")}
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            found = answer.read()
            behind.close()
            with lock:
                asked[self.path] += 1
                is_cut = self.path == path and asked[path] <= times
            self.send_response(answer.status)
            if answer.status != http.client.NO_CONTENT:
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(found)))
            self.end_headers()
            self.close_connection = is_cut
            if not is_cut:
                self.wfile.write(found)

        do_GET = do_POST = do_PUT = _forward

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{proxy.server_address[1]}", asked
        proxy.shutdown()
