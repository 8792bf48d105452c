#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""proxy.py [ADDRESS]: a proxy for tests: HTTP CONNECT and SOCKS5 on one port. Prints the port, then a line for each
connection that it makes: "connect HOST:PORT" or "socks HOST:PORT". Ends with its standard input."""
import socket
import struct
import sys
import threading


def pump(a, b):
    try:
        while True:
            data = a.recv(65536)
            if not data:
                break
            b.sendall(data)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def exact(c, n):
    out = b""
    while len(out) < n:
        b = c.recv(n - len(out))
        if not b:
            raise ConnectionError
        out += b
    return out


def socks(c):
    exact(c, exact(c, 1)[0])
    c.sendall(b"\x05\x00")
    _, _, _, kind = exact(c, 4)
    if kind == 1:
        host = socket.inet_ntop(socket.AF_INET, exact(c, 4))
    elif kind == 4:
        host = socket.inet_ntop(socket.AF_INET6, exact(c, 16))
    else:
        host = exact(c, exact(c, 1)[0]).decode()
    port = struct.unpack(">H", exact(c, 2))[0]
    print(f"socks {host}:{port}", flush=True)
    up = socket.create_connection((host, port))
    c.sendall(b"\x05\x00\x00\x01" + bytes(6))
    return up


def connect(c, first):
    head = first
    while b"\r\n\r\n" not in head:
        head += exact(c, 1)
    target = head.split(b" ")[1].decode()
    print(f"connect {target}", flush=True)
    host, port = target.rsplit(":", 1)
    up = socket.create_connection((host.strip("[]"), int(port)))
    c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    return up


def serve(c):
    try:
        first = exact(c, 1)
        up = socks(c) if first == b"\x05" else connect(c, first)
    except (OSError, ConnectionError):
        c.close()
        return
    threading.Thread(target=pump, args=(up, c), daemon=True).start()
    pump(c, up)


ls = socket.create_server((sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1", 0))
print(ls.getsockname()[1], flush=True)


def accept():
    while True:
        threading.Thread(target=serve, args=(ls.accept()[0],), daemon=True).start()


threading.Thread(target=accept, daemon=True).start()
while sys.stdin.buffer.read(4096):
    pass
