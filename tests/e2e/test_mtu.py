# SPDX-License-Identifier: MIT
"""Pods of one node with different MTUs: what does not fit is answered by the stack (ICMP), whether or
not flows otherwise go past it."""
import errno
import socket

from harness import Cluster, sh, wait_for

PMTU = {4: (socket.IPPROTO_IP, 10, 14), 6: (socket.IPPROTO_IPV6, 23, 24)} # MTU_DISCOVER (2: do), MTU


def mtu(pod, n):
    pod.run(["ip", "link", "set", "eth0", "mtu", str(n)])
    sh(["ip", "-n", pod.node.ns, "link", "set", pod.host_if, "mtu", str(n)])


def refused(pod, addr, port, family, size):
    """Sends until the path's MTU is known; returns it."""
    level, discover, which = PMTU[family]
    s = pod.socket(family, "udp")
    with s:
        s.setsockopt(level, discover, 2)
        s.connect((addr, port))

        def told():
            try:
                s.send(b"x" * size)
            except OSError as e:
                if e.errno != errno.EMSGSIZE:
                    raise
                return s.getsockopt(level, which)
            return None
        return wait_for("EMSGSIZE", told, 5)


def test_smaller_at_the_receiver():
    with Cluster("mt", nodes=1, daemon_args=["--host-routing", "bpf"]) as c:
        a, b = c.pod("n1", "a"), c.pod("n1", "b")
        mtu(b, 1300)
        b.serve(8080)
        b.serve(8080, "udp")
        c.service("s", [("u", "UDP", 80, 8080), ("t", "TCP", 80, 8080)], [b], ips=["10.96.0.90", "fd00:96::90"])
        c.start()
        for family, vip in ((4, "10.96.0.90"), (6, "fd00:96::90")):
            assert a.ask(b.addr(family), 8080).startswith("b ")
            assert refused(a, b.addr(family), 8080, family, 1400) == 1300
            assert refused(a, vip, 80, family, 1400) == 1300
            # What fits still goes, also in pieces: TCP was told the size.
            assert a.ask(vip, 80, payload=b"y" * 4000 + b"\n").startswith("b ")
