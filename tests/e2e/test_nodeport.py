# SPDX-License-Identifier: MIT
"""NodePort, LoadBalancer and externalIPs from outside, from pods and from the nodes themselves."""
import contextlib
import json
import os
import socket
import time
import urllib.error
import urllib.request

from harness import BUILD, Cluster, sh, wait_for

VIP, VIP6 = "10.96.2.10", "fd00:96:2::10"
LB, LB6 = "198.51.100.7", "2001:db8:7::7"
EXT, EXT6 = "198.51.100.9", "2001:db8:7::9"
PORTS = [("http", "TCP", 80, 8080, {"nodePort": 30080}), ("dns", "UDP", 53, 5353, {"nodePort": 30053})]


def who(a):
    return a.split(" ")[0]


def tally(host, addr, port, kind="tcp", n=40, **kw):
    out = {}
    for _ in range(n):
        a = who(host.ask(addr, port, kind, **kw))
        out[a] = out.get(a, 0) + 1
    if not set(out) <= {"b1", "b2"}:
        print(f"{host.name} -> {addr} {port} {kind}: {out}", flush=True)
    return set(out)


@contextlib.contextmanager
def cluster(prefix, topology="routed", args=(), **spec):
    with Cluster(prefix, topology=topology, daemon_args=list(args) + ["--cluster-cidr", "10.244.0.0/16,fd00:244::/48"]) as c:
        c.a = c.pod("n1", "client")
        c.b1, c.b2 = c.pod("n1", "b1"), c.pod("n2", "b2")
        for b in (c.b1, c.b2):
            b.serve(8080)
            b.serve(5353, "udp")
        c.x = c.client()
        c.svc = dict(type="LoadBalancer", externalIPs=[EXT, EXT6], **spec)
        put(c)
        c.start()
        yield c


def put(c, pods=None, **spec):
    c.svc.update(spec)
    c.service("web", PORTS, [c.b1, c.b2] if pods is None else pods, ips=[VIP, VIP6], **c.svc)
    o = c.objects["service.default.web"]
    o["status"] = {"loadBalancer": {"ingress": [{"ip": LB}, {"ip": LB6}]}}
    c.put(o)


def external(topology, args):
    with cluster("np", topology, args) as c:
        for fam in (4, 6):
            fronts = [(c.n1.addr(fam), 30080, 30053), (LB if fam == 4 else LB6, 80, 53),
                      (EXT if fam == 4 else EXT6, 80, 53), (VIP if fam == 4 else VIP6, 80, 53)]
            for addr, tcp, udp in fronts:
                assert tally(c.x, addr, tcp) == {"b1", "b2"}, (addr, tcp)
                assert tally(c.x, addr, udp, "udp", connect=False) == {"b1", "b2"}, (addr, udp)
            # A local backend sees the client, a remote one this node (SEMANTICS 7).
            seen = {}
            for _ in range(40):
                name, peer, _port = c.x.ask(c.n1.addr(fam), 30080).split(" ")
                seen.setdefault(name, set()).add(peer)
            assert seen == {"b1": {c.x.addr(fam)}, "b2": {c.n1.addr(fam)}}, seen
            # From pods and from the nodes, to either node's address.
            for host in (c.a, c.n1, c.n2):
                for node in (c.n1, c.n2):
                    assert tally(host, node.addr(fam), 30080) == {"b1", "b2"}, (host.name, node.name)
            for host in (c.a, c.n1, c.n2):
                assert tally(host, LB if fam == 4 else LB6, 80) == {"b1", "b2"}, host.name
        for node in (c.n1, c.n2):
            assert tally(node, "127.0.0.1", 30080) == {"b1", "b2"}, "NodePort on loopback"
            assert tally(node, "::1", 30080) == {"b1", "b2"}
        assert c.x.ask(c.n1.ip, 30081) == "refused", "no such NodePort: the node's own stack answers"
        svc = next(s for s in c.n1.json("svc", "list") if s["name"] == "web")
        kinds = {f["kind"] for f in svc["frontends"]}
        assert kinds == {"ClusterIP", "NodePort", "LoadBalancer", "ExternalIP"}, kinds


def test_external_routed():
    external("routed", [])


def test_external_bridge():
    external("bridge", [])


def test_external_tc_only_pods():
    external("routed", ["--socket-lb", "off"])


def test_traffic_policy_local():
    with cluster("tl", externalTrafficPolicy="Local", healthCheckNodePort=32100) as c:
        for fam in (4, 6):
            assert tally(c.x, c.n1.addr(fam), 30080) == {"b1"}
            assert tally(c.x, c.n2.addr(fam), 30080) == {"b2"}
            for node, name in ((c.n1, "b1"), (c.n2, "b2")):
                assert c.x.ask(node.addr(fam), 30080).split(" ")[:2] == [name, c.x.addr(fam)], "client kept"
            assert tally(c.a, c.n1.addr(fam), 30080) == {"b1", "b2"}, "pods are short-circuited"
            assert tally(c.n1, LB if fam == 4 else LB6, 80) == {"b1", "b2"}

        def health(node):
            with c.x.enter():
                try:
                    with urllib.request.urlopen(f"http://{node.ip}:32100/", timeout=2) as r:
                        return r.status, json.load(r)
                except urllib.error.HTTPError as e:
                    return e.code, json.load(e)
        assert health(c.n1) == (200, {"service": {"namespace": "default", "name": "web"}, "localEndpoints": 1,
                                      "serviceProxyHealthy": True})
        put(c, [c.b2])
        wait_for("n1 has no endpoint", lambda: health(c.n1)[0] == 503)
        assert c.x.ask(c.n1.ip, 30080, timeout=0.6) == "timeout", "DROP, never reject"
        assert tally(c.a, c.n1.ip, 30080) == {"b2"}
        assert tally(c.x, c.n2.ip, 30080) == {"b2"}
        assert tally(c.x, VIP, 80) == {"b2"}, "ClusterIP is judged by itself"
        put(c, [])
        wait_for("refused everywhere", lambda: c.x.ask(c.n1.ip, 30080, timeout=1) == "refused")
        for addr, port in ((LB, 80), (EXT, 80), (VIP, 80)):
            wait_for(f"refused at {addr}", lambda addr=addr, port=port: c.x.ask(addr, port) == "refused")


def test_source_ranges():
    with cluster("sr", loadBalancerSourceRanges=["203.0.113.0/24", " 2001:db8:99::/64"]) as c:
        assert c.x.ask(LB, 80, timeout=0.6) == "timeout"
        assert c.x.ask(LB6, 80, timeout=0.6) == "timeout"
        assert tally(c.x, c.n1.ip, 30080) == {"b1", "b2"}, "not for NodePort"
        assert tally(c.x, EXT, 80) == {"b1", "b2"}, "nor for external IPs"
        put(c, loadBalancerSourceRanges=["192.0.2.200/29", "2001:db8:1::/64"])
        wait_for("inside now", lambda: who(c.x.ask(LB, 80, timeout=0.5)) in ("b1", "b2"))
        assert tally(c.x, LB6, 80) == {"b1", "b2"}


def test_affinity():
    with cluster("af", args=["--socket-lb", "off"], sessionAffinity="ClientIP",
                 sessionAffinityConfig={"clientIP": {"timeoutSeconds": 3}}) as c:
        for host in (c.x, c.a):
            for addr, port in ((VIP, 80), (c.n1.ip, 30080), (LB, 80)):
                assert len(tally(host, addr, port, n=20)) == 1, (host.name, addr)
            one = tally(host, VIP, 80, n=5)
            assert tally(host, c.n1.ip, 30080, n=5) == one, "one service port, one backend"
        first = who(c.a.ask(VIP, 80))
        put(c, [c.b2 if first == "b1" else c.b1])
        wait_for("moved", lambda: who(c.a.ask(VIP, 80)) not in (first, "refused", "timeout"))
        put(c)
        for _ in range(6): # the timer is refreshed by each new connection
            time.sleep(1)
            assert who(c.a.ask(VIP, 80)) != first


def test_long_connections_and_restart():
    with cluster("nr") as c:
        socks = []
        for addr, port in ((c.n1.ip, 30080), (LB6, 80), (EXT, 80)):
            for _ in range(8):
                s = c.x.socket(6 if ":" in addr else 4)
                s.connect((addr, port))
                s.send(b"x")
                socks.append((s, who(s.recv(100).decode())))
        for sig in (15, 9):
            c.n1.stop(sig)
            for s, w in socks:
                s.send(b"x")
                assert who(s.recv(100).decode()) == w
            assert tally(c.x, c.n1.ip, 30080, n=20) == {"b1", "b2"}
            c.n1.start()
        for s, w in socks:
            s.send(b"x")
            assert who(s.recv(100).decode()) == w
            s.close()


def test_external_policy_sees_the_client():
    """ipBlock of a local pod judges the outside client, through the NodePort too."""
    with cluster("pc", externalTrafficPolicy="Local") as c:
        y = c.client("other")
        c.policy("web", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"ipBlock": {"cidr": c.x.ip + "/32"}}, {"ipBlock": {"cidr": c.x.ip6 + "/128"}}]}]})
        wait_for("other is denied", lambda: y.ask(c.n1.ip, 30080, timeout=0.4) == "timeout")
        for fam in (4, 6):
            assert tally(c.x, c.n1.addr(fam), 30080, n=10) == {"b1"}
            assert y.ask(c.n1.addr(fam), 30080, timeout=0.4) == "timeout"


def test_one_port_to_service_and_backend():
    """A client's kernel may use one port towards the NodePort and towards its backend itself."""
    with cluster("op", externalTrafficPolicy="Local") as c:
        for fam in (4, 6):
            node, pod = c.n1.addr(fam), c.b1.addr(fam)
            for i, sport in enumerate((42001, 42002, 42003)):
                with contextlib.closing(c.x.socket(fam)) as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("::" if fam == 6 else "0.0.0.0", sport))
                    s.connect((node, 30080))
                    s.send(b"x")
                    assert who(s.recv(100).decode()) == "b1"
                    if i: # while the first connection lives
                        assert who(c.x.ask(pod, 8080, sport=sport, timeout=2)) == "b1", (fam, "both live")
                        s.send(b"x")
                        assert who(s.recv(100).decode()) == "b1"
                if not i: # and when it is over
                    time.sleep(0.1)
                    assert who(c.x.ask(pod, 8080, sport=sport, timeout=2)) == "b1", (fam, "one after the other")


def test_many_flows_to_one_backend():
    """A client with 20,000 UDP flows loses none of them: their ports on the node are its own."""
    with cluster("mf", args=["--socket-lb", "off"]) as c:
        put(c, [c.b2])
        wait_for("remote backend", lambda: who(c.x.ask(c.n1.ip, 30053, "udp", timeout=0.5)) == "b2")
        c.b2.popen([os.path.join(BUILD, "tests/tools/load"), "serve", "5354"])
        p = [("dns", "UDP", 53, 5354, {"nodePort": 30054})]
        c.service("many", p, [c.b2], ips=["10.96.2.20"], type="NodePort")
        wait_for("in force", lambda: c.x.ask(c.n1.ip, 30054, "udp", timeout=0.5) == "who")
        r = json.loads(c.x.run([os.path.join(BUILD, "tests/tools/load"), "flows", c.n1.ip, "30054", "20000", "1", "32768"]).stdout)
        assert r["ops"] == 20000, r


def test_nodeport_addresses():
    """NodePorts and the health checks of load balancers: on the addresses named, in the families named."""
    args = ["--nodeport-addresses", "192.0.2.11/32,192.0.2.12/32"]
    with cluster("na", args=args, externalTrafficPolicy="Local", healthCheckNodePort=32101) as c:
        sh(["ip", "-netns", c.n1.ns, "addr", "add", "192.0.2.77/24", "dev", "eth0"])

        def health(addr):
            with contextlib.closing(c.x.socket(6 if ":" in addr else 4, timeout=2)) as s:
                try:
                    s.connect((addr, 32101))
                    s.send(b"GET / HTTP/1.0\r\n\r\n")
                    return s.recv(100).split()[1].decode()
                except ConnectionRefusedError:
                    return "refused"
        assert health(c.n1.ip) == "200" and health(c.n1.ip6) == "200"
        assert health("192.0.2.77") == "refused", "not named"
        assert tally(c.x, c.n1.ip, 30080, n=5) == {"b1"} and tally(c.x, c.n1.ip6, 30080, n=5) == {"b1"}
        assert c.x.ask("192.0.2.77", 30080) == "refused"
        # The named address comes later, as with DHCP.
        sh(["ip", "-netns", c.n1.ns, "addr", "del", "192.0.2.11/24", "dev", "eth0"])
        sh(["ip", "-netns", c.n1.ns, "addr", "add", "192.0.2.11/24", "dev", "eth0"])
        sh(["ip", "-netns", c.n1.ns, "addr", "add", "192.0.2.12/32", "dev", "lo"])

        def here():
            with c.n1.enter():
                s = socket.socket()
            with contextlib.closing(s):
                s.settimeout(2)
                s.connect(("192.0.2.12", 32101))
            return True
        wait_for("a second named address", here, 12)
