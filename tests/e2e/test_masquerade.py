# SPDX-License-Identifier: MIT
"""--masquerade-all: what a ClusterIP's backends see is this node, whoever asked; all else as without it."""
import contextlib
import socket
import subprocess
import time

from harness import Cluster, wait_for
from test_http_hostile import BAD, OK, SERVER, policy

VIP, VIP6 = "10.96.8.10", "fd00:96:8::10"
EXT, EXT6 = "198.51.100.80", "2001:db8:7::80"
PORTS = [("http", "TCP", 80, 8080), ("dns", "UDP", 53, 5353), ("shut", "UDP", 99, 9999)]


@contextlib.contextmanager
def cluster(prefix, topology, *args):
    with Cluster(prefix, topology=topology, daemon_args=list(args) + ["--masquerade-all"]) as c:
        c.a, c.b1, c.b2 = c.pod("n1", "a", labels={"who": "a"}), c.pod("n1", "b1", labels={"app": "web"}), c.pod("n2", "b2")
        c.x = c.client()
        for h in (c.a, c.b1, c.b2, c.n1):
            h.serve(8080)
            h.serve(5353, "udp")
        for n in c.nodes.values():
            with n.enter():
                for path in ("all", "default"):
                    with open(f"/proc/sys/net/ipv4/conf/{path}/rp_filter", "w") as f:
                        f.write("1")
        for b in (c.a, c.b1, c.b2): # all errors go to one address now: more than stacks send in a second
            with b.enter():
                for path in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
                    with open("/proc/sys/net/" + path, "w") as f:
                        f.write("0")
        c.service("web", PORTS, [c.b1, c.b2], ips=[VIP, VIP6], externalIPs=[EXT, EXT6])
        c.start()
        c.of_n1 = set(c.n1.ips) | {"10.244.1.1", "fd00:244:1::1"}
        yield c


def seen(c, host, addr, port, kind="tcp", n=24, **kw):
    """{server: {source addresses it saw}}"""
    out = {}
    for _ in range(n):
        a = host.ask(addr, port, kind, **kw).split(" ")
        assert len(a) >= 2, (host.name, addr, port, kind, kw, a, c.n1.drops(), c.n2.drops())
        out.setdefault(a[0], set()).add(a[1])
    return out


def walk(prefix, topology, *args):
    with cluster(prefix, topology, *args) as c:
        for vip, ext in ((VIP, EXT), (VIP6, EXT6)):
            fam = 6 if ":" in vip else 4
            for kind, port, connect in (("tcp", 80, True), ("udp", 53, True), ("udp", 53, False)):
                what = (topology, args, vip, kind, connect)
                got = seen(c, c.a, vip, port, kind, connect=connect)
                assert set(got) == {"b1", "b2"}, (what, got)
                assert got["b1"] <= c.of_n1 and got["b2"] == {c.n1.addr(fam)}, (what, got)
                got = seen(c, c.x, vip, port, kind, connect=connect)
                assert set(got) == {"b1", "b2"}, (what, got)
                assert got["b1"] <= c.of_n1 and got["b2"] == {c.n1.addr(fam)}, (what, got)
                assert set(seen(c, c.n1, vip, port, kind, connect=connect)) == {"b1", "b2"}, what
                # Itself, through the service: in the node's name as ever.
                got = seen(c, c.b1, vip, port, kind, connect=connect)
                assert got["b1"] <= c.of_n1 and got["b2"] == {c.n1.addr(fam)}, (what, got)
                # No ClusterIP: the pod keeps its address.
                got = seen(c, c.a, ext, port, kind, connect=connect)
                assert got == {"b1": {c.a.addr(fam)}, "b2": {c.a.addr(fam)}}, (what, got)
            for b in (c.b1, c.b2):
                assert c.a.ask(b.addr(fam), 8080).split(" ")[:2] == [b.name, c.a.addr(fam)]
            # An ICMP error of a backend, here or there, finds the client.
            for _ in range(8):
                assert c.a.ask(vip, 99, "udp") == "refused", (topology, args, vip)
                assert c.x.ask(vip, 99, "udp") == "refused", (topology, args, vip)
                assert c.b1.ask(vip, 99, "udp") == "refused", (topology, args, vip)
            with contextlib.closing(c.a.socket(fam, "tcp", 10)) as s:
                s.connect((vip, 80))
                for _ in range(200): # more than a window, in GSO packets
                    s.sendall(b"x" * 65536)
                s.settimeout(1)
                with contextlib.suppress(TimeoutError):
                    while s.recv(65536):
                        pass
        # The backend is the node itself: kube-proxy does not masquerade on the way in.
        c.service("host", PORTS, [c.n1], ips=["10.96.8.11", "fd00:96:8::11"])
        both = ("10.96.8.11", "fd00:96:8::11") # each family's EndpointSlice is an object of its own, and comes by itself
        wait_for("host in force", lambda: all(c.a.ask(vip, 80).startswith("n1 ") for vip in both))
        for vip in both:
            got = seen(c, c.a, vip, 80, n=4)
            assert got == {"n1": {c.a.addr(6 if ":" in vip else 4)}}, (vip, got)
        c.service("none", PORTS, [], ips=["10.96.8.12", "fd00:96:8::12"])
        wait_for("none in force", lambda: c.a.ask("10.96.8.12", 80) == c.a.ask("fd00:96:8::12", 80) == "refused")
        assert c.a.ask("fd00:96:8::12", 53, "udp") == "refused"
        # A policy judges who asked, not in whose name it came.
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                         "ingress": [{"from": [{"podSelector": {"matchLabels": {"who": "a"}}}]}]})
        c.service("one", PORTS, [c.b1], ips=["10.96.8.13", "fd00:96:8::13"])
        d = c.pod("n1", "d")
        both = ("10.96.8.13", "fd00:96:8::13")
        wait_for("policy in force", lambda: all(d.ask(vip, 80, timeout=0.5) == "timeout"
                                                and c.a.ask(vip, 80, timeout=0.5).startswith("b1 ") for vip in both))
        for vip in both:
            assert c.a.ask(vip, 80).startswith("b1 ") and c.x.ask(vip, 80, timeout=0.5) == "timeout"
            assert d.ask(vip, 80, timeout=0.5) == "timeout"
        leaks = {k: v for k, v in c.n1.drops().items()
                 if v and k not in ("POLICY_INGRESS", "NO_BACKEND", "REJECT_RATE", "UNKNOWN_POD")}
        assert not leaks, leaks


def test_routed_bypass():
    walk("mr", "routed", "--host-routing", "bpf")


def test_routed_stack():
    walk("ms", "routed", "--host-routing", "stack")


def test_bridge_bypass():
    walk("mb", "bridge", "--host-routing", "bpf")


def test_bridge_stack():
    walk("mt", "bridge", "--host-routing", "stack")


def test_many_clients_with_one_port():
    """Clients that all use one port share this node's address: each gets a port of its own, none a NodePort."""
    with cluster("mp", "routed") as c:
        c.service("np", [("x", "TCP", 81, 8080, {"nodePort": 40000})], [c.b2], ips=["10.96.8.20"], type="NodePort")
        more = [c.pod("n1", f"m{i}") for i in range(4)]
        wait_for("in force", lambda: all(p.ask("10.96.8.20", 81).startswith("b2 ") for p in more))
        held, ports = [], set()
        for p in more:
            s = p.socket(4)
            s.bind(("0.0.0.0", 40000))
            s.connect(("10.96.8.20", 81))
            s.send(b"who\n")
            name, addr, port = s.recv(100).decode().split()
            assert name == "b2" and addr == c.n1.ip and port != "40000", (name, addr, port)
            ports.add(port)
            held.append(s)
        assert len(ports) == len(more), ports
        c.n1.stop()
        c.n1.start()
        for s in held: # the flows outlive the daemon
            s.send(b"who\n")
            assert s.recv(100).startswith(b"b2 ")
            s.close()


def test_the_nodes_own_flow_with_the_same_ports():
    """A node that uses the port which its pod's flow has under its address: both go on."""
    for topology in ("routed", "bridge"):
        with cluster("mn", topology) as c:
            for i, b in enumerate((c.b1, c.b2)):
                c.service(f"to{i}", [("x", "TCP", 81, 8080)], [b], ips=[f"10.96.8.{30 + i}"])
                wait_for("in force", lambda: c.a.ask(f"10.96.8.{30 + i}", 81).startswith(b.name))
                held = []
                for host, addr, port in ((c.a, f"10.96.8.{30 + i}", 81), (c.n1, b.ip, 8080)):
                    s = host.socket(4)
                    held.append(s)
                    if topology == "bridge" and b is c.b1 and host is c.n1:
                        s.bind(("10.244.1.1", 45000 + i))
                    else:
                        s.bind(("0.0.0.0", 45000 + i))
                    s.connect((addr, port))
                for _ in range(3):
                    for s in held:
                        s.send(b"who\n")
                        assert s.recv(100).startswith(b.name.encode()), (topology, b.name)
                held.pop(0).close() # and the node's goes on without the other
                held[0].send(b"who\n")
                assert held[0].recv(100).startswith(b.name.encode()), (topology, b.name)
                held[0].close()


def test_over_a_daemon_without_it():
    """Switched on and off: flows stay what they began as."""
    with cluster("mo", "routed") as c:
        s = c.a.socket(4)
        s.connect((VIP, 80))
        s.send(b"1\n")
        first = s.recv(100)
        c.n1.stop()
        c.n1.daemon_args.remove("--masquerade-all")
        c.n1.start()
        s.send(b"2\n")
        assert s.recv(100) == first
        s.close()
        wait_for("no longer masqueraded", lambda: c.a.ask(VIP, 80).split(" ")[1] == c.a.ip, 5)
        time.sleep(0.2)
        assert all(src == {c.a.ip} for src in seen(c, c.a, VIP, 80, n=12).values())


def test_http():
    """Egress rules on requests: the answers that come back translated are the followed connection's."""
    with Cluster("mh", daemon_args=["--masquerade-all"]) as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        clients = c.pod("n2", "far", labels={"app": "cl"}), c.pod("n1", "near", labels={"app": "cl"})
        web.popen(["/usr/bin/python3", "-c", SERVER, f"{c.dir}/seen"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        policy(c, [{"path": {"value": "/v1"}}], "cl", "egress")
        c.service("web", [("http", "TCP", 80, 8080)], [web], ips=["10.96.7.10", "fd00:96:7::10"])
        c.start()

        def answers(h, dst, request):
            with contextlib.closing(h.socket(6 if ":" in dst else 4)) as s:
                s.connect((dst, 80))
                for _ in range(300):  # 4.5 MB of heads: nothing of them is kept when it is acknowledged
                    s.sendall(OK[:-2] + b"X: " + b"y" * 15000 + b"\r\n\r\n")
                    assert s.recv(1000).startswith(b"HTTP/1.1 200"), (h.name, dst)
                s.sendall(OK * 3 + request)
                got = b""
                while d := s.recv(1000):
                    got += d
                return got.count(b" 200 "), got.count(b" 403 ")
        for h in clients:
            for dst in ("10.96.7.10", "fd00:96:7::10"):
                wait_for("rules in force", lambda: answers(h, dst, BAD.replace(b"secret2", b"soon")) == (3, 1))
                assert answers(h, dst, BAD) == (3, 1), (h.name, dst)
        with open(f"{c.dir}/seen", "rb") as f:
            assert b"/secret" not in f.read()
