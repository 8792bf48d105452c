# SPDX-License-Identifier: MIT
"""Packets and connections: Services, policies, NodePort, latency, bulk."""
from lab import LIMITS, NodePort, PodToPod, interleave, others, ways

INSIDE = ["direct", "socket", "tc", "socket+peer", "tc+peer"]


def limits(a, size):
    """They know nothing of the number of Services or policies: measured once, at the first size."""
    return a.others(LIMITS) if size == a.sizes[0] else []


def services(report, a):
    """CPU and rate of new TCP connections and new UDP flows, pod to pod through a ClusterIP."""
    for size in a.sizes:
        print(f"services: {size}")
        with ways(report, PodToPod, INSIDE + limits(a, size) + a.others(others(size)), size) as ws:
            for prefix, mode in (("tcp-new", "tcp-new"), ("udp-new", "udp-new"), ("kept-tcp-services", "tcp-kept")):
                got = interleave(report, ws, a.seconds, a.rounds, mode)
                report.add_cpu(prefix, size, got)
                report.add_other(prefix + "-rate", size, got, "op/s", lambda m: m["ops"] / m["seconds"])


def policies(report, a):
    """The same through 10 Services with N policies in force (none in the ways without +policy)."""
    names = ["direct", "tc", "tc+peer", "socket+policy", "tc+policy", "tc+peer+policy"]
    for size in a.sizes:
        if size > 10000:
            continue
        print(f"policies: {size}")
        with ways(report, PodToPod, names + limits(a, size), 10, size) as ws:
            for prefix, mode in (("kept-tcp", "tcp-kept"), ("tcp-new-policies", "tcp-new"), ("udp-new-policies", "udp-new")):
                report.add_cpu(prefix, size, interleave(report, ws, a.seconds, a.rounds, mode))


def latency(report, a):
    """How long one operation at a time takes, tails included: longer rounds of a middle size."""
    size = min(a.sizes, key=lambda n: abs(n - 1000))
    print(f"latency: {size} services")
    with ways(report, PodToPod, INSIDE + a.others(["iptables-legacy", "nftables"]), size) as ws:
        for mode in ("tcp-new", "udp-new", "tcp-kept"):
            got = interleave(report, ws, a.seconds * 2, a.rounds, mode)
            for p in ("p50", "p99", "p999"):
                report.add_other(f"{mode}-latency-{p}", size, got, "s", lambda m, p=p: m[p])


def bulk(report, a):
    """One TCP connection as fast as goes (CPU a byte), between two CPUs and on one; small UDP packets (CPU a packet)."""
    size = min(a.sizes, key=lambda n: abs(n - 1000))
    print(f"bulk: {size} services")
    with ways(report, PodToPod, INSIDE + ["tc+policy"] + a.others(["peer", "iptables-legacy", "nftables"]), size, 10) as ws:
        for prefix, mode, unit in (("bulk", "bulk", "B/s"), ("bulk-one-cpu", "bulk", "B/s"), ("packets", "packets", "op/s")):
            for w in ws:
                w.together = prefix == "bulk-one-cpu"
            got = interleave(report, ws, a.seconds, a.rounds, mode, 18 if mode == "packets" else None)
            report.add_cpu(prefix, size, got)
            report.add_other(prefix + "-rate", size, got, unit, lambda m: m["ops"] / m["seconds"])


def nodeport(report, a):
    """From outside to a NodePort whose backend is on another node."""
    names = ["direct", "routed", "tc", "tc+peer"] + [n for n in NodePort.ARGS if n.startswith("xdp")]
    for size in a.sizes:
        print(f"nodeport: {size} services")
        limit = a.others(["xdp-bare"]) if size == a.sizes[0] else []
        with ways(report, NodePort, names + limit + a.others(others(size)), size) as ws:
            for proto in ("tcp", "udp"):
                got = interleave(report, ws, a.seconds, a.rounds, proto + "-new")
                report.add_cpu("nodeport-" + proto, size, got)
                report.add_other(f"nodeport-{proto}-rate", size, got, "op/s", lambda m: m["ops"] / m["seconds"])
            report.add_cpu("nodeport-tcp-kept", size, interleave(report, ws, a.seconds, a.rounds, "tcp-kept"))
