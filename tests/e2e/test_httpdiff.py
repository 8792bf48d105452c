# SPDX-License-Identifier: MIT
"""What HTTP rules allow means the same to a real server: nginx is sent the bytes that the parser lets through, and
must see the same requests in them, no more and no others. The corpus is of this file and random, the same
each time (BN_SEED, BN_STREAMS)."""
import contextlib
import errno
import json
import os
import random
import socket
import struct
import subprocess
import tempfile
import time
import urllib.parse

import http_corpus
import http_oracle
from harness import BUILD, Cluster, wait_for

RULES = [{}, {"method": "CONNECT", "hostnames": ["never"]}]
PORTS = 2000  # source port of the first stream; below those that the kernel gives out

LINES = ["GET / HTTP/1.1", "GET /a/b?x=1 HTTP/1.1", "POST /form HTTP/1.1", "HEAD /h HTTP/1.1", "PUT /p%41q HTTP/1.1",
         "DELETE /x.y/.z/..w HTTP/1.1", "OPTIONS * HTTP/1.1", "OPTIONS / HTTP/1.1", "PATCH /~a;v=1,2/@:!$&'()*+= HTTP/1.1",
         "GET http://host:80/abs?q HTTP/1.1", "GET HTTP://Host HTTP/1.1", "GET http://h?q HTTP/1.1", "GET /10 HTTP/1.0",
         "GET /a//b HTTP/1.1", "GET /a/../b HTTP/1.1", "GET /a/./b HTTP/1.1", "GET /%2e%2e/x HTTP/1.1", "GET /a%2fb HTTP/1.1",
         "GET /a%00 HTTP/1.1", "GET /a\\b HTTP/1.1", "GET /#f HTTP/1.1", "GET /?a#f HTTP/1.1", "GET /x HTTP/1.2",
         "GET /x HTTP/2.0", "GET /x http/1.1", "GET  /x HTTP/1.1", "GET /x  HTTP/1.1", "GET /x HTTP/1.1 ", " GET /x HTTP/1.1",
         "GET /x", "GET\t/x HTTP/1.1", "G@T /x HTTP/1.1", "CONNECT a:80 HTTP/1.1", "PRI * HTTP/2.0", "get /lower HTTP/1.1",
         "GET /tab\there HTTP/1.1", "GET /\xc3\xa9 HTTP/1.1", "GET /%C3%A9 HTTP/1.1", "GET /trail/ HTTP/1.1", "TRACE / HTTP/1.1",
         "GET x HTTP/1.1", "GET http:///x HTTP/1.1", "GET //x/y HTTP/1.1", "GET /%zz HTTP/1.1", "GET /? HTTP/1.1", "GET /a? HTTP/1.0"]
FIELDS = ["Host: a", "Host: a", "Host: a", "Host: b.example:8080", "host:c", "HOST:\td \t", "Host: [::1]:80", "Host: [::1]", "Host:", "Host: a, b",
          "Host: a b", "Host: u@a", "Host : a", " Host: a", "Host: a\r\n b", "X: y", "X:", "X: \t", "X:\xff\x80", "X: a\x01", "X: a\x7fb",
          "X: a\rb", "X: a\nHost: z", "X y", ": v", "X(: v", "A-b_c.d!#$%&'*+^`|~: v", "Content-Length: 0", "Content-Length: 5",
          "Content-Length: 5", "Content-Length:\t3 ", "Content-Length: 05", "Content-Length: +5", "Content-Length: 5,5", "Content-Length: 5 5",
          "Content-Length: 0x5", "Content-Length: -0", "Content-Length:", "Content-Length: 18446744073709551616", "Content_Length: 5",
          "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: Chunked\t", "Transfer-Encoding: identity",
          "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: xchunked", "Transfer-Encoding:\x0bchunked",
          "Transfer-Encoding : chunked", "Transfer_Encoding: chunked", "Transfer-Encoding:", "Connection: keep-alive", "Connection: Content-Length",
          "Expect: 100-continue", "Upgrade: h2c", "Upgrade: websocket", "TE: trailers", "Range: bytes=0-0", "X: " + "v" * 3000]
BODIES = ["hello", "hello", "abc", "", "5\r\nhello\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "0\r\n\r\n", "3;x=y\r\nabc\r\n0\r\n\r\n", "5\r\nhello\r\n0\r\nX: t\r\n\r\n",
          "5\nhello\n0\n\n", "05\r\nhello\r\n0\r\n\r\n", "5 \r\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "g\r\n", "5\r\nhello0\r\n\r\n",
          "fffffffffffffffff\r\n", "5;\r\nhello\r\n0\r\n\r\n", "A\r\n0123456789\r\n0\r\n\r\n", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
          "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", "1\r\nZ\r\nQ\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n", "-5\r\nhello\r\n", "0x5\r\nhello\r\n0\r\n\r\n"]
ENDS = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n"]


def request(r):
    out = r.choice(LINES if r.random() < 0.25 else LINES[:13]) + (r.choice(ENDS) if r.random() < 0.1 else "\r\n")
    plain = r.random() < 0.85  # most of a request is as it should be, or nothing would ever be allowed
    n = r.randrange(4)
    fields = [r.choice(FIELDS) for _ in range(n)] if not plain else [r.choice(["X: y", "X:", "TE: trailers", "Connection: keep-alive"]) for _ in range(n)]
    body = ""
    if plain:
        fields.append("Host: a")
        kind = r.randrange(4)
        if kind == 1:
            body = r.choice(["hello", "hello", "", "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"])
            fields.append(f"Content-Length: {len(body) + (r.choice([-1, 1]) if r.random() < 0.1 else 0)}")
        elif kind == 2:
            body = r.choice(BODIES)
            fields.append("Transfer-Encoding: chunked")
        if r.random() < 0.2:
            fields.append(r.choice(FIELDS))
        r.shuffle(fields)
    elif r.random() < 0.5:
        fields.append("Host: a")
    for f in fields:
        out += f + (r.choice(ENDS) if r.random() < 0.05 else "\r\n")
    out += r.choice(ENDS) if r.random() < 0.05 else "\r\n"
    return out + (body if plain else r.choice(BODIES) if r.random() < 0.5 else "")


def streams(n):
    r = random.Random(int(os.environ.get("BN_SEED", "1")))
    for line in LINES:
        yield (line + "\r\nHost: a\r\n\r\n").encode("latin-1")
    for f in FIELDS:
        for body in ("", "hello", "5\r\nhello\r\n0\r\n\r\n"):
            yield f"POST /f HTTP/1.1\r\n{f}\r\n{'' if f.lower().startswith('host') else 'Host: a'+chr(13)+chr(10)}\r\n{body}".encode("latin-1")
    for b in BODIES:
        for f in ("Transfer-Encoding: chunked", f"Content-Length: {len(b)}"):
            yield f"POST /b HTTP/1.1\r\nHost: a\r\n{f}\r\n\r\n{b}GET /after HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1")
    while n > 0:
        data = bytearray("".join(request(r) for _ in range(r.randrange(1, 5))).encode("latin-1"))
        if r.random() < 0.3:  # a byte is lost, doubled or another
            at = r.randrange(len(data))
            data[at:at + 1] = r.choice([b"", bytes(data[at:at + 1]) * 2, bytes([r.choice(b"\r\n\0 \t:;,/\\.%#?\x80a0")])])
        yield bytes(data)
        n -= 1


def parsed(data, rules):
    """What our parser says of each stream."""
    p = subprocess.run([os.path.join(BUILD, "tests/tools/httpfeed"), json.dumps(rules)], check=True, capture_output=True,
                       input=b"".join(struct.pack(">I", len(d)) + d for d in data))
    return [json.loads(x) for x in p.stdout.splitlines()]


@contextlib.contextmanager
def nginx():
    with tempfile.TemporaryDirectory(prefix="bnhd-") as d:
        port = 80
        with open(f"{d}/n.conf", "w") as f:
            f.write(f"""daemon off; master_process off; pid {d}/pid; error_log {d}/err crit;
events {{ worker_connections 2048; }}
http {{ log_format j escape=json '["$remote_port","$request_method","$request_uri","$http_host","$status","$uri","$host"]';
access_log {d}/access j; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d}; uwsgi_temp_path {d}; scgi_temp_path {d};
large_client_header_buffers 8 40k; client_max_body_size 0; merge_slashes off; underscores_in_headers on; ignore_invalid_headers off;
keepalive_requests 10000; client_header_timeout 3; client_body_timeout 3; lingering_close off; server_tokens off;
server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 ok; }} }} }}""")
        p = subprocess.Popen(["nginx", "-c", f"{d}/n.conf", "-e", f"{d}/err"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for("nginx", lambda: socket.create_connection(("127.0.0.1", port), 1))
            yield port, f"{d}/access"
        finally:
            p.terminate()
            p.wait()


def send(port, n, data):
    """The stream from a source port of its own; returns when nginx has closed or answered everything."""
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", PORTS + n))
    s.settimeout(5)
    with contextlib.closing(s):
        s.connect(("127.0.0.1", port))
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
        except OSError as e:
            if e.errno not in (errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE):
                raise


def meaning(data, begin, end):
    """Method, target, Host as whoever reads them literally."""
    head = data[begin:end].lstrip(b"\r\n").decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ")
    host = [f.split(":", 1)[1].strip(" \t") for f in head[1:] if f.lower().startswith("host:")]
    return [method, target, host[0] if host else ""]


def normal(target):
    """The path as rules see it, decoded in full."""
    if target.lower().startswith("http://"):
        rest = target[7:].split("?")[0]
        target = "/" + rest.split("/", 1)[1] if "/" in rest else "/"
    return urllib.parse.unquote(target.split("?")[0], encoding="latin-1")


def test_nginx_reads_the_same():
    data = list(streams(int(os.environ.get("BN_STREAMS", "2500"))))
    ours = parsed(data, RULES)
    assert len(ours) == len(data)
    seen = {}
    with Cluster("hd", nodes=0) as c, c.fabric.enter(), nginx() as (port, log): # the source ports are its own
        for n, (d, o) in enumerate(zip(data, ours)):
            # Up to the byte that is denied; its segment, of which nothing passes, may be only that byte.
            send(port, n, d[:o["at"]])
        time.sleep(0.3)
        with open(log, encoding="latin-1") as f:
            for line in f:
                who, *req = json.loads(line)
                seen.setdefault(int(who) - PORTS, []).append(req)
    allowed = stricter = 0
    reasons = {}
    for n, (d, o) in enumerate(zip(data, ours)):
        want = [meaning(d, b, e) for b, e, _ in o["requests"]]
        got = seen.get(n, [])
        served = [g for g in got if int(g[3]) < 400 or int(g[3]) == 405]
        refused = [g for g in got if g not in served]
        allowed += len(want)
        reasons[o["reason"]] = reasons.get(o["reason"], 0) + 1
        assert len(served) <= len(want), (d, o, got)
        for g, w in zip(served, want):
            assert g[0] == w[0] and g[1] == urllib.parse.urlsplit(w[1]).path + ("?" + w[1].split("?", 1)[1] if "?" in w[1] else "") \
                or g[:2] == w[:2] or (w[1].lower().startswith("http://") and normal(w[1]) == g[4]), (d, o, got)
            assert g[2] == w[2], (d, w, g)
            if w[1] != "*":
                assert g[4].encode("latin-1") == normal(w[1]).encode("latin-1"), (d, w, g)
        if len(served) < len(want):
            # nginx refuses what we allow: safe, if that is the end of it.
            assert len(refused) <= 1, (d, o, got)
            stricter += 1
    assert allowed > len(data) / 2, f"the corpus is mostly refused: {allowed} requests in {len(data)} streams"
    assert len(reasons) > 20, reasons
    print(f"       {len(data)} streams, {allowed} requests, {stricter} streams in which nginx refuses what we allow", flush=True)


def test_means_what_is_written():
    """The parser and a second reading of docs/POLICY.md allow the same requests of the same streams, against rules of every kind."""
    data = list(http_corpus.streams(random.Random(int(os.environ.get("BN_SEED", "1"))), int(os.environ.get("BN_STREAMS", "8000"))))
    allowed = 0
    for d, o in zip(data, parsed(data, http_corpus.RULES)):
        want, why = http_oracle.judge(d, http_corpus.RULES)
        got = [r[:2] for r in o["requests"]]
        allowed += len(got)
        assert got == want, (d, o, want, why)
        if o["reason"] == "OK":
            assert why in (None, "?"), (d, o, why)
        else:  # it may be denied before it is complete
            assert why is not None, (d, o)
    assert allowed > len(data) / 3, (allowed, len(data))
    print(f"       {len(data)} streams, {allowed} requests", flush=True)
