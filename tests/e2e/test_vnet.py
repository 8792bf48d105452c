# SPDX-License-Identifier: MIT
"""A pod that says where a checksum is still to be written (PACKET_VNET_HDR): not into what was judged. The device that writes it
comes after us: an uplink without offload. And packets of several segments whose headers say less than there is."""
import contextlib
import socket
import struct

from harness import Cluster, sh, wait_for

OPEN, SHUT = 5353, 7777
NEEDS_CSUM, GSO_TCP4, GSO_TCP6 = 1, 1, 4
POLICY = {"podSelector": {"matchLabels": {"app": "a"}}, "policyTypes": ["Egress"],
          "egress": [{"ports": [{"port": OPEN, "protocol": "UDP"}, {"port": OPEN, "protocol": "TCP"}]}]}


def fold(b):
    b += b"\0" * (len(b) & 1)
    s = sum(struct.unpack(f"!{len(b) // 2}H", b))
    while s >> 16:
        s = (s & 0xffff) + (s >> 16)
    return s


def addrs(src, dst):
    return socket.inet_aton(src) + socket.inet_aton(dst)


def ip4(src, dst, proto, body, total=None):
    h = struct.pack("!BBHHHBB", 0x45, 0, total or 20 + len(body), 1, 0x4000, 64, proto)
    return h + struct.pack("!H", ~fold(h + addrs(src, dst)) & 0xffff) + addrs(src, dst) + body


def ip6(src, dst, proto, body, total=None):
    return struct.pack("!IHBB", 6 << 28, len(body) if total is None else total, proto, 64) + \
        socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + body


def pseudo(src, dst, proto, n):
    if ":" in src:
        return socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) + struct.pack("!II", n, proto)
    return addrs(src, dst) + struct.pack("!HH", proto, n)


class Wire:
    """The pod's interface, with a header of virtio before each frame."""

    def __init__(self, pod):
        self.pod = pod
        with pod.enter():
            self.s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.s.setsockopt(263, 15, 1)  # SOL_PACKET, PACKET_VNET_HDR
            self.s.bind(("eth0", 0))
            self.mac = self.s.getsockname()[4]
        self.gw = b"\xee" * 6

    def send(self, packet, start=0, offset=0, gso=0, size=0, hdr=0, flags=None):
        kind = 0x86dd if packet[0] >> 4 == 6 else 0x0800
        flags = NEEDS_CSUM if flags is None and (start or offset) else flags or 0
        h = struct.pack("=BBHHHH", flags, gso, 14 + hdr if hdr else 0, size, 14 + start if flags & NEEDS_CSUM else 0, offset)
        self.s.send(h + self.gw + self.mac + struct.pack("!H", kind) + packet)

    def close(self):
        self.s.close()


@contextlib.contextmanager
def cluster(prefix, offload=False):
    """a on n1 may speak to one port; b is on n2, behind an uplink that computes checksums itself."""
    with Cluster(prefix) as c:
        c.a, c.b = c.pod("n1", "a", labels={"app": "a"}), c.pod("n2", "b")
        if not offload:
            sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, "ethtool", "-K", "eth0", "tx", "off"])
        for p in (OPEN, SHUT):
            c.b.serve(p)
        c.policy("a", POLICY)
        c.start()
        wait_for("in force", lambda: c.a.ask(c.b.ip, SHUT, timeout=0.2) == "timeout")
        assert c.a.ask(c.b.ip, OPEN).startswith("b ")
        c.wire = Wire(c.a)
        with contextlib.closing(c.wire):
            yield c


def meant(data, want, at):
    """data, with two bytes at `at` such that `want` is its checksum."""
    data = data[:at] + b"\0\0" + data[at + 2:]
    return data[:at] + struct.pack("!H", ((~want & 0xffff) - fold(data)) % 0xffff) + data[at + 2:]


def udp(src, dst, data, sport=1000):
    """With the sum of the pseudo header in its checksum's place, as the stack leaves it."""
    h = struct.pack("!HHH", sport, OPEN, 8 + len(data))
    return h + struct.pack("!H", fold(pseudo(src, dst, 17, 8 + len(data)))) + data


def syn(src, dst, sport, data=b"", flags=2, seq=1000, ack=0, port=OPEN):
    h = struct.pack("!HHIIBBHHH", sport, port, seq, ack, 5 << 4, flags, 65535, 0, 0)
    n = 20 + len(data)
    return h[:16] + struct.pack("!H", fold(pseudo(src, dst, 6, n))) + h[18:] + data


def heard(s):
    try:
        return s.recv(70000)
    except (TimeoutError, socket.timeout):
        return None


def refused(c, what, send):
    before = c.n1.drops().get("CSUM_PLACE", 0)
    send()
    wait_for(what, lambda: c.n1.drops().get("CSUM_PLACE", 0) > before, 3)


def test_ports_are_not_rewritten():
    """Where a device writes what the sender wants: the port of what was let pass, or an address, or a flag."""
    with cluster("vp") as c:
        for fam in (4, 6):
            wrap, l3 = (ip4, 20) if fam == 4 else (ip6, 40)
            src, dst = c.a.addr(fam), c.b.addr(fam)
            shut, right = c.b.socket(fam, "udp", 0.5), c.b.socket(fam, "udp", 1)
            shut.bind(("::" if fam == 6 else "0.0.0.0", SHUT))
            right.bind(("::" if fam == 6 else "0.0.0.0", OPEN))
            # honest: what any stack sends
            c.wire.send(wrap(src, dst, 17, udp(src, dst, b"honest")), start=l3, offset=6)
            assert heard(right) == b"honest", fam
            # a checksum inside, as of a tunnel's inner packet: behind the header, where nobody has judged
            c.wire.send(wrap(src, dst, 17, udp(src, dst, b"x" * 40)[:6] + b"\0\0" + b"y" * 40), start=l3 + 10, offset=6)
            if fam == 4:
                assert heard(right)[:2] == b"yy", fam
            body = struct.pack("!HHHH", 1000, OPEN, 8 + 10, 0) + b"x" * 8 + b"\0\0"
            body = meant(body, SHUT, 16)
            refused(c, "UDP, another port", lambda: c.wire.send(wrap(src, dst, 17, body), start=l3, offset=2))
            assert fold(body) == ~SHUT & 0xffff, "it would have been this port"
            for start, offset in ((l3, 0), (l3, 4), (l3 + 2, 0), (l3 - 4, 2), (l3 - 2, 4), (l3, 5)):
                refused(c, f"UDP, {start} {offset}",
                        lambda: c.wire.send(wrap(src, dst, 17, udp(src, dst, b"x" * 20)), start=start, offset=offset))
            for start, offset in ((l3, 2), (l3, 12), (l3, 13), (l3, 20), (l3 + 4, 13), (l3 + 16, 2), (l3, 15), (l3, 17)):
                refused(c, f"TCP, {start} {offset}",
                        lambda: c.wire.send(wrap(src, dst, 6, syn(src, dst, 2000, b"x" * 20)), start=start, offset=offset))
            ping = struct.pack("!BBHHH", 8 if fam == 4 else 128, 0, 0, 1, 1) + b"x" * 40
            refused(c, "an echo", lambda: c.wire.send(wrap(src, dst, 1 if fam == 4 else 58, ping), start=l3 + 8, offset=2))
            assert heard(shut) is None
            assert c.a.ask(dst, OPEN).startswith("b "), "honest TCP goes on"


def test_segments_are_all_of_the_packet():
    """Several segments in one packet, and more bytes in it than its IP header speaks of."""
    with cluster("vs", offload=True) as c:
        for fam in (4, 6):
            wrap, l3, gso = (ip4, 20, GSO_TCP4) if fam == 4 else (ip6, 40, GSO_TCP6)
            src, dst = c.a.addr(fam), c.b.addr(fam)
            before = c.n1.drops().get("BAD_HEADER", 0)
            body = syn(src, dst, 3000, b"y" * 3000, flags=16)
            short = (l3 if fam == 4 else 0) + 20 + 100
            c.wire.send(wrap(src, dst, 6, body, short), start=l3, offset=16, gso=gso, size=100, hdr=l3 + 20)
            wait_for("dropped", lambda: c.n1.drops().get("BAD_HEADER", 0) > before, 3)
            # what is behind a packet of one segment is padding
            right = c.b.socket(fam, "udp", 1)
            right.bind(("::" if fam == 6 else "0.0.0.0", OPEN))
            body = udp(src, dst, b"honest")
            c.wire.send(wrap(src, dst, 17, body + b"padding", (l3 if fam == 4 else 0) + len(body)), start=l3, offset=6)
            assert heard(right) == b"honest"
            with contextlib.closing(c.a.socket(fam, "tcp", 5)) as s:
                s.connect((dst, OPEN))
                s.sendall(b"y" * 300000)
                assert s.recv(100).startswith(b"b ")
