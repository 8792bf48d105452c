# SPDX-License-Identifier: MIT
"""Honest clients and a bad link. Two real stacks, between them a relay that loses, delays, doubles and damages frames
(tests/tools/relay.c), and behind the judge a rule that loses more: what is allowed has to come through whole and
unchanged, however long that takes, and of what is denied nothing may reach the server."""
import os
import random
import re
import subprocess
import sys

from harness import BUILD, Cluster, sh
from test_http_hostile import policy
from test_http_hostile_host import in_force

LINK = ["20", "100", "20", "10"]  # of 1,000 frames: lost, delayed, doubled, damaged
BEHIND = "0.02"  # lost behind the judge

# Answers with the hash of the target and the body that it has read, and as many bytes as it was asked for.
SERVER = r"""
import asyncio, hashlib, random, sys

async def body(r, fields, h):
    if b"content-length" in fields:
        n = int(fields[b"content-length"])
        while n:
            d = await r.read(min(n, 65536))
            if not d:
                raise EOFError
            n -= len(d)
            h.update(d)
    elif fields.get(b"transfer-encoding") == b"chunked":
        while n := int((await r.readuntil(b"\r\n"))[:-2], 16):
            h.update((await r.readexactly(n + 2))[:-2])
        await r.readexactly(2)

async def one(r, w):
    head = await r.readuntil(b"\r\n\r\n")
    line, *rest = head[:-4].split(b"\r\n")
    method, target, _ = line.split()
    if not target.startswith(b"/v1"):
        with open(sys.argv[1], "ab") as f:
            f.write(head)
    fields = {k.lower(): v.strip() for k, v in (x.split(b":", 1) for x in rest)}
    h = hashlib.sha1(target)
    await body(r, fields, h)
    n = int(fields[b"x-want"])
    close = fields.get(b"connection") == b"close"
    await asyncio.sleep(int(fields.get(b"x-slow", 0)) / 1000)
    out = b"HTTP/1.1 200 OK\r\nX-Sum: %s\r\n%s" % (h.hexdigest().encode(), b"Connection: close\r\n" if close else b"")
    if n & 1 and method != b"HEAD":
        out += b"Transfer-Encoding: chunked\r\n\r\n"
        while n:
            k = min(n, random.randint(1, 5000))
            n -= k
            out += b"%x\r\n" % k + b"r" * k + b"\r\n"
        out += b"0\r\n\r\n"
    else:
        out += b"Content-Length: %d\r\n\r\n" % n + (b"" if method == b"HEAD" else b"r" * n)
    w.write(out)
    await w.drain()
    return close

async def serve(r, w):
    try:
        while not await one(r, w):
            pass
    except (EOFError, asyncio.IncompleteReadError, ConnectionError):
        pass
    w.close()

async def main():
    s = await asyncio.start_server(serve, None, 8080, backlog=1000, limit=1 << 20)
    await s.serve_forever()

asyncio.run(main())
"""

# ADDR CONNECTIONS AT-ONCE SEED. Names what failed, a line each.
CLIENT = r"""
import asyncio, hashlib, random, sys

addr, total, at_once, seed = sys.argv[1], *map(int, sys.argv[2:5])
DENIED = b"GET /secret HTTP/1.1\r\nHost: a\r\nX-Want: 1\r\n\r\n"
LIMIT = 60  # seconds for an answer: a link that loses much takes its time

def request(rng):
    '''(method, head without its end, body, hash, length of the answer)'''
    method = rng.choice([b"GET", b"GET", b"POST", b"POST", b"HEAD"])
    target = b"/v1/%d" % rng.getrandbits(40)
    want = rng.choice([0, 10, 333, 3001, 20000])
    head = b"%s %s HTTP/1.1\r\nHost: a\r\nX-Want: %d\r\n" % (method, target, want)
    pad = rng.choice([0, 30, 900, 4000, 20000]) if rng.random() < 0.4 else 0
    while pad > 0:
        n = min(pad, rng.randint(50, 2000))
        pad -= n
        head += b"X-P: " + b"p" * n + b"\r\n"
    if rng.random() < 0.1:
        head += b"X-Slow: %d\r\n" % rng.randint(1, 400)
    h, body = hashlib.sha1(target), b""
    if method == b"POST":
        b = rng.randbytes(rng.choice([1, 50, 3000, 60000, 200000]))
        h.update(b)
        if rng.random() < 0.5:
            head += b"Content-Length: %d\r\n" % len(b)
            body = b
        else:
            head += b"Transfer-Encoding: chunked\r\n"
            step = rng.choice([7, 100, 3000]) if len(b) < 5000 else rng.choice([500, 9000])
            body = b"".join(b"%x\r\n" % len(b[i:i + step]) + b[i:i + step] + b"\r\n" for i in range(0, len(b), step)) + b"0\r\n\r\n"
    return method, head, body, h.hexdigest().encode(), want

async def answer(r, method, h, want):
    head = await r.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head[:60]
    fields = {k.lower(): v.strip() for k, v in (x.split(b":", 1) for x in head[:-4].split(b"\r\n")[1:])}
    assert fields[b"x-sum"] == h, "the server has read something else"
    if method == b"HEAD":
        return
    got = 0
    if b"transfer-encoding" in fields:
        while n := int((await r.readuntil(b"\r\n"))[:-2], 16):
            got += len(await r.readexactly(n + 2)) - 2
        await r.readexactly(2)
    else:
        got = len(await r.readexactly(int(fields[b"content-length"])))
    assert got == want, (got, want)

async def put(rng, w, data):
    if rng.random() >= 0.3 or len(data) >= 3000:
        w.write(data)
        return await w.drain()
    while data:
        n = rng.randint(1, 200)
        w.write(data[:n])
        await w.drain()
        data = data[n:]
        if rng.random() < 0.2:
            await asyncio.sleep(0.002)

async def talk(rng, r, w, how, deny):
    requests = [request(rng) for _ in range(1 if how == "close" else rng.randint(1, 6))]
    end = (b"Connection: close\r\n" if how == "close" else b"") + b"\r\n"
    async def send():
        for method, head, body, h, want in requests:
            await put(rng, w, head + end + body)
            if how == "serial":
                await asyncio.wait_for(answer(r, method, h, want), LIMIT)
        if deny:
            await put(rng, w, DENIED)
        if how == "half":
            w.write_eof()
    sent = asyncio.create_task(send())
    if how != "serial":
        for method, head, body, h, want in requests:
            await asyncio.wait_for(answer(r, method, h, want), LIMIT)
    await sent
    if deny:
        head = await asyncio.wait_for(r.readuntil(b"\r\n\r\n"), LIMIT)
        assert head.startswith(b"HTTP/1.1 403"), head[:60]
    if deny or how in ("half", "close"):
        rest = await asyncio.wait_for(r.read(), LIMIT)
        assert deny or not rest, rest[:60]

async def one(k):
    rng = random.Random(seed * 1000003 + k)
    how = rng.choice(["serial", "pipe", "pipe", "half", "close"])
    # Pipelined behind others a denied request may cost them their answers where it overtakes them (docs/POLICY.md).
    deny = how == "serial" and rng.random() < 0.3
    w, port = None, 0
    try:
        r, w = await asyncio.wait_for(asyncio.open_connection(addr, 8080, limit=1 << 20), LIMIT)
        port = w.get_extra_info("sockname")[1]
        await talk(rng, r, w, how, deny)
    except Exception as e:
        print(f"connection {k} of seed {seed}, port {port}, {how}, {'denied at its end' if deny else 'all allowed'}: {e!r}", flush=True)
    if w:
        w.close()

async def main():
    room = asyncio.Semaphore(at_once)
    async def go(k):
        async with room:
            await one(k)
    await asyncio.gather(*(go(k) for k in range(total)))

asyncio.run(main())
"""


def bad_link(c, host, seed):
    """The node's link to the others goes through the relay."""
    port = "f" + host.ns[-8:]
    for cmd in (f"ip link set {port} nomaster", "ip link add ra type veth peer name rb", "ip link set ra up",
                "ip link set rb up master br0", "ethtool -K rb tx off", f"ethtool -K {port} tx off"):
        sh(["nsenter", f"--net=/run/netns/{c.fabric.ns}", *cmd.split()])
    relay = c.fabric.popen([f"{BUILD}/tests/tools/relay", port, "ra", *LINK, str(seed)], stdout=subprocess.PIPE)
    assert relay.stdout.readline().strip() in (b"ready", "ready")


def lossy(h, *what):
    for cmd in ("iptables", "ip6tables"):
        h.run([cmd, "-A", "INPUT", "-p", "tcp", *what, "-m", "statistic", "--mode", "random", "--probability", BEHIND, "-j", "DROP"])


def told(judge, failed):
    """What the judge says of the connections that failed."""
    ports = set(map(int, re.findall(r"port (\d+)", failed)))
    lines = judge.cli("flows", "-o", "json", "--no-follow", "--last", "100000").stdout.splitlines()
    of = [x for x in lines if any(f'ort":{p}' in x.replace(" ", "") for p in ports)]
    return "\n".join([*of, f"{len(lines)} flows in all", str(judge.drops())])


def storm(direction, family):
    seed = random.randrange(1 << 16)
    with Cluster("hs") as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        far = c.pod("n2", "far", labels={"app": "far"})
        seen = os.path.join(c.dir, "seen")
        open(seen, "w").close()
        web.popen([sys.executable, "-c", SERVER, seen], stdout=subprocess.DEVNULL)
        policy(c, [{"path": {"value": "/v1"}}], "web" if direction == "ingress" else "far", direction)
        c.start()
        in_force(c, [far], web)
        for h in (web, far):
            h.run("ethtool -K eth0 tx off tso off gso off sg off".split())
        bad_link(c, c.n2, seed)
        lossy(web, "--dport", "8080")
        lossy(far, "--sport", "8080")
        p = far.run([sys.executable, "-c", CLIENT, web.addr(family), "200", "40", str(seed)], timeout=280)
        assert not p.stdout, p.stdout + told(c.n1 if direction == "ingress" else c.n2, p.stdout)
        with open(seen, "rb") as f:
            assert not f.read()
        reasons = c.n1.drops() if direction == "ingress" else c.n2.drops()
        assert reasons.get("HTTP_CHECKSUM"), reasons  # the link was as bad as it should be


def test_ingress():
    storm("ingress", 4)


def test_egress():
    storm("egress", 6)
