# SPDX-License-Identifier: MIT
"""Sockets that several threads write, and the server's half of HTTP/1.1."""
import select
import socket
import ssl
import threading
import time


class Sock:
    """A TLS or plain socket that several threads write and one reads."""

    def __init__(self, sock):
        self.s = sock
        self.s.setblocking(False)
        self.lock = threading.Lock()

    def recv(self, n):
        while True:
            with self.lock:
                try:
                    return self.s.recv(n)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                    pass
            select.select([self.s], [], [], 5)

    def sendall(self, b):
        view = memoryview(b)
        while view:
            with self.lock:
                try:
                    view = view[self.s.send(view):]
                    continue
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                    pass
            select.select([], [self.s], [], 5)

    def close(self):
        try:
            self.s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class H1Stream:
    """The answer to one HTTP/1.1 request, chunked."""

    def __init__(self, conn):
        self.conn, self.reset, self.frozen = conn, False, False
        self.cond = threading.Condition()
        self.dead = False

    def _send(self, b):
        while self.conn.frozen:
            time.sleep(0.05)
        self.conn.sock.sendall(b)

    def headers(self, status, headers, end=False):
        text = f"HTTP/1.1 {status} x\r\n"
        for k, v in headers:
            text += f"{k}: {v}\r\n"
        text += "Content-Length: 0\r\n\r\n" if end else "Transfer-Encoding: chunked\r\n\r\n"
        self._send(text.encode())

    def data(self, b):
        if b:
            self._send(b"%x\r\n" % len(b) + b + b"\r\n")

    def end(self):
        self._send(b"0\r\n\r\n")

    def abort(self):
        self.conn.sock.close()


class H1Connection:
    def __init__(self, sock, handler):
        self.sock, self.handler, self.frozen, self.dead = sock, handler, False, False

    def goaway(self):
        self.sock.close()

    def serve(self):
        buf = b""
        while True:
            while b"\r\n\r\n" not in buf:
                b = self.sock.recv(65536)
                if not b:
                    return
                buf += b
            head, buf = buf.split(b"\r\n\r\n", 1)
            lines = head.decode("latin-1").split("\r\n")
            method, path, _ = lines[0].split(" ", 2)
            req = [(":method", method), (":path", path)]
            for line in lines[1:]:
                k, v = line.split(":", 1)
                req.append((k.strip().lower(), v.strip()))
            n = int(dict(req).get("content-length", 0))
            while len(buf) < n:
                b = self.sock.recv(65536)
                if not b:
                    return
                buf += b
            s = H1Stream(self)
            s.body, buf = buf[:n], buf[n:]
            self.handler(s, req)
