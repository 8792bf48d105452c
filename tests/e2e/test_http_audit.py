# SPDX-License-Identifier: MIT
"""HTTP rules under --policy-audit, and by annotation: what they deny is written down, and everything passes. What
passed that way is not allowed for ever when the rules are enforced."""
import contextlib
import json
import subprocess
import time

from harness import wait_for
from test_http import NODE_PORT, REQUESTS, RULES, VIP, VIP6, Switching, ask, cluster, conn, head, put, served

AUDIT = "--policy-audit"


def passes(host, addr, port, method, target, headers=""):
    """The status, the server's own."""
    with conn(host, addr, port) as (s, r):
        s.sendall(head(method, target, headers))
        status, fields, _ = r.response(method)
        assert fields["server"] != "bpfnet", (target, status)
        return status


def recorded(c, node=None):
    """{path: reason of the denial}, and how often each reason of another kind."""
    out, other = {}, {}
    for line in (node or c.n1).cli("flows", "-o", "json", "--no-follow", "--last", "100000").stdout.splitlines():
        f = json.loads(line)
        assert f["verdict"] == "allowed", f
        if f.get("audit") and f["http"]:
            assert f["reason"] == "HTTP_DENIED" and f["policy"] == "default/api", f
            out[f["http"]["path"]] = f["http"]["reason"]
        elif f.get("audit"):
            other[f["reason"]] = other.get(f["reason"], 0) + 1
    return out, other


def metric(c, text):
    return sum(float(x.rsplit(" ", 1)[1]) for x in c.n1.cli("metrics").stdout.splitlines() if x.startswith(text))


def audited(c):
    return metric(c, 'bpfnet_http_requests_total{verdict="audit",policy="default/api"}')


def nothing_dropped(c):
    for n in (c.n1, c.n2):
        bad = {k: v for k, v in n.drops().items() if v and k.startswith("HTTP_")}
        assert not bad, bad


def restart(c, *extra):
    for n in (c.n1, c.n2):
        n.stop()
    for n in (c.n1, c.n2):
        n.start(wait=False, extra=extra)
    for n in (c.n1, c.n2):
        wait_for("ready", n.ready, 15)


def says(s, r, target, method="GET"):
    s.sendall(head(method, target))
    return r.response(method)[0]


def requests(c):
    """One by one, kept, pipelined, with bodies."""
    ways = [(h, a, p) for h in (c.near, c.far) for f, v in ((4, VIP), (6, VIP6))
            for a, p in ((c.web.addr(f), 8080), (v, 80), (c.n1.addr(f), NODE_PORT))]
    for i, (method, target, headers, want) in enumerate(REQUESTS):
        for host, addr, port in ways[i % 6::6]:
            got = passes(host, addr, port, method, target, headers)
            assert got != 403 and (want == 403 or got in (200, 204)), (method, target, got)
    seen, _ = wait_for("written down", lambda: (lambda x: x if "/v1/itemsX" in x[0] else None)(recorded(c)))
    assert seen["/v1/itemsX"] == "NO_MATCH" and seen["//v1/items"] == "PATH", seen
    n = audited(c)
    assert n >= sum(w == 403 for *_, w in REQUESTS) * 2, n
    ok, no = head("GET", "/v1/items/k"), head("GET", "/no/k")
    body = head("POST", "/no/body", "Content-Length: 100000\r\n") + b"x" * 100000
    chunks = head("PUT", "/no/chunks", "Transfer-Encoding: chunked\r\n") + b"4\r\nGET \r\n0\r\nT: 1\r\n\r\n"
    for host in (c.near, c.far):
        for fam in (4, 6):
            n = audited(c)
            with conn(host, c.web.addr(fam), 8080) as (s, r):
                for x in (ok, no, ok, no, body, chunks, ok):
                    s.sendall(x)
                    assert r.response()[0] == 200, x[:40]
                s.sendall(no[:7])
                time.sleep(0.02)
                s.sendall(no[7:] + ok + no + no + ok)  # and a pipeline
                for _ in range(5):
                    assert r.response()[0] == 200
            assert audited(c) - n == 7, audited(c) - n
    urls = [f"http://{VIP}/v1/items/c1", f"http://{VIP}/no/c2", f"http://{VIP}/v1/items/c3"]
    out = c.far.run(["curl", "-sS", "-v", "-m", "5", *urls]).stdout
    assert out.split("\n")[:3] == ["GET /v1/items/c1", "GET /no/c2", "GET /v1/items/c3"], out
    assert {"GET /no/k", "POST /no/body", "PUT /no/chunks", "GET /no/c2"} <= set(served(c.web))
    n = audited(c)
    wrk = c.far.run(["wrk", "-t1", "-c50", "-d2s", f"http://{VIP}/no/wrk"]).stdout
    assert "Socket errors" not in wrk and "Non-2xx" not in wrk, wrk
    assert audited(c) - n > 100


def what_it_says(c):
    trace = ["policy", "trace", "--from", "default/near", "--to", "default/web", "--port", "8080", "--http", "GET /no"]
    p = c.n1.cli(*trace, check=False)
    assert p.returncode == 1 and "audit mode: recorded and let through" in p.stdout, p.stdout
    assert c.n1.json(*trace, check=False)["ingress"]["audit"] is True
    assert "audit" not in c.n1.json(*trace[:-1], "GET /v1/items", check=False)["ingress"]
    assert c.n1.json("status")["policyAudit"]
    assert "policyAudit" in c.n1.cli("status").stdout
    show = c.n1.json("policy", "show", "default/api")
    assert sum(x["requests"]["audited"] for x in show["rules"]) > 100, show
    assert not any(x["requests"]["denied"] for x in show["rules"]), show
    assert metric(c, "bpfnet_http_denied_total") == 0
    assert metric(c, 'bpfnet_http_audited_total{reason="NO_MATCH"}') > 100
    lines = c.n1.cli("flows", "--no-follow", "--last", "100000").stdout.splitlines()
    assert any(" audit " in x and "HTTP_DENIED default/api" in x and "/no/" in x for x in lines), lines[-5:]


def test_flag():
    """--policy-audit: all passes and is written down; then the rules are enforced, on connections that are open; then not
    any more."""
    rules = [dict(RULES[0], ports=[{"port": 8080}, {"port": 9001}]), RULES[1]]
    with cluster("ha", args=[], rules=None) as c, contextlib.ExitStack() as open_:
        restart(c, AUDIT)
        switch = Switching(c.web, 9001)
        old = [open_.enter_context(conn(h, c.web.ip, 8080)) for h in (c.near, c.far)]
        for s, r in old:
            assert says(s, r, "/before") == 200
        put(c, rules)
        wait_for("rules in force", lambda: passes(c.near, c.web.ip, 8080, "GET", "/probe") and "/probe" in recorded(c)[0])
        for s, r in old:  # open before the rules: enforced, it would have been reset
            assert says(s, r, "/no/old") == 200 and says(s, r, "/v1/items/old") == 200
        wait_for("written down, once", lambda: recorded(c)[1] == {"HTTP_MIDSTREAM": 2})
        requests(c)
        with conn(c.far, c.web.ip, 9001) as (s, r):  # an Upgrade that no rule names, and what follows it
            s.sendall(head("GET", "/no/up", "Connection: Upgrade\r\nUpgrade: other\r\n"))
            assert r.response()[0] == 101
            for _ in range(3):
                s.sendall(b"\n\n\x00GET")
                assert s.recv(100) == b"\n\n\x00GET"
        lost = open_.enter_context(conn(c.near, c.web.ip, 9001))  # the same, and then the rules are enforced
        lost[0].sendall(head("GET", "/no/up", "Connection: Upgrade\r\nUpgrade: other\r\n"))
        assert lost[1].response()[0] == 101
        kept = [open_.enter_context(conn(h, c.web.addr(f), 8080)) for h in (c.near, c.far) for f in (4, 6)]
        half = open_.enter_context(conn(c.far, c.web.ip6, 8080))
        for s, r in kept:
            assert says(s, r, "/no/1") == 200 and says(s, r, "/v1/items/1") == 200
        half[0].sendall(head("GET", "/no/half")[:-2])
        time.sleep(0.1)
        what_it_says(c)
        nothing_dropped(c)
        assert switch.got

        restart(c)
        for s, r in kept:
            assert says(s, r, "/v1/items/2") == 200
        for s, r in (*old, lost):
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                s.sendall(head("GET", "/v1/items/enforced"))
            assert r.closed(3), "could not be followed, and goes on"
        half[0].sendall(b"\r\n")
        assert half[1].response()[0] == 403 and half[1].closed()
        for s, r in kept[:2]:
            assert says(s, r, "/no/enforced") == 403 and r.closed()
        assert ask(c.far, c.web.ip, 8080, "GET", "/no/enforced") == 403
        new = open_.enter_context(conn(c.far, c.web.ip, 8080))
        assert says(*new, "/v1/items/3") == 200

        restart(c, AUDIT)
        before = c.n1.drops()
        for s, r in (*kept[2:], new):
            assert says(s, r, "/no/4") == 200 and says(s, r, "/v1/items/4") == 200
        assert passes(c.near, c.web.ip, 8080, "GET", "/no/5") == 200
        assert c.n1.drops() == before
        log = served(c.web)
        assert not [x for x in log if "enforced" in x] and log.count("GET /no/4") == 3, log[-20:]
        with open(c.web.log, encoding="latin-1") as f:  # what had passed of that head, and then a reset
            assert all(x.endswith(" 400\n") for x in f if "half" in x)


def test_annotation():
    """One policy in audit, at run time, over a kept connection; the egress side, too."""
    with cluster("hn") as c:
        wait_for("denied", lambda: ask(c.near, c.web.ip, 8080, "GET", "/no") == 403)
        with conn(c.near, c.web.ip, 8080) as (s, r), conn(c.far, c.web.ip6, 8080) as (s2, r2):
            for x in ((s, r), (s2, r2)):
                assert says(*x, "/v1/items") == 200
            api = c.objects["httpnetworkpolicy.default.api"]
            api["metadata"]["annotations"] = {"bpfnet.io/policy-audit": "true"}
            c.put(api)
            wait_for("audit", lambda: metric(c, "bpfnet_http_requests_total") and c.n1.json(
                "policy", "trace", "--from", "default/near", "--to", "default/web", "--port", "8080", "--http", "GET /no",
                check=False)["ingress"].get("audit"))
            wait_for("passes", lambda: passes_or_403(c.near, c.web.ip, 8080) == 200)
            for x in ((s, r), (s2, r2)):
                assert says(*x, "/no/a") == 200 and says(*x, "/v1/items") == 200
            c.policy("out", {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
                             "egress": [{"http": [{"path": {"value": "/v1"}}]}]}, kind="HTTPNetworkPolicy", api="bpfnet.io/v1alpha1")
            wait_for("egress is enforced", lambda: passes_or_403(c.far, c.web.ip, 8080) == 403)
            assert passes(c.far, c.web.ip, 8080, "GET", "/v1/other") == 200  # by egress; by ingress in audit
            c.delete("HTTPNetworkPolicy", "out")
            del api["metadata"]["annotations"]
            c.put(api)
            wait_for("enforced", lambda: passes_or_403(c.near, c.web.ip, 8080) == 403)
        with conn(c.near, c.web.ip, 8080) as (s, r):
            assert says(s, r, "/no/b") == 403 and r.closed()
        ns = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "annotations": {
            "bpfnet.io/policy-audit": "true"}}}
        c.put(ns)
        wait_for("the namespace's", lambda: passes_or_403(c.near, c.web.ip, 8080) == 200)
        del ns["metadata"]["annotations"]
        c.put(ns)
        wait_for("enforced", lambda: passes_or_403(c.near, c.web.ip, 8080) == 403)
        assert "GET /no/a" in served(c.web) and "GET /no/b" not in served(c.web)


def passes_or_403(host, addr, port):
    with conn(host, addr, port) as (s, r):
        return says(s, r, "/no/probe")


def test_loss():
    """Segments that are lost, on either side of the judge: nothing is held up, and what is judged is judged right."""
    with cluster("hl", args=[AUDIT]) as c:
        for host in (c.near, c.far, c.web):
            host.run(["nft", "table inet loss { chain i { type filter hook input priority 0; meta l4proto tcp "
                      "numgen random mod 100 < 3 drop; }; chain o { type filter hook output priority 0; "
                      "meta l4proto tcp numgen random mod 100 < 3 drop; }; }"])
        n, body = 0, b"GET /no HTTP/1.1\r\n\r\n" * 2000
        for k in range(12):
            host, addr = (c.near, c.far)[k & 1], c.web.addr(4 + (k & 2))
            with conn(host, addr, 8080, 20) as (s, r):
                for j in range(8):
                    target = ("/v1/items/%d", "/no/%d")[j & 1] % j
                    s.sendall(head("GET", target, "X: " + "y" * 3000 + "\r\n"))
                    assert r.response()[0] == 200
                    s.sendall(head("POST", f"/no/{j}", f"Content-Length: {len(body)}\r\n") + body)
                    assert r.response()[0] == 200
                n += 12
        got = wait_for("judged", lambda: audited(c))
        seen, other = recorded(c)
        print(f"{got:.0f} of {n} denials recorded, {other} connections given up", flush=True)
        # A connection whose first segment came late is not judged; every other one is, whatever was lost.
        assert n - 12 * sum(other.values()) <= got <= n and sum(other.values()) <= 4, (got, n, other)
        assert set(seen.values()) == {"NO_MATCH"}, seen
        nothing_dropped(c)
