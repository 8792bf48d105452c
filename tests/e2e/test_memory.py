# SPDX-License-Identifier: MIT
"""What the daemon of a small cluster takes, once its start is over."""
from harness import Cluster, wait_for


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
