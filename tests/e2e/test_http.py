# SPDX-License-Identifier: MIT
"""HTTP rules with real servers and clients: nginx, curl, wrk, raw sockets; both families, one node and two, through
ClusterIP and NodePort. Nothing that is denied may ever be in the server's log."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Cluster, wait_for
from kubecluster import KubeCluster

VIP, VIP6, NODE_PORT = "10.96.7.10", "fd00:96:7::10", 30080
API = "bpfnet.io/v1alpha1"

RULES = [
    {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 8080}], "http": [
        {"method": "GET", "path": {"value": "/v1/items"}},
        {"method": "HEAD", "path": {"value": "/v1/items"}},
        {"method": "POST", "path": {"type": "RegularExpression", "value": "/v1/orders/[0-9]+"},
         "headers": [{"name": "X-Team", "value": "checkout"}]},
        {"path": {"type": "Exact", "value": "/exact"}, "hostnames": ["api.shop", "*.example.org"]},
        {"method": "GET", "path": {"value": "/q"}, "queryParams": [{"name": "team", "value": "a b"}]},
        {"method": "PUT", "path": {"value": "/up"}},
        {"path": {"value": "/ws"}, "headers": [{"name": "Upgrade", "value": "websocket"}]},
    ]},
    {"from": [{"ipBlock": {"cidr": "192.0.2.200/29"}}, {"ipBlock": {"cidr": "2001:db8:1::c8/125"}}], "ports": [{"port": 8080}], "http": [{"path": {"value": "/v1/items"}}]},
]

# method, target, headers, status: 200 or 403
REQUESTS = [
    ("GET", "/v1/items", "", 200), ("GET", "/v1/items/7?x=1", "", 200), ("GET", "/v1/itemsX", "", 403), ("GET", "/", "", 403),
    ("DELETE", "/v1/items", "", 403), ("HEAD", "/v1/items", "", 200), ("HEAD", "/v1", "", 403),
    ("GET", "/v1/%69tems", "", 200), ("GET", "/v1/items/../x", "", 403), ("GET", "/v1/items/%2e%2e/x", "", 403),
    ("GET", "//v1/items", "", 403), ("GET", "/v1/items%2f", "", 403), ("GET", "http://other/v1/items", "", 200),
    ("POST", "/v1/orders/17", "X-Team: checkout\r\nContent-Length: 2\r\n\r\nok", 200),
    ("POST", "/v1/orders/17", "x-team:\tcheckout \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", 200),
    ("POST", "/v1/orders/17", "X-Team: other\r\nContent-Length: 2\r\n\r\nok", 403),
    ("POST", "/v1/orders/x", "X-Team: checkout\r\nContent-Length: 0\r\n", 403), ("POST", "/v1/orders/17", "", 403),
    ("GET", "/exact", "Host: api.shop:8080\r\n", 200), ("GET", "/exact", "Host: A.Example.ORG\r\n", 200),
    ("GET", "/exact", "Host: example.org\r\n", 403), ("GET", "/exact/", "Host: api.shop\r\n", 403),
    ("GET", "/q?a=1&team=a+b", "", 200), ("GET", "/q?team=a%20b", "", 200), ("GET", "/q?team=b", "", 403), ("GET", "/q", "", 403),
    ("GET", "/v1/items", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 403),
    ("GET", "/v1/items", "X: a\r\n b\r\n", 403), ("GET", "/v1/items", "X : a\r\n", 403),
    ("GET", "/v1/items", "Content-Length: 1\r\nContent-Length: 1\r\n", 403), ("GET", "/v1/items", "Host: a\r\nHost: a\r\n", 403),
]


def head(method, target, headers=""):
    if "host:" not in headers.lower():
        headers = "Host: shop\r\n" + headers
    return f"{method} {target} HTTP/1.1\r\n{headers}\r\n".encode("latin-1")


class Reader:
    """Responses of one connection."""

    def __init__(self, s):
        self.s, self.buf = s, b""

    def more(self):
        data = self.s.recv(65536)
        self.buf += data
        return bool(data)

    def response(self, method="GET"):
        """(status, headers, body)"""
        while b"\r\n\r\n" not in self.buf:
            if not self.more():
                raise EOFError(f"closed behind {self.buf!r}")
        h, self.buf = self.buf.split(b"\r\n\r\n", 1)
        lines = h.decode("latin-1").split("\r\n")
        fields = {k.lower(): v.strip() for k, v in (x.split(":", 1) for x in lines[1:])}
        n = 0 if method == "HEAD" else int(fields.get("content-length", 0))
        while len(self.buf) < n:
            if not self.more():
                raise EOFError("closed in the body")
        body, self.buf = self.buf[:n], self.buf[n:]
        return int(lines[0].split()[1]), fields, body

    def closed(self, timeout=1.0):
        """Ends (FIN, or RST) within this time, and says nothing before."""
        self.s.settimeout(timeout)
        try:
            return not self.more() and not self.buf
        except ConnectionResetError:
            return True
        except (TimeoutError, socket.timeout):
            return False


@contextlib.contextmanager
def conn(host, addr, port, timeout=3.0):
    s = host.socket(6 if ":" in addr else 4, timeout=timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.closing(s):
        s.connect((addr, port))
        yield s, Reader(s)


def ask(host, addr, port, method, target, headers=""):
    """The status; a 403 has to be ours, complete, and the end of the connection."""
    with conn(host, addr, port) as (s, r):
        s.sendall(head(method, target, headers))
        status, fields, body = r.response(method)
        if status == 403:
            assert fields["server"] == "bpfnet", fields
            assert fields["connection"] == "close", fields
            assert method == "HEAD" or b"policy" in body, body
            assert r.closed(), "still open behind the 403"
        return status


def nginx(pod, port=8080):
    d = os.path.join(pod.cluster.dir, f"nginx-{pod.name}")
    os.makedirs(d)
    with open(f"{d}/n.conf", "w") as f:
        f.write(f"""daemon off; master_process off; pid {d}/pid; error_log {d}/err;
events {{ worker_connections 4096; }}
http {{ log_format u '$request_method $request_uri $status'; access_log {d}/access u; client_body_temp_path {d}; proxy_temp_path {d};
fastcgi_temp_path {d}; uwsgi_temp_path {d}; scgi_temp_path {d}; client_max_body_size 0; keepalive_requests 1000000; underscores_in_headers on;
server {{ listen {port}; listen [::]:{port}; location / {{ return 200 "$request_method $uri\\n"; }}
location /up {{ root {d}; dav_methods PUT; create_full_put_path on; }}
location /slow {{ root {d}; limit_rate 200; }} }} }}""")
    with open(f"{d}/slow", "w") as f:
        f.write("s" * 100)
    pod.popen(["nginx", "-c", f"{d}/n.conf", "-e", f"{d}/err"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pod.log = f"{d}/access"
    wait_for("nginx", lambda: Reader_ok(pod, port))


def Reader_ok(pod, port):
    with conn(pod, "127.0.0.1", port, 1) as (s, r):
        s.sendall(head("GET", "/up-and-running"))
        return r.response()[0]


def served(pod):
    """What the server has seen: {"METHOD TARGET": status}, in order."""
    time.sleep(0.1)
    with open(pod.log, encoding="latin-1") as f:
        return [line.rsplit(" ", 1)[0] for line in f if "/up-and-running" not in line and not line.startswith("- -")]  # aborted before a request


@contextlib.contextmanager
def cluster(prefix, topology="routed", args=(), rules=RULES, kind=Cluster):
    """web (n1) is asked by near (n1), far (n2) and an outside client."""
    with kind(prefix, topology=topology, daemon_args=args) as c:
        c.web = c.pod("n1", "web", labels={"app": "web"})
        c.near = c.pod("n1", "near", labels={"app": "client"})
        c.far = c.pod("n2", "far", labels={"app": "client"})
        c.ext = c.client()
        nginx(c.web)
        c.service("web", [("http", "TCP", 80, 8080, {"nodePort": NODE_PORT})], [c.web], ips=[VIP, VIP6], type="NodePort")
        if rules:
            put(c, rules)
        c.start()
        yield c


def put(c, rules, direction="ingress", app="web", name="api"):
    c.policy(name, {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [direction.capitalize()], direction: rules},
             kind="HTTPNetworkPolicy", api=API)


def in_force(c, host, target="/v1/items", want=200):
    wait_for(f"{target}: {want}", lambda: ask(host, c.web.ip, 8080, "GET", target) == want)


def matches(topology, args):
    with cluster("hm", topology, args) as c:
        ways = []
        for host in (c.near, c.far):
            for fam, vip in ((4, VIP), (6, VIP6)):
                ways += [(host, c.web.addr(fam), 8080), (host, vip, 80), (host, c.n1.addr(fam), NODE_PORT)]
        for i, (method, target, headers, want) in enumerate(REQUESTS):
            for host, addr, port in ways if i < 4 else ways[i % 6::6]:
                got = ask(host, addr, port, method, target, headers)
                assert got == want, (host.name, addr, port, method, target, headers, got)
        for fam in (4, 6):  # another node would masquerade: web would see that node
            assert ask(c.ext, c.n1.addr(fam), NODE_PORT, "GET", "/v1/items/ext") == 200
            assert ask(c.ext, c.n1.addr(fam), NODE_PORT, "GET", "/ext-denied") == 403
        allowed = {f"{m} {t}" for m, t, _, w in REQUESTS if w == 200} | {"GET /v1/items/ext", "GET http://other/v1/items"}
        strange = [x for x in served(c.web) if x not in allowed]
        assert not strange, strange


def test_matches_routed():
    matches("routed", [])


def test_matches_bridge_tc():
    matches("bridge", ["--socket-lb", "off", "--host-routing", "stack"])


def test_connections():
    """One connection, whatever clients do on it; a cluster for all of it, because starting one takes seconds."""
    with cluster("hc", rules=[dict(RULES[0], ports=[{"port": p} for p in (8080, 9001, 9002)]), RULES[1]]) as c:
        in_force(c, c.near)
        requests(c)
        curl(c)
        upgrades(c)
        every_cut(c)
        what_it_says(c)


def requests(c):
    """Keep-alive, pipelines, bodies, Expect, HEAD."""
    ok, bad = head("GET", "/v1/items/k"), head("GET", "/denied")
    put_ = head("PUT", "/up/f", "Content-Length: 100000\r\n") + b"x" * 100000
    for host in (c.near, c.far):
        for fam in (4, 6):
            a = c.web.addr(fam)
            with conn(host, a, 8080) as (s, r):
                for _ in range(5):  # kept
                    s.sendall(ok)
                    assert r.response()[0] == 200
                s.sendall(put_)
                assert r.response()[0] in (201, 204)
                s.sendall(bad)
                assert r.response()[0] == 403 and r.closed()
            with conn(host, a, 8080) as (s, r):  # a denied request behind allowed ones, in one segment
                s.sendall(ok * 3 + bad + ok)
                assert [r.response()[0] for _ in range(4)] == [200, 200, 200, 403] and r.closed()
            with conn(host, a, 8080) as (s, r):  # the same, behind a body
                s.sendall(put_ + bad)
                assert [r.response()[0] for _ in range(2)] in ([201, 403], [204, 403]) and r.closed()
            with conn(host, a, 8080) as (s, r):  # bodies that look like requests
                body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
                s.sendall(head("PUT", "/up/g", f"Content-Length: {len(body)}\r\n") + body + ok)
                assert [r.response()[0] for _ in range(2)] in ([201, 200], [204, 200])
                s.sendall(head("PUT", "/up/h", "Transfer-Encoding: chunked\r\n") + b"%x\r\n%s\r\n" % (len(body), body) +
                          b"0\r\nX-Trailer: 1\r\n\r\n" + ok)
                assert [r.response()[0] for _ in range(2)] in ([201, 200], [204, 200])
            with conn(host, a, 8080) as (s, r):
                s.sendall(head("PUT", "/up/i", "Content-Length: 5\r\nExpect: 100-continue\r\n"))
                assert r.response("HEAD")[0] == 100
                s.sendall(b"hello" + ok)
                assert [r.response()[0] for _ in range(2)] in ([201, 200], [204, 200])
            with conn(host, a, 8080) as (s, r):  # no waiting for a 100 that is not due
                s.sendall(head("POST", "/denied", "Content-Length: 5\r\nExpect: 100-continue\r\n"))
                assert r.response()[0] == 403 and r.closed()
            with conn(host, a, 8080) as (s, r):
                s.sendall(head("HEAD", "/v1/items") * 2 + head("HEAD", "/denied"))
                assert [r.response("HEAD")[0] for _ in range(3)] == [200, 200, 403] and r.closed()
    assert not [x for x in served(c.web) if "denied" in x or "smuggled" in x]


def curl(c):
    """As people see it: a 403 and no time-out, uploads of both kinds."""
    blob = os.path.join(c.dir, "blob")
    with open(blob, "wb") as f:
        f.write(os.urandom(4 << 20))
    for opts, want in (([], "200"), (["-X", "DELETE"], "403"), (["-I"], "200")):
        p = c.far.run(["curl", "-sS", "-m", "3", "-o", "/dev/null", "-w", "%{http_code}", *opts, f"http://{VIP}/v1/items"])
        assert p.stdout == want, (opts, p.stdout, p.stderr)
    for extra in ([], ["-H", "Transfer-Encoding: chunked"]):
        p = c.far.run(["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code} %{time_total}", "-T", blob, *extra, f"http://{VIP}/up/blob"])
        assert p.stdout.split()[0] in ("201", "204"), (p.stdout, p.stderr)
        with open(os.path.join(os.path.dirname(c.web.log), "up/blob"), "rb") as a, open(blob, "rb") as b:
            assert a.read() == b.read()
        os.unlink(os.path.join(os.path.dirname(c.web.log), "up/blob"))
    p = c.near.run(["curl", "-sS", "-m", "5", "-T", blob, f"http://{VIP}/denied", "-o", "/dev/null", "-w", "%{http_code}"], check=False)
    assert p.stdout == "403", (p.stdout, p.stderr)


class Switching(threading.Thread):
    """A server that answers 101 to an Upgrade and then echoes, whatever it is."""

    def __init__(self, pod, port, switch=True):
        super().__init__(daemon=True)
        self.l = pod.socket(6)
        self.l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.l.bind(("::", port))
        self.l.listen()
        self.switch, self.got = switch, []
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                self.l.settimeout(60)
                s, _ = self.l.accept()
                threading.Thread(target=self.one, args=(s,), daemon=True).start()

    def one(self, s):
        r = Reader(s)
        with contextlib.suppress(OSError), contextlib.closing(s):
            while b"Upgrade" not in r.buf:
                if not r.more():
                    return
                if r.buf.endswith(b"\r\n\r\n") and b"Upgrade" not in r.buf:
                    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
                    time.sleep(0.3 if b"/slow" in r.buf else 0)
                    s.sendall(b" 101 \n\nx")  # the rest of that body
                    r.buf = b""
            self.got.append(r.buf)
            if not self.switch:
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            else:
                s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
            while True:
                data = s.recv(65536)
                if not data:
                    return
                self.got.append(data)
                s.sendall(data)


def upgrades(c):
    yes, no = Switching(c.web, 9001), Switching(c.web, 9002, switch=False)
    up = head("GET", "/ws", "Connection: Upgrade\r\nUpgrade: websocket\r\n")
    frame = b"\x81\x85\x01\x02\x03\x04GET / HTTP"
    for host in (c.near, c.far):
        for fam in (4, 6):
            with conn(host, c.web.addr(fam), 9001) as (s, r):
                s.sendall(up)
                assert r.response()[0] == 101
                for _ in range(3):  # opaque from here on
                    s.sendall(frame)
                    assert s.recv(100) == frame
            with conn(host, c.web.addr(fam), 9002) as (s, r):  # not switched: HTTP goes on, and is judged
                s.sendall(up)
                assert r.response()[0] == 200
                s.sendall(head("GET", "/denied"))
                assert r.response()[0] == 403
            with conn(host, c.web.addr(fam), 9001) as (s, r):  # not the first request of its connection
                for _ in range(3):
                    s.sendall(head("GET", "/v1/items"))
                    assert r.response()[0] == 200
                s.sendall(up)
                assert r.response()[0] == 101
                s.sendall(frame)
                assert s.recv(100) == frame
            with conn(host, c.web.addr(fam), 9002) as (s, r):  # what looks like a 101 is an earlier answer's body
                s.sendall(head("GET", "/v1/items/slow"))
                assert r.more()
                time.sleep(0.1)
                s.sendall(up)
                assert r.response()[0] == 200 and r.response()[0] == 200
                s.sendall(head("GET", "/denied"))
                assert r.response()[0] == 403
            with conn(host, c.web.addr(fam), 9001) as (s, r):  # a rule has to name the upgrade
                s.sendall(head("GET", "/v1/items", "Connection: Upgrade\r\nUpgrade: other\r\n"))
                assert r.response()[0] == 403
    assert not any(b"denied" in x or b"other" in x for x in yes.got + no.got)


def cut(c, host, addr, stream, at):
    """Statuses that come back when the stream is sent in two pieces."""
    with conn(host, addr, 8080) as (s, r):
        s.sendall(stream[:at])
        time.sleep(0.002)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.sendall(stream[at:])
        got = []
        for _ in range(len(re.findall(rb"HTTP/1\.1\r\n", stream))):
            try:
                got.append(r.response()[0])
            except (EOFError, ConnectionResetError):
                break
            if got[-1] == 403:
                break
        return got


def every_cut(c):
    """The same verdict however a stream is cut."""
    ok, bad = head("GET", "/v1/items", "X: y\r\n"), head("GET", "/v1/x")
    streams = [(ok + bad, [200, 403]), (head("PUT", "/up/c", "Content-Length: 5\r\n") + b"hello" + ok, [204, 200]),
               (head("PUT", "/up/c", "Transfer-Encoding: chunked\r\n") + b"5\r\nhello\r\n0\r\n\r\n" + bad, [204, 403]),
               (head("GET", "/v1/items/%2e%2e/x"), [403])]
    assert ask(c.near, c.web.ip, 8080, "PUT", "/up/c", "Content-Length: 0\r\n") in (201, 204)
    jobs = [(h, a, s, at, want) for i, (s, want) in enumerate(streams) for at in range(1, len(s))
            for h, a in [[(c.near, c.web.ip), (c.far, c.web.ip6), (c.far, c.web.ip), (c.near, c.web.ip6)][(i + at) % 4]]]
    with ThreadPoolExecutor(8) as pool:
        for (h, a, s, at, want), got in zip(jobs, pool.map(lambda j: cut(c, *j[:4]), jobs)):
            assert got == want, (h.name, a, s, at, got)
    assert not [x for x in served(c.web) if "/v1/x" in x or "%2e" in x]


def test_egress():
    """Rules of the client's own egress; both ends have to allow."""
    with cluster("he", rules=None) as c:
        put(c, [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 8080}], "http": [
            {"method": "GET", "path": {"value": "/a"}}, {"path": {"value": "/both"}}]}], "egress", "client", "out")
        for host in (c.near, c.far):
            wait_for("egress", lambda: ask(host, c.web.ip, 8080, "GET", "/polled") == 403)
            for fam, vip in ((4, VIP), (6, VIP6)):
                for addr, port in ((c.web.addr(fam), 8080), (vip, 80)):
                    assert ask(host, addr, port, "GET", "/a/x") == 200
                    assert ask(host, addr, port, "POST", "/a/x") == 403
        put(c, [{"ports": [{"port": 8080}], "http": [{"method": "GET"}]}])
        wait_for("ingress too", lambda: ask(c.near, c.web.ip, 8080, "PUT", "/both") == 403)
        for host in (c.near, c.far):
            assert ask(host, VIP, 80, "GET", "/both") == 200
            assert ask(host, VIP6, 80, "DELETE", "/both") == 403
            assert ask(host, VIP, 80, "GET", "/neither-nor") == 403
        assert ask(c.n1, c.web.ip, 8080, "DELETE", "/node") != 403, "the pod's own node is not asked"
        assert not [x for x in served(c.web) if "POST /a" in x or "/neither" in x or "DELETE /both" in x]


def test_rules_change():
    """A kept connection is judged by the new rules from its next request on; one that was open before any HTTP rule
    covered it is reset once."""
    with cluster("hr", rules=None) as c:
        with conn(c.near, c.web.ip, 8080) as (old, r_old), conn(c.far, c.web.ip6, 8080) as (old6, r_old6):
            for s, r in ((old, r_old), (old6, r_old6)):
                s.sendall(head("GET", "/before"))
                assert r.response()[0] == 200
            put(c, RULES)
            in_force(c, c.near)
            wait_for("denied", lambda: ask(c.far, c.web.ip, 8080, "GET", "/x") == 403)
            for s, r in ((old, r_old), (old6, r_old6)):
                with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                    s.sendall(head("GET", "/v1/items/midstream"))
                assert r.closed(3), "open before the rules: cannot be followed"
        assert not [x for x in served(c.web) if "midstream" in x]
        for fam in (4, 6):
            with conn(c.near, c.web.addr(fam), 8080) as (s, r), conn(c.far, c.web.addr(fam), 8080) as (s2, r2):
                for x, y in ((s, r), (s2, r2)):
                    x.sendall(head("GET", "/v1/items"))
                    assert y.response()[0] == 200
                s2.sendall(b"GET /v1/items/in-progress HTTP/1.1\r\nHo")
                put(c, [{"ports": [{"port": 8080}], "http": [{"path": {"value": "/new"}}]}])
                wait_for("new rules", lambda: ask(c.near, c.web.ip, 8080, "GET", "/new") == 200)
                s.sendall(head("GET", "/new"))
                assert r.response()[0] == 200
                s2.sendall(b"st: a\r\n\r\n")  # this head began under the old rules, which allow it
                assert r2.response()[0] == 200
                for x, y in ((s, r), (s2, r2)):
                    x.sendall(head("GET", "/v1/items/late"))
                    assert y.response()[0] == 403 and y.closed()
                put(c, RULES)
                wait_for("old rules", lambda: ask(c.near, c.web.ip, 8080, "GET", "/new") == 403)
        assert not [x for x in served(c.web) if "late" in x]
        # An L4 rule for the same peers and port lets everything through, also what is kept.
        with conn(c.near, c.web.ip, 8080) as (s, r):
            s.sendall(head("GET", "/v1/items"))
            assert r.response()[0] == 200
            c.policy("l4", {"podSelector": {}, "ingress": [{"ports": [{"port": 8080}]}]})
            in_force(c, c.far, "/moot")
            lint = c.n1.json("policy", "lint")
            assert any(f["finding"] == "http-moot" for f in lint), lint
            s.sendall(head("GET", "/moot-kept"))
            assert r.response()[0] == 200
        c.delete("NetworkPolicy", "l4")
        thousand_rules(c)


def test_daemon_dies():
    """Killed and started again under load: no request fails, what is denied stays denied, counters go on."""
    with cluster("hd", args=["--log-level", "info"]) as c:
        in_force(c, c.near)
        kept = contextlib.ExitStack()
        with kept:
            s, r = kept.enter_context(conn(c.near, c.web.ip, 8080, 10))
            s.sendall(head("GET", "/v1/items"))
            assert r.response()[0] == 200
            wrk = c.far.popen(["wrk", "-t1", "-c8", "-d8s", f"http://{VIP}/v1/items"], stdout=subprocess.PIPE, text=True)
            time.sleep(1)
            for n in (c.n1, c.n2):
                n.stop(signal.SIGKILL)
            assert ask(c.near, c.web.ip, 8080, "GET", "/while-down") == 403
            s.sendall(head("GET", "/v1/items/down"))
            assert r.response()[0] == 200
            for n in (c.n1, c.n2):
                n.start(wait=False)
            for n in (c.n1, c.n2):
                wait_for("ready", n.ready, 15)
            s.sendall(head("GET", "/v1/items/up"))
            assert r.response()[0] == 200
            out = wrk.communicate(timeout=20)[0]
            s.sendall(head("GET", "/denied-after-all"))
            assert r.response()[0] == 403
        assert "Socket errors" not in out and "Non-2xx" not in out, out
        assert int(re.search(r"(\d+) requests in", out).group(1)) > 100, out
        assert not [x for x in served(c.web) if "while-down" in x or "denied" in x]
        # The sets were known again: nothing was compiled by the last daemon.
        show = c.n1.json("policy", "show", "default/api")
        requests = sum(x["requests"]["allowed"] for x in show["rules"])
        assert requests > 100, show


def thousand_rules(c):
    many = [{"path": {"type": "RegularExpression", "value": f"/api/v[0-9]+/r{i}/[a-z0-9-]+(/.*)?"}, "method": "GET"} for i in range(1000)]
    in_force(c, c.near, "/polled", 403)
    began = time.monotonic()
    put(c, [{"ports": [{"port": 8080}], "http": many}])
    in_force(c, c.near, "/api/v12/r999/a-b/c")
    took = time.monotonic() - began
    assert took < 5, f"in force after {took:.2f} s"
    for host in (c.near, c.far):
        assert ask(host, VIP, 80, "GET", "/api/v1/r0/x") == 200
        assert ask(host, VIP6, 80, "GET", "/api/v1/r1000/x") == 403
        assert ask(host, VIP, 80, "POST", "/api/v1/r5/x") == 403


def what_it_says(c):
    """flows, trace, counters, metrics, verify: one story."""
    flows = subprocess.Popen(["nsenter", "--net=/var/run/netns/" + c.n1.ns, os.path.join(os.environ.get("BN_BUILD", "build"), "bpfnet"),
                              "--run-dir", c.n1.run_dir, "flows", "-o", "json", "--last", "0", "--follow"], stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(0.3)
        before = c.n1.json("policy", "show", "default/api")["rules"][0]["requests"]
        assert ask(c.far, VIP, 80, "GET", "/v1/items/seen?secret=1", "Host: api.shop\r\n") == 200
        assert ask(c.far, VIP, 80, "DELETE", "/v1/items/seen", "Host: api.shop\r\n") == 403
        lines = []
        while len(lines) < 2:  # late packets of connections before may be among them
            line = json.loads(flows.stdout.readline())
            if line["http"] and line["http"]["path"] == "/v1/items/seen":
                lines.append(line)
    finally:
        flows.terminate()
        flows.wait()
    for line, verdict, method in zip(lines, ("allowed", "denied"), ("GET", "DELETE")):
        assert (line["verdict"], line["http"]["method"], line["http"]["path"], line["http"]["host"]) == \
            (verdict, method, "/v1/items/seen", "api.shop"), line
        assert (line["policy"], line["sourcePod"], line["destinationPod"], line["direction"]) == \
            ("default/api", "default/far", "default/web", "ingress"), line
    assert lines[0]["rule"] == 0 and lines[0]["http"]["match"] == 0, lines[0]
    assert lines[1]["reason"] == "HTTP_DENIED" and lines[1]["http"]["reason"] == "NO_MATCH", lines[1]
    after = c.n1.json("policy", "show", "default/api")["rules"][0]["requests"]
    assert after == dict(before, allowed=before["allowed"] + 1, denied=before["denied"] + 1), (before, after)
    metrics = c.n1.cli("metrics").stdout
    assert re.search(r'bpfnet_http_requests_total\{verdict="denied",policy="default/api"\} [1-9]', metrics), metrics
    assert re.search(r'bpfnet_http_denied_total\{reason="NO_MATCH"\} [1-9]', metrics)
    for method, target, headers, want in REQUESTS:
        if "\r\n\r\n" in headers or "Host" in headers or headers.count(":") > 1 or "X " in headers or "\r\n b" in headers:
            continue
        args = ["policy", "trace", "--from", "default/far", "--to", "default/web", "--port", "8080", "--http", f"{method} {target}", "--host", "shop"]
        for h in filter(None, headers.split("\r\n")):
            args += ["--header", h]
        p = c.n1.cli(*args, "--verify", "-o", "json", check=False)
        assert p.returncode == (want == 403), (args, p.stdout, p.stderr)
        out = json.loads(p.stdout)
        assert out["verdict"] == ("allow" if want == 200 else "deny"), p.stdout
        assert out["ingress"]["kernel"]["agrees"] and out["ingress"]["kernel"]["verdict"] == out["verdict"], p.stdout
    deny = json.loads(c.n1.cli("policy", "trace", "--from", "default/far", "--to", "default/web", "--port", "8080",
                               "--http", "DELETE /v1/items", "-o", "json", check=False).stdout)
    assert deny["ingress"]["nearest"]["failed"] == "http[0].method", deny


def test_from_the_api():
    """The resource may come and go while the daemon runs; a bad object is refused as a whole and opens nothing."""
    with cluster("hk", rules=None, kind=KubeCluster) as c:
        assert ask(c.far, VIP, 80, "GET", "/no-resource-no-rules") != 403
        c.api("present", resource="httpnetworkpolicies", present=True)
        put(c, RULES)
        wait_for("rules", lambda: ask(c.far, VIP, 80, "GET", "/polled") == 403, 30)
        in_force(c, c.near)
        put(c, [dict(RULES[0], http=[{"path": {"value": "/v1"}, "rate": 7}])])  # not something that we do
        wait_for("refused", lambda: any("rate" in x["field"] for x in c.n1.json("status")["rejected"]))
        assert ask(c.near, c.web.ip, 8080, "GET", "/v1/items") == 200, "the last good version stays"
        assert ask(c.near, c.web.ip, 8080, "GET", "/v1/other") == 403
        put(c, [{"ports": [{"port": 9}], "http": [{"sni": "x"}]}], name="new")  # never good: isolates, allows nothing
        wait_for("refused too", lambda: len(c.n1.json("status")["rejected"]) == 2)
        assert ask(c.near, c.web.ip, 8080, "GET", "/v1/items") == 200, "policies add up"
        c.delete("HTTPNetworkPolicy", "api")
        wait_for("isolated", lambda: c.near.ask(c.web.ip, 8080, timeout=0.3) == "timeout")
        c.api("present", resource="httpnetworkpolicies", present=False)
        wait_for("open again", lambda: ask(c.far, VIP, 80, "GET", "/gone") != 403, 30)
