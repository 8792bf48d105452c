# SPDX-License-Identifier: MIT
"""Another version on the same pins, under load: what is open stays open, what is denied stays denied."""

import contextlib
import json
import os
import random
import signal
import socket
import struct
import threading
import time

from harness import Cluster, sh, wait_for

VIP, VIP6, SHUT = "10.96.1.10", "fd00:96:1::10", "10.96.1.11"
PORTS = [("http", "TCP", 80, 8080, {"nodePort": 30080}), ("dns", "UDP", 53, 5353, {"nodePort": 30053}),
         ("api", "TCP", 81, 9001, {"nodePort": 30081})]
GET = b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n"
LOST = 4  # seconds: what has not come by then was lost, whatever else the machine had to do


class Http:
    """Answers each request in turn with 200, whatever it asks."""

    def __init__(self, host, port):
        self.s = host.socket(4, "tcp", 0.2)
        self.s.bind(("0.0.0.0", port))
        self.s.listen(64)
        threading.Thread(target=self._loop, daemon=True).start()
        host.cluster.echoes.append(self)

    def close(self):
        self.s.close()

    def _loop(self):
        while True:
            try:
                s, _ = self.s.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            threading.Thread(target=self._serve, args=(s,), daemon=True).start()

    @staticmethod
    def _serve(s):
        buf = b""
        with contextlib.closing(s), contextlib.suppress(OSError):
            s.settimeout(60)
            while True:
                while b"\r\n\r\n" not in buf:
                    data = s.recv(4096)
                    if not data:
                        return
                    buf += data
                buf = buf.split(b"\r\n\r\n", 1)[1]
                s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class Load:
    """Traffic of every kind, each in a thread of its own. `bad`: what went wrong, with the time; `n`: how often it went well."""

    def __init__(self, c):
        self.c, self.stop, self.bad, self.n, self.worst, self.threads, self.socks = c, False, [], {}, {}, [], []
        self.began = time.monotonic()

    def say(self, what, error):
        self.bad.append((round(time.monotonic() - self.began, 3), what, str(error)))

    def well(self, what, secs):
        self.n[what] = self.n.get(what, 0) + 1
        self.worst[what] = max(self.worst.get(what, 0), secs)

    def run(self, what, fn):
        t = threading.Thread(target=self._loop, args=(what, fn), daemon=True)
        self.threads.append(t)
        t.start()

    def _loop(self, what, fn):
        while not self.stop:
            t = time.monotonic()
            try:
                e = fn()
            except OSError as x:
                e = type(x).__name__
            if e:
                self.say(what, e)
                time.sleep(0.05)
            else:
                self.well(what, time.monotonic() - t)
            time.sleep(0.004)

    def kept(self, what, host, addr, port, ask=b"x", want=b"b"):
        s = host.socket(6 if ":" in addr else 4, "tcp", 5)
        s.connect((addr, port))
        self.socks.append(s)

        def once():
            if s.fileno() < 0:
                time.sleep(0.2)
                return None
            try:
                s.sendall(ask)
                got = s.recv(2048)
            except OSError:
                s.close()
                raise
            if want not in got:
                s.close()
                return f"answer {got[:40]!r}"
            return None
        self.run(what, once)

    def new(self, what, host, addr, port):
        def once():
            with contextlib.closing(host.socket(4, "tcp", LOST)) as s:
                s.connect((addr, port))
                s.sendall(b"x")
                got = s.recv(200)
                again = struct.unpack_from("=I", s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]
            return None if got.startswith(b"b") and not again else f"answer {got!r}, {again} segments sent again"
        self.run(what, once)

    def udp(self, what, host, addr, port):
        s = host.socket(4, "udp", LOST)
        s.connect((addr, port))
        self.socks.append(s)

        def once():
            s.send(b"x")
            got = s.recv(200)
            return None if got.startswith(b"b") else f"answer {got!r}"
        self.run(what, once)

    def denied(self, what, host, addr, port):
        self.run(what, lambda: (lambda got: got.startswith("b") and got)(host.ask(addr, port, timeout=0.3)))

    def denied_request(self, what, host, addr, port):
        def once():
            with contextlib.closing(host.socket(4, "tcp", 2)) as s:
                s.connect((addr, port))
                s.sendall(b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
                got = s.recv(2048)
            return None if got.startswith(b"HTTP/1.1 403") else f"answer {got[:40]!r}"
        self.run(what, once)

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join(10)
        for s in self.socks:
            s.close()


def cluster(prefix, args=()):
    c = Cluster(prefix, daemon_args=list(args))
    try:
        c.a, c.evil = c.pod("n1", "client", labels={"app": "client"}), c.pod("n1", "evil")
        c.b1, c.b2 = c.pod("n1", "b1", labels={"app": "web"}), c.pod("n2", "b2", labels={"app": "web"})
        c.x = c.client()
        for b in (c.b1, c.b2):
            b.serve(8080)
            b.serve(5353, "udp")
            Http(b, 9001)
        c.service("web", PORTS, [c.b1, c.b2], ips=[VIP, VIP6], type="NodePort")
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}],
             "ports": [{"port": 8080}, {"protocol": "UDP", "port": 5353}]}]})
        c.policy("api", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}, {"ipBlock": {"cidr": "192.0.2.0/24"}}],
             "ports": [{"protocol": "TCP", "port": 9001}], "http": [{"path": {"value": "/ok"}}]}]},
                 kind="HTTPNetworkPolicy", api="bpfnet.io/v1alpha1")
    except BaseException:
        c.close()
        raise
    return c


def load_of(c):
    ld = Load(c)
    for i in range(3):
        ld.kept("kept pod->ClusterIP", c.a, VIP, 80)
        ld.kept("kept node->ClusterIP", c.n1, VIP, 80)
        ld.kept("kept outside->NodePort", c.x, c.n1.ip, 30080)
        ld.kept("kept pod->pod", c.a, c.b2.ip, 8080)
        ld.kept("HTTP pod->ClusterIP", c.a, VIP, 81, GET, b"200 OK")
        ld.kept("HTTP outside->NodePort", c.x, c.n1.ip, 30081, GET, b"200 OK")
    ld.kept("kept pod->ClusterIP v6", c.a, VIP6, 80)
    ld.udp("UDP pod->ClusterIP", c.a, VIP, 53)
    ld.udp("UDP node->ClusterIP", c.n1, VIP, 53)
    ld.udp("UDP outside->NodePort", c.x, c.n1.ip, 30053)
    ld.new("new pod->ClusterIP", c.a, VIP, 80)
    ld.new("new node->ClusterIP", c.n1, VIP, 80)
    ld.new("new outside->NodePort", c.x, c.n1.ip, 30080)
    ld.denied("denied pod->ClusterIP", c.evil, VIP, 80)
    ld.denied("denied pod->pod", c.evil, c.b1.ip, 8080)
    ld.denied_request("denied request pod->ClusterIP", c.a, VIP, 81)
    ld.denied_request("denied request outside->NodePort", c.x, c.n1.ip, 30081)
    return ld


def poke_schema(n, schema):
    """The pins say that another version made them."""
    at = ["pinned", n.bpffs + "/meta", "key", "0", "0", "0", "0"]
    old = json.loads(sh(["bpftool", "-j", "map", "lookup"] + at).stdout)
    b = [int(x, 16) for x in old["value"]]
    b[4:8] = struct.pack("<I", schema)
    sh(["bpftool", "map", "update"] + at + ["value"] + [str(x) for x in b])


def poke_map(n, name):
    """One map is of another layout."""
    os.unlink(f"{n.bpffs}/{name}")
    sh(["bpftool", "map", "create", f"{n.bpffs}/{name}", "type", "hash", "key", "16", "value", "4", "entries", "4", "name", name])


def restart(c, ld, before=None, extra=(), env=None):
    """kill -9, what is done to the pins, a new start; what went wrong meanwhile and in the second after."""
    mark = len(ld.bad)
    for n in c.nodes.values():
        n.stop(signal.SIGKILL)
        if before:
            before(n)
    time.sleep(0.3)
    c.start(extra=extra, env=env)
    time.sleep(1.5)
    return ld.bad[mark:]


RESET = ("ConnectionResetError", "BrokenPipeError")


def check(bad, may_break=(), again=False, table_lost=False, clsact=False):
    """Nothing but resets of the kinds of connection named. again: a segment of a connection that began in the moment of the
    change may have had to be sent again, and a request that is denied in it be reset without its 403. clsact: one that began in it may find no answer (a known
    fault: docs/OPERATIONS.md). table_lost: what waited for an answer in that moment waits for ever, what
    began in it is reset, a datagram is lost."""
    worse, few = [], {}
    for x in bad:
        few[x[1]] = few.get(x[1], 0) + 1
        fine = x[1] in may_break and x[2] in RESET or again and ("sent again" in x[2] or
                                                                x[1].startswith("denied request") and x[2] in RESET)
        if clsact and x[1].startswith("new ") and x[2] == "TimeoutError":
            fine = few[x[1]] <= 1
        if table_lost and x[2] in RESET + ("TimeoutError",):
            fine = x[1] in may_break or few[x[1]] <= 2
        if not fine:
            worse.append(x)
    assert not worse, worse[:20]


HTTP = ("HTTP pod->ClusterIP", "HTTP outside->NodePort", "denied request pod->ClusterIP", "denied request outside->NodePort")
TRANSLATED = ("kept outside->NodePort", "kept pod->ClusterIP", "kept pod->ClusterIP v6")


def changes(prefix, args=(), env=None):
    with cluster(prefix, args) as c:
        c.start(env=env)
        ld = load_of(c)
        time.sleep(1)
        check(ld.bad)
        # Same layout; a larger connection table; other maps, a connection table that is understood; nothing is.
        check(restart(c, ld, env=env))
        check(restart(c, ld, extra=["--ct-max", "200000"], env=env), again=True, clsact=bool(env))
        assert "map 'ct' grows" in c.n1.log_tail(), c.n1.log_tail()
        check(restart(c, ld, lambda n: poke_map(n, "dsr"), env=env), HTTP, True)
        check(restart(c, ld, lambda n: poke_schema(n, 99), env=env),
              HTTP + TRANSLATED, True, True)
        mark = len(ld.bad)
        for n in c.nodes.values():
            assert not [f for f in os.listdir(n.bpffs) if f.endswith("_old")], os.listdir(n.bpffs)
        more = load_of(c)
        time.sleep(1)
        check(more.bad)
        check(ld.bad[mark:])
        for x in (ld, more):
            x.end()


def test_changes_of_layout():
    changes("ul")


def test_changes_of_layout_per_packet():
    changes("up", ["--socket-lb", "off"])


def test_changes_of_layout_clsact():
    changes("uf", env={"BPFNET_TC": "clsact"})


def test_kills_while_flows_are_carried():
    """A start that is killed at any moment: the next one takes it up. With another version's pins nothing is lost before
    the switch, whatever is killed until then."""
    rnd = random.Random(int(os.environ.get("BN_SEED", 1)))
    with cluster("uk", ["--socket-lb", "off"]) as c:
        c.start()
        ld = load_of(c)
        size = 131072
        for _ in range(6):
            size += 20000
            for n in c.nodes.values():
                n.stop(signal.SIGKILL)
                n.start(wait=False, extra=["--ct-max", str(size)])
            time.sleep(rnd.uniform(0.2, 1.2))
        restart(c, ld, extra=["--ct-max", str(size)])
        check(ld.bad, again=True)
        for n in c.nodes.values():
            assert not [f for f in os.listdir(n.bpffs) if f.endswith("_old")], os.listdir(n.bpffs)
        for _ in range(4):
            for n in c.nodes.values():
                n.stop(signal.SIGKILL)
                poke_map(n, "dsr")
                n.start(wait=False)
            time.sleep(rnd.uniform(0.2, 1.5))
        restart(c, ld)
        check(ld.bad, HTTP, True)
        more = load_of(c)
        time.sleep(1)
        check(more.bad)
        more.end()
        ld.end()


def test_without_a_source_the_other_version_stays():
    """The API server cannot be reached: the other version's programs go on, with all connections and policies."""
    with cluster("uw", ["--socket-lb", "off"]) as c:
        c.start()
        ld = load_of(c)
        time.sleep(1)
        c.n1.stop()
        poke_schema(c.n1, 99)
        with open(c.dir + "/kubeconfig", "w") as f:
            f.write("{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}], "
                    "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: u, user: {}}]}")
        own, c.source_args = c.source_args, lambda: ["--kubeconfig", c.dir + "/kubeconfig"]
        c.n1.start(wait=False)
        waits = wait_for("says so", lambda: [w for w in c.n1.json("status", check=False)["waiting"] if "another version" in w])
        assert waits
        time.sleep(3)
        check(ld.bad)
        c.n1.stop()
        c.source_args = own
        c.n1.start()
        time.sleep(1)
        check(ld.bad, HTTP + TRANSLATED, True, True)
        ld.end()
