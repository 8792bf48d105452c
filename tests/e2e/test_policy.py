# SPDX-License-Identifier: MIT
"""NetworkPolicy with real packets: isolation, directions, changes under traffic, explanations."""
import contextlib
from concurrent.futures import ThreadPoolExecutor
import json
import socket
import time

from harness import Cluster, wait_for

VIP, VIP6 = "10.96.1.10", "fd00:96:1::10"
PORTS = [("http", "TCP", 80, 8080), ("dns", "UDP", 53, 5353)]


def who(a):
    return a.split(" ")[0]


@contextlib.contextmanager
def cluster(prefix, topology="routed", args=()):
    """web (n1) is reached by red (n1), blue (n2) and ops/red (n2)."""
    with Cluster(prefix, topology=topology, daemon_args=args) as c:
        c.web = c.pod("n1", "web", labels={"app": "web"}, ports=[{"name": "web", "containerPort": 8080}])
        c.red = c.pod("n1", "red", labels={"color": "red"})
        c.blue = c.pod("n2", "blue", labels={"color": "blue"})
        c.ops = c.pod("n2", "red", ns="ops", labels={"color": "red"})
        c.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ops", "labels": {"team": "ops"}}})
        for port in (8080, 9090):
            c.web.serve(port)
        c.web.serve(5353, "udp")
        c.blue.serve(8080)
        c.service("web", PORTS, [c.web], ips=[VIP, VIP6])
        c.start()
        yield c


def reach(c, host, timeout=0.6):
    """What of web this host reaches: a set of tcp, udp, other, by address and by service."""
    asks = []
    for fam, vip in ((4, VIP), (6, VIP6)):
        a = c.web.addr(fam)
        asks += [(f"tcp{fam}", a, 8080, "tcp"), (f"udp{fam}", a, 5353, "udp"), (f"other{fam}", a, 9090, "tcp"),
                 (f"svc{fam}", vip, 80, "tcp"), (f"svcudp{fam}", vip, 53, "udp")]
    with ThreadPoolExecutor(len(asks)) as pool:
        got = list(pool.map(lambda x: who(host.ask(x[1], x[2], x[3], timeout=timeout)), asks))
    for a, r in zip(asks, got):
        assert r in ("web", "timeout", "refused"), (host.name, a, r)
    return {a[0] for a, r in zip(asks, got) if r == "web"}


def both(*labels):
    return {f"{x}{f}" for x in labels for f in (4, 6)}


ALL = both("tcp", "udp", "other", "svc", "svcudp")


def settle(c, name, ns="default"):
    for n in c.nodes.values():
        wait_for("policy in force", lambda: any(
            p["name"] == name and p["namespace"] == ns for p in n.json("policy", "list")))


def isolation(topology, args):
    with cluster("is", topology, args) as c:
        for h in (c.red, c.blue, c.ops, c.n1, c.n2):
            assert reach(c, h, 2) == ALL, (h.name, "open before any policy")
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]})
        settle(c, "web")
        for h in (c.red, c.blue, c.ops, c.n2):
            assert reach(c, h) == set(), (h.name, "isolated")
        assert reach(c, c.n1) == ALL, "the pod's own node always reaches it"
        assert who(c.web.ask(c.web.ip, 8080)) == "web", "and the pod itself"
        assert who(c.web.ask(c.blue.ip, 8080)) == "blue", "egress is not isolated; replies pass"
        eps = {e["name"]: e for e in c.n1.json("endpoint", "list")}
        assert (eps["web"]["ingress"], eps["web"]["egress"]) == ("isolated", "open"), eps
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"color": "red"}}}], "ports": [{"port": "web"}]},
            {"from": [{"namespaceSelector": {"matchLabels": {"team": "ops"}}}],
             "ports": [{"port": 5353, "protocol": "UDP"}]},
            {"from": [{"ipBlock": {"cidr": "10.244.2.0/24", "except": [c.ops.ip + "/32"]}}],
             "ports": [{"port": 9000, "endPort": 9100}]}]})
        wait_for("red is let in", lambda: reach(c, c.red) == both("tcp", "svc"))
        assert reach(c, c.blue) == {"other4"}
        assert reach(c, c.ops) == both("udp", "svcudp")
        before = sum(v for k, v in c.n1.drops().items() if k.startswith("POLICY"))
        assert c.blue.ask(c.web.ip, 8080, timeout=0.5) == "timeout"
        assert sum(v for k, v in c.n1.drops().items() if k.startswith("POLICY")) > before
        # Egress: red may only resolve names.
        c.policy("red", {"podSelector": {"matchLabels": {"color": "red"}}, "policyTypes": ["Egress"], "egress": [
            {"ports": [{"port": 5353, "protocol": "UDP"}]}]})
        settle(c, "red")
        wait_for("red is confined", lambda: reach(c, c.red) == set())  # its UDP meets web's ingress
        c.delete("NetworkPolicy", "web")
        wait_for("web is open again", lambda: reach(c, c.blue) == ALL)
        assert reach(c, c.red) == both("udp", "svcudp"), "egress is judged on the backend's port"
        assert reach(c, c.ops) == ALL, "a policy is of one namespace"
        # ICMP has no port: only rules without ports allow it.
        assert c.red.run(["ping", "-c1", "-W1", c.web.ip], check=False).returncode != 0
        assert c.blue.run(["ping", "-c1", "-W1", c.web.ip], check=False).returncode == 0
        assert c.blue.run(["ping", "-6", "-c1", "-W1", c.web.ip6], check=False).returncode == 0


def test_isolation_routed():
    isolation("routed", [])


def test_isolation_bridge_tc():
    isolation("bridge", ["--socket-lb", "off"])


def test_isolation_bypass():
    isolation("routed", ["--host-routing", "bpf"])


def test_established_is_judged_again():
    with cluster("ej") as c:
        conns = []
        for h in (c.red, c.blue):
            s = h.socket(timeout=0.6)
            s.connect((c.web.ip, 8080))
            s.send(b"x")
            assert who(s.recv(100).decode()) == "web"
            conns.append(s)
        c.policy("web", {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"color": "red"}}}]}]})
        settle(c, "web")

        def blue_is_cut():
            conns[1].send(b"x")
            try:
                conns[1].recv(100)
                return False
            except (TimeoutError, socket.timeout):
                return True
        wait_for("blue's connection is cut", blue_is_cut)
        conns[0].send(b"x")
        assert who(conns[0].recv(100).decode()) == "web", "red's goes on"
        # A pod's labels decide, at once, for connections too.
        c.red.labels = {"color": "green"}
        c.put(c.red.object())

        def red_is_cut():
            conns[0].send(b"x")
            try:
                conns[0].recv(100)
                return False
            except (TimeoutError, socket.timeout):
                return True
        wait_for("red changed its color", red_is_cut)
        for s in conns:
            s.close()


def test_flip_is_never_half():
    """Two policies that both allow tcp/8080 from red take turns under load: never a denial."""
    with cluster("fl") as c:
        allow = [{"from": [{"podSelector": {"matchLabels": {"color": "red"}}}], "ports": [{"port": 8080}]}]
        other = [{"from": [{"podSelector": {}}], "ports": [{"port": 8080}, {"port": 1, "endPort": 7000}]}]
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": allow})
        settle(c, "web")
        end = time.monotonic() + 4
        n = i = 0
        while time.monotonic() < end or n <= 50:
            i += 1
            c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": allow if i % 2 else other})
            for _ in range(5):
                n += 1
                assert who(c.red.ask(c.web.ip, 8080, timeout=2)) == "web", (i, n)
                assert c.red.ask(c.web.ip, 9090, timeout=0.02) == "timeout", (i, n)


def test_trace_flows_and_show():
    with cluster("tr") as c:
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"color": "red"}}}], "ports": [{"port": 8080}]}]})
        settle(c, "web")

        def trace(*args):
            p = c.n1.cli("policy", "trace", "-o", "json", *args, check=False)
            return p.returncode, json.loads(p.stdout)
        code, t = trace("--from", "default/red", "--to", "default/web", "--proto", "tcp", "--port", "8080")
        assert code == 0 and t["verdict"] == "allow", t
        assert t["ingress"]["rule"]["name"] == "web" and t["ingress"]["rule"]["namespace"] == "default", t
        code, t = trace("--from", "default/blue", "--to", "default/svc:web", "--proto", "tcp", "--port", "80")
        assert code == 1 and t["verdict"] == "deny", t
        code, t = trace("--from", "default/red", "--to", "default/svc:web", "--proto", "tcp", "--port", "80")
        assert code == 0 and t["verdict"] == "allow" and t["service"], t
        code, t = trace("--from", "default/nobody", "--to", "default/web", "--proto", "tcp", "--port", "1")
        assert code == 2, t
        p = c.n1.cli("policy", "trace", "-o", "json", "--manifests", c.manifests, "--batch", "-",
                     input="default/red default/web tcp 8080\ndefault/blue default/web tcp 8080\n")
        assert [json.loads(x)["verdict"] for x in p.stdout.splitlines()] == ["allow", "deny"], p.stdout
        for frm, want in (("default/red", "allow"), ("default/blue", "deny")):
            code, t = trace("--from", frm, "--to", "default/web", "--proto", "tcp", "--port", "8080", "--verify")
            assert t["verdict"] == want and t.get("kernel"), t
        # what it leaves is no flow that a client could have: their ports begin higher
        left = [f for f in c.n1.json("ct", "list") if f["protocol"] == "TCP" and f["destination"] == c.web.ip and f["packets"] == 1]
        assert left and all(256 <= f["sourcePort"] <= 495 for f in left), left
        c.blue.ask(c.web.ip, 8080, timeout=0.3)

        def seen():
            out = c.n1.cli("flows", "-o", "json", "--no-follow").stdout
            return [f for f in map(json.loads, out.splitlines())
                    if f["verdict"] == "denied" and f["destinationPort"] == 8080 and f["sourcePod"] == "default/blue"]
        f = wait_for("the denial is in the flow log", seen)[0]
        assert f["destinationPod"] == "default/web" and f["direction"] == "ingress", f
        assert f["reason"] == "POLICY_INGRESS", f


def test_unknown_pod_is_closed_until_known():
    """A pod that runs before the API knows of it: closed while a policy could select it."""
    with cluster("uk") as c:
        c.policy("all", {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
        settle(c, "all")
        p = c.pod("n1", "late", labels={"app": "late"}, manifest=False)
        p.serve(8080)
        t = time.monotonic()
        while time.monotonic() - t < 1.0:
            assert p.ask(c.blue.ip, 8080, timeout=0.1) in ("timeout", "errno-113", "errno-101")
            assert c.ops.ask(p.ip, 8080, timeout=0.1) in ("timeout", "errno-113", "errno-101")
        c.policy("late", {"podSelector": {"matchLabels": {"app": "late"}}, "policyTypes": ["Ingress"],
                          "ingress": [{}]})
        c.put(p.object())
        wait_for("late is known", lambda: who(c.ops.ask(p.ip, 8080, timeout=0.3)) == "late")
        assert p.ask(c.blue.ip, 8080, timeout=0.3) == "timeout", "policy all confines its egress"


def test_policy_survives_restart_and_death():
    with cluster("rs") as c:
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"color": "red"}}}]}]})
        settle(c, "web")
        for sig in (15, 9):
            c.n1.stop(sig)
            for _ in range(5):
                assert c.blue.ask(c.web.ip, 8080, timeout=0.2) == "timeout"
                assert who(c.red.ask(c.web.ip, 8080)) == "web"
            c.n1.start(wait=False)
            end = time.monotonic() + 2
            while time.monotonic() < end:
                assert c.blue.ask(c.web.ip, 8080, timeout=0.05) == "timeout"
                assert who(c.red.ask(c.web.ip, 8080, timeout=2)) == "web"
            wait_for("ready", c.n1.ready)


def audited(c, frm, to):
    """What audit mode wrote down about frm's packets to the pod `to`, by family."""
    out = c.n1.cli("flows", "-o", "json", "--no-follow").stdout
    return {6 if ":" in f["source"] else 4: f for f in map(json.loads, out.splitlines())
            if f.get("audit") and f["sourcePod"] == frm and f["destinationPod"] == to}


def test_audit():
    """Audit, by flag and by annotation: what policy denies passes, and is written down as that."""
    deny = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}
    with cluster("au", args=["--policy-audit"]) as c:
        c.policy("web", deny)
        settle(c, "web")
        for f in (4, 6):
            assert who(c.blue.ask(c.web.addr(f), 8080)) == "web", c.n1.drops()
        seen = wait_for("both families are written down", lambda: (
            lambda a: a if set(a) == {4, 6} else None)(audited(c, "default/blue", "default/web")))
        for f in seen.values():
            assert f["verdict"] == "allowed" and f["reason"] == "POLICY_INGRESS", f
        assert c.n1.drops().get("POLICY_INGRESS", 0) == 0, c.n1.drops()
    with cluster("aa") as c:
        c.policy("web", deny)
        settle(c, "web")
        assert c.blue.ask(c.web.ip, 8080, timeout=0.3) == "timeout"
        web = c.objects["networkpolicy.default.web"]
        web["metadata"]["annotations"] = {"bpfnet.io/policy-audit": "true"}
        c.put(web)
        wait_for("the policy only records", lambda: who(c.blue.ask(c.web.ip, 8080, timeout=0.3)) == "web")
        assert who(c.blue.ask(c.web.ip6, 8080)) == "web"
        assert audited(c, "default/blue", "default/web")[4]["reason"] == "POLICY_INGRESS"
        del web["metadata"]["annotations"]
        c.put(web)
        wait_for("and denies again", lambda: c.blue.ask(c.web.ip, 8080, timeout=0.3) == "timeout")
