# SPDX-License-Identifier: MIT
"""Packets that nobody asked for: forged sources, odd fragments, narrow ways, devices without Ethernet."""
import contextlib
import fcntl
import json
import os
import select
import socket
import struct
import time

from harness import Cluster, sh, wait_for

VIP, VIP6 = "10.96.7.10", "fd00:96:7::10"
PORTS = [("http", "TCP", 80, 8080, {"nodePort": 30080}), ("dns", "UDP", 53, 5353, {"nodePort": 30053})]


def who(a):
    return a.split(" ")[0]


@contextlib.contextmanager
def cluster(prefix, args=(), before=None):
    """Only b2 on n2 is behind the NodePorts, b1 is on n1 like the client pod a."""
    with Cluster(prefix, daemon_args=["--socket-lb", "off", "--cluster-cidr", "10.244.0.0/16,fd00:244::/48",
                                      *args]) as c:
        c.a, c.b1, c.b2 = c.pod("n1", "a"), c.pod("n1", "b1"), c.pod("n2", "b2")
        for b in (c.b1, c.b2):
            b.serve(8080)
            b.serve(5353, "udp")
        c.x = c.client()
        c.service("web", PORTS, [c.b2], ips=[VIP, VIP6], type="NodePort")
        if before:
            before(c)
        c.start()
        yield c


def csum(b):
    b += b"\0" * (len(b) & 1)
    s = sum(struct.unpack(f"!{len(b) // 2}H", b))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return ~s & 0xffff


def ip4(src, dst, proto, body, frag=0, ident=1):
    h = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(body), ident, frag, 64, proto)
    addrs = socket.inet_aton(src) + socket.inet_aton(dst)
    return h + struct.pack("!H", csum(h + addrs)) + addrs + body


def udp(sport, dport, data):
    return struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data


def tcp_syn(src, dst, sport, dport):
    h = struct.pack("!HHIIBBHHH", sport, dport, 1000, 0, 5 << 4, 2, 65535, 0, 0)
    pseudo = socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack("!HH", 6, len(h))
    return ip4(src, dst, 6, h[:16] + struct.pack("!H", csum(pseudo + h)) + h[18:])


def raw(host):
    with host.enter():
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def nothing(s):
    try:
        return s.recv(2000)
    except (TimeoutError, socket.timeout):
        return None


def test_path_mtu_through_nodeport():
    """The way from the node to the backend is narrower than the client's: the client is told."""
    with cluster("hm") as c:
        for dst, via in (("10.244.2.0/24", c.n2.ip), ("fd00:244:2::/64", c.n2.ip6)):
            sh(["ip", "-netns", c.n1.ns, *(["-6"] if ":" in dst else []), "route", "replace", dst, "via", via,
                "mtu", "lock", "1300"])
        for fam in (4, 6):
            level, discover, mtu = ((socket.IPPROTO_IP, 10, 14), (socket.IPPROTO_IPV6, 23, 24))[fam == 6]
            with contextlib.closing(c.x.socket(fam, "udp", 1)) as s:
                s.setsockopt(level, discover, 2)
                s.connect((c.n1.addr(fam), 30053))

                def told():
                    with contextlib.suppress(OSError):
                        s.send(b"z" * 1400)
                    return s.getsockopt(level, mtu) == 1300
                wait_for(f"IPv{fam}: the client knows the MTU", told, 3)

                def answered():
                    s.send(b"z" * 1000)
                    return who(s.recv(100).decode()) == "b2"
                wait_for("a datagram that fits", answered, 3)
            with contextlib.closing(c.x.socket(fam, "tcp", 5)) as s:
                s.connect((c.n1.addr(fam), 30080))
                s.sendall(b"y" * 300000)
                assert who(s.recv(100).decode()) == "b2"


def tun(node, name):
    with node.enter():
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, 0x400454ca, struct.pack("16sH22x", name.encode(), 0x1001))  # IFF_TUN | IFF_NO_PI
    return fd


def test_nodeport_through_a_device_without_ethernet():
    """A client behind a layer-3 tunnel (as IPIP, WireGuard), the backend on another node."""
    def before(c):
        c.tun = tun(c.n1, "tun0")
        sh(["ip", "-netns", c.n1.ns, "link", "set", "tun0", "up"])
        sh(["ip", "-netns", c.n1.ns, "addr", "add", "203.0.113.1/24", "dev", "tun0"])
    with cluster("ht", ["--devices", "eth0,tun0"], before) as c:
        try:
            def answer():
                os.write(c.tun, tcp_syn("203.0.113.9", c.n1.ip, 4000, 30080))
                end = time.monotonic() + 0.5
                while time.monotonic() < end:
                    if not select.select([c.tun], [], [], 0.1)[0]:
                        continue
                    b = os.read(c.tun, 2000)
                    if b[0] >> 4 == 4 and b[9] == 6 and b[12:20] == socket.inet_aton(c.n1.ip) + \
                            socket.inet_aton("203.0.113.9"):
                        return struct.unpack("!HH", b[20:24]) == (30080, 4000) and b[33] == 0x12
                return False
            wait_for("a SYN-ACK through the tunnel", answer, 3)
        finally:
            os.close(c.tun)


def test_forged_sources_from_outside():
    """An address of this node or of one of its pods does not come in by the uplink."""
    with cluster("hf") as c:
        got = c.b1.socket(4, "udp", 0.4)
        got.bind(("0.0.0.0", 7777))
        r = raw(c.x)
        r.sendto(ip4(c.x.ip, c.b1.ip, 17, udp(1000, 7777, b"good")), (c.b1.ip, 0))
        assert nothing(got) == b"good"
        before = c.n1.drops().get("MARTIAN", 0)
        for src in (c.a.ip, c.b1.ip, c.n1.ip):
            r.sendto(ip4(src, c.b1.ip, 17, udp(1000, 7777, b"evil")), (c.b1.ip, 0))
        assert nothing(got) is None
        # On the tuple of a flow that lives: a -> b1, then b1's own answers' tuple.
        with contextlib.closing(c.a.socket(4, "udp", 1)) as s:
            s.bind(("0.0.0.0", 1234))
            s.sendto(b"x", (c.b1.ip, 7777))
            assert nothing(got) == b"x"
            r.sendto(ip4(c.a.ip, c.b1.ip, 17, udp(1234, 7777, b"evil")), (c.b1.ip, 0))
            assert nothing(got) is None
            s.sendto(b"x", (VIP, 53))
            assert who(s.recv(100).decode()) == "b2"
            r.sendto(ip4(c.a.ip, VIP, 17, udp(1234, 53, b"evil")), (VIP, 0))
        assert c.n1.drops().get("MARTIAN", 0) >= before + 5, c.n1.drops()
        got.close()


def test_fragments_in_any_order_to_the_node():
    """What is no service's is the stack's business, later fragments first too."""
    with cluster("ho") as c:
        got = c.n1.socket(4, "udp", 1)
        got.bind(("0.0.0.0", 7777))
        body = udp(1000, 7777, bytes(range(200)))
        r = raw(c.x)
        for dst in (c.n1.ip,):
            r.sendto(ip4(c.x.ip, dst, 17, body[64:], 8, 77), (dst, 0))
            r.sendto(ip4(c.x.ip, dst, 17, body[:64], 0x2000, 77), (dst, 0))
            assert nothing(got) == bytes(range(200))
        got.close()


def test_refusals_and_endpoints_without_a_node():
    with cluster("hr") as c:
        c.service("none", [("http", "TCP", 80, 8080)], [], ips=["10.96.7.20", "fd00:96:7::20"])
        wait_for("in force", lambda: c.a.ask("10.96.7.20", 80) == "refused")
        for vip in ("10.96.7.20", "fd00:96:7::20"):
            assert c.n1.ask(vip, 80, timeout=2) == "refused", "the node's own packet is answered to the node"
        with c.n1.enter():  # past the socket hooks, as SCTP
            icmp = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        icmp.settimeout(1)
        raw(c.n1).sendto(tcp_syn(c.n1.ip, "10.96.7.10", 1000, 81), ("10.96.7.10", 0))
        raw(c.n1).sendto(ip4(c.n1.ip, "10.96.7.20", 17, udp(1000, 80, b"x")), ("10.96.7.20", 0))
        assert nothing(icmp)[20:22] == b"\x03\x03"
        icmp.close()
        # Slices made by hand name no node; their endpoint is a pod of this node, or the node itself.
        c.n1.serve(8080)
        for pod in (c.b1, c.n1):
            c.endpoints("web", PORTS, [pod])
            for fam in (4, 6):
                o = c.objects[f"endpointslice.default.web-v{fam}"]
                del o["endpoints"][0]["nodeName"]
                c.put(o)
            for fam in (4, 6):
                want = f"{pod.name} {c.x.addr(fam)} "
                wait_for(want + "through n1", lambda: c.x.ask(c.n1.addr(fam), 30080, timeout=0.5).startswith(want), 4)


def test_flood_of_half_open_flows():
    """A small table, a pod and an outsider that fill it: what is established lives, others may begin."""
    with cluster("hc", ["--ct-max", "16384"]) as c:
        kept = []
        for _ in range(25):
            for host, addr, port in ((c.b1, VIP, 80), (c.x, c.n1.ip, 30080)):
                s = host.socket(4, "tcp", 3)
                s.connect((addr, port))
                s.send(b"x")
                assert who(s.recv(100).decode()) == "b2"
                kept.append(s)
        pods, outside = raw(c.a), raw(c.x)
        n, failed = 0, []
        for _ in range(10):
            for _ in range(6000):
                n += 1
                ports = struct.pack("!HHHH", n & 0xffff, 1 + (n >> 8) % 60000, 8, 0)
                with contextlib.suppress(OSError):
                    pods.sendto(ip4(c.a.ip, c.b2.ip, 17, ports), (c.b2.ip, 0))
                    if not n % 3:
                        outside.sendto(tcp_syn(c.x.ip, c.n1.ip, 1024 + n % 60000, 30080), (c.n1.ip, 0))
            for host, addr, port, kind in ((c.b1, VIP, 80, "tcp"), (c.b1, VIP, 53, "udp"), (c.x, c.n1.ip, 30080, "tcp"),
                                           (c.x, c.n1.ip, 30053, "udp")):
                a = who(host.ask(addr, port, kind))
                if a != "b2":
                    failed.append((n, host.name, kind, a))
        for s in kept:
            s.send(b"x")
            assert who(s.recv(100).decode()) == "b2"
            s.close()
        assert not failed, (failed, c.n1.drops())


def crc32c(b):
    c = 0xffffffff
    for x in b:
        c ^= x
        for _ in range(8):
            c = c >> 1 ^ (0x82f63b78 if c & 1 else 0)
    return c ^ 0xffffffff


def test_sctp_through_nodeport():
    """No SCTP sockets needed: the backend gets an INIT with a good CRC32c, the client its answer."""
    with cluster("hs") as c:
        c.service("sctp", [("s", "SCTP", 3868, 9999, {"nodePort": 30090})], [c.b2], ips=["10.96.7.30", "fd00:96:7::30"],
                  type="NodePort")
        got = {}
        for h in (c.b2, c.x):
            with h.enter():
                got[h] = socket.socket(socket.AF_INET, socket.SOCK_RAW, 132)
            got[h].settimeout(0.3)

        def packet(src, dst, sport, dport, chunk):
            h = struct.pack("!HHII", sport, dport, 7, 0) + chunk
            return ip4(src, dst, 132, h[:8] + struct.pack("<I", crc32c(h)) + h[12:])

        def through():
            raw(c.x).sendto(packet(c.x.ip, c.n1.ip, 5000, 30090, b"\1\0\0\x14" + bytes(16)), (c.n1.ip, 0))
            return nothing(got[c.b2])
        b = wait_for("INIT at the backend", through, 4)
        h = b[20:]
        assert struct.unpack("<I", h[8:12])[0] == crc32c(h[:8] + bytes(4) + h[12:]), h.hex()
        src, (sport, dport) = socket.inet_ntoa(b[12:16]), struct.unpack("!HH", h[:4])
        assert (src, dport) == (c.n1.ip, 9999), (src, sport, dport)
        raw(c.b2).sendto(packet(c.b2.ip, src, dport, sport, b"\2\0\0\x14" + bytes(16)), (src, 0))
        b = nothing(got[c.x])
        h = b[20:]
        assert (socket.inet_ntoa(b[12:16]), *struct.unpack("!HH", h[:4])) == (c.n1.ip, 30090, 5000)
        assert struct.unpack("<I", h[8:12])[0] == crc32c(h[:8] + bytes(4) + h[12:])
        for s in got.values():
            s.close()


def vxlan(c, node, inner_src, inner_dst):
    """A VXLAN datagram for the node's vx0: an Ethernet frame with a UDP packet of any source."""
    mac = bytes.fromhex(json.loads(sh(["ip", "-netns", node.ns, "-j", "link", "show", "vx0"]).stdout)[0]
                        ["address"].replace(":", ""))
    packet = ip4(inner_src, inner_dst, 17, udp(53, 7777, b"bad!"))
    return b"\x08\0\0\0\0\0\x01\0" + mac + bytes.fromhex("02aabbccddee0800") + packet


def test_pods_cannot_speak_through_tunnels():
    """A pod wraps a forged packet for a node's VXLAN device: the node does not get to unpack it."""
    with Cluster("htu") as c:
        bad, web = c.pod("n1", "bad"), c.pod("n1", "web")
        c.pod("n2", "far")
        for n in c.nodes.values():
            sh(f"ip -n {n.ns} link add vx0 type vxlan id 1 dstport 8472 local {n.ip} dev eth0 nolearning")
            sh(f"ip -n {n.ns} link set vx0 up")
        c.start()

        def unpacked(n):
            return json.loads(sh(["ip", "-netns", n.ns, "-j", "-s", "link", "show", "vx0"]).stdout)[0][
                "stats64"]["rx"]["packets"]
        for n in c.nodes.values():
            frame = vxlan(c, n, "10.244.2.2", web.ip)
            before = unpacked(n), c.n1.drops().get("TUNNEL", 0)
            with contextlib.closing(bad.socket(4, "udp")) as s:
                s.sendto(frame, (n.ip, 8472))
            wait_for("dropped", lambda: c.n1.drops().get("TUNNEL", 0) > before[1])
            assert unpacked(n) == before[0], n.name
        # The nodes themselves may: the overlay works.
        with contextlib.closing(c.n2.socket(4, "udp")) as s:
            s.sendto(vxlan(c, c.n1, "10.244.2.2", web.ip), (c.n1.ip, 8472))
        wait_for("the node's own is unpacked", lambda: unpacked(c.n1) == 1)
