# SPDX-License-Identifier: MIT
"""NetworkPolicy v1 a second time, from the API's text alone and with nothing of policy/: random clusters, and for
a pair of addresses what must come of them. As slow and plain as it can be."""
import ipaddress
import random

KEYS, VALUES = ["app", "tier", "x.io/k"], ["a", "b", ""]
NAMES, PROTOS, PORTS = ["http", "dns", "web"], ["TCP", "UDP", "SCTP"], [53, 80, 81, 443, 8080, 1, 65535]
NODES = {"n1": ["192.168.0.1", "fd99::1"], "n2": ["192.168.0.2"], "n3": ["fd99::3"]}
OUTSIDE = ["8.8.8.8", "192.168.0.9", "10.0.0.15", "2001:db8::5", "fd00::f"]


# --- random objects ---------------------------------------------------------------------------------

def labels(r):
    return {k: r.choice(VALUES) for k in KEYS if r.random() < .5}


def selector(r):
    if r.random() < .15:
        return r.choice([{}, {"matchLabels": None}, {"matchExpressions": []}])
    s = {}
    if r.random() < .6:
        s["matchLabels"] = {r.choice(KEYS): r.choice(VALUES)}
    if not s or r.random() < .4:
        op = r.choice(["In", "NotIn", "Exists", "DoesNotExist"])
        s["matchExpressions"] = [{"key": r.choice(KEYS), "operator": op}]
        if op in ("In", "NotIn"):
            s["matchExpressions"][0]["values"] = r.sample(VALUES, r.randint(1, 2))
    return s


def ns_selector(r, spaces):
    if r.random() < .3:
        return {"matchLabels": {"kubernetes.io/metadata.name": r.choice(spaces)}}
    return selector(r)


def block(r):
    """Sometimes with host bits, which do not count; excepts inside of it."""
    v4 = r.random() < .6
    base = r.choice(["10.0.0.0", "192.168.0.0", "8.8.8.8"] if v4 else ["fd00::", "fd99::", "2001:db8::"])
    addr = ipaddress.ip_address(base) + r.randint(0, 7)
    size = r.choice([0, 8, 24, 28, 30, 31, 32] if v4 else [0, 16, 64, 124, 126, 127, 128])
    net = ipaddress.ip_network(f"{addr}/{size}", strict=False)
    b = {"cidr": f"{addr}/{size}" if r.random() < .2 else str(net)}
    if r.random() < .5 and size < net.max_prefixlen:
        small = [ipaddress.ip_address(base) + r.randint(0, 7) for _ in range(r.randint(1, 2))]
        b["except"] = [str(ipaddress.ip_network(f"{a}/{r.randint(max(size + 1, net.max_prefixlen - 3), net.max_prefixlen)}",
                                                strict=False)) for a in small if a in net]
    return b


def peer(r, spaces):
    x = r.random()
    if x < .3:
        return {"ipBlock": block(r)}
    p = {}
    if x < .8:
        p["podSelector"] = selector(r)
    if x > .5:
        p["namespaceSelector"] = ns_selector(r, spaces)
    return p


def port(r):
    p = {"protocol": r.choice(PROTOS + [None])}
    x = r.random()
    if x < .4:
        p["port"] = r.choice(PORTS)
    elif x < .6:
        p["port"] = r.choice(PORTS)
        p["endPort"] = min(65535, p["port"] + r.choice([0, 1, 27, 60000]))
    elif x < .9:
        p["port"] = r.choice(NAMES)
    return p


def rule(r, key, spaces):
    u = {}
    if r.random() < .85:
        u[key] = r.choice([[], None]) if r.random() < .1 else [peer(r, spaces) for _ in range(r.randint(1, 2))]
    if r.random() < .75:
        u["ports"] = r.choice([[], None]) if r.random() < .1 else [port(r) for _ in range(r.randint(1, 2))]
    return u


def policy(r, i, spaces):
    s = {"podSelector": selector(r)}
    types = r.choice([None, None, [], ["Ingress"], ["Egress"], ["Ingress", "Egress"]])
    if types is not None:
        s["policyTypes"] = types
    for d, key in (("ingress", "from"), ("egress", "to")):
        if r.random() < .65:
            s[d] = [rule(r, key, spaces) for _ in range(r.randint(0, 3))]
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": f"pol{i}", "namespace": r.choice(spaces)}, "spec": s}


def pod(r, i, spaces, pods):
    ips = [[f"10.0.0.{i + 1}"], [f"fd00::{i + 1:x}"], [f"10.0.0.{i + 1}", f"fd00::{i + 1:x}"]][r.randint(0, 2)]
    p = {"apiVersion": "v1", "kind": "Pod",
         "metadata": {"name": f"p{i}", "namespace": r.choice(spaces), "labels": labels(r)},
         "spec": {"nodeName": r.choice(sorted(NODES)), "containers": [], "initContainers": []},
         "status": {"phase": "Running"}}
    for n, c in enumerate([{}, {}, {"restartPolicy": "Always"}, {}]):
        c.update(name=f"c{n}", ports=[{"name": NAMES[n % 3], "containerPort": r.choice(PORTS),
                                       "protocol": PROTOS[n % 3] if n < 3 else "SCTP"}] if r.random() < .6 else [])
        p["spec"]["containers" if n < 2 else "initContainers"].append(c)
    x = r.random()
    if x < .1:
        p["spec"]["hostNetwork"] = True
        ips = NODES[p["spec"]["nodeName"]]
    elif x < .2:  # its addresses are another's by now
        p["status"]["phase"] = r.choice(["Succeeded", "Failed"])
        ips = r.choice(pods)["ips"] if pods else ips
    elif x < .25:
        ips = []
    elif x < .3:
        p["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z"
    p["status"]["podIPs"] = [{"ip": a} for a in ips]
    return {"object": p, "ips": ips, "counts": x >= .25}


class World:
    def __init__(self, seed):
        self.r = r = random.Random(seed)
        self.spaces = [f"ns{i}" for i in range(3)]
        self.ns = {n: dict(labels(r), **{"kubernetes.io/metadata.name": n}) for n in self.spaces}
        self.pods = []
        for i in range(r.randint(5, 10)):
            self.pods.append(pod(r, i, self.spaces, [p for p in self.pods if p["counts"]]))
        self.policies = [policy(r, i, self.spaces) for i in range(r.randint(1, 7))]
        # the last namespace was deleted: its objects linger, and it has but its name
        self.ns["ns2"] = {"kubernetes.io/metadata.name": "ns2"}
        self.by_ip = {ipaddress.ip_address(a): p["object"] for p in self.pods if p["counts"] for a in p["ips"]}
        self.node_of = {ipaddress.ip_address(a): n for n, l in NODES.items() for a in l}

    def objects(self):
        out = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": self.ns[n]}} for n in self.spaces[:2]]
        out += [{"apiVersion": "v1", "kind": "Node", "metadata": {"name": n},
                 "status": {"addresses": [{"type": "InternalIP", "address": a} for a in l]}} for n, l in NODES.items()]
        out += [p["object"] for p in self.pods] + self.policies
        self.r.shuffle(out)
        return out

    def queries(self, n):
        ends = [a for p in self.pods if p["counts"] for a in p["ips"]] or OUTSIDE
        others = OUTSIDE + [a for l in NODES.values() for a in l]
        while n:
            a, b = (self.r.choice(ends if self.r.random() < .75 else others) for _ in range(2))
            if (":" in a) == (":" in b):
                n -= 1
                there = self.by_ip.get(ipaddress.ip_address(b), {"spec": {}})["spec"]
                named = [(x["protocol"], x["containerPort"]) for k in ("containers", "initContainers")
                         for c in there.get(k, []) for x in c["ports"]]
                proto, number = self.r.choice(PROTOS), self.r.choice(PORTS + [82, 54, 444])
                if named and self.r.random() < .35:
                    proto, number = self.r.choice(named)
                yield a, b, proto, number

    # --- what must come of it ---------------------------------------------------------------------

    @staticmethod
    def selects(s, have):
        for k, v in (s.get("matchLabels") or {}).items():
            if have.get(k) != v:
                return False
        for e in s.get("matchExpressions") or []:
            k, op = e["key"], e["operator"]
            if not {"In": k in have and have[k] in e.get("values", []), "Exists": k in have, "DoesNotExist": k not in have,
                    "NotIn": k not in have or have[k] not in e.get("values", [])}[op]:
                return False
        return True

    def peer_ok(self, pol, p, addr, obj):
        if p.get("ipBlock"):
            inside = [addr in ipaddress.ip_network(c, strict=False)
                      for c in [p["ipBlock"]["cidr"]] + (p["ipBlock"].get("except") or [])]
            return inside[0] and not any(inside[1:])
        if obj is None:
            return False
        m = obj["metadata"]
        if p.get("namespaceSelector") is None:
            if m["namespace"] != pol["metadata"]["namespace"]:
                return False
        elif not self.selects(p["namespaceSelector"], self.ns[m["namespace"]]):
            return False
        return p.get("podSelector") is None or self.selects(p["podSelector"], m["labels"])

    @staticmethod
    def port_ok(q, p, egress, proto, number, dst):
        if (q.get("protocol") or "TCP") != proto:
            return False
        want = q.get("port")
        if want is None:
            return True
        if isinstance(want, int):
            return want <= number <= q.get("endPort", want)
        if dst is None or (egress and p and p.get("ipBlock")):  # names never match ipBlock peers
            return False
        spec = dst["spec"]
        running = spec["containers"] + [c for c in spec["initContainers"] if c.get("restartPolicy") == "Always"]
        return any((x["name"], x["protocol"], x["containerPort"]) == (want, proto, number) for c in running for x in c["ports"])

    def side(self, egress, subject, addr, obj, proto, number, dst):
        """(isolated, rules that allow): of the subject, with the other end at addr."""
        isolated, rules = False, []
        for pol in self.policies:
            s, m = pol["spec"], pol["metadata"]
            types = s.get("policyTypes") or ["Ingress"] + ["Egress"] * bool(s.get("egress"))
            if m["namespace"] != subject["metadata"]["namespace"] or ("Egress" if egress else "Ingress") not in types or \
                    not self.selects(s["podSelector"], subject["metadata"]["labels"]):
                continue
            isolated = True
            for i, u in enumerate(s.get("egress" if egress else "ingress") or []):
                if any((p is None or self.peer_ok(pol, p, addr, obj)) and
                       (q is None or self.port_ok(q, p, egress, proto, number, dst))
                       for p in u.get("to" if egress else "from") or [None] for q in u.get("ports") or [None]):
                    rules.append((m["namespace"], m["name"], i))
        return isolated, rules

    def judge(self, a, b, proto, number):
        """{"egress" | "ingress": (isolated, rules)}; a direction that no policy is asked about is not isolated."""
        a, b = ipaddress.ip_address(a), ipaddress.ip_address(b)
        src, dst = self.by_ip.get(a), self.by_ip.get(b)
        out = {"egress": (False, []), "ingress": (False, [])}
        if src is not None and src is dst:
            return out
        if src is not None:
            out["egress"] = self.side(True, src, b, dst, proto, number, dst)
        if dst is not None and (src is not None or self.node_of.get(a) != dst["spec"]["nodeName"]):
            out["ingress"] = self.side(False, dst, a, src, proto, number, dst)
        return out
