#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A test API server: speaks Kubernetes' list and watch faithfully (TLS, HTTP/2 and 1.1, tokens, client
certificates, pages, bookmarks, streamed lists, compaction, label selectors) and misbehaves on command.

    apiserver.py --dir DIR [--port N] [--address A] [--h1] [--plain] [--token T]... [--bookmark SECONDS]

DIR receives ca.crt, tls.crt, tls.key, client.crt, client.key, kubeconfig and the socket `control`, which
takes one JSON command a line and answers one JSON line: see Control below.
"""
import argparse
import base64
import json
import os
import socket
import ssl
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fill  # noqa: E402
import h2  # noqa: E402
import reports  # noqa: E402
from certs import make_certs, write_kubeconfig  # noqa: E402
from conn import H1Connection, Sock  # noqa: E402
from store import RESOURCES, Expired, Store, dumps, parse_selector  # noqa: E402

PREFIXES = sorted({v[0] for v in RESOURCES.values()}, key=len, reverse=True)


def status_object(code, reason, message, **more):
    return dict({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                 "message": message, "reason": reason, "code": code}, **more)


REASONS = {400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 410: "Expired",
           422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable"}


class Server:
    def __init__(self, args):
        self.args = args
        self.store = Store(args.rv)
        self.tokens = list(args.token)
        self.faults = []
        self.log = []
        self.conns = []
        self.frozen = False
        self.bookmark_s = args.bookmark
        self.streaming = True
        self.lock = threading.Lock()

    # --- faults -------------------------------------------------------------------------------

    def fault(self, res, verb):
        """The first fault that fits, used up once."""
        with self.lock:
            for f in self.faults:
                if f.get("resource", "*") not in ("*", res):
                    continue
                if f.get("verb", "*") not in ("*", verb) or f.get("times", 1) == 0:
                    continue
                if f.get("after", 0) > 0:  # lets so many pass first
                    f["after"] -= 1
                    continue
                f["times"] = f.get("times", 1) - 1
                return f
        return {}

    # --- requests -----------------------------------------------------------------------------

    def user(self, conn, req):
        auth = req.get("authorization", "")
        cert = getattr(conn, "peer", None)
        if auth.startswith("Bearer ") and auth[7:] in self.tokens:
            return "system:token"
        if auth.startswith("Basic "):
            return base64.b64decode(auth[6:]).decode().split(":")[0]
        if cert:
            return cert
        return None if self.args.token else "system:anonymous"

    def refuse(self, st, code, message, retry_after=None, reason=None):
        h = [("Content-Type", "application/json")]
        if retry_after is not None:
            h.append(("Retry-After", retry_after))
        st.headers(code, h)
        st.data(dumps(status_object(code, reason or REASONS.get(code, ""), message)))
        st.end()
        return code

    def handle(self, conn, st, headers):
        req = dict(headers)
        path = req.get(":path", "/")
        entry = {"time": time.time(), "method": req.get(":method"), "path": path, "status": 0,
                 "conn": id(conn), "h2": isinstance(conn, h2.Connection), "verb": "", "resource": "",
                 "headers": headers}
        with self.lock:
            self.log.append(entry)
        try:
            self.route(conn, st, req, path, entry)
        except (BrokenPipeError, ConnectionError, OSError, ssl.SSLError):
            pass

    def route(self, conn, st, req, path, entry):
        url = urlsplit(path)
        q = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        user = self.user(conn, req)
        entry["user"] = user
        if user is None:
            entry["status"] = self.refuse(st, 401, "Unauthorized")
            return
        if url.path == "/version":
            entry["verb"] = "version"
            f = self.fault("version", "get")
            if f.get("hang"):
                return
            st.headers(200, [("Content-Type", "application/json")])
            st.data(b'{"major":"1","minor":"34"}')
            st.end()
            entry["status"] = 200
            return
        if reports.route(self, st, req, url.path, entry):
            return
        pre = next((p for p in PREFIXES if url.path == p or url.path.startswith(p + "/")), None)
        parts = url.path[len(pre):].strip("/").split("/") if pre else [""]
        ns = None
        if len(parts) >= 3 and parts[0] == "namespaces":
            ns, parts = parts[1], parts[2:]
        res = parts[0] if parts[0] in RESOURCES and RESOURCES[parts[0]][0] == pre else None
        if pre == "/apis/bpfnet.io/v1alpha1" and parts == [""] and \
           self.store.present["httpnetworkpolicies"]:
            st.headers(200, [("Content-Type", "application/json")])
            st.data(dumps({"kind": "APIResourceList", "groupVersion": "bpfnet.io/v1alpha1",
                           "resources": [{"name": "httpnetworkpolicies"}]}))
            st.end()
            return
        if res is None or not self.store.present[res]:
            f = self.fault(parts[0], "list")
            if "status" in f:
                entry["status"] = self.refuse(st, f["status"], f.get("message", "fault"))
                return
            entry["resource"] = parts[0]
            entry["status"] = self.refuse(st, 404, "the server could not find the requested resource")
            return
        entry["resource"] = res
        if req[":method"] != "GET":
            entry["status"] = self.write(st, req[":method"], res, ns, parts, st.body)
            return
        watch = q.get("watch") in ("true", "1")
        entry["verb"] = "stream" if watch and "sendInitialEvents" in q else \
            "watch" if watch else "list"
        f = self.fault(res, entry["verb"])
        if "status" in f:
            entry["status"] = self.refuse(st, f["status"], f.get("message", "fault"),
                                          f.get("retry_after"), f.get("reason"))
            return
        if f.get("hang"):
            return
        if f.get("garbage"):
            st.headers(200, [("Content-Type", "application/json")])
            st.data(f["garbage"].encode())
            st.end()
            return
        if len(parts) > 1:
            entry["status"] = self.get_one(st, res, ns, parts[1])
        elif watch:
            self.watch(st, res, q, f, entry, ns)
        else:
            self.list(st, res, q, f, entry, ns)

    def get_one(self, st, res, ns, name):
        o = self.store.objects[res].get((ns or "", name))
        if not o:
            return self.refuse(st, 404, f'{res} "{name}" not found')
        st.headers(200, [("Content-Type", "application/json")])
        st.data(o[0])
        st.end()
        return 200

    def write(self, st, method, res, ns, parts, body):
        if method == "DELETE":
            if not self.store.delete(res, ns or "", parts[1]):
                return self.refuse(st, 404, "not found")
            out = {"kind": "Status", "status": "Success"}
        else:
            out = json.loads(body)
            _, version, kind, namespaced = RESOURCES[res]
            out.setdefault("apiVersion", version)
            out.setdefault("kind", kind)
            if namespaced and ns:
                out.setdefault("metadata", {})["namespace"] = ns
            self.store.put(out)
        st.headers(200, [("Content-Type", "application/json")])
        st.data(dumps(out))
        st.end()
        return 200

    def pieces(self, st, f, b):
        """Sends b, whole or as the fault says: in pieces, cut off, or stopping in the middle."""
        cut = f.get("truncate")
        if cut is not None:
            st.data(b[:cut])
            time.sleep(0.05)
            if f.get("clean_end"):
                st.end()
            else:
                st.abort()
            raise BrokenPipeError
        if f.get("stall"):
            st.data(b[:len(b) // 2])
            time.sleep(3600)
        step = f.get("piece")
        if step:
            for i in range(0, len(b), step):
                st.data(b[i:i + step])
        else:
            st.data(b)

    def list(self, st, res, q, f, entry, ns):
        if q.get("resourceVersionMatch") and "resourceVersion" not in q:
            entry["status"] = self.refuse(st, 400, "resourceVersionMatch is forbidden unless "
                                                   "resourceVersion is provided")
            return
        token = q.get("continue")
        try:
            if f.get("expire_token") and token:
                raise Expired
            rv, items, nxt, left = self.store.page(res, q.get("labelSelector"),
                                                   int(q.get("limit", 0)), token, ns)
        except Expired:
            entry["status"] = self.refuse(st, 410, "The provided continue parameter is too old to "
                                                   "display a consistent list result.")
            return
        _, version, kind, _ = RESOURCES[res]
        meta = {"resourceVersion": str(rv)}
        if nxt:
            meta.update({"continue": nxt, "remainingItemCount": left})
        st.headers(200, [("Content-Type", "application/json")])
        entry["status"] = 200
        entry["items"] = len(items)
        head = b'{"kind":"%sList","apiVersion":"%s","metadata":%s,"items":[' % (
            kind.encode(), version.encode(), dumps(meta))
        # As the real one: items of the built-in kinds do not repeat what they are.
        strip = b'{"apiVersion":"%s","kind":"%s",' % (version.encode(), kind.encode())
        if "." not in version or version.endswith("k8s.io/v1"):
            items = [b"{" + i[len(strip):] if i.startswith(strip) else i for i in items]
        self.pieces(st, f, head + b",".join(items) + b"]}\n")
        st.end()

    # --- watches ------------------------------------------------------------------------------

    def event(self, st, f, type_, data):
        self.pieces(st, f, b'{"type":"%s","object":%s}\n' % (type_.encode(), data))

    def bookmark(self, st, f, res, rv, end=False):
        _, version, kind, _ = RESOURCES[res]
        meta = {"resourceVersion": str(rv), "creationTimestamp": None}
        if end:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        self.event(st, f, "BOOKMARK", dumps({"kind": kind, "apiVersion": version, "metadata": meta}))

    def initial(self, st, res, match, f, ns):
        """The first part of a streamed list. Returns the version to go on from."""
        with self.store.cond:
            rv = self.store.rv
            items = self.store.items(res, match, ns)
        for o in items:
            self.event(st, f, "ADDED", o)
        if f.get("no_end"):
            time.sleep(3600)
        if f.get("end_early"):
            st.end()
            raise BrokenPipeError
        self.bookmark(st, f, res, rv, end=True)
        return rv

    def watch(self, st, res, q, f, entry, ns):
        store, match = self.store, parse_selector(q.get("labelSelector"))
        until = time.time() + int(q.get("timeoutSeconds", 1800))
        entry["timeoutSeconds"] = int(q.get("timeoutSeconds", 0))
        entry["bookmarks"] = q.get("allowWatchBookmarks") == "true"
        if "sendInitialEvents" in q and (not self.streaming or
                                         q.get("resourceVersionMatch") != "NotOlderThan"):
            entry["status"] = self.refuse(
                st, 422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch "
                         "unless the WatchList feature gate is enabled", reason="Invalid")
            return
        rv = int(q.get("resourceVersion") or 0) or store.rv
        if f.get("gone_status") or ("sendInitialEvents" not in q and rv < store.compacted and
                                    not f.get("late_gone")):
            # etcd's answer comes as an event in a 200 stream; the watch cache's as a status.
            entry["status"] = self.refuse(st, 410, "too old resource version: %d (%d)" %
                                          (rv, store.compacted))
            return
        st.headers(200, [("Content-Type", "application/json")])
        entry["status"] = 200
        if f.get("end_at_once"):
            st.end()
            return
        if "error_event" in f:
            code = f["error_event"]
            self.event(st, {}, "ERROR", dumps(status_object(code, REASONS.get(code, ""),
                                                            f.get("message", "fault"))))
            st.end()
            return
        if f.get("garbage_event"):
            st.data(f["garbage_event"].encode())
            time.sleep(3600)
        try:
            if "sendInitialEvents" in q:
                rv = self.initial(st, res, match, f, ns)
            self.follow(st, res, match, f, rv, until, ns)
        except Expired:
            self.event(st, f, "ERROR", dumps(status_object(
                410, "Expired", "too old resource version: %d (%d)" % (rv, store.compacted))))
        st.end()

    def follow(self, st, res, match, f, rv, until, ns):
        store, began, mark = self.store, time.time(), time.time() + self.bookmark_s
        while time.time() < until and store.present[res] and not st.reset:
            if f.get("mute") and time.time() > began + f["mute"]:
                time.sleep(0.2)
                continue
            with store.cond:
                events = store.events_after(res, rv)
                if not events:
                    store.cond.wait(max(0.0, min(mark, until, time.time() + 1) - time.time()))
            for e in events:
                rv = e.rv
                seen = e.seen_by(match) if ns in (None, e.key[0]) else None
                if seen:
                    store.sent = time.monotonic()
                    if e.key[1] == store.tracked:
                        store.tracked_sent = store.sent
                    self.event(st, f, *seen)
            if time.time() >= mark:
                mark = time.time() + self.bookmark_s
                if not events:
                    # what happened between the look and now is not covered by a bookmark
                    with store.cond:
                        if store.events_after(res, rv):
                            continue
                        rv = store.rv
                    self.bookmark(st, f, res, rv)

    # --- connections --------------------------------------------------------------------------

    def connection(self, raw, tls):
        peer = None
        try:
            while self.frozen:
                time.sleep(0.05)
            if tls:
                raw = tls.wrap_socket(raw, server_side=True)
                cert = raw.getpeercert()
                if cert:
                    peer = dict(x[0] for x in cert["subject"]).get("commonName")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            is_h2 = tls and raw.selected_alpn_protocol() == "h2"
            sock = Sock(raw)
            conn = h2.Connection(sock, None) if is_h2 else H1Connection(sock, None)
            conn.handler = lambda st, req: self.handle(conn, st, req)
            conn.peer, conn.frozen = peer, self.frozen
            with self.lock:
                self.conns.append(conn)
            try:
                conn.serve()
            finally:
                conn.dead = True
                with self.lock:
                    self.conns.remove(conn)
        except (OSError, ConnectionError, ValueError):
            pass
        finally:
            try:
                raw.close()
            except OSError:
                pass

    def listen(self, tls):
        family = socket.AF_INET6 if ":" in self.args.address else socket.AF_INET
        ls = socket.socket(family, socket.SOCK_STREAM)
        ls.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        ls.bind((self.args.address, self.args.port))
        ls.listen(128)
        self.args.port = ls.getsockname()[1]

        def loop():
            while True:
                raw, _ = ls.accept()
                threading.Thread(target=self.connection, args=(raw, tls), daemon=True).start()
        threading.Thread(target=loop, daemon=True).start()

    def drop(self):
        with self.lock:
            for c in self.conns:
                c.frozen = False
                c.sock.close()

    def freeze(self, yes):
        with self.lock:
            self.frozen = yes
            for c in self.conns:
                c.frozen = yes


class Control:
    """Commands, each an object with "cmd"; the answer has "ok" and what was asked for."""

    def __init__(self, server):
        self.s = server

    def run(self, line):
        try:
            c = json.loads(line)
            return dict({"ok": True}, **(getattr(self, "do_" + c.pop("cmd"))(**c) or {}))
        except Exception as e:  # the test must see what was wrong with its command
            return {"ok": False, "error": repr(e)}

    def do_put(self, object, raw=None):
        return {"rv": self.s.store.put(object, raw)}

    def do_put_big(self, name, bytes):
        self.s.store.put({"apiVersion": "v1", "kind": "Service", "metadata": {
            "name": name, "namespace": "default", "annotations": {"a": "x" * bytes}},
            "spec": {"clusterIP": "10.96.8.8", "ports": [{"port": 80}]}})

    def do_delete(self, resource, name, namespace="", silent=False):
        return {"rv": self.s.store.delete(resource, namespace, name, silent)}

    def do_fill(self, **sizes):
        fill.fill(self.s.store, **sizes)

    def do_get(self, resource, name, namespace=""):
        return {"object": json.loads(self.s.store.objects[resource][(namespace, name)][0])}

    def do_events(self):
        return {"events": list(self.s.store.events.values())}

    def do_churn(self, **how):
        """rate: changes of a random endpoint a second; seconds; tracked: the object whose last event
        is in tracked_sent."""
        self.s.store.tracked = how.pop("tracked", None)
        threading.Thread(target=fill.churn, args=(self.s.store,), kwargs=how, daemon=True).start()

    def do_turnover(self, **how):
        fill.turnover(self.s.store, **how)

    def do_compact(self):
        self.s.store.compact()

    def do_present(self, resource, present):
        self.s.store.set_present(resource, present)

    def do_fault(self, **f):
        """resource, verb (list, watch, stream), times (-1: always), after, and what to do: status
        (message, retry_after), hang, garbage, truncate (clean_end), stall, piece, expire_token,
        end_at_once, mute (a watch says nothing more after so many seconds), error_event, gone_status,
        garbage_event, no_end, end_early."""
        with self.s.lock:
            self.s.faults.append(f)

    def do_clear(self):
        with self.s.lock:
            self.s.faults.clear()

    def do_streaming(self, on):
        self.s.streaming = on

    def do_bookmark(self, seconds):
        self.s.bookmark_s = seconds

    def do_tokens(self, tokens):
        self.s.tokens = tokens

    def do_freeze(self):
        self.s.freeze(True)

    def do_thaw(self):
        self.s.freeze(False)

    def do_drop(self):
        self.s.drop()

    def do_goaway(self):
        with self.s.lock:
            conns = list(self.s.conns)
        for c in conns:
            c.goaway()

    def do_requests(self, resource=None, verb=None, since=0):
        with self.s.lock:
            out = [e for e in self.s.log if (not resource or e["resource"] == resource) and
                   (not verb or e["verb"] == verb) and e["time"] >= since]
        return {"n": len(out), "requests": out[-50:], "conns": len(self.s.conns)}

    def do_now(self):
        return {"time": time.time(), "rv": self.s.store.rv, "sent": self.s.store.sent,
                "tracked_sent": self.s.store.tracked_sent,
                "churned": self.s.store.churned, "late": self.s.store.churn_late}

    def do_exit(self):
        threading.Timer(0.05, os._exit, (0,)).start()

    def serve(self, path):
        if os.path.exists(path):
            os.unlink(path)
        ls = socket.socket(socket.AF_UNIX)
        ls.bind(path)
        ls.listen(8)
        os.rename(path, path[:-len(".new")])
        while True:
            c, _ = ls.accept()
            threading.Thread(target=self.client, args=(c,), daemon=True).start()

    def client(self, c):
        with c, c.makefile("rwb") as f:
            for line in f:
                f.write(dumps(self.run(line)) + b"\n")
                f.flush()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", required=True)
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--address", default="127.0.0.1")
    p.add_argument("--h1", action="store_true", help="HTTP/1.1 only")
    p.add_argument("--plain", action="store_true", help="no TLS")
    p.add_argument("--token", action="append", default=[])
    p.add_argument("--bookmark", type=float, default=60)
    p.add_argument("--rv", type=int, default=1000, help="where resource versions begin")
    args = p.parse_args()
    os.makedirs(args.dir, exist_ok=True)
    tls = None
    if not args.plain:
        make_certs(args.dir, ["DNS:localhost", "DNS:kubernetes.default.svc", "IP:127.0.0.1", "IP:::1",
                              f"IP:{args.address}"])
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{args.dir}/tls.crt", f"{args.dir}/tls.key")
        tls.load_verify_locations(f"{args.dir}/ca.crt")
        tls.verify_mode = ssl.CERT_OPTIONAL
        tls.set_alpn_protocols(["http/1.1"] if args.h1 else ["h2", "http/1.1"])
    server = Server(args)
    server.listen(tls)
    host = f"[{args.address}]" if ":" in args.address else args.address
    url = f"{'http' if args.plain else 'https'}://{host}:{args.port}"
    write_kubeconfig(args.dir, url, args.token[0] if args.token else None)
    control = Control(server)
    threading.Thread(target=control.serve, args=(f"{args.dir}/control.new",), daemon=True).start()
    while not os.path.exists(f"{args.dir}/control"):
        time.sleep(0.01)
    print(url, flush=True)
    # Ends with whoever started it.
    while sys.stdin.buffer.read(4096):
        pass


if __name__ == "__main__":
    main()
