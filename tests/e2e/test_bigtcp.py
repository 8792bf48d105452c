# SPDX-License-Identifier: MIT
"""Packets of more than 64 KiB (BIG TCP): lengths in the IP header are 0, and a service translates them.

IPv6 through the host's own stack is left out: Linux 6.18 forwards no such packet, with or without
bpfnet (it counts the jumbo option that it takes out later: Ip6InTooBigErrors).
"""
import json
import subprocess

from harness import Cluster, sh, wait_for

SIZE = 180000


def big(pod):
    for v in ("gso_max_size", "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size"):
        must = "ipv4" not in v # older iproute2 does not know those: then IPv4 stays at 64 KiB
        pod.run(["ip", "link", "set", "eth0", v, str(SIZE)], check=must)
        sh(["ip", "-n", pod.node.ns, "link", "set", pod.host_if, v, str(SIZE)], check=must)


def mean(pod):
    """Mean length of what the pod sent, in bytes."""
    s = json.loads(sh(["ip", "-n", pod.node.ns, "-s", "-j", "link", "show", pod.host_if]).stdout)[0]["stats64"]["rx"]
    return s["bytes"] / max(s["packets"], 1)


def translated(args, vips):
    with Cluster("bt", topology="routed", daemon_args=["--socket-lb", "off"] + args) as c:
        a, b = c.pod("n1", "a"), c.pod("n1", "b")
        c.service("iperf", [("t", "TCP", 5201, 5201)], [b], ips=["10.96.0.82", "fd00:96::82"])
        c.start()
        big(a)
        big(b)
        b.popen(["iperf3", "-s"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for vip in vips:
            def once():
                out = a.run(["iperf3", "-c", vip, "-t", "1", "-l", "1M", "-J"], check=False, timeout=20).stdout
                return json.loads(out).get("end", {}).get("sum_received", {}).get("bytes", 0) > 50 << 20
            wait_for("iperf through " + vip, once, timeout=20)
        if "fd00:96::82" in vips:
            assert mean(a) > 66000, mean(a)
        drops = {k: v for k, v in a.node.drops().items() if v}
        assert "BAD_HEADER" not in drops and "EXT_HEADERS" not in drops, drops


def test_past_the_stack():
    translated([], ["fd00:96::82", "10.96.0.82"])


def test_through_the_stack():
    translated(["--host-routing", "stack"], ["10.96.0.82"])
