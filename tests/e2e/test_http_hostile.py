# SPDX-License-Identifier: MIT
"""HTTP rules against a client that makes its own TCP: decoys that the server drops, retransmissions with other bytes,
overlaps, urgent data, SYN, FIN and RST tricks, SYN cookies, every order. What is denied never reaches the server."""
import contextlib
import itertools
import mmap
import os
import random
import socket
import struct
import subprocess
import time

from harness import Cluster, wait_for
from test_http import nginx

OK = b"GET /v1/aaaa HTTP/1.1\r\nHost: a\r\n\r\n"
BAD = b"GET /secret2 HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /v1/aaaa HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32

# None twice: the server may remember the connection that had it.
PORTS = itertools.count(random.randint(20000, 30000))
# A checksum that looks as that of a sender on the same machine: not for the server's stack, which knows where it is from.
FORGED = "forged"

SERVER = """
import socket, sys, threading
s = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
def serve(c):
    got = b""
    try:
        while d := c.recv(65536):
            open(sys.argv[1], "ab").write(d)
            got += d
            while b"\\r\\n\\r\\n" in got:
                got = got.split(b"\\r\\n\\r\\n", 1)[1]
                c.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    except OSError:
        pass
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


def csum(b):
    b += b"\0" * (len(b) & 1)
    s = sum(struct.unpack(f"!{len(b) // 2}H", b))
    while s >> 16:
        s = (s >> 16) + (s & 0xffff)
    return ~s & 0xffff


class Raw:
    """A connection whose TCP is this class."""

    def __init__(self, host, dst, isn=None):
        self.fam = 6 if ":" in dst else 4
        self.af = socket.AF_INET6 if self.fam == 6 else socket.AF_INET
        self.src, self.dst, self.port = host.addr(self.fam), dst, next(PORTS)
        self.seq, self.ack, self.rx = isn or random.randint(1, 1 << 31), 0, b""
        with host.enter():
            self.sock = socket.socket(self.af, socket.SOCK_RAW, socket.IPPROTO_TCP)
        self.sock.settimeout(1)
        self.open()

    def open(self):
        self.ack = self.syn()
        self.seq += 1
        self.send(b"", ACK)

    def syn(self, at=0):
        """What acknowledges its answer."""
        self.send(b"", SYN, at=at)
        got = self.until(lambda f: f & SYN, 2)
        assert got is not None, "no SYN-ACK"
        return (got + 1) & 0xffffffff

    def send(self, data, flags=PSH | ACK, at=0, bad=False, urg=0):
        h = struct.pack("!HHIIBBHHH", self.port, 8080, (self.seq + at) & 0xffffffff, self.ack, 5 << 4, flags, 60000, 0, urg)
        pseudo = socket.inet_pton(self.af, self.src) + socket.inet_pton(self.af, self.dst) + struct.pack("!IHBB", len(h) + len(data), 0, 0, 6)
        c = csum(pseudo + h + data) ^ (0x5555 if bad is True else 0)
        if bad == FORGED:  # as if a device were to compute it
            c = csum(pseudo) ^ 0xffff
        self.sock.sendto(h[:16] + struct.pack("!H", c) + h[18:] + data, (self.dst, 0))

    def until(self, fn, timeout):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                d = self.sock.recv(65536)
            except TimeoutError:
                return None
            ip = (d[0] & 15) * 4 if self.fam == 4 else 0
            sport, dport, seq, _, off, flags = struct.unpack("!HHIIBB", d[ip:ip + 14])
            if (sport, dport) != (8080, self.port):
                continue
            data = d[ip + (off >> 4) * 4:]
            if data and seq == self.ack:
                self.ack = (self.ack + len(data)) & 0xffffffff
                self.rx += data
            if fn(flags):
                return seq
        return None

    def answered(self, n=1):
        """Waits for so many answers of the server."""
        end = time.monotonic() + 3
        while self.rx.count(b"HTTP/1.1 ") < n and time.monotonic() < end:
            self.until(lambda f: True, 0.1)

    def drain(self, timeout=0.3):
        self.sock.settimeout(timeout)
        self.until(lambda f: False, timeout)
        return self.rx


def decoy(r, bad=FORGED):
    r.send(OK, bad=bad)
    time.sleep(0.05)
    r.send(BAD)
    r.send(OK)


def overlap(r, bad=FORGED):
    r.send(OK[:10], bad=bad)
    r.send(BAD)


def early_decoy(r, bad=FORGED):
    r.send(OK[:1])
    r.send(OK[5:], at=5, bad=bad)
    r.send(BAD[1:], at=1)
    time.sleep(0.05)
    r.send(OK[1:], at=1)


def body_decoy(r, bad=FORGED):
    r.send(POST, bad=bad)
    r.send(OK)
    r.send(BAD, at=len(OK))
    r.send(BAD, at=len(POST))


def urgent(r):
    r.send(OK[:8] + b"x" + OK[8:], PSH | ACK | URG, urg=9)
    r.send(OK)


def syn_inside(r):
    r.send(OK)
    r.answered()
    r.seq += len(OK)
    r.send(b"", SYN, at=5000)
    r.send(BAD, SYN)
    r.send(BAD, SYN | ACK)
    r.send(BAD)


def fin_decoy(r):
    r.send(b"", FIN | ACK, bad=True)
    r.send(b"", SYN, at=77777, bad=True)
    time.sleep(0.05)
    r.send(BAD)


def without_ack(r):
    r.send(BAD, PSH | FIN)
    r.send(BAD, FIN)
    r.send(OK)


def urgent_ahead(r):
    """The pointer comes before the byte, without data: Linux would take the z out of the path."""
    r.send(b"", ACK | URG, urg=10)
    r.send(b"GET /v1/.z./aa HTTP/1.1\r\nHost: a\r\n\r\n")


def not_yet_said(r):
    """Acknowledges what the server has not said: dropped there, with the part that was let pass."""
    r.send(OK)
    r.answered()
    r.seq += len(OK)
    r.ack += 1000
    r.send(OK + BAD)
    r.ack -= 1000
    time.sleep(0.05)
    r.send(BAD)


class Cookies(Raw):
    """The server keeps nothing of a SYN: the one that it believes in is that of the first acknowledgement."""
    other = len(BAD)

    def open(self):
        ack = self.syn()
        second = self.syn(at=self.other)
        self.ack = ack
        self.seq += 1
        self.send(b"", ACK)
        time.sleep(0.05)
        self.ack = second
        self.send(OK if self.other > 0 else POST.replace(b"1000", b"34") + BAD, at=self.other)
        self.ack = ack
        time.sleep(0.05)
        self.send(BAD)
        self.send(OK)


class CookiesBehind(Cookies):
    other = -len(POST.replace(b"1000", b"34"))


def refused(r):
    """What comes again is never what was let pass, and the server has not got that. A reset, not a stall."""
    r.send(OK.replace(b"a\r", b"b\r"), bad=FORGED)
    flags = []
    for _ in range(4):
        time.sleep(0.02)
        r.send(OK)
    r.until(lambda f: flags.append(f), 0.3)
    assert any(f & RST for f in flags), flags


def damaged(r):
    """As by a wire that flips a bit, in every segment's first copy: the right bytes come again."""
    for at in range(0, len(OK), 9):
        part = OK[at:at + 9]
        r.send(bytes([part[0] ^ 4]) + part[1:], at=at, bad=True)
        r.send(part, at=at)


def damaged_later(r):
    """A copy of what has passed, damaged."""
    r.send(OK[:20])
    for _ in range(9):
        r.send(OK[:19] + b"x", bad=True)
    r.send(OK[:25])
    r.send(OK[25:], at=25)


def with_damage(fn):
    def damaged_form(r):
        fn(r, bad=True)
    damaged_form.__name__ = fn.__name__ + "_damaged"
    return damaged_form


def pieces(r):
    for i in range(0, len(BAD), 3):
        r.send(BAD[i:i + 3], at=i)


def backwards(r):
    r.send(BAD[:1])
    for i in range(len(BAD) - 3, 0, -3):
        r.send(BAD[i:i + 3], at=i)
    r.send(BAD[1:], at=1)


def in_turn(r):
    """The denied one is there already when the packet comes that ends just before it."""
    r.send(OK[:1])
    r.send(BAD, at=len(OK))
    time.sleep(0.05)
    r.send(OK[1:], at=1)


def in_turn_later(r):
    """What is denied came early, and its beginning closes the gap while the answers to others are under way."""
    at = 2 * len(OK)
    r.send(OK + OK)
    r.send(BAD[20:], at=at + 20)
    time.sleep(0.05)
    r.send(BAD[:20], at=at)
    r.send(BAD[:20], at=at)
    answered_without_reset(r, 2, at + len(BAD))
    r.send(b"", ACK, at=at + len(BAD))


def never_served(r):
    """The same, and an allowed request ends in the segment that closes the gap: the server gets none of it, it may be asked again."""
    at = 2 * len(OK)
    r.send(OK)
    r.send(BAD, at=at)
    time.sleep(0.05)
    r.send(OK, at=len(OK))
    answered_without_reset(r, 1, at + len(BAD))
    for _ in range(20):  # the answer was on its way before it was followed: the server's silence counts
        r.send(b"", ACK, at=at + len(BAD))
        if r.until(lambda f: f & FIN and not f & RST, 0.1) is not None:
            return
    raise AssertionError("no end")


def answered_without_reset(r, n, at):
    flags, end = [], time.monotonic() + 3
    while r.rx.count(b"HTTP/1.1 ") < n and time.monotonic() < end:
        r.send(b"", ACK, at=at)  # the server's stack holds back the next small answer until then
        r.until(lambda f: flags.append(f), 0.1)
    r.until(lambda f: flags.append(f), 0.2)
    assert r.rx.count(b"HTTP/1.1 200") == n and not any(f & (RST | FIN) for f in flags), (r.rx, flags)


def behind_upgrade(r):
    """The same behind an Upgrade that may pass: the server has it before it has answered."""
    r.send(UPGRADE[:1])
    r.send(BAD, at=len(UPGRADE))
    time.sleep(0.05)
    r.send(UPGRADE[1:], at=1)


# How many requests are answered 200, how many 403.
CASES = [(decoy, 1, 0), (overlap, 0, 0), (early_decoy, 1, 0), (body_decoy, 0, 0), (urgent, 1, 0), (syn_inside, 1, 1),
         (in_turn, 0, 0), (in_turn_later, 2, 1), (never_served, 1, 0), (behind_upgrade, 0, None), (refused, 0, 0), (damaged, 1, 0), (damaged_later, 1, 0),
         (with_damage(decoy), 0, 1), (with_damage(overlap), 0, 1), (with_damage(early_decoy), 0, 1), (with_damage(body_decoy), 1, 0),
         (urgent_ahead, 1, 0), (not_yet_said, 1, 0), (fin_decoy, 0, None), (without_ack, 1, 0), (pieces, 0, 1), (backwards, 0, 1)]


def policy(c, http, app="web", direction="ingress"):
    c.put({"apiVersion": "bpfnet.io/v1alpha1", "kind": "HTTPNetworkPolicy", "metadata": {"name": app, "namespace": "default"},
           "spec": {"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [direction.capitalize()],
                    direction: [{"ports": [{"port": 8080}], "http": http}]}})


def test_own_tcp():
    with Cluster("hh") as c, contextlib.ExitStack() as stack:
        web = c.pod("n1", "web", labels={"app": "web"})
        clients = c.pod("n1", "near"), c.pod("n2", "far")
        seen = f"{c.dir}/seen"
        server = web.popen(["/usr/bin/python3", "-c", SERVER, seen], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(server.kill)
        policy(c, [{"path": {"value": "/v1"}}])
        c.start()
        for h in clients:
            # The kernel of the client knows nothing of these connections and would reset them.
            for cmd in ("iptables", "ip6tables"):
                h.run([cmd, "-A", "OUTPUT", "-p", "tcp", "--dport", "8080", "--tcp-flags", "RST", "RST", "-j", "DROP"])
            if h.name == "far":  # answers are followed then
                policy(c, [{"path": {"value": "/v1"}}, {"path": {"value": "/ws"}, "headers": [{"name": "Upgrade", "value": "websocket"}]}])

            def judged(request=BAD, want=b"HTTP/1.1 403"):
                with contextlib.closing(h.socket(4)) as s:
                    s.connect((web.addr(4), 8080))
                    s.sendall(request)
                    return s.recv(100).startswith(want)
            wait_for("rules in force", judged)
            if h.name == "far":
                wait_for("all of them", lambda: judged(UPGRADE, b"HTTP/1.1 200"))
            for k, (fn, ok, denied) in enumerate(CASES):
                r = Raw(h, web.addr(4 if (k & 1) ^ (h.name == "near") else 6), None if h.name == "near" else 2**32 - random.randint(1, 80))
                fn(r)
                r.answered(ok + (denied or 0))
                rx = r.drain()
                r.sock.close()
                assert rx.count(b" 200 OK") == ok, (h.name, fn.__name__, rx)
                assert denied is None or rx.count(b" 403 ") == denied, (h.name, fn.__name__, rx)
            web.run(["sysctl", "-qw", "net.ipv4.tcp_syncookies=2"])
            for kind in (Cookies, CookiesBehind):
                r = kind(h, web.addr(4))
                r.drain()
                r.sock.close()
            web.run(["sysctl", "-qw", "net.ipv4.tcp_syncookies=1"])
        for _ in range(4):  # as much out of order as is kept at all: heads of others have room
            r = Raw(clients[0], web.addr(4))
            stack.callback(r.sock.close)
            r.send(b"G")
            for at in range(256, 4 << 20, 1280):
                r.send(bytes(1280), at=at)
        for h in clients:
            with contextlib.closing(h.socket(4)) as s:
                s.connect((web.addr(4), 8080))
                s.sendall(OK[:-2] + b"X: " + b"y" * 2000 + b"\r\n\r\n")
                assert s.recv(100).startswith(b"HTTP/1.1 200"), h.name
        with open(seen, "rb") as f:
            got = f.read()
        assert b"/secret" not in got.replace(POST.replace(b"1000", b"34") + BAD, b"") and b"/.." not in got, got


SLOW = SERVER.replace("while d := c.recv(65536):", "while time.sleep(0.2) or (d := c.recv(65536)):").replace("import socket", "import time, socket")


def test_pages_of_the_client():
    """sendfile and splice put the client's own pages into packets: what it writes there behind the verdict is not what is read."""
    other = b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n".ljust(len(OK), b"\n")
    with Cluster("hp") as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        clients = c.pod("n1", "near"), c.pod("n2", "far")
        seen = f"{c.dir}/seen"
        web.popen(["/usr/bin/python3", "-c", SLOW, seen], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        policy(c, [{"path": {"value": "/v1"}}])
        c.start()

        def judged():
            with contextlib.closing(clients[0].socket(4)) as s:
                s.connect((web.addr(4), 8080))
                s.sendall(BAD)
                return s.recv(100).startswith(b"HTTP/1.1 403")
        wait_for("rules in force", judged)
        for h in clients:
            for fam in (4, 6):
                for way in ("sendfile", "splice"):
                    fd = os.memfd_create("bnhp")
                    os.ftruncate(fd, 4096)
                    with mmap.mmap(fd, 4096) as m, contextlib.closing(h.socket(fam)) as s:
                        m[:len(OK)] = OK
                        s.connect((web.addr(fam), 8080))
                        if way == "sendfile":
                            os.sendfile(s.fileno(), fd, 0, len(OK))
                        else:
                            pipe = os.pipe()
                            os.splice(fd, pipe[1], len(OK), offset_src=0)
                            os.splice(pipe[0], s.fileno(), len(OK))
                            os.close(pipe[0])
                            os.close(pipe[1])
                        m[:len(OK)] = other
                        assert s.recv(100).startswith(b"HTTP/1.1 200"), (h.name, fam, way)
                    os.close(fd)
        with open(seen, "rb") as f:
            assert b"/secret" not in f.read()


def test_both_ends_judge():
    """On one node both in one run: what one of them cuts off a segment is not there for the other, and the rest passes."""
    with Cluster("hb") as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        near = c.pod("n1", "near", labels={"app": "near"})
        seen = f"{c.dir}/seen"
        web.popen(["/usr/bin/python3", "-c", SERVER, seen], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        policy(c, [{"path": {"value": "/v1"}}, {"path": {"value": "/in"}}])
        policy(c, [{"path": {"value": "/v1"}}, {"path": {"value": "/out"}}], "near", "egress")
        c.start()

        def answers(fam, request, count):
            with contextlib.closing(near.socket(fam)) as s:
                s.connect((web.addr(fam), 8080))
                s.sendall(OK * count + request)
                got = b""
                while d := s.recv(65536):
                    got += d
                return got.count(b"HTTP/1.1 200"), got.count(b"HTTP/1.1 403")
        bad = [b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % x for x in (b"in", b"out", b"secret")]
        wait_for("rules in force", lambda: all(answers(4, x, 0) == (0, 1) for x in bad))
        for fam in (4, 6):
            for x in bad:
                for n in (1, 3, 40):
                    assert answers(fam, x, n) == (n, 1), (fam, x, n)
        with open(seen, "rb") as f:
            got = f.read()
        assert not [x for x in bad if x[:8] in got], got


def test_uploads_under_loss():
    """2 % of the segments are lost before the judge, or behind it: both kinds of upload arrive as they were sent, and soon."""
    with Cluster("hl") as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        far = c.pod("n2", "far")
        nginx(web)
        policy(c, [{"method": "PUT", "path": {"value": "/up"}}])
        c.start()
        blob = os.path.join(c.dir, "blob")
        with open(blob, "wb") as f:
            f.write(os.urandom(8 << 20))

        def upload(target, fam, *extra):
            host = web.addr(4) if fam == 4 else f"[{web.addr(6)}]"
            return far.run(["curl", "-sS", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "-H", "Expect:", "-T", blob, *extra,
                            f"http://{host}:8080{target}"], check=False).stdout
        wait_for("rules in force", lambda: upload("/no", 4) == "403")
        places = [(web, ["INPUT"]), (c.n1, ["PREROUTING", "-t", "mangle", "-i", "eth0"])]
        for fam, cmd in ((4, "iptables"), (6, "ip6tables")):
            for host, where in places:
                lost = ["-p", "tcp", "--dport", "8080", "-m", "statistic", "--mode", "random", "--probability", "0.02", "-j", "DROP"]
                host.run([cmd, "-A", *where, *lost])
                for extra in ([], ["-H", "Transfer-Encoding: chunked"]):
                    assert upload("/up/blob", fam, *extra) in ("201", "204"), (fam, where, extra)
                    got = os.path.join(os.path.dirname(web.log), "up/blob")
                    with open(got, "rb") as a, open(blob, "rb") as b:
                        assert a.read() == b.read(), (fam, where, extra)
                    os.unlink(got)
                assert upload("/no", fam) == "403", (fam, where)
                host.run([cmd, "-D", *where, *lost])
