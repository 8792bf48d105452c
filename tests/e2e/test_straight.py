# SPDX-License-Identifier: MIT
"""From an uplink past the host's stack to a pod: only once the pod's own hook has admitted the flow, and while it does."""
import contextlib

import test_nodeport as np
from harness import wait_for


def hook(node, name):
    for line in node.cli("metrics").stdout.splitlines():
        if line.startswith(f'bpfnet_packets_total{{hook="{name}"}}'):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


@contextlib.contextmanager
def connection(host, addr, port, kind="tcp"):
    s = host.socket(6 if ":" in addr else 4, kind)
    s.connect((addr, port))
    s.send(b"x")
    with contextlib.closing(s):
        yield s, np.who(s.recv(100).decode())


def exchange(s, n=20):
    for _ in range(n):
        s.send(b"x")
        assert s.recv(100)


def past_to_pod(node, s):
    """Did 20 exchanges go past the pods' egress hooks of the node?"""
    before = hook(node, "to_pod")
    exchange(s)
    return hook(node, "to_pod") - before < 10


def flows(topology, args):
    with np.cluster("st", topology, list(args)) as c:
        straight = "stack" not in args
        for fam in (4, 6):
            for host, addr, port in ((c.x, c.b1.addr(fam), 8080), (c.b2, c.b1.addr(fam), 8080)):
                for kind, p in (("tcp", port), ("udp", 5353)):
                    with connection(host, addr, p, kind) as (s, w):
                        assert w == "b1"
                        exchange(s, 3)
                        assert past_to_pod(c.n1, s) == straight, (host.name, addr, kind, "to the pod itself")
            np.put(c, [c.b1])
            wait_for("b1 only", lambda: np.tally(c.x, c.n1.addr(fam), 30080, n=6) == {"b1"})
            with connection(c.x, c.n1.addr(fam), 30080) as (s, w):
                exchange(s, 3)
                assert past_to_pod(c.n1, s) == straight, "NodePort, local backend"
            np.put(c, [c.b2])
            wait_for("b2 only", lambda: np.tally(c.a, np.VIP if fam == 4 else np.VIP6, 80, n=6) == {"b2"})
            with connection(c.a, np.VIP if fam == 4 else np.VIP6, 80) as (s, w):
                exchange(s, 3)
                assert past_to_pod(c.n1, s) == straight, "replies of a remote backend to a pod of this node"
            np.put(c, [c.b1, c.b2])


def test_routed():
    flows("routed", ["--host-routing", "bpf"])


def test_bridge_pods_translated_by_packet():
    flows("bridge", ["--host-routing", "bpf", "--socket-lb", "off"])


def test_stack():
    flows("routed", ["--host-routing", "stack"])


def test_policy_takes_it_back():
    """A policy that denies a flow under way ends it at its next packet; what it admits goes on straight."""
    with np.cluster("sp", args=["--host-routing", "bpf"]) as c:
        np.put(c, [c.b1])
        wait_for("b1 only", lambda: np.tally(c.x, c.n1.ip, 30080, n=6) == {"b1"})
        for fam in (4, 6):
            with connection(c.x, c.n1.addr(fam), 30080) as (s, _), connection(c.b2, c.b1.addr(fam), 8080) as (t, _):
                for k in (s, t):
                    exchange(k, 3)
                    assert past_to_pod(c.n1, k)
                c.policy("only-b2", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
                    {"from": [{"ipBlock": {"cidr": c.b2.ip + "/32"}}, {"ipBlock": {"cidr": c.b2.ip6 + "/128"}}]}]})
                wait_for("new connections denied", lambda: c.x.ask(c.n1.addr(fam), 30080, timeout=0.3) == "timeout")
                s.settimeout(0.5)
                try:
                    s.send(b"x")
                    assert not s.recv(100), "the flow was cut off"
                except TimeoutError:
                    pass
                exchange(t, 3)
                assert past_to_pod(c.n1, t), "judged again, admitted again, straight again"
                c.delete("NetworkPolicy", "only-b2")
                wait_for("allowed again", lambda: c.x.ask(c.n1.addr(fam), 30080, timeout=0.3).startswith("b1"))
