# SPDX-License-Identifier: MIT
"""HTTP rules: in the kernel, and in HAProxy and nginx as proxies on the node, against the same pod without
any. The pod runs nginx; every way but `direct` and `l4` refuses what the rules do not allow, which is
tried before it is measured. A proxy listens on the node's own address: the shortest way that one can have."""
import os
import re
import shutil
import time

from cpu import Meter
from lab import Way, interleave, wait_for, ways, write_list

PORT, PROXY_PORT = 8080, 8090
RULES = [{"method": "GET", "path": {"type": "PathPrefix", "value": "/api"}},
         {"method": "GET", "path": {"type": "Exact", "value": "/healthz"}},
         {"method": "POST", "path": {"type": "PathPrefix", "value": "/upload"}},
         {"method": "GET", "path": {"type": "RegularExpression", "value": "/v[0-9]+/items/.*"},
          "headers": [{"name": "x-tenant", "value": "blue"}]}]

NGINX_SERVER = """daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.err;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; client_body_temp_path {dir};
 proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};
 server {{ listen {port}; location / {{ return 200 "0123456789012345678901234567890123456789012345678901234567890123"; }} }} }}
"""
NGINX_PROXY = """daemon off; worker_processes 1; pid {dir}/proxy.pid; error_log {dir}/proxy.err;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 100000000; client_max_body_size 0; client_body_temp_path {dir};
 proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};
 proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
 upstream pod {{ server {server}:{port}; keepalive 64; keepalive_requests 100000000; }}
 server {{ listen {proxy_port};
  location / {{ return 403; }}
  location /api {{ limit_except GET {{ deny all; }} proxy_pass http://pod; }}
  location = /healthz {{ limit_except GET {{ deny all; }} proxy_pass http://pod; }}
  location /upload {{ limit_except POST {{ deny all; }} proxy_pass http://pod; }}
  location ~ ^/v[0-9]+/items/.*$ {{ limit_except GET {{ deny all; }} if ($http_x_tenant != blue) {{ return 403; }} proxy_pass http://pod; }}
 }} }}
"""
HAPROXY = """global
 nbthread 1
 maxconn 4096
defaults
 mode http
 timeout connect 5s
 timeout client 60s
 timeout server 60s
 http-reuse always
frontend in
 bind :{proxy_port}
 http-request allow if {{ method GET }} {{ path_beg /api }}
 http-request allow if {{ method GET }} {{ path /healthz }}
 http-request allow if {{ method POST }} {{ path_beg /upload }}
 http-request allow if {{ method GET }} {{ path_reg ^/v[0-9]+/items/.*$ }} {{ req.hdr(x-tenant) -m str blue }}
 http-request deny deny_status 403
 default_backend pod
backend pod
 server one {server}:{port}
"""


def policy(http):
    spec = {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": PORT, "protocol": "TCP"}]}]}
    if http:
        spec["ingress"][0]["http"] = RULES
        return {"apiVersion": "bpfnet.io/v1alpha1", "kind": "HTTPNetworkPolicy", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web", "namespace": "default"}, "spec": spec}


class Http(Way):
    MODES = {"keepalive": (16, []), "one": (1, []), "close": (16, ["-H", "Connection: close"]),
             "head1k": (16, ["-H", "Cookie: " + "c" * 930])}

    def __init__(self, name, _size, stack):
        c = self.open(name, stack, 1, ())
        self.client = c.pod("n1", "client", labels={"app": "client"})
        self.server = c.pod("n1", "server", labels={"app": "server"})
        self.addr, self.port = self.server.ip, PORT
        fill = {"dir": c.dir, "server": self.server.ip, "port": PORT, "proxy_port": PROXY_PORT}
        self.start(self.server, "server.conf", NGINX_SERVER.format(**fill), ["nginx", "-c"])
        if name in ("l4", "bpfnet"):
            write_list(c, [policy(name == "bpfnet")])
            c.n1.start(timeout=60)
        elif name in ("haproxy", "nginx"):
            self.addr, self.port = c.n1.ip, PROXY_PORT
            if name == "haproxy":
                self.start(c.n1, "haproxy.cfg", HAPROXY.format(**fill), ["haproxy", "-db", "-f"])
            else:
                self.start(c.n1, "proxy.conf", NGINX_PROXY.format(**fill), ["nginx", "-c"])
        self.prepare()
        wait_for(f"{name}: answers", lambda: self.status("/api/items") == "200", 10)
        want = "200" if name in ("direct", "l4") else "403"
        for path, more in (("/secret", []), ("/api/x", ["-X", "DELETE"]), ("/v1/items/7", ["-H", "x-tenant: red"])):
            got = self.status(path, *more)
            if got != want:
                raise AssertionError(f"{path} {more} was answered {got}, not {want}: the rules are not in force")
        if self.status("/v1/items/7", "-H", "x-tenant: blue") != "200":
            raise AssertionError("an allowed request is refused")

    def start(self, host, name, text, cmd):
        if not shutil.which(cmd[0]):
            raise RuntimeError(f"{cmd[0]} is not installed")
        path = os.path.join(self.c.dir, name)
        with open(path, "w") as f:
            f.write(text)
        log = open(path + ".log", "ab")
        host.popen(cmd + [path], stdout=log, stderr=log)
        log.close()

    def url(self, path):
        return f"http://{self.addr}:{self.port}{path}"

    def status(self, path, *more):
        return self.client.run(["curl", "-s", "-o", "/dev/null", "-m", "3", "-w", "%{http_code}", *more, self.url(path)], check=False).stdout

    def run(self, mode, seconds, size=None):
        before = self.meter.read()
        r = self.upload(mode) if mode.startswith("upload") else self.wrk(mode, seconds)
        after = self.meter.read()
        for i, k in enumerate(("machine", "own")):
            r[k] = (after[i] - before[i]) / r["ops"] if r["ops"] else None
        return r

    def wrk(self, mode, seconds):
        conns, more = self.MODES[mode]
        whole = max(1, round(seconds)) # wrk knows whole seconds only
        p = self.client.run(["wrk", "-t1", f"-c{conns}", f"-d{whole}s", "--latency", *more, self.url("/api/items/12345")],
                            check=False, timeout=whole + 30)
        n = re.search(r"(\d+) requests in ([\d.]+)(m?)s", p.stdout)
        bad = re.search(r"Non-2xx or 3xx responses: (\d+)", p.stdout)
        r = {"ops": int(n[1]) if n else 0, "failed": int(bad[1]) if bad else 0}
        if n:
            r["rate"] = float(re.search(r"Requests/sec:\s+([\d.]+)", p.stdout)[1])
        for q in ("50", "99"):
            m = re.search(rf"{q}%\s+([\d.]+)(us|ms|s)", p.stdout)
            r["p" + q] = float(m[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1}[m[2]] if m else None
        return r

    def upload(self, mode):
        """One POST of 32 MB; an operation is the whole."""
        chunked = ["-H", "Transfer-Encoding: chunked"] if mode == "upload-chunked" else []
        began = time.monotonic()
        p = self.client.run(["curl", "-s", "-o", "/dev/null", "-m", "120", "-w", "%{http_code} %{time_total}", "-H", "Expect:", *chunked,
                             "-X", "POST", "--data-binary", "@" + self.body, self.url("/upload/a")], check=False, timeout=130)
        code, took = (p.stdout.split() + ["0", "0"])[:2]
        ok = code == "200"
        return {"ops": 1 if ok else 0, "failed": 0 if ok else 1, "took": float(took) or time.monotonic() - began}

    def prepare(self):
        self.body = os.path.join(self.c.dir, "body")
        with open(self.body, "wb") as f:
            f.write(os.urandom(1 << 20) * 32)
        hosts = [*self.c.nodes.values(), self.c.fabric]
        self.meter = Meter([h.cgroup for h in hosts])


def http(report, a):
    print("http")
    with ways(report, Http, ["direct", "l4", "bpfnet", "haproxy", "nginx"], 0) as ws:
        for mode in ("keepalive", "head1k", "close"):
            got = interleave(report, ws, max(1, a.seconds), a.rounds, mode)
            report.add_other("http-" + mode, "", got, "op/s", lambda m: m["rate"])
            report.add_cpu(f"http-{mode}-cpu", "", got)
        got = interleave(report, ws, max(1, a.seconds), a.rounds, "one")
        for q in ("p50", "p99"):
            report.add_other("http-latency-" + q, "", got, "s", lambda m, q=q: m[q])
        for mode in ("upload", "upload-chunked"):
            report.add_other("http-" + mode, "", interleave(report, ws, 1, a.rounds, mode), "s", lambda m: m["took"])
