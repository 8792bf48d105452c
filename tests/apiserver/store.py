# SPDX-License-Identifier: MIT
"""What the test API server keeps: objects, the log of their changes, and how far it is compacted."""
import base64
import bisect
import json
import threading

# plural -> (group prefix, apiVersion, kind, namespaced)
RESOURCES = {
    "services": ("/api/v1", "v1", "Service", True),
    "pods": ("/api/v1", "v1", "Pod", True),
    "namespaces": ("/api/v1", "v1", "Namespace", False),
    "nodes": ("/api/v1", "v1", "Node", False),
    "endpointslices": ("/apis/discovery.k8s.io/v1", "discovery.k8s.io/v1", "EndpointSlice", True),
    "networkpolicies": ("/apis/networking.k8s.io/v1", "networking.k8s.io/v1", "NetworkPolicy", True),
    "httpnetworkpolicies": ("/apis/bpfnet.io/v1alpha1", "bpfnet.io/v1alpha1", "HTTPNetworkPolicy",
                            True),
}
KINDS = {v[2]: k for k, v in RESOURCES.items()}


class Expired(Exception):
    """410: the resource version, or the continue token, is compacted."""


def dumps(o):
    return json.dumps(o, separators=(",", ":")).encode()


def loads(data, ns, name):
    """The object, or of one that was made bad (raw) what was meant."""
    try:
        o = json.loads(data)
    except ValueError:
        o = None
    if isinstance(o, dict) and isinstance(o.get("metadata"), dict) and o["metadata"].get("name") == name:
        return o
    return {"metadata": {"name": name, "namespace": ns}}


def parse_selector(text):
    """Label selectors: key, !key, k=v, k==v, k!=v, k in (a,b), k notin (a,b)."""
    reqs, depth, cur = [], 0, ""
    for ch in (text or "") + ",":
        depth += (ch == "(") - (ch == ")")
        if ch == "," and not depth:
            if cur.strip():
                reqs.append(cur.strip())
            cur = ""
        else:
            cur += ch

    def one(q):
        for op, want in ((" notin ", False), (" in ", True)):
            if op in q:
                k, vals = q.split(op)
                vs = [v.strip() for v in vals.strip().strip("()").split(",")]
                if want:
                    return lambda l: l.get(k.strip()) in vs
                return lambda l: l.get(k.strip()) not in vs
        if q.startswith("!"):
            return lambda l: q[1:] not in l
        if "!=" in q:
            k, v = q.split("!=")
            return lambda l: l.get(k) != v
        if "=" in q:
            k, v = q.replace("==", "=").split("=")
            return lambda l: l.get(k) == v
        return lambda l: q in l
    tests = [one(q) for q in reqs]
    return lambda labels: all(t(labels) for t in tests)


class Event:
    __slots__ = ("rv", "type", "key", "data", "labels", "old_labels", "old_data")

    def __init__(self, rv, type_, key, data, labels, old_labels, old_data):
        self.rv, self.type, self.key, self.data = rv, type_, key, data
        self.labels, self.old_labels, self.old_data = labels, old_labels, old_data

    def seen_by(self, match):
        """(type, data) for a watch with this selector, or None: objects enter and leave it."""
        now = self.type != "DELETED" and match(self.labels)
        before = self.old_labels is not None and match(self.old_labels)
        if now:
            return ("MODIFIED" if before else "ADDED", self.data)
        return ("DELETED", self.data) if before else None


class Store:
    UIDS = ("services", "networkpolicies", "httpnetworkpolicies")  # where a change is told from a new one

    def __init__(self, rv=1000):
        self.cond = threading.Condition()
        self.rv = rv
        self.compacted = rv  # what was before is not known
        self.objects = {r: {} for r in RESOURCES}   # (ns, name) -> (bytes, labels)
        self.log = {r: [] for r in RESOURCES}
        self.tracked, self.tracked_sent = None, 0.0
        self.churned = self.churn_late = 0
        self.sent = 0.0  # when the last event went to a watcher, CLOCK_MONOTONIC
        self.snapshots = {}
        self.events = {}     # (ns, name) -> Event
        self.present = {r: r != "httpnetworkpolicies" for r in RESOURCES}

    def put(self, obj, raw=None):
        """Creates or replaces; raw: these bytes are sent instead (to be an object that is bad), @RV its version."""
        res = KINDS[obj["kind"]]
        with self.cond:
            self.rv += 1
            meta = obj.setdefault("metadata", {})
            key = (meta.get("namespace", "") if RESOURCES[res][3] else "", meta["name"])
            meta["resourceVersion"] = str(self.rv)
            meta.setdefault("creationTimestamp", "2026-11-23T05:00:00Z")
            old = self.objects[res].get(key)
            was = loads(old[0], *key) if old and res in self.UIDS and not raw else {"metadata": {}}
            meta.setdefault("uid", was["metadata"].get("uid", "uid-%d" % self.rv))
            if res == "httpnetworkpolicies":  # as the real one: counts the changes of the spec
                meta["generation"] = was["metadata"].get("generation", 0) + \
                    (was.get("spec") != obj.get("spec"))
                if was.get("status"):
                    obj.setdefault("status", was["status"])
            data = raw.replace("@RV", str(self.rv)).encode() if raw else dumps(obj)
            labels = meta.get("labels") or {}
            self.objects[res][key] = (data, labels)
            self.log[res].append(Event(self.rv, "MODIFIED" if old else "ADDED", key, data, labels,
                                       old[1] if old else None, old[0] if old else None))
            self.cond.notify_all()
            return self.rv

    def delete(self, res, ns, name, silent=False):
        with self.cond:
            old = self.objects[res].pop((ns, name), None)
            if old is None:
                return None
            self.rv += 1
            o = loads(old[0], ns, name)
            o["metadata"]["resourceVersion"] = str(self.rv)
            if not silent:
                self.log[res].append(Event(self.rv, "DELETED", (ns, name), dumps(o), {}, old[1],
                                           old[0]))
            self.cond.notify_all()
            return self.rv

    def compact(self):
        with self.cond:
            self.compacted = self.rv
            self.snapshots.clear()
            for log in self.log.values():
                log.clear()
            self.cond.notify_all()

    def set_present(self, res, yes):
        with self.cond:
            self.present[res] = yes
            if not yes:
                for key in list(self.objects[res]):
                    self.delete(res, *key)
            self.cond.notify_all()

    def items(self, res, match, ns=None):
        return [d for k, (d, labels) in sorted(self.objects[res].items())
                if match(labels) and (ns is None or k[0] == ns)]

    def page(self, res, selector, limit, token, ns=None):
        """(rv, items, continue token or "", how many remain)"""
        with self.cond:
            if token:
                try:
                    rv, start = json.loads(base64.b64decode(token))
                    all_ = self.snapshots[(rv, res, selector, ns)]
                except (ValueError, KeyError):
                    raise Expired from None
            else:
                rv, start = self.rv, 0
                all_ = self.items(res, parse_selector(selector), ns)
            if not limit or start + limit >= len(all_):
                return rv, all_[start:], "", 0
            self.snapshots[(rv, res, selector, ns)] = all_
            nxt = base64.b64encode(dumps([rv, start + limit])).decode()
            return rv, all_[start:start + limit], nxt, len(all_) - start - limit

    def events_after(self, res, rv):
        """Under cond. Raises Expired."""
        if rv < self.compacted:
            raise Expired
        log = self.log[res]
        return log[bisect.bisect_right(log, rv, key=lambda e: e.rv):]
