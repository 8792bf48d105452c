# SPDX-License-Identifier: MIT
"""Pods' interfaces with the real daemon and real packets: unknown pods, hostile ones, containers of
others, restarts, and bpfnet-cni. The many orders of events are in tests/bpf/test_endpoints.c."""
import contextlib
import json
import os
import signal
import socket
import subprocess

from harness import BUILD, Cluster, Host, _ip_batch, cgroup2_root, wait_for

DENY_ALL = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}


def endpoints(node):
    """By name; without what changes by itself (the short cut is taken once it is known to be safe)."""
    return {f"{e['namespace']}/{e['name']}": {k: v for k, v in e.items() if k != "bypass"}
            for e in node.json("endpoint", "list")}


def reaches(a, b, timeout=0.4):
    """By which families a gets an answer from b's echo server."""
    return {f for f in (4, 6) if a.ask(b.addr(f), 8080, timeout=timeout).split(" ")[0] == b.name}


@contextlib.contextmanager
def cluster(prefix, topology="routed", args=()):
    with Cluster(prefix, topology=topology, daemon_args=args) as c:
        c.web = c.pod("n1", "web")
        c.far = c.pod("n2", "far")
        c.web.serve(8080)
        c.far.serve(8080)
        c.start()
        yield c


def closed_until_known(topology):
    """While a policy could select it, an unknown pod passes nothing; known, it works at once."""
    with cluster("epu", topology) as c:
        c.policy("all", DENY_ALL)
        wait_for("policy in force", lambda: endpoints(c.n1)["default/web"]["ingress"] == "isolated")
        p = c.pod("n1", "new", manifest=False)
        p.serve(8080)
        assert reaches(p, c.web) == set()
        assert reaches(c.web, p) == set()
        assert reaches(p, c.far) == set()
        assert c.n1.drops().get("UNKNOWN_POD", 0) > 0, c.n1.drops()
        status = c.n1.json("status")["endpoints"]
        assert status["unknown"] == 1 and status["closed"] == 1, status
        c.put(p.object())
        wait_for("the pod is known", lambda: reaches(p, c.web) == {4, 6}, timeout=3)
        wait_for("and reached", lambda: reaches(c.far, p) == {4, 6} and reaches(c.web, p) == {4, 6}, 3)
        assert endpoints(c.n1)["default/new"]["interface"] == p.host_if
        c.delete("Pod", "new")
        wait_for("closed again", lambda: reaches(p, c.web) == set(), timeout=3)


def test_unknown_pod_routed():
    closed_until_known("routed")


def test_unknown_pod_bridge():
    closed_until_known("bridge")


def test_unknown_pod_without_policies():
    with cluster("epo") as c:
        p = c.pod("n1", "new", manifest=False)
        wait_for("open: no policy could select it", lambda: reaches(p, c.web) == {4, 6}, timeout=5)
        c.policy("all", DENY_ALL)
        wait_for("closed: one could", lambda: reaches(p, c.web) == set(), timeout=5)
        c.delete("NetworkPolicy", "all")
        wait_for("open again", lambda: reaches(p, c.web) == {4, 6}, timeout=5)


def test_hostile_pod():
    """NET_ADMIN inside a pod: it takes another pod's addresses, which stay the other's."""
    with cluster("eph") as c:
        bad = c.pod("n1", "bad")
        wait_for("bad is known", lambda: "default/bad" in endpoints(c.n1))
        wait_for("bad works", lambda: reaches(bad, c.web) == {4, 6})
        before = endpoints(c.n1)
        other = c.pod("n1", "other")
        other.serve(8080)
        wait_for("other is known", lambda: "default/other" in endpoints(c.n1))
        _ip_batch(bad.ns, [f"addr add {other.ip}/32 dev eth0", f"addr add {other.ip6}/128 dev eth0 nodad"])
        for fam, src, dst in ((socket.AF_INET, other.ip, c.web.ip), (socket.AF_INET6, other.ip6, c.web.ip6)):
            with bad.enter():
                s = socket.socket(fam, socket.SOCK_STREAM)
            with contextlib.closing(s):
                s.settimeout(0.5)
                s.bind((src, 0))
                try:
                    s.connect((dst, 8080))
                    raise AssertionError(f"a connection from {src} was possible")
                except (TimeoutError, socket.timeout):
                    pass
        assert c.n1.drops().get("SPOOFED", 0) > 0, c.n1.drops()
        after = endpoints(c.n1)
        assert after["default/bad"] == before["default/bad"]
        assert after["default/other"]["interface"] == other.host_if
        assert reaches(c.web, other) == {4, 6}
        assert reaches(bad, c.web) == {4, 6}, "its own addresses still work"


def test_name_with_other_addresses():
    """A pod's name comes back with the addresses of another interface (a StatefulSet's next pod, in one look at
    the lists): the pod is there, although the old interface is not gone yet."""
    with cluster("epa", "bridge") as c:
        c.policy("all", DENY_ALL)
        old = c.pod("n1", "db")
        wait_for("known", lambda: reaches(old, c.web) == {4, 6})
        new = c.pod("n1", "spare", manifest=False)
        new.serve(8080)
        assert reaches(new, c.web) == set()
        o = old.object()
        o["status"] = dict(new.object()["status"])
        c.put(o)
        wait_for("at its new interface", lambda: endpoints(c.n1)["default/db"]["interface"] == new.host_if)
        wait_for("which works", lambda: reaches(new, c.web) == {4, 6} and reaches(c.web, new) == {4, 6})
        assert reaches(old, c.web) == set(), "the old one is nobody's"


def test_containers_of_others():
    """A container on a bridge of its own is none of bpfnet's business, whatever the policies."""
    with cluster("epd") as c:
        c.policy("all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        d = Host(c, "docker", f"{c.prefix}-dock", os.path.join(cgroup2_root(), f"{c.prefix}-dock"))
        c.clients.append(d)
        d.ips = ["172.17.0.2", "fd17::2"]
        _ip_batch(c.n1.ns, ["link add docker0 type bridge", "link set docker0 up",
                            "addr add 172.17.0.1/16 dev docker0", "addr add fd17::1/64 dev docker0 nodad",
                            f"link add vd0 type veth peer name eth0 netns {d.ns}",
                            "link set vd0 master docker0 up"])
        _ip_batch(d.ns, ["link set eth0 up", "addr add 172.17.0.2/16 dev eth0",
                         "addr add fd17::2/64 dev eth0 nodad", "route add default via 172.17.0.1",
                         "route add default via fd17::1"])
        d.serve(8080)
        wait_for("the node reaches the container", lambda: reaches(c.n1, d) == {4, 6}, timeout=5)
        assert c.n1.json("status")["endpoints"]["unmanaged"] == 1


def test_pods_on_the_uplinks_bridge():
    """One bridge carries the uplink and the pods: what they send to the node is not from outside."""
    with Cluster("epl", topology="bridge") as c:
        c.web = c.pod("n1", "web")
        c.far = c.pod("n2", "far")
        for n in c.nodes.values():
            o = c.nodes["n2" if n.name == "n1" else "n1"]
            n.serve(8080)
            _ip_batch(n.ns, ["route del default via 2001:db8:1::1",
                             f"route del fd00:244:{o.index}::/64", f"addr del {n.ip}/24 dev eth0",
                             f"addr del {n.ip6}/64 dev eth0", "link set eth0 master cni0",
                             f"addr add {n.ip}/24 dev cni0",
                             f"addr add {n.ip6}/64 dev cni0 nodad", "route add default via 192.0.2.1",
                             "route add default via 2001:db8:1::1",
                             f"route replace 10.244.{o.index}.0/24 via {o.ip}",
                             f"route replace fd00:244:{o.index}::/64 via {o.ip6}"])
        c.web.serve(8080)
        c.far.serve(8080)
        c.start()
        assert c.n1.json("status")["endpoints"]["uplinks"] == 1
        wait_for("pods", lambda: reaches(c.web, c.far) == {4, 6}, timeout=5)
        assert reaches(c.n1, c.web) == {4, 6}, c.n1.drops()
        assert reaches(c.web, c.n1) == {4, 6}, c.n1.drops()
        assert reaches(c.far, c.web) == {4, 6}, c.n1.drops()
        assert reaches(c.web, c.n2) == {4, 6}, (c.n1.drops(), c.n2.drops())
        assert c.n1.drops().get("MARTIAN", 0) == 0, c.n1.drops()


def test_restart():
    """kill -9 and a new daemon: the same slots on the same interfaces; what went meanwhile is gone."""
    with cluster("epr") as c:
        gone = c.pod("n1", "gone")
        wait_for("both pods", lambda: len(endpoints(c.n1)) == 2)
        before = endpoints(c.n1)
        c.n1.stop(signal.SIGKILL)
        assert reaches(c.web, c.far) == {4, 6}
        _ip_batch(c.n1.ns, [f"link del {gone.host_if}"])
        c.delete("Pod", "gone")
        late = c.pod("n1", "late")
        c.n1.start()
        after = endpoints(c.n1)
        assert after["default/web"] == before["default/web"], (before, after)
        assert "default/gone" not in after
        assert after["default/late"]["interface"] == late.host_if
        assert reaches(late, c.far) == {4, 6}
        assert reaches(c.web, late) == set()  # nothing listens: a refusal, not silence
        assert c.web.ask(late.ip, 8080) == "refused"


def cni(node, command, pod, name, run_dir):
    conf = {"cniVersion": "1.0.0", "name": "net", "type": "bpfnet-cni", "runDir": run_dir,
            "prevResult": {"cniVersion": "1.0.0", "interfaces": [], "dns": {},
                           "ips": [{"address": f"{pod.ip}/32"}, {"address": f"{pod.ip6}/128"}]}}
    env = dict(os.environ, CNI_COMMAND=command, CNI_CONTAINERID="c" + name, CNI_IFNAME="eth0",
               CNI_NETNS="/var/run/netns/" + pod.ns, CNI_PATH="/x",
               CNI_ARGS=f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}")
    return subprocess.run(["nsenter", "--net=/var/run/netns/" + node.ns, os.path.join(BUILD, "bpfnet-cni")],
                          input=json.dumps(conf), capture_output=True, text=True, env=env, timeout=20)


def test_cni_plugin():
    """A pod whose object has no address yet works with its policy when ADD returns."""
    with cluster("epc") as c:
        c.policy("all", DENY_ALL)
        p = c.pod("n1", "new", manifest=False)
        o = p.object()
        o["status"] = {"phase": "Pending"}
        c.put(o)
        wait_for("isolated", lambda: endpoints(c.n1)["default/web"]["ingress"] == "isolated")
        assert reaches(p, c.web) == set()
        r = cni(c.n1, "ADD", p, "new", c.n1.run_dir)
        assert r.returncode == 0, r.stdout
        assert json.loads(r.stdout)["ips"][0]["address"] == f"{p.ip}/32"
        wait_for("it works", lambda: reaches(p, c.far) == {4, 6}, timeout=1)
        # with the daemon down: closed before ADD returns, and found when it is back
        c.n1.stop()
        q = c.pod("n1", "later", manifest=False)
        assert reaches(q, c.far) == {4, 6}, "no programs are on it yet"
        r = cni(c.n1, "ADD", q, "later", c.n1.run_dir)
        assert r.returncode == 0, r.stdout
        assert reaches(q, c.far) == set()
        assert reaches(p, c.far) == {4, 6}
        o = q.object()
        o["status"] = {"phase": "Pending"}
        c.put(o)
        c.n1.start()
        wait_for("it works", lambda: reaches(q, c.far) == {4, 6}, timeout=3)
        assert cni(c.n1, "CHECK", q, "later", c.n1.run_dir).returncode == 0
        assert cni(c.n1, "DEL", q, "later", c.n1.run_dir).returncode == 0
