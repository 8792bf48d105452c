# SPDX-License-Identifier: MIT
"""The server's half of HTTP/2 (RFC 9113), as much as an API server's client can see of it: streams,
flow control, PING, GOAWAY, RST_STREAM. Header blocks are decoded by libnghttp2 (libcurl needs it, so
it is always there) and encoded as literals."""
import ctypes
import struct
import threading

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)


class _Nv(ctypes.Structure):
    _fields_ = [("name", ctypes.POINTER(ctypes.c_uint8)), ("value", ctypes.POINTER(ctypes.c_uint8)),
                ("namelen", ctypes.c_size_t), ("valuelen", ctypes.c_size_t), ("flags", ctypes.c_uint8)]


class Inflater:
    """HPACK decoder."""

    def __init__(self):
        self.lib = ctypes.CDLL("libnghttp2.so.14")
        self.lib.nghttp2_hd_inflate_hd2.restype = ctypes.c_ssize_t
        self.lib.nghttp2_hd_inflate_hd2.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(_Nv), ctypes.POINTER(ctypes.c_int), ctypes.c_char_p,
            ctypes.c_size_t, ctypes.c_int]
        self.p = ctypes.c_void_p()
        self.lib.nghttp2_hd_inflate_new(ctypes.byref(self.p))

    def decode(self, block):
        out, nv, flags = [], _Nv(), ctypes.c_int()
        while True:
            n = self.lib.nghttp2_hd_inflate_hd2(self.p, ctypes.byref(nv), ctypes.byref(flags), block,
                                                len(block), 1)
            if n < 0:
                raise ConnectionError("bad header block")
            block = block[n:]
            if flags.value & 2:  # emit
                out.append((ctypes.string_at(nv.name, nv.namelen).decode("latin-1"),
                            ctypes.string_at(nv.value, nv.valuelen).decode("latin-1")))
            if flags.value & 1:  # final
                self.lib.nghttp2_hd_inflate_end_headers(self.p)
                return out
            if not block and not flags.value & 2:
                return out


def _literal(name, value):
    def text(s):
        b = s.encode("latin-1")
        if len(b) < 127:
            return bytes([len(b)]) + b
        n, out = len(b) - 127, b"\x7f"
        while n >= 128:
            out += bytes([n % 128 + 128])
            n //= 128
        return out + bytes([n]) + b
    return b"\x00" + text(name) + text(value)


class Stream:
    """One request: headers() once, data() any number of times, end()."""

    def __init__(self, conn, sid, window):
        self.conn, self.sid, self.window = conn, sid, window
        self.reset = False
        self.body = b""

    def headers(self, status, headers, end=False):
        block = _literal(":status", str(status))
        for k, v in headers:
            block += _literal(k.lower(), str(v))
        self.conn.send(HEADERS, 4 | (1 if end else 0), self.sid, block)

    def data(self, b):
        c, pos = self.conn, 0
        while pos < len(b):
            with c.cond:
                while not self.reset and not c.dead and min(self.window, c.window) <= 0:
                    c.cond.wait(1)
                if self.reset or c.dead:
                    raise BrokenPipeError
                n = min(self.window, c.window, c.max_frame, len(b) - pos)
                self.window -= n
                c.window -= n
            c.send(DATA, 0, self.sid, b[pos:pos + n])
            pos += n

    def end(self):
        self.conn.send(DATA, 1, self.sid, b"")

    def abort(self):
        self.conn.send(RST, 0, self.sid, struct.pack(">I", 2))


class Connection:
    """serve() reads frames until the peer goes; handler(stream, headers) runs in its own thread."""

    def __init__(self, sock, handler, max_streams=100):
        self.sock, self.handler, self.max_streams = sock, handler, max_streams
        self.lock = threading.Lock()
        self.cond = threading.Condition()
        self.window = 65535
        self.initial = 65535
        self.max_frame = 16384
        self.streams = {}
        self.inflater = Inflater()
        self.dead = False
        self.frozen = False  # accepts everything, says nothing
        self.last = 0

    def send(self, kind, flags, sid, payload):
        while self.frozen and not self.dead:
            threading.Event().wait(0.05)
        with self.lock:
            self.sock.sendall(struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) +
                              struct.pack(">I", sid) + payload)

    def goaway(self):
        self.send(GOAWAY, 0, 0, struct.pack(">II", self.last, 0))

    def _read(self, n):
        out = b""
        while len(out) < n:
            b = self.sock.recv(n - len(out))
            if not b:
                raise ConnectionError
            out += b
        return out

    def serve(self):
        try:
            if self._read(len(PREFACE)) != PREFACE:
                return
            self.send(SETTINGS, 0, 0, struct.pack(">HI", 3, self.max_streams))
            while True:
                self._frame()
        finally:
            with self.cond:
                self.dead = True
                self.cond.notify_all()

    def _headers_block(self, flags, payload):
        if flags & 8:
            payload = payload[1:len(payload) - payload[0]]
        if flags & 0x20:
            payload = payload[5:]
        while not flags & 4:
            head = self._read(9)
            flags = head[4]
            payload += self._read(int.from_bytes(head[:3], "big"))
        return self.inflater.decode(payload)

    def _frame(self):
        head = self._read(9)
        n, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        sid = int.from_bytes(head[5:], "big") & 0x7fffffff
        payload = self._read(n)
        if kind == SETTINGS and not flags & 1:
            self._settings(payload)
            self.send(SETTINGS, 1, 0, b"")
        elif kind == PING and not flags & 1:
            self.send(PING, 1, 0, payload)
        elif kind == WINDOW:
            inc = int.from_bytes(payload, "big") & 0x7fffffff
            with self.cond:
                if sid == 0:
                    self.window += inc
                elif sid in self.streams:
                    self.streams[sid].window += inc
                self.cond.notify_all()
        elif kind == RST:
            with self.cond:
                s = self.streams.pop(sid, None)
                if s:
                    s.reset = True
                self.cond.notify_all()
        elif kind == HEADERS:
            s = Stream(self, sid, self.initial)
            s.req = self._headers_block(flags, payload)
            self.last = max(self.last, sid)
            with self.cond:
                self.streams[sid] = s
            if flags & 1:
                threading.Thread(target=self.handler, args=(s, s.req), daemon=True).start()
        elif kind == DATA:
            s = self.streams.get(sid)
            if n:
                self.send(WINDOW, 0, 0, struct.pack(">I", n))
                self.send(WINDOW, 0, sid, struct.pack(">I", n))
            if s:
                s.body += payload[1:len(payload) - payload[0]] if flags & 8 else payload
                if flags & 1:
                    threading.Thread(target=self.handler, args=(s, s.req), daemon=True).start()
        elif kind == GOAWAY:
            raise ConnectionError

    def _settings(self, payload):
        for i in range(0, len(payload), 6):
            key, val = struct.unpack(">HI", payload[i:i + 6])
            with self.cond:
                if key == 4:
                    for s in self.streams.values():
                        s.window += val - self.initial
                    self.initial = val
                elif key == 5:
                    self.max_frame = min(val, 65536)
                self.cond.notify_all()
