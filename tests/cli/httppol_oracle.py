# SPDX-License-Identifier: MIT
"""HTTPNetworkPolicies and NetworkPolicies together, from docs/POLICY.md: random ones, random requests, and what must come of each."""
import os
import sys

from netpol_oracle import World, policy

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import http_oracle  # noqa: E402

METHODS = ["GET", "POST", "HEAD", "DELETE", "CONNECT", "get"]
PATHS = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/A", "/a%20b", "/b;v=1", "/%7ea"]
ODD = ["/a/../b", "/%61/b", "//a", "/a%2fb", "/a/./b", "/a%20b", "*", "http://a.x/a", "http://b.a.x/a/b?q=1", "/a?", "a", "/a/..;/b", "/%zz"]
EXPRESSIONS = ["/a(/b)?", "/[a-b]+", "/a/.*", ".*", "/(a|ab)/?", "/.{2,3}", r"\*|/A"]
HOSTS = ["a.x", "*.x", "b.a.x", "*.a.x", "x", "10.0.0.1", "A.X"]
ASKED = ["a.x", "b.a.x", "c.b.a.x", "x", "A.x:8080", "10.0.0.1", "a.x.", ".x", "[::1]:80", "y"]
HEADERS, VALUES = ["X-T", "x-u", "Cookie", "Upgrade", "Host"], ["u", "v", "u, v", "a.x", "websocket", "U"]
PARAMS = ["q", "r", "Q"]


def fields(r, names, count):
    return [{"name": n, "value": r.choice(["[uv]", "u(, v)*", ".*"]), "type": "RegularExpression"} if r.random() < .3 else
            {"name": n, "value": r.choice(VALUES)} for n in r.sample(names, count)]


def match(r):
    m = {}
    if r.random() < .4:
        m["method"] = r.choice(METHODS[:3] * 2 + METHODS)
    if r.random() < .6:
        m["path"] = r.choice([{"type": "RegularExpression", "value": r.choice(EXPRESSIONS)}, {"value": r.choice(PATHS)},
                              {"type": "Exact", "value": r.choice(PATHS)}, {"type": "PathPrefix", "value": r.choice(PATHS)}])
    if r.random() < .3:
        m["hostnames"] = r.sample(HOSTS, r.randint(1, 2))
    if r.random() < .3:
        m["headers"] = fields(r, HEADERS, r.randint(1, 2))
    if r.random() < .2:
        m["queryParams"] = fields(r, PARAMS, 1)
    return m


def http_policy(r, i, spaces):
    """One of netpol_oracle's, with requests: where they are, there is TCP only."""
    p = policy(r, i, spaces)
    p.update(apiVersion="bpfnet.io/v1alpha1", kind="HTTPNetworkPolicy")
    p["metadata"]["name"] = f"hpol{i}"
    if r.random() < .5:
        p["spec"]["podSelector"] = {}
    for key, peers in (("ingress", "from"), ("egress", "to")):
        for u in p["spec"].get(key, []):
            if r.random() < .8:
                u["http"] = [match(r) for _ in range(r.choice([0, 1, 2, 3]))]
                if r.random() < .5:
                    u.pop(peers, None)
                for q in u.get("ports") or []:
                    q["protocol"] = r.choice(["TCP", None])
                    if r.random() < .4:
                        q.update(port=r.choice([80, 8080, "http"]))
                        q.pop("endPort", None)
    return p


def request(r):
    """(method, target, host, headers)"""
    target = r.choice(ODD) if r.random() < .2 else r.choice(PATHS)
    if r.random() < .3 and target.startswith("/"):
        target += "?" + "&".join(r.choice(["q=u", "q=v", "Q=u%2C+v", "r=u", "r", "q=%75", "x=1;q=u"]) for _ in range(r.randint(1, 2)))
    headers = [f"{n}: {r.choice(VALUES)}" for n in r.sample(["X-T", "X-U", "Cookie", "x-t", "Upgrade"], r.choice([0, 0, 1, 2]))]
    method = r.choice(METHODS[:3] * 2 + METHODS)
    return method, "a.x:80" if method == "CONNECT" and r.random() < .8 else target, r.choice(ASKED[:2] * 2 + ASKED), headers


class HttpWorld(World):
    def __init__(self, seed):
        super().__init__(seed)
        r = self.r
        self.policies = [p for p in self.policies if r.random() < .5] + [http_policy(r, i, self.spaces) for i in range(r.randint(2, 6))]

    def queries(self, n):
        """Mostly TCP to ports that rules name, mostly with a request."""
        r = self.r
        for a, b, _, number in super().queries(n):
            q = request(r) if r.random() < .9 else None
            yield a, b, "TCP" if q or r.random() < .6 else r.choice(["UDP", "SCTP"]), r.choice([80, 8080, number]), q

    def side(self, egress, subject, addr, obj, proto, number, dst):
        """(isolated, rules that allow without a look, [(rule, its http)])"""
        plain, http = [], []
        key = "egress" if egress else "ingress"
        isolated, rules = super().side(egress, subject, addr, obj, proto, number, dst)
        for ns, name, i in rules:
            pol = next(p for p in self.policies if (p["metadata"]["namespace"], p["metadata"]["name"]) == (ns, name))
            matches = pol["spec"][key][i].get("http")
            if matches is None:
                plain.append((ns, name, i))
            elif proto == "TCP":
                http.append(((ns, name, i), matches))
        return isolated, plain, http

    def judge(self, a, b, proto, number):
        out = super().judge(a, b, proto, number)
        return {d: x if len(x) == 3 else (False, [], []) for d, x in out.items()}


def allowing(http, q):
    """[(rule, index of its http list)] that allow the request each alone, and whether all together do."""
    method, target, host, headers = q
    text = "\r\n".join([f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()
    every = [m for _, matches in http for m in matches]
    heads, why = http_oracle.judge(text, every)
    allow = len(heads) == 1 and why is None
    alone = [(u, k) for u, matches in http for k, m in enumerate(matches) if http_oracle.judge(text, [m]) == (heads, None)] if allow else []
    return allow, alone
