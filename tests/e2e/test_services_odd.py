# SPDX-License-Identifier: MIT
"""Services that few people write, with real packets; what is expected is what kube-proxy's rules do."""
import json
import os
import time

from harness import BUILD, Cluster, wait_for
from test_semantics import small

BACK = {"tcp": 8080, "udp": 5353}


def svc(c, name, ports, ips, pods=(), slices=None, lb=(), uid=None, **spec):
    """ports: [(name, proto, port, nodePort or 0)]; slices: [(family, addressType, ports, addresses)], else of pods."""
    c.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default", "uid": uid or name},
           "spec": {"clusterIP": ips[0], "clusterIPs": list(ips),
                    "ports": [dict({"name": n, "protocol": pr, "port": p, "targetPort": BACK[pr.lower()]},
                                   **({"nodePort": np} if np else {})) for n, pr, p, np in ports],
                    "type": "LoadBalancer" if lb else "NodePort" if any(p[3] for p in ports) else "ClusterIP", **spec},
           "status": {"loadBalancer": {"ingress": [{"ip": a} for a in lb]}}})
    if slices is None:
        slices = [(f"IPv{f}", [(n, pr) for n, pr, _, _ in ports], [p.addr(f) for p in pods]) for f in (4, 6)]
    for i, (kind, names, addrs) in enumerate(slices):
        c.put({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": kind,
               "metadata": {"name": f"{name}-{i}", "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
               "ports": [{"name": n, "protocol": pr, "port": BACK[pr.lower()]} for n, pr in names],
               "endpoints": [{"addresses": [a], "conditions": {"ready": True}, "nodeName": c.node_of.get(name, "n2")}
                             for a in addrs]})


def got(host, addr, port, kind="tcp", n=12, **kw):
    return {host.ask(addr, port, kind, timeout=0.7, **kw).split(" ")[0] for _ in range(n)}


def walk(args):
    with small("so", args) as c:
        c.start()
        # One NodePort number for two services, TCP and UDP.
        svc(c, "np-t", [("a", "TCP", 80, 31555)], ["10.96.9.1", "fd00:96:9::1"], [c.b1])
        svc(c, "np-u", [("a", "UDP", 80, 31555)], ["10.96.9.2", "fd00:96:9::2"], [c.b2])
        wait_for("two services, one number", lambda: got(c.x, c.n1.ip, 31555, n=1) == {"b1"}
                 and got(c.x, c.n1.ip, 31555, "udp", n=1) == {"b2"})
        assert got(c.x, c.n1.ip6, 31555) == {"b1"} and got(c.a, c.n1.ip6, 31555, "udp") == {"b2"}
        # An external IP that is the node's own: that port only.
        svc(c, "own", [("a", "TCP", 9090, 0)], ["10.96.9.3"], [c.b2], externalIPs=[c.n1.ip])
        wait_for("the node's own address", lambda: got(c.x, c.n1.ip, 9090, n=1) == {"b2"})
        c.n1.serve(8181)
        assert got(c.a, c.n1.ip, 9090) == {"b2"} == got(c.n1, c.n1.ip, 9090) and got(c.x, c.n1.ip, 8181) == {"n1"}
        # A backend that is another service's ClusterIP: translated once, so that nobody is there; nothing else suffers.
        svc(c, "chain", [("a", "TCP", 80, 0)], ["10.96.9.4"], slices=[("IPv4", [("a", "TCP")], ["10.96.9.1"])])
        wait_for("a chain", lambda: any(s["name"] == "chain" for s in c.n1.json("svc", "list")))
        assert got(c.a, "10.96.9.4", 80, n=2) <= {"timeout", "refused"}
        assert got(c.a, "10.96.9.1", 80) == {"b1"}
        # Slices: several, of another family, of names, the same address twice.
        svc(c, "many", [("a", "TCP", 80, 0)], ["10.96.9.5", "fd00:96:9::5"], slices=[
            ("IPv4", [("a", "TCP")], [c.b1.ip, c.b2.ip]), ("IPv4", [("a", "TCP")], [c.b1.ip]),
            ("IPv6", [("a", "TCP")], [c.b2.ip6]), ("FQDN", [("a", "TCP")], ["web.example.org"]),
            ("IPv4", [("b", "TCP")], [c.a.ip])])
        wait_for("many", lambda: got(c.a, "10.96.9.5", 80) == {"b1", "b2"})
        assert got(c.a, "fd00:96:9::5", 80) == {"b2"}
        listed = [f["backends"] for s in c.n1.json("svc", "list") if s["name"] == "many" for f in s["frontends"]
                  if f["address"] == "10.96.9.5"]
        assert sorted(b["address"] for b in listed[0]) == sorted([c.b1.ip, c.b2.ip]), listed
        # A port's name changes: nobody, until the slices say it, too.
        held = c.a.socket(4)
        held.connect(("10.96.9.1", 80))
        svc(c, "np-t", [("b", "TCP", 80, 31555)], ["10.96.9.1", "fd00:96:9::1"],
            slices=[(f"IPv{f}", [("a", "TCP")], [c.b1.addr(f)]) for f in (4, 6)])
        wait_for("a name that no slice has", lambda: got(c.a, "10.96.9.1", 80, n=1) == {"refused"})
        svc(c, "np-t", [("b", "TCP", 80, 31555)], ["10.96.9.1", "fd00:96:9::1"], [c.b1])
        wait_for("and one that it has", lambda: got(c.a, "10.96.9.1", 80, n=1) == {"b1"})
        held.send(b"who\n")
        assert held.recv(100).startswith(b"b1")
        held.close()
        # Deleted and made anew under its name, with another address, type and UID.
        svc(c, "np-u", [("z", "TCP", 81, 0)], ["10.96.9.6"], [c.b1], uid="other")
        wait_for("another life", lambda: got(c.a, "10.96.9.6", 81, n=1) == {"b1"})
        assert not got(c.x, c.n1.ip, 31555, "udp", n=2) & {"b1", "b2"} and got(c.x, c.n1.ip, 31555) == {"b1"}
        # One family, both, the other.
        for ips in (["10.96.9.7"], ["10.96.9.7", "fd00:96:9::7"], ["fd00:96:9::7"], ["fd00:96:9::7", "10.96.9.7"]):
            svc(c, "fam", [("a", "UDP", 53, 0)], ips, [c.b1, c.b2])
            wait_for(f"families {ips}", lambda: all(
                (got(c.a, a, 53, "udp", n=1) <= {"b1", "b2"}) == (a in ips) for a in ("10.96.9.7", "fd00:96:9::7")))
        # Source ranges of one family say nothing about the other; blanks around them do not count.
        svc(c, "src", [("a", "TCP", 80, 31666)], ["10.96.9.8", "fd00:96:9::8"], [c.b1, c.b2],
            lb=["198.51.100.88", "2001:db8:7::88"], loadBalancerSourceRanges=[" 2001:db8:1::c9/128 "])
        wait_for("ranges", lambda: got(c.x, "2001:db8:7::88", 80, n=1) <= {"b1", "b2"})
        other = c.client("y")
        assert got(other, "2001:db8:7::88", 80, n=2) == {"timeout"}
        assert got(other, "198.51.100.88", 80) == {"b1", "b2"} == got(c.x, "198.51.100.88", 80)
        assert got(other, c.n1.ip6, 31666) == {"b1", "b2"} == got(c.a, "fd00:96:9::8", 80)


def test_odd_services_sockets():
    walk([])


def test_odd_services_packets():
    walk(["--socket-lb", "off"])


def test_every_port_in_use():
    """A pod that has asked one server from nearly every port, directly, and now asks it through a Service, and back."""
    load = os.path.join(BUILD, "tests/tools/load")
    with Cluster("sp", nodes=1, daemon_args=["--socket-lb", "off"]) as c:
        a, b = c.pod("n1", "a"), c.pod("n1", "b")
        b.popen([load, "serve", "5353"])
        c.node_of = {}
        svc(c, "dns", [("d", "UDP", 53, 0)], ["10.96.9.9"], slices=[("IPv4", [("d", "UDP")], [b.ip])])
        c.start()

        def answered(addr, port, n, first):
            return json.loads(a.run([load, "flows", addr, str(port), str(n), "64", str(first)], timeout=120).stdout)["ops"]
        wait_for("the service", lambda: answered("10.96.9.9", 53, 1, 1000))
        assert answered(b.ip, 5353, 64512, 1024) > 64000
        for i in range(3):
            first = 20000 + 300 * i
            assert answered("10.96.9.9", 53, 200, first) == 200
            assert answered(b.ip, 5353, 200, first) == 200
            time.sleep(1.1)  # whether a flow's other half is still there is asked once a second
            assert answered("10.96.9.9", 53, 200, first) == 200
