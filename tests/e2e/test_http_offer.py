# SPDX-License-Identifier: MIT
"""Clients that offer HTTP/2 with each request (`Upgrade: h2c`: Java's HttpClient, curl --http2), before servers that would take it:
what the rules allow is answered, in HTTP/1, and what they do not is not. Ingress rules, egress rules, and both."""
import contextlib
import random
import threading
import time

from harness import wait_for
from test_http import Reader, cluster, conn, head

PORT = 9011
OFFER = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
HTTP = [{"method": "GET", "path": {"value": "/v1/items"}}, {"method": "POST", "path": {"value": "/v1/orders"}}]
RULES = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 8080}, {"port": PORT}], "http": HTTP}]


class Server(threading.Thread):
    """Takes every offer: 101, and then whatever comes. Else it answers, with the number of requests so far."""

    def __init__(self, pod, port):
        super().__init__(daemon=True)
        self.l = pod.socket(6, timeout=300)
        self.l.bind(("::", port))
        self.l.listen(64)
        self.heads, self.other = [], []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.one, args=(self.l.accept()[0],), daemon=True).start()

    def one(self, s):
        r, n = Reader(s), 0
        with contextlib.suppress(OSError), contextlib.closing(s):
            while True:
                while b"\r\n\r\n" not in r.buf:
                    if not r.more():
                        return
                h, r.buf = r.buf.split(b"\r\n\r\n", 1)
                self.heads.append(h)
                lines = h.lower().split(b"\r\n")
                if b"upgrade: h2c" in [x.replace(b"\t", b" ") for x in lines]:
                    s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
                    while data := s.recv(65536):
                        self.other.append(data)
                    return
                body = next((int(x.split(b":")[1]) for x in lines if x.startswith(b"content-length:")), 0)
                while len(r.buf) < body:
                    if not r.more():
                        return
                r.buf, n = r.buf[body:], n + 1
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d" % n)


def test_offers():
    with cluster("ho", rules=RULES) as c:
        srv = Server(c.web, PORT)
        wait_for("in force", lambda: status(c.near, c.web.ip, "/v1/items") == 200 and status(c.near, c.web.ip, "/no") == 403)
        for egress in (False, True):
            if egress:  # both ends judge: the second one sees what the first one made of it
                c.policy("out", {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
                                 "egress": [{"ports": [{"port": PORT}], "http": HTTP[:1]}]}, kind="HTTPNetworkPolicy",
                         api="bpfnet.io/v1alpha1")
                wait_for("egress rules", lambda: status(c.near, c.web.ip, "/v1/orders", "POST") == 403)
            for host in (c.near, c.far):
                for fam in (4, 6):
                    offers(c, host, c.web.addr(fam), srv, not egress)
        assert not srv.other, srv.other
        assert not any(b"/no" in h for h in srv.heads), srv.heads


def status(host, addr, path, method="GET", headers=""):
    try:
        with conn(host, addr, PORT) as (s, r):
            s.sendall(head(method, path, headers))
            return r.response()[0]
    except OSError:
        return None


def offers(c, host, addr, srv, post):
    with conn(host, addr, PORT) as (s, r):
        for k in range(3):  # one connection, each request offers it
            s.sendall(head("GET", f"/v1/items/{k}?" + "x" * random.randint(0, 9), OFFER))
            assert r.response()[::2] == (200, b"%02d" % (k + 1))
        if post:
            s.sendall(head("POST", "/v1/orders/1", OFFER + "Content-Length: 5000\r\n") + b"y" * 5000)
            assert r.response()[0] == 200
        s.sendall(head("GET", "/v1/items/last"))
        assert r.response()[0] == 200
        s.sendall(head("GET", "/no/1", OFFER))
        assert r.response()[0] == 403 and r.closed()
    with conn(host, addr, PORT) as (s, r):  # not the only one in its segment: the last one's offer is declined
        s.sendall(head("GET", "/v1/items/a") + head("GET", "/v1/items/b", OFFER) + head("GET", "/no/2"))
        assert [r.response()[0] for _ in range(3)] == [200, 200, 403]
    for k, offer in enumerate(("Upgrade: h2c, other\r\n", "Upgrade: h2c\r\nUpgrade: h2c\r\n", "Upgrade: websocket\r\n")):
        assert status(host, addr, f"/v1/items/no{k}", headers=offer) == 403, offer
    data = head("GET", "/v1/items/cut", OFFER)
    for at in range(data.index(b"Upgrade: h2c"), data.index(b"HTTP2-Settings:")):
        with conn(host, addr, PORT) as (s, r):  # in two segments: where it cannot be declined the server gets no further
            s.sendall(data[:at])
            time.sleep(0.002)
            s.sendall(data[at:])
            got = r.response()[0]
            assert got == 200 or (got == 101 and at - data.index(b"Upgrade: h2c") <= 13), (at, got)
            if got == 101:
                s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                assert r.response()[0] == 403
    url = f"http://[{addr}]:{PORT}" if ":" in addr else f"http://{addr}:{PORT}"
    p = host.run(["curl", "-sS", "-m", "5", "--http2", "-w", "%{http_code} ", f"{url}/v1/items/c", f"{url}/v1/items/d"])
    assert p.stdout == "01200 02200 ", (p.stdout, p.stderr)
    p = host.run(["curl", "-sS", "-m", "5", "--http2", "-w", "%{http_code}", "-o", "/dev/null", f"{url}/no/3"])
    assert p.stdout == "403", (p.stdout, p.stderr)
