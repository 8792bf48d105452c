# SPDX-License-Identifier: MIT
"""Direct server return: the backend's node answers the client itself, in the frontend's name."""
import contextlib
import socket
import struct
import time

import test_nodeport as np
from harness import sh, wait_for

PORT = 8473


def annotate(c, name, value="v1"):
    o = c.nodes[name].object()
    if value:
        o["metadata"]["annotations"] = {"bpfnet.io/dsr": value}
    c.put(o)


@contextlib.contextmanager
def cluster(prefix, mode="dsr", topology="routed", nodes=("n1", "n2"), args=()):
    with np.cluster(prefix, topology, ["--lb-mode", mode, *args]) as c:
        for n in nodes:
            annotate(c, n)
        wait_for("peers", lambda: all(n.json("status")["lbMode"]["peers"] == len([p for p in nodes if p != n.name])
                                      for n in c.nodes.values()))
        yield c


def seen(c, addr, port, kind="tcp", n=24):
    """Which client address each backend saw."""
    out = {}
    for _ in range(n):
        a = c.x.ask(addr, port, kind, connect=kind == "tcp").split(" ")
        out.setdefault(a[0], set()).add(a[1] if len(a) > 1 else None)
    return out


def external(mode, topology):
    with cluster("ds", mode, topology) as c:
        for fam in (4, 6):
            me, node = {c.x.addr(fam)}, {c.n1.addr(fam)}
            for addr, tcp, udp in ((c.n1.addr(fam), 30080, 30053), (np.LB if fam == 4 else np.LB6, 80, 53),
                                   (np.EXT if fam == 4 else np.EXT6, 80, 53), (np.VIP if fam == 4 else np.VIP6, 80, 53)):
                assert seen(c, addr, tcp) == {"b1": me, "b2": me}, (addr, tcp)
                assert seen(c, addr, udp, "udp") == {"b1": me, "b2": me if mode == "dsr" else node}, (addr, udp)
            for host in (c.a, c.n1, c.n2):
                assert np.tally(host, c.n1.addr(fam), 30080) == {"b1", "b2"}, host.name
        assert sum(c.n1.drops().values()) == 0 and sum(c.n2.drops().values()) == 0


def test_dsr_routed():
    external("dsr", "routed")


def test_hybrid_bridge():
    external("hybrid", "bridge")


def test_peer_without_it():
    """A node whose object does not say that it speaks DSR gets source-translated packets; open connections go on as they began."""
    with cluster("dp", nodes=("n1",)) as c:
        np.put(c, [c.b2])
        wait_for("b2 only", lambda: np.tally(c.x, c.n1.ip, 30080, n=6) == {"b2"})
        assert seen(c, c.n1.ip, 30080, n=5) == {"b2": {c.n1.ip}}
        s = c.x.socket(4)
        s.connect((c.n1.ip, 30080))
        s.send(b"x")
        assert s.recv(100)
        annotate(c, "n2")
        wait_for("DSR now", lambda: seen(c, c.n1.ip, 30080, n=3) == {"b2": {c.x.ip}})
        assert seen(c, c.n1.ip6, 30080, n=3) == {"b2": {c.x.ip6}}
        s.send(b"x")
        assert s.recv(100).split()[1].decode() == c.n1.ip, "as it began"
        s.close()
        annotate(c, "n2", "v2")
        wait_for("a version that we do not speak", lambda: seen(c, c.n1.ip, 30080, n=3) == {"b2": {c.n1.ip}})


def test_long_connections_large_transfers():
    with cluster("dl") as c:
        np.put(c, [c.b2])
        wait_for("b2 only", lambda: np.tally(c.x, c.n1.ip, 30080, n=6) == {"b2"})
        for fam in (4, 6):
            with contextlib.closing(c.x.socket(fam, timeout=10)) as s:
                s.connect((c.n1.addr(fam), 30080))
                s.send(b"x")
                assert np.who(s.recv(100).decode()) == "b2"
                for sig in (15, 9):
                    c.n1.stop(sig)
                    c.n2.stop(sig)
                    s.send(b"x")
                    assert np.who(s.recv(100).decode()) == "b2", "both daemons gone"
                    c.n1.start()
                    c.n2.start()
                    s.send(b"x")
                    assert np.who(s.recv(100).decode()) == "b2"
                # Full segments do not fit any more: the client is told (path MTU), and its data arrives.
                big = b"y" * 3_000_000
                s.setblocking(False)
                sent, got, end = 0, 0, time.monotonic() + 20
                while sent < len(big) and time.monotonic() < end:
                    with contextlib.suppress(BlockingIOError):
                        sent += s.send(big[sent:sent + 65536])
                    with contextlib.suppress(BlockingIOError):
                        got += len(s.recv(65536))
                    time.sleep(0.0005)
                assert sent == len(big), f"IPv{fam}: {sent} bytes sent"
                assert got
            # A datagram in fragments.
            a = c.x.ask(c.n1.addr(fam), 30053, "udp", payload=b"z" * 4000).split(" ")
            assert a[:2] == ["b2", c.x.addr(fam)], a


def packed(v6, backend, port, inner, magic=0xb9f7, version=1):
    a = socket.inet_pton(socket.AF_INET6, backend if v6 else "::ffff:" + backend)
    return struct.pack("!HBBHH", magic, version, 0, port, 0) + a + inner


def udp4(src, dst, sport, dport, data):
    total = 28 + len(data)
    h = struct.pack("!BBHHHBBH4s4s", 0x45, 0, total, 1, 0, 64, 17, 0, socket.inet_aton(src), socket.inet_aton(dst))
    s = sum(struct.unpack("!10H", h))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    h = h[:10] + struct.pack("!H", ~s & 0xffff) + h[12:]
    return h + struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def test_forged():
    """Who is no peer is not believed; peers' pods and processes cannot pose as their node; a peer opens nothing but services."""
    with cluster("df") as c:
        np.put(c, [c.b2])
        wait_for("b2 only", lambda: np.tally(c.x, c.n1.ip, 30053, "udp", n=6) == {"b2"})
        c.b2.serve(7777, "udp")
        good = packed(False, c.b2.ip, 5353, udp4(c.x.ip, c.n1.ip, 5555, 30053, b"who\n"))

        def heard(sender, what, to=None):
            with contextlib.closing(c.x.socket(4, "udp", 0.5)) as r, contextlib.closing(sender.socket(4, "udp")) as s:
                r.bind(("0.0.0.0", 5555))
                before = c.n2.drops()["DSR"]
                with contextlib.suppress(PermissionError):
                    s.sendto(what, (to or c.n2.ip, PORT))
                try:
                    r.recv(100)
                    return True, c.n2.drops()["DSR"] - before
                except TimeoutError:
                    return False, c.n2.drops()["DSR"] - before

        assert heard(c.x, good) == (False, 1), "a client"
        before = c.n1.drops()["SPOOFED"]
        assert heard(c.n1, good) == (False, 0), "a process of a peer"
        assert c.n1.drops()["SPOOFED"] == before + 1
        # A pod whose packets its CNI masquerades behind its node's address.
        sh(["nsenter", f"--net=/var/run/netns/{c.n1.ns}", "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", c.a.ip,
            "-j", "MASQUERADE"])
        assert heard(c.a, good) == (False, 0), "a pod of a peer"
        assert c.n1.drops()["SPOOFED"] == before + 2
        # The peer itself, once nothing of bpfnet watches what it sends.
        c.n1.stop()
        c.n1.cli("cleanup")
        assert heard(c.n1, good) == (True, 0), "the test's packet is right"
        for name, bad in (("no backend of the service", packed(False, c.b2.ip, 7777, udp4(c.x.ip, c.n1.ip, 5555, 30053, b"x"))),
                          ("no service", packed(False, c.b2.ip, 5353, udp4(c.x.ip, c.n1.ip, 5556, 30099, b"x"))),
                          ("a pod itself", packed(False, c.b2.ip, 7777, udp4(c.x.ip, c.b2.ip, 5555, 7777, b"x"))),
                          ("in the name of a pod here", packed(False, c.b2.ip, 5353, udp4(c.b2.ip, c.n1.ip, 5557, 30053, b"x"))),
                          ("version", packed(False, c.b2.ip, 5353, udp4(c.x.ip, c.n1.ip, 5555, 30053, b"x"), version=2)),
                          ("magic", packed(False, c.b2.ip, 5353, udp4(c.x.ip, c.n1.ip, 5555, 30053, b"x"), magic=1)),
                          ("too short", good[:20])):
            total = sum(c.n2.drops().values())
            assert not heard(c.n1, bad)[0], name
            assert sum(c.n2.drops().values()) > total, name


def test_client_policy():
    """Ingress policy of a remote backend judges the real client, too."""
    with cluster("dc") as c:
        y = c.client("other")
        np.put(c, [c.b2])
        c.policy("web", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"ipBlock": {"cidr": c.x.ip + "/32"}}, {"ipBlock": {"cidr": c.x.ip6 + "/128"}}]}]})
        wait_for("other is denied", lambda: y.ask(c.n1.ip, 30080, timeout=0.4) == "timeout")
        for fam in (4, 6):
            assert seen(c, c.n1.addr(fam), 30080, n=6) == {"b2": {c.x.addr(fam)}}
            assert y.ask(c.n1.addr(fam), 30080, timeout=0.4) == "timeout"
