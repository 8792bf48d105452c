# SPDX-License-Identifier: MIT
"""A kernel that refuses the program that judges requests (BPFNET_HTTP=refused makes this one do so): the daemon says so,
refuses the policies with HTTP rules, and what they select is closed; everything else goes on."""
import contextlib
import socket

from harness import wait_for
from kubecluster import KubeCluster
from test_http import RULES, Reader, ask, cluster, conn, head, in_force, put, served

CANNOT = "HTTP rules cannot be enforced: Linux "
L4 = [{"from": RULES[0]["from"], "ports": [{"port": 8080}]}]


def rejected(node):
    return {x["name"]: x for x in node.json("status")["rejected"]}


def refused(c, name):
    wait_for(f"{name} refused", lambda: name in rejected(c.n1))
    return rejected(c.n1)[name]


def metric(node, name):
    return next(float(x.split()[1]) for x in node.cli("metrics").stdout.splitlines() if x.startswith(name + " "))


def silent(s):
    s.settimeout(0.5)
    with contextlib.suppress(ConnectionResetError):
        try:
            return s.recv(1) == b""
        except (TimeoutError, socket.timeout):
            pass
    return True


def test_refused_and_closed():
    with cluster("nh", rules=None, kind=KubeCluster) as c:
        c.api("present", resource="httpnetworkpolicies", present=True)
        put(c, L4)  # its last good version allows all: it must not come back
        wait_for("open", lambda: ask(c.near, c.web.ip, 8080, "DELETE", "/open") == 200)
        put(c, RULES)
        wait_for("rules", lambda: ask(c.near, c.web.ip, 8080, "DELETE", "/polled") == 403)
        in_force(c, c.near)
        assert c.n1.json("status")["features"]["http"] is True and metric(c.n1, "bpfnet_http_unsupported") == 0
        with conn(c.near, c.web.ip, 8080) as (s, r):
            s.sendall(head("GET", "/v1/items/before"))
            assert r.response()[0] == 200
            c.n1.stop()
            c.n1.start(env={"BPFNET_HTTP": "refused"})
            s.sendall(head("GET", "/v1/items/after"))
            assert silent(s), "a connection from before goes on unjudged"
        assert c.near.ask(c.web.ip, 8080, timeout=0.5) == "timeout"
        assert c.n1.drops().get("POLICY_INGRESS", 0) > 0, c.n1.drops()
        said(c)
        only_good(c)
        others(c)
        # One that refuses only what makes it quick.
        c.n1.stop()
        c.n1.start(env={"BPFNET_HTTP": "slow"})
        put(c, RULES)
        wait_for("rules, byte by byte", lambda: ask(c.near, c.web.ip, 8080, "GET", "/polled") == 403)
        in_force(c, c.near)
        assert "judged byte by byte" in c.n1.log_tail(200)
        assert c.n1.json("status")["features"]["http"] is True
        # And back: a kernel that can.
        c.n1.stop()
        c.n1.start()
        in_force(c, c.near)
        assert ask(c.near, c.web.ip, 8080, "GET", "/again") == 403
        assert not rejected(c.n1)
        wait_for("condition", lambda: condition(c).get("status") == "True", 30)
        only_good(c, "/v1/items/after")  # sent again when that was allowed


def only_good(c, *more):
    good = ("/v1/items", "/v1/items/before", "/open", "/polled", "/l4", *more)
    strange = [x for x in served(c.web) if x.split()[1] not in good]
    assert not strange, strange


def said(c):
    e = refused(c, "api")
    assert e["field"] == "spec.ingress[0].http" and e["message"].startswith(CANNOT), e
    assert e["inForce"] == "isolation only", e
    st = c.n1.json("status")
    assert st["ready"] and st["features"]["http"] is False and st["http"]["unsupported"].startswith(CANNOT), st
    assert metric(c.n1, "bpfnet_http_unsupported") == 1
    log = c.n1.log_tail(200)
    assert "warn" in log and f"{CANNOT}" in log and "the kernel refuses the programs of 'pod'" in log, log
    assert "HTTPNetworkPolicy default/api: spec.ingress[0].http: " + CANNOT in log, log
    wait_for("event", lambda: any(CANNOT in x["note"] and "isolates what it selects and allows nothing" in x["note"]
                                  for x in c.api("events")["events"]), 30)
    # n2 can, and leaves what n1 says.
    wait_for("condition", lambda: condition(c).get("reason") == "Unsupported", 30)
    assert condition(c)["status"] == "False" and condition(c)["message"].startswith("node n1: spec.ingress[0].http: " + CANNOT)
    p = c.n1.cli("policy", "trace", "--from", "default/near", "--to", "default/web", "--port", "8080", "--http", "GET /v1/items",
                 "--verify", check=False)
    assert p.returncode == 1, p.stdout + p.stderr


def condition(c):
    o = c.api("get", resource="httpnetworkpolicies", namespace="default", name="api")["object"]
    return next((x for x in o.get("status", {}).get("conditions", []) if x["type"] == "Accepted"), {})


def others(c):
    """Pods without such policies, NetworkPolicies, and an HTTPNetworkPolicy whose rules have no http."""
    assert c.near.ask(c.far.ip, 9, timeout=0.5) != "timeout", "nothing selects it"
    put(c, L4)
    wait_for("not refused any more", lambda: "api" not in rejected(c.n1))
    wait_for("as L4", lambda: ask(c.near, c.web.ip, 8080, "DELETE", "/l4") == 200)
    put(c, [{"ports": [{"port": 8080}], "http": [{"path": {"value": "/v1"}}]}], direction="egress", app="client", name="out")
    assert refused(c, "out")["field"] == "spec.egress[0].http"
    wait_for("egress is closed", lambda: c.near.ask(c.web.ip, 8080, timeout=0.5) == "timeout")
    c.delete("HTTPNetworkPolicy", "out")
    wait_for("open again", lambda: ask(c.near, c.web.ip, 8080, "DELETE", "/l4") == 200)
