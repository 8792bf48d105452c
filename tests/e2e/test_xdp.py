# SPDX-License-Identifier: MIT
"""Outside traffic to remote backends before the stack: native XDP on veth uplinks, with real clients."""
import contextlib
import time

import test_nodeport as np
from harness import BUILD, sh, wait_for


def prepare(c):
    """A veth takes frames from XDP only while its peer polls (GRO, or a program), and XDP wants whole checksums."""
    def ethtool(ns, dev, *what):
        sh(["nsenter", f"--net=/var/run/netns/{ns}", "ethtool", "-K", dev, *what])
    for h in [*c.clients, *c.pods, *c.nodes.values()]:
        ethtool(h.ns, "eth0", "tx", "off")
    for h in [*c.clients, *c.nodes.values()]:
        ethtool(c.fabric.ns, f"f{h.ns[-8:]}", "tx", "off", "gro", "on")
    for n in c.nodes.values():
        if n.daemon:
            wait_for(f"{n.name}: XDP sends", lambda n=n: xdp(n)["mode"] == "off" or "out" in xdp(n)["sends"])


def xdp(node, dev="eth0"):
    return next(x for x in node.json("status", check=False)["xdp"] if x["interface"] == dev)


def packets(node):
    """Packets that each hook finished."""
    out = {}
    for line in node.cli("metrics").stdout.splitlines():
        if line.startswith("bpfnet_packets_total{"):
            out[line.split('hook="')[1].split('"')[0]] = float(line.rsplit(" ", 1)[1])
    return out


def prog_on(node, dev="eth0"):
    text = sh(["ip", "-netns", node.ns, "-d", "link", "show", dev]).stdout
    return "xdp" in text and text.split("prog/xdp id ")[1].split()[0] if "prog/xdp" in text else None


@contextlib.contextmanager
def cluster(prefix, mode="native", **spec):
    with np.cluster(prefix, args=["--xdp", mode], **spec) as c:
        prepare(c)
        yield c


def finished_by_xdp(c, addr, port, kind="tcp", n=20):
    """Asks until the remote backend has answered n times: how many packets of these XDP and TC finished."""
    before = packets(c.n1)
    k = 0
    while k < n:
        a = c.x.ask(addr, port, kind, connect=kind == "tcp").split(" ")
        assert a[0] in ("b1", "b2"), (addr, port, kind, a)
        assert a[1] == (c.n1 if a[0] == "b2" else c.x).addr(6 if ":" in addr else 4), a
        k += a[0] == "b2"
    after = packets(c.n1)
    return after["xdp_net"] - before.get("xdp_net", 0)


def test_native():
    with cluster("xn") as c:
        for fam in (4, 6):
            fronts = [(c.n1.addr(fam), 30080, 30053), (np.LB if fam == 4 else np.LB6, 80, 53),
                      (np.EXT if fam == 4 else np.EXT6, 80, 53), (np.VIP if fam == 4 else np.VIP6, 80, 53)]
            for addr, tcp, udp in fronts:
                # A connection is at least 3 packets of the client and 3 of the server, a query one of each.
                assert finished_by_xdp(c, addr, tcp) >= 20 * 6 - 6, addr
                assert finished_by_xdp(c, addr, udp, "udp") >= 20 * 2 - 4, addr
        assert c.x.ask(c.n1.ip, 30081) == "refused", "no such NodePort: the node's own stack answers"
        assert sum(v for k, v in c.n1.drops().items() if k != "CT_MIDSTREAM") == 0, c.n1.drops()


def test_pods_and_nodes_beside_it():
    """Whatever XDP leaves alone goes its usual way."""
    with cluster("xp") as c:
        for fam in (4, 6):
            for host in (c.a, c.n1, c.n2):
                for node in (c.n1, c.n2):
                    assert np.tally(host, node.addr(fam), 30080) == {"b1", "b2"}, (host.name, node.name)
            assert np.who(c.x.ask(c.b1.addr(fam), 8080)) == "b1", "a pod itself"
            assert np.who(c.x.ask(c.b2.addr(fam), 8080)) == "b2", "forwarded by n1"
        # Large datagrams come in fragments, which TC does.
        assert np.who(c.x.ask(c.n1.ip, 30053, "udp", payload=b"x" * 4000)) in ("b1", "b2")
        put_local = dict(externalTrafficPolicy="Local")
        np.put(c, [c.b2], **put_local)
        wait_for("dropped", lambda: c.x.ask(c.n1.ip, 30080, timeout=0.4) == "timeout")
        np.put(c, [])
        wait_for("refused", lambda: c.x.ask(c.n1.ip, 30080, timeout=1) == "refused")


def test_source_ranges():
    with cluster("xs", loadBalancerSourceRanges=["203.0.113.0/24", "2001:db8:99::/64"]) as c:
        np.put(c, [c.b2])
        for addr in (np.LB, np.LB6):
            assert c.x.ask(addr, 80, timeout=0.6) == "timeout"
        assert c.n1.drops()["SOURCE_RANGE"] > 0
        assert np.tally(c.x, c.n1.ip, 30080, n=10) == {"b2"}, "not for NodePort"


def test_restart_upgrade_off():
    """The program outlives the daemon, is replaced in place, and goes when it is no longer wanted."""
    with cluster("xr") as c:
        np.put(c, [c.b2])
        wait_for("b2 only", lambda: np.tally(c.x, c.n1.ip, 30080, n=6) == {"b2"})
        s = c.x.socket(4)
        s.connect((c.n1.ip, 30080))
        first = prog_on(c.n1)
        assert first
        for sig in (15, 9):
            c.n1.stop(sig)
            assert prog_on(c.n1) == first
            s.send(b"x")
            assert np.who(s.recv(100).decode()) == "b2"
            assert np.tally(c.x, c.n1.ip, 30080, n=5) == {"b2"}
            c.n1.start()
            wait_for("the new daemon's program", lambda: prog_on(c.n1) not in (None, first))
            first = prog_on(c.n1)
            s.send(b"x")
            assert np.who(s.recv(100).decode()) == "b2"
        c.n1.stop()
        c.n1.start(extra=["--xdp", "off"])
        wait_for("taken off", lambda: not prog_on(c.n1))
        assert xdp(c.n1) == {"interface": "eth0", "mode": "off", "sends": [], "because": "--xdp off"}
        s.send(b"x")
        assert np.who(s.recv(100).decode()) == "b2", "TC goes on with XDP's flow"
        c.n1.stop()
        c.n1.start()
        wait_for("on again", lambda: prog_on(c.n1))
        s.send(b"x")
        assert np.who(s.recv(100).decode()) == "b2"
        s.close()
        c.n1.stop()
        c.n1.cli("cleanup")
        assert not prog_on(c.n1)


def test_foreign_program_stays():
    with np.cluster("xf", args=["--xdp", "native"]) as c:
        c.n1.stop()
        c.n1.cli("cleanup")
        sh(["ip", "-netns", c.n1.ns, "link", "set", "eth0", "xdpdrv", "obj", f"{BUILD}/tests/xdp_pass.bpf.o", "sec", "xdp"])
        theirs = prog_on(c.n1)
        c.n1.start()
        prepare(c)
        x = xdp(c.n1)
        assert x["mode"] == "off" and "another XDP program" in x["because"], x
        rows = [r for r in c.n1.json("check", check=False) if r["name"] == "xdp"]
        assert any("of others" in r["text"] for r in rows), rows
        assert np.tally(c.x, c.n1.ip, 30080) == {"b1", "b2"}, "TC does it"
        assert prog_on(c.n1) == theirs
        sh(["ip", "-netns", c.n1.ns, "link", "set", "eth0", "xdpdrv", "off"])


def test_peer_that_takes_nothing():
    """A veth whose peer does not poll would lose what XDP sends there: it is not sent, TC does it."""
    with np.cluster("xq", args=["--xdp", "native"]) as c:
        x = wait_for("attached", lambda: xdp(c.n1) if xdp(c.n1)["mode"] == "native" else None)
        assert x["sends"] == [], x
        for h in [*c.clients, *c.pods, *c.nodes.values()]:
            sh(["nsenter", f"--net=/var/run/netns/{h.ns}", "ethtool", "-K", "eth0", "tx", "off"])
        assert np.tally(c.x, c.n1.ip, 30080) == {"b1", "b2"}
        assert packets(c.n1).get("xdp_net", 0) == 0
        prepare(c)
        assert finished_by_xdp(c, c.n1.ip, 30080, n=5) > 0
        time.sleep(0.1)
        for h in c.nodes.values():
            sh(["nsenter", f"--net=/var/run/netns/{c.fabric.ns}", "ethtool", "-K", f"f{h.ns[-8:]}", "gro", "off"])
        wait_for("noticed", lambda: xdp(c.n1)["sends"] == [])
        assert np.tally(c.x, c.n1.ip, 30080) == {"b1", "b2"}

