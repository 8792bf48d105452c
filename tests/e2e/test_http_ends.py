# SPDX-License-Identifier: MIT
"""Clients that end in the middle of a head. There are servers that take the end of the connection for the end of the head,
Python's http.server for one: they would serve what nobody has judged to its end."""
import contextlib
import os
import socket
import subprocess
import sys
import time

from harness import wait_for
from test_http import cluster, conn, head, in_force

PORT = 9010
SERVER = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def any(self):
        n = int(self.headers.get("Content-Length") or 0) if self.headers else 0
        body = self.rfile.read(n)
        with open(sys.argv[1], "a") as f:
            print(self.command, self.path, len(body), file=f, flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    do_GET = do_POST = do_PUT = do_G = do_GE = do_P = do_PO = do_POS = any
    def log_message(self, *a):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 512
Server(("::", int(sys.argv[2])), Handler).serve_forever()
"""
RULES = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 8080}, {"port": PORT}], "http": [
    {"method": "GET", "path": {"value": "/v1/items"}},
    {"method": "POST", "path": {"value": "/v1/orders"}, "headers": [{"name": "X-Team", "value": "checkout"}]},
    {"method": "PUT", "path": {"value": "/up"}},
]}]


def ended(host, addr, data, pieces=1):
    """Sends data in so many pieces, with a FIN at the end; what comes back until it is over, or None: not over in time."""
    with conn(host, addr, PORT) as (s, r):
        for i in range(pieces):
            s.sendall(data[len(data) * i // pieces:len(data) * (i + 1) // pieces])
            if i + 1 < pieces:
                time.sleep(0.002)
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_WR)
        try:
            while r.more():
                pass
        except ConnectionResetError:
            pass
        except (TimeoutError, socket.timeout):
            return None
        return r.buf


def log_of(c, wait=0.0):
    time.sleep(wait)
    with open(c.log, encoding="latin-1") as f:
        return f.read().split("\n")[:-1]


def test_ends():
    with cluster("hn", rules=RULES) as c:
        c.log = os.path.join(c.dir, "served")
        open(c.log, "w").close()
        c.web.popen([sys.executable, "-c", SERVER, c.log, str(PORT)], stderr=subprocess.DEVNULL)
        in_force(c, c.near)
        wait_for("http.server", lambda: ended(c.near, c.web.ip, head("GET", "/v1/items")).endswith(b"ok"))
        wait_for("http.server, far", lambda: ended(c.far, c.web.ip, head("GET", "/v1/items")).endswith(b"ok"))
        in_the_head(c)
        elsewhere(c)


def in_the_head(c):
    """Wherever it ends, what was not allowed in full is not served; the client hears a refusal, and soon."""
    open(c.log, "w").close()
    denied = head("POST", "/v1/orders/1", "Content-Length: 0\r\n")  # for its end: there is no X-Team
    allowed = head("GET", "/v1/items/1")
    for host in (c.near, c.far):
        for fam in (4, 6):
            a = c.web.addr(fam)
            for data in (denied, allowed):
                for cut in range(1, len(data), 1 if (host, fam) == (c.near, 4) else 5):
                    got = ended(host, a, data[:cut], 1 + cut % 3)
                    assert got is not None and b" 200 " not in got, (host.name, fam, data[:cut], got)
            # behind an allowed one, which is answered
            for cut in (1, 5, 12, 30, len(denied) - 1):
                got = ended(host, a, allowed + denied[:cut], 1 + cut % 2)
                assert got is not None and got.count(b" 200 ") == 1, (host.name, fam, cut, got)
    strange = [x for x in log_of(c, 0.2) if x != "GET /v1/items/1 0"]
    assert not strange, strange


def elsewhere(c):
    """Between requests and in a body the end is the server's affair."""
    open(c.log, "w").close()
    up = head("PUT", "/up/1", "Content-Length: 1000\r\n")
    for host in (c.near, c.far):
        for fam in (4, 6):
            a = c.web.addr(fam)
            for pieces in (1, 7) if host is c.near else (2,):
                for n in (1, 3):
                    got = ended(host, a, head("GET", "/v1/items/2") * n, pieces)
                    assert got is not None and got.count(b" 200 ") == n and b" 403 " not in got, (host.name, fam, got)
                for n in (0, 1, 400, 1000):
                    got = ended(host, a, up + b"x" * n, pieces)
                    assert got is not None and got.count(b" 200 ") == 1, (host.name, fam, n, got)
                    assert log_of(c)[-1] == f"PUT /up/1 {n}"
