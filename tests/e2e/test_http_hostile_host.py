# SPDX-License-Identifier: MIT
"""HTTP rules against what a client's kernel offers beyond plain TCP: MPTCP, where the bytes of a connection are not in the
order in which the application gets them."""
import contextlib
import hashlib
import json
import mmap
import os
import socket
import struct
import subprocess

from harness import Cluster, wait_for
from test_http_hostile import ACK, BAD, OK, POST, PSH, SERVER, SLOW, SYN, Raw, csum, policy

MPTCP = 262  # IPPROTO_MPTCP
SOL_PACKET = 263
MAC = bytes.fromhex("021122334455")
MPTCP_SERVER = SERVER.replace('s = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)',
                              f's = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, {MPTCP}); s.bind(("::", 8080)); s.listen(64)')


def in_force(c, clients, web):
    def judged(h):
        with contextlib.closing(h.socket(4)) as s:
            s.connect((web.addr(4), 8080))
            s.sendall(BAD)
            return s.recv(100).startswith(b"HTTP/1.1 403")
    for h in clients:
        wait_for("rules in force", lambda: judged(h))


@contextlib.contextmanager
def attacked(prefix, server):
    """(cluster, pod that `server` runs in behind a rule for /v1, clients near and far whose kernels keep out of it)"""
    with Cluster(prefix) as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        clients = c.pod("n1", "near"), c.pod("n2", "far")
        c.seen = f"{c.dir}/seen"
        web.popen(["/usr/bin/python3", "-c", server, c.seen], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        policy(c, [{"path": {"value": "/v1"}}])
        c.start()
        in_force(c, clients, web)
        for h in clients:
            quiet(h)
        yield c, web, clients


def quiet(h):
    """The kernel of the client knows nothing of these connections and would reset them."""
    for cmd in ("iptables", "ip6tables"):
        h.run([cmd, "-A", "OUTPUT", "-p", "tcp", "--dport", "8080", "--tcp-flags", "RST", "RST", "-j", "DROP"])


class Multi(Raw):
    """Asks for MPTCP; goes on without where the server does not answer with it."""

    def __init__(self, host, dst):
        self.key = os.urandom(8)
        self.dsn = int.from_bytes(hashlib.sha256(self.key).digest()[-8:], "big") + 1
        self.options = b""
        self.peer = None
        super().__init__(host, dst)

    def open(self):
        # After a NOP and behind what every stack sends: options are looked for wherever they stand.
        self.options = b"\x02\x04\x05\xb4\x01\x1e\x04\x01\x01\x01\x01\x01"
        self.ack = self.syn()
        self.seq += 1
        self.options = b""
        if self.peer:
            self.options = b"\x1e\x14\x01\x01" + self.key + self.peer
        self.send(b"", ACK)
        self.options = b""

    def mapped(self, data, at, dsn):
        """Bytes of the connection from `at` on that are those from `dsn` on of the application's stream."""
        if self.peer:
            ack = int.from_bytes(hashlib.sha256(self.peer).digest()[-8:], "big") + 1
            self.options = struct.pack("!BBBBQQIHH", 0x1e, 26, 0x20, 0x0f, ack & (1 << 64) - 1, dsn & (1 << 64) - 1, at + 1, len(data), 0x0101)
        self.send(data, at=at)
        self.options = b""

    def send(self, data, flags=PSH | ACK, at=0, bad=False, urg=0):
        n = 20 + len(self.options)
        h = struct.pack("!HHIIBBHHH", self.port, 8080, (self.seq + at) & 0xffffffff, self.ack, n // 4 << 4, flags, 60000, 0, 0) + self.options
        pseudo = socket.inet_pton(self.af, self.src) + socket.inet_pton(self.af, self.dst) + struct.pack("!IHBB", n + len(data), 0, 0, 6)
        self.sock.sendto(h[:16] + struct.pack("!H", csum(pseudo + h + data)) + h[18:] + data, (self.dst, 0))

    def until(self, fn, timeout):
        if self.peer is None and not self.rx and self.options:
            return self.syn_ack(timeout)
        return super().until(fn, timeout)

    def syn_ack(self, timeout):
        while True:
            d = self.sock.recv(65536)
            ip = (d[0] & 15) * 4 if self.fam == 4 else 0
            sport, dport, seq, _, off, flags = struct.unpack("!HHIIBB", d[ip:ip + 14])
            if (sport, dport) != (8080, self.port) or not flags & SYN:
                continue
            options = d[ip + 20:ip + (off >> 4) * 4]
            at = options.find(b"\x1e\x0c")
            if at >= 0:
                self.peer = options[at + 4:at + 12]
            return seq


def test_mptcp():
    """A mapping moves bytes: the head that is judged would not be read at all, and its body in its place."""
    with attacked("hm", MPTCP_SERVER) as (c, web, clients):
        for h in clients:
            for fam in (4, 6):
                r = Multi(h, web.addr(fam))
                r.mapped(POST, 0, r.dsn - len(POST))
                r.mapped(BAD, len(POST), r.dsn)
                rx = r.drain()
                r.sock.close()
                with open(c.seen, "rb") as f:
                    assert b"\nGET /secret" not in b"\n" + f.read().replace(POST + BAD, b""), (h.name, fam)
                # A client that does not mind speaks plain TCP then.
                with h.enter():
                    s = socket.socket(socket.AF_INET6 if fam == 6 else socket.AF_INET, socket.SOCK_STREAM, MPTCP)
                with contextlib.closing(s):
                    s.settimeout(3)
                    s.connect((web.addr(fam), 8080))
                    for _ in range(3):
                        s.sendall(OK)
                        assert s.recv(100).startswith(b"HTTP/1.1 200"), (h.name, fam)
                    s.sendall(BAD)
                    assert s.recv(100).startswith(b"HTTP/1.1 403"), (h.name, fam)


class Ring:
    """A frame that its sender can still write to, because it is sent out of memory that it shares with the kernel."""

    def __init__(self, h):
        with h.enter():
            self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self.sock.bind(("eth0", 0x0800))
        self.sock.setsockopt(SOL_PACKET, 10, 1)  # PACKET_VERSION: TPACKET_V2
        self.sock.setsockopt(SOL_PACKET, 13, struct.pack("4I", 4096, 1, 4096, 1))  # PACKET_TX_RING
        self.mem = mmap.mmap(self.sock.fileno(), 4096)

    def send(self, frame):
        self.mem[32:32 + len(frame)] = frame
        self.mem[4:8] = struct.pack("I", len(frame))
        self.mem[0:4] = struct.pack("I", 1)  # TP_STATUS_SEND_REQUEST
        self.sock.send(b"")

    def close(self):
        self.mem.close()
        self.sock.close()


def frame(h, r, data):
    """The segment of a Raw connection, with everything in front of it."""
    n = h.run(["ip", "-j", "neigh", "show", "dev", "eth0"]).stdout
    mac = next(bytes.fromhex(x["lladdr"].replace(":", "")) for x in json.loads(n) if "lladdr" in x and (":" in x["dst"]) == (r.fam == 6))
    src, dst = socket.inet_pton(r.af, r.src), socket.inet_pton(r.af, r.dst)
    tcp = struct.pack("!HHIIBBHHH", r.port, 8080, r.seq & 0xffffffff, r.ack, 5 << 4, PSH | ACK, 60000, 0, 0) + data
    if r.fam == 6:
        tcp = tcp[:16] + struct.pack("!H", csum(src + dst + struct.pack("!II", len(tcp), 6) + tcp)) + tcp[18:]
        return mac + MAC + b"\x86\xdd" + struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + src + dst + tcp
    tcp = tcp[:16] + struct.pack("!H", csum(src + dst + struct.pack("!HH", 6, len(tcp)) + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0) + src + dst
    return mac + MAC + b"\x08\x00" + ip[:10] + struct.pack("!H", csum(ip)) + ip[12:] + tcp


def test_packet_ring():
    """A ring of packets that the client and the kernel share: what it writes there behind the verdict is not what is read."""
    with attacked("hr", SLOW) as (c, web, clients):
        for h in clients:
            for fam in (4, 6):
                r, ring = Raw(h, web.addr(fam)), Ring(h)
                good = frame(h, r, OK)
                ring.send(good)
                at = 32 + len(good) - len(OK)
                ring.mem[at:at + len(BAD)] = BAD
                r.answered()
                assert r.rx.startswith(b"HTTP/1.1 200"), (h.name, fam, r.rx)
                r.sock.close()
                ring.close()
        with open(c.seen, "rb") as f:
            got = f.read()
        assert got.count(OK) == 4 and b"/secret" not in got, got
