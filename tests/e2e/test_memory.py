# SPDX-License-Identifier: MIT
"""What the daemon of a small cluster takes, once its start is over."""
from harness import Cluster, wait_for
from kubecluster import KubeCluster


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmRSS"))


def test_small():
    with Cluster("me", nodes=1) as c:
        a, b = c.pod("n1", "a"), c.pod("n1", "b")
        b.serve(8080)
        c.service("s", [("t", "TCP", 80, 8080)], [b], ips=["10.96.0.92"])
        c.policy("p", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]})
        c.start()
        wait_for("the start's memory is given back", lambda: rss(c.n1.daemon.pid) < 12_000_000, 10)
        # It still does everything: new objects, the command, packets.
        c.service("s2", [("t", "TCP", 80, 8080)], [b], ips=["10.96.0.93"])
        wait_for("the second service", lambda: a.ask("10.96.0.93", 80).startswith("b "), 5)
        assert c.n1.json("status")["ready"]
        assert rss(c.n1.daemon.pid) < 12_000_000, rss(c.n1.daemon.pid)


def test_turnover():
    """Names that never were before, for as long as a node is up: what is gone takes no memory."""
    with KubeCluster("mt", nodes=1) as c:
        a, b = c.pod("n1", "a"), c.pod("n1", "b")
        b.serve(8080)
        c.service("s", [("t", "TCP", 80, 8080)], [b], ips=["10.94.0.92"])
        c.start()
        pid, sizes = c.n1.daemon.pid, []
        for i in range(5):
            c.api("turnover", first=i * 10000, n=10000)
            c.service("last", [("t", "TCP", 81 + i, 8080)], [b], ips=["10.94.0.93"])
            wait_for("all of it", lambda: a.ask("10.94.0.93", 81 + i).startswith("b "), 60)
            sizes.append(rss(pid))
        objects = {s["name"]: s["objects"] for s in c.n1.json("status")["sources"]}
        assert objects["pods"] < 320 and objects["namespaces"] < 10, objects
        print(f"RSS after each 10,000 pods: {[round(s / 1e6, 1) for s in sizes]} MB", flush=True)
        assert sizes[-1] < sizes[1] + 400_000, sizes
