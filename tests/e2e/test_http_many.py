# SPDX-License-Identifier: MIT
"""Many HTTP connections: 10,000 kept at a time, heads in two halves with the daemon killed in between, a client that takes
all it can get of one pod's, and a flow that is forgotten under an idle connection."""
import contextlib
import os
import resource
import signal
import socket
import subprocess
import time

from harness import Cluster, wait_for
from test_http import API, Reader, conn, head

ALONE = ("test_ten_thousand",)
RULES = [{"ports": [{"port": 8080}], "http": [{"path": {"value": "/v1"}}]}]


@contextlib.contextmanager
def cluster(prefix, args=(), names=("web",)):
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with Cluster(prefix, daemon_args=args) as c:
        c.web = [c.pod("n1", n, labels={"app": "web"}) for n in names]
        c.near, c.far = c.pod("n1", "near"), c.pod("n2", "far")
        for p in c.web:
            server(p)
        c.policy("api", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": RULES},
                 kind="HTTPNetworkPolicy", api=API)
        c.start()
        for p in c.web:
            wait_for("rules", lambda: status(c.near, p, "/no") == 403 and status(c.far, p, "/v1") == 200)
        yield c


def server(pod):
    """Waits long for the rest of a head."""
    d = os.path.join(pod.cluster.dir, f"nginx-{pod.name}")
    os.makedirs(d)
    with open(f"{d}/n.conf", "w") as f:
        f.write(f"""daemon off; master_process off; pid {d}/pid; error_log {d}/err; worker_rlimit_nofile 30000;
events {{ worker_connections 24000; }}
http {{ access_log off; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d}; uwsgi_temp_path {d};
scgi_temp_path {d}; client_header_timeout 600; keepalive_timeout 600; keepalive_requests 1000000;
server {{ listen 8080 backlog=4096; listen [::]:8080 backlog=4096; location / {{ return 200 "yes\\n"; }} }} }}""")
    pod.popen(["nginx", "-c", f"{d}/n.conf", "-e", f"{d}/err"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("nginx", lambda: status(pod, pod, "/", "127.0.0.1") == 200)


def status(host, pod, target, addr=None, timeout=3.0):
    with conn(host, addr or pod.ip, 8080, timeout) as (s, r):
        s.sendall(head("GET", target))
        return r.response()[0]


def connect(host, pod, n, timeout=20.0):
    out = []
    for i in range(n):
        addr = pod.addr(4 if i & 1 else 6)
        s = host.socket(6 if ":" in addr else 4, timeout=timeout)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.connect((addr, 8080))
        out.append(s)
    return out


def all_say(socks, data, want=200):
    for s in socks:
        s.sendall(data)
    for s in socks:
        got = Reader(s).response()[0]
        assert got == want, got


def followed(c):
    return c.n1.json("status")["http"]["connections"]


def close(socks):
    for s in socks:
        s.close()
    socks.clear()


def test_ten_thousand():
    """10,000 connections: kept, half a head on each, the daemon killed, the other half; then denied ones among them."""
    with cluster("hm") as c:
        web, = c.web
        t = time.monotonic()
        socks = connect(c.near, web, 5000) + connect(c.far, web, 5000)
        get = head("GET", "/v1/x")
        all_say(socks, get)
        assert followed(c) >= 10000
        for s in socks[::2]:
            s.sendall(get[:20])
        time.sleep(0.3)
        c.n1.stop(signal.SIGKILL)
        for s in socks[::2]:
            s.sendall(get[20:])
        for s in socks[::2]:
            assert Reader(s).response()[0] == 200
        all_say(socks[1::2], get)
        c.n1.start()
        assert followed(c) >= 10000
        all_say(socks, get)
        all_say(socks[::100], head("GET", "/no"), 403)
        for s in socks[::100]:
            assert not s.recv(1), "open behind its 403"
        all_say([s for i, s in enumerate(socks) if i % 100], get)
        print(f"10,000 connections, 40,000 requests: {time.monotonic() - t:.1f} s", flush=True)
        bad = {k: v for k, v in c.n1.drops().items() if v and k.startswith("HTTP_") and k not in ("HTTP_DENIED", "HTTP_CLOSING")}
        assert not bad, bad
        close(socks)
        wait_for("nothing is followed any more", lambda: followed(c) == 0, 20)


def test_greedy():
    """Somebody opens all the connections to one pod that he can get: another pod's work, the pod is named, restarts count on,
    and room that comes free is there for those who waited."""
    with cluster("hg", args=["--http-max", "2000"], names=("web", "other")) as c:
        web, other = c.web
        assert c.n1.json("status")["http"]["connectionsMax"] == 2000
        kept = connect(c.near, web, 2)
        all_say(kept, head("GET", "/v1/kept"))
        hog = connect(c.far, web, 1600)
        for s in hog:
            s.sendall(b"GET /v1/half HTTP/1.1\r\nHo")
        wait_for("the pod has its share", lambda: followed(c) >= 999)
        # No new ones of that pod; its old ones and all of others' go on.
        waits = connect(c.near, web, 1)
        waits[0].sendall(head("GET", "/v1/waits"))
        all_say(kept, head("GET", "/v1/kept"))
        many = connect(c.far, other, 400) + connect(c.near, other, 50)
        all_say(many, head("GET", "/v1/other"))
        assert status(c.far, other, "/no") == 403
        n = followed(c)
        assert 1400 <= n <= 1500, n

        def named():
            r = c.n1.json("status")["httpRefused"]
            assert [x["name"] for x in r] in ([], ["web"]), r
            return r and r[0]
        web_ = wait_for("the pod is named", named)
        assert 999 <= web_["connections"] <= 1001 and web_["refused"] > 100, web_
        text = c.n1.cli("status").stdout
        assert "HTTP REFUSED" in text and "web" in text.split("HTTP REFUSED")[1], text
        lines = [x for x in c.n1.cli("metrics").stdout.splitlines() if x.startswith("bpfnet_http_refused_total")]
        assert len(lines) == 1 and 'namespace="default",pod="web"' in lines[0], lines
        assert c.n1.drops()["HTTP_SHARE"] >= web_["refused"], c.n1.drops()

        for sig in (signal.SIGKILL, signal.SIGTERM):
            c.n1.stop(sig)
            assert status(c.far, other, "/v1/down") == 200
            c.n1.start()
            assert abs(followed(c) - n) <= 5, (followed(c), n)
            assert 999 <= named()["connections"] <= 1001
            all_say(many, head("GET", "/v1/other"))

        close(hog)
        assert Reader(waits[0]).response()[0] == 200, "its first segment came again, and there was room"
        assert status(c.far, web, "/v1/new") == 200
        close(many)
        close(kept)
        close(waits)
        wait_for("all given back", lambda: followed(c) == 0, 20)
        assert not any(x["connections"] for x in c.n1.json("status")["httpRefused"])


def test_forgotten():
    """The flow of an idle connection is forgotten (as behind conntrack's 24 hours): its next request is answered by a reset, at
    once, and never reaches the server unjudged; the client's next connection works."""
    with cluster("hf") as c:
        web, = c.web
        for host in (c.near, c.far):
            for fam in (4, 6):
                with conn(host, web.addr(fam), 8080) as (s, r):
                    s.sendall(head("GET", "/v1/a"))
                    assert r.response()[0] == 200
                    c.n1.cli("ct", "flush", "--pod", "default/web")
                    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                        s.sendall(head("GET", "/no/b"))
                    assert r.closed(2), "neither judged nor reset"
                assert status(host, web, "/v1/c") == 200
        assert c.n1.drops().get("HTTP_MIDSTREAM"), c.n1.drops()
