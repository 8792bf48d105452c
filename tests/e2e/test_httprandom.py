# SPDX-License-Identifier: MIT
"""Random policies of both kinds in a cluster of namespaces: what real requests meet is what an oracle reads in docs/POLICY.md. Both ends,
both families, named ports that are another number in each pod, the nodes and the outside; $HTTP_SEED chooses others."""
import ipaddress
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

from harness import ROOT, Cluster, wait_for

sys.path.insert(0, os.path.join(ROOT, "tests", "cli"))
from httppol_oracle import HttpWorld, allowing, http_policy, request  # noqa: E402
from netpol_oracle import KEYS, VALUES, policy  # noqa: E402

ROUNDS, QUERIES = 6, 60
BLOCKS = {"0.0.0.0/0": ["10.244.1.0/24"], "10.244.0.0/16": ["10.244.2.0/25"], "192.0.2.0/24": ["192.0.2.200/29"], "192.0.2.200/29": [],
          "::/0": ["fd00:244:1::/64"], "fd00:244:2::/64": [], "2001:db8:1::/64": []}


class Real(HttpWorld):
    """The cluster's pods as the oracle wants them."""

    def __init__(self, c, r):  # nothing of the random clusters
        self.r, self.spaces = r, ["ns0", "ns1"]
        self.ns = {n: {"kubernetes.io/metadata.name": n} for n in self.spaces}
        self.by_ip, self.node_of = {}, {}
        for p in c.pods:
            o = p.object()
            o["spec"]["initContainers"] = []
            self.by_ip.update({ipaddress.ip_address(a): o for a in p.ips})
        for n in c.nodes.values():
            self.node_of.update({ipaddress.ip_address(a): n.name for a in n.ips})
        self.policies = []

    def draw(self):
        r = self.r
        self.policies = [policy(r, i, self.spaces) for i in range(r.randint(0, 2))]
        self.policies += [http_policy(r, i, self.spaces) for i in range(r.randint(2, 4))]
        for p in self.policies:
            for key, peers in (("ingress", "from"), ("egress", "to")):
                for q in [q for u in p["spec"].get(key, []) for q in u.get(peers) or [] if "ipBlock" in q]:
                    cidr = r.choice(sorted(BLOCKS))
                    q["ipBlock"] = {"cidr": cidr, **({"except": BLOCKS[cidr]} if r.random() < .5 else {})}


def met(source, addr, port, q):
    """"closed", "403" or "passed"."""
    method, target, host, headers = q
    text = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()
    got = source.ask(addr, port, timeout=0.7, payload=text)
    if got in ("timeout", "refused", "reset", "closed"):
        return "closed" if got == "timeout" else got
    return "403" if got.startswith("HTTP/1.1 403 Forbidden") else "passed"


def expected(w, a, b, port, q):
    sides = w.judge(a, b, "TCP", port).values()
    if any(isolated and not plain and not http for isolated, plain, http in sides):
        return "closed"
    return "passed" if all(not isolated or plain or allowing(http, q)[0] for isolated, plain, http in sides) else "403"


def test_random():
    seed = int(os.environ.get("HTTP_SEED") or random.randrange(1 << 30))
    print(f"HTTP_SEED={seed}", flush=True)
    r = random.Random(seed)
    with Cluster("hq") as c:
        for i in range(6):
            ports = [80, 8080] if r.random() < .5 else [8080, 80]
            p = c.pod(["n1", "n2"][i % 2], f"p{i}", ns=f"ns{i // 2 % 2}", labels={k: r.choice(VALUES) for k in KEYS if r.random() < .5},
                      ports=[{"name": n, "containerPort": k, "protocol": "TCP"} for n, k in zip(["http", "web"], ports)])
            for port in ports:
                p.serve(port)
        outside = c.client()
        c.start()
        w, put, count = Real(c, r), set(), {"passed": 0, "403": 0, "closed": 0}
        for _ in range(ROUNDS):
            for kind, name, ns in put:
                c.delete(kind, name, ns)
            w.draw()
            for p in w.policies:
                c.put(p)
            put = {(p["kind"], p["metadata"]["name"], p["metadata"]["namespace"]) for p in w.policies}
            for n in c.nodes.values():
                wait_for("policies", lambda n=n: {(p["kind"], p["name"], p["namespace"]) for p in n.json("policy", "list")} == put)
            wait_for("in force", lambda: all(n.cli("status", check=False).returncode == 0 for n in c.nodes.values()))
            asks = []
            for _ in range(QUERIES):
                to, family = r.choice(c.pods), r.choice([4, 6])
                source = r.choice([*c.pods] * 3 + [outside, to.node])
                asks.append((source, source.addr(family), to.addr(family), r.choice([80, 8080]), request(r)))
            with ThreadPoolExecutor(8) as pool:
                got = list(pool.map(lambda x: met(x[0], x[2], x[3], x[4]), asks))
            for (source, a, b, port, q), g in zip(asks, got):
                want = expected(w, a, b, port, q)
                count[want] += 1
                assert g == want, f"{source.name} {a} -> {b} {port} {q}: {g}, wanted {want}; {w.judge(a, b, 'TCP', port)}"
        print(count, flush=True)
        assert min(count.values()) >= 5, count
