# SPDX-License-Identifier: MIT
"""The daemon beside an API server: what it reads is in force, and stays so when the server is away."""
import contextlib
import os
import re
import signal
import subprocess
import time

from harness import ROOT, sh
from kubecluster import KubeCluster, wait_for

VIP, VIP6 = "10.96.0.10", "fd00:96::10"
WEB = [("http", "TCP", 80, 8080)]
DENY_WEB = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": []}


@contextlib.contextmanager
def web(prefix, start=True, **kw):
    with KubeCluster(prefix, **kw) as c:
        c.a = c.pod("n1", "client")
        c.b1 = c.pod("n1", "b1", labels={"app": "web"})
        c.b2 = c.pod("n2" if c.nodes.get("n2") else "n1", "b2", labels={"app": "web"})
        for b in (c.b1, c.b2):
            b.serve(8080)
        c.service("web", WEB, [c.b1, c.b2], ips=[VIP, VIP6])
        if start:
            c.start()
        yield c


def reached(c, vip=VIP, n=40):
    return {c.a.ask(vip, 80).split(" ")[0] for _ in range(n)}


def ready(c, node):
    return c.status(node)[0] == 0


def test_follows():
    with web("kf") as c:
        for vip in (VIP, VIP6):
            assert reached(c, vip) == {"b1", "b2"}
        assert {e["pod"] for p in c.n1.json("svc", "show", "default/web")["ports"] for e in p["endpoints"]} == \
            {"b1", "b2"}
        c.endpoints("web", WEB, [c.b1, c.b2], families={4: True, 6: True},
                    conditions={"b2": {"ready": False, "serving": True, "terminating": True}})
        wait_for("only b1", lambda: reached(c) == {"b1"}, 3)
        c.policy("deny", DENY_WEB)
        wait_for("denied", lambda: c.a.ask(VIP, 80, timeout=0.5) == "timeout", 5)
        c.delete("NetworkPolicy", "deny")
        wait_for("allowed again", lambda: reached(c) == {"b1"}, 5)
        c.delete("Service", "web")
        wait_for("gone", lambda: not c.n1.json("svc", "list"), 3)
        lat = {x.split(" ")[0]: float(x.split(" ")[1]) for x in c.n1.cli("metrics").stdout.splitlines()
               if x.startswith("bpfnet_event_to_kernel_seconds")}
        n = lat["bpfnet_event_to_kernel_seconds_count"]
        assert 4 <= n < 50 and 0 < lat["bpfnet_event_to_kernel_seconds_sum"] < n * 0.3, lat


def test_server_away():
    """Killed: said within 20 s, everything stays in force; back: what changed meanwhile is."""
    with web("ka") as c:
        rv = c.api("now")["rv"]
        c.api.kill()
        began = time.monotonic()
        wait_for("status is not ready", lambda: not ready(c, c.n1), 20)
        took = time.monotonic() - began
        assert took <= 20, took
        errors = c.errors(c.n1)
        assert all(k in errors for k in ("services", "endpointslices", "pods")), errors
        assert errors["services"].startswith("services: watch: "), errors
        assert len(c.n1.json("svc", "list")) == 1
        assert reached(c) == {"b1", "b2"}
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        c.service("new", WEB, [c.b1], ips=["10.96.0.11"])
        c.resume_api(rv + 1000)
        wait_for("ready again", lambda: ready(c, c.n1) and ready(c, c.n2), 40)
        wait_for("only b2", lambda: reached(c) == {"b2"}, 3)
        assert {s["name"] for s in c.n1.json("svc", "list")} == {"web", "new"}


def test_silent_server():
    """Stopped, not ended: no error on any socket, and still said within 20 s."""
    with web("ks") as c:
        time.sleep(3)
        os.kill(c.api.proc.pid, signal.SIGSTOP)
        try:
            wait_for("status is not ready", lambda: not ready(c, c.n1), 20.5)
            assert "silent" in c.errors(c.n1)["services"]
            assert reached(c) == {"b1", "b2"}
        finally:
            os.kill(c.api.proc.pid, signal.SIGCONT)
        wait_for("ready again", lambda: ready(c, c.n1), 30)


def test_blackhole():
    """The connection's packets vanish, with no reset, while others pass: given up within 60 s."""
    with web("kb", nodes=1) as c:
        time.sleep(3)
        out = sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, "ss", "-Htn", "state", "established",
                  "dst", "192.0.2.1:6443"]).stdout.split()
        port = out[2].rsplit(":", 1)[1]
        sh(["nsenter", "--net=/var/run/netns/" + c.fabric.ns, "nft", "-f", "-"], input=f"""
            table inet hole {{
              chain i {{ type filter hook input priority 0; tcp sport {port} drop; }}
              chain o {{ type filter hook output priority 0; tcp dport {port} drop; }}
            }}""")
        began = time.monotonic()
        c.endpoints("web", WEB, [c.b1], families={4: True, 6: True})
        wait_for("status is not ready", lambda: not ready(c, c.n1), 20)
        assert reached(c) == {"b1", "b2"}
        wait_for("only b1", lambda: reached(c) == {"b1"}, 60 - (time.monotonic() - began))
        wait_for("ready again", lambda: ready(c, c.n1), 10)


def test_env_proxy():
    """HTTPS_PROXY is used, NO_PROXY heeded; a proxy that is not there is named."""
    with web("kp", start=False, nodes=1) as c:
        p = subprocess.Popen(["nsenter", "--net=/var/run/netns/" + c.fabric.ns, "/usr/bin/python3",
                              os.path.join(ROOT, "tests/apiserver/proxy.py"), "192.0.2.1"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            proxy = "http://192.0.2.1:" + p.stdout.readline().strip()
            c.n1.start(env={"HTTPS_PROXY": proxy})
            assert p.stdout.readline() == "connect 192.0.2.1:6443\n"
            assert reached(c) == {"b1", "b2"}
            c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
            wait_for("only b2", lambda: reached(c) == {"b2"}, 3)
            assert c.n1.stop() == 0
        finally:
            p.stdin.close()
            p.wait(10)
            p.stdout.close()
        c.n1.start(env={"HTTPS_PROXY": proxy, "NO_PROXY": "example.org,192.0.2.0/24"})
        assert c.n1.stop() == 0
        c.n1.start(wait=False, env={"HTTPS_PROXY": proxy})
        wait_for("named", lambda: "192.0.2.1" in c.errors(c.n1).get("services", ""), 10)


def test_restart_without_server():
    """A daemon that starts while the API is away changes nothing that is in force."""
    with web("kr") as c:
        rv = c.api("now")["rv"]
        assert reached(c) == {"b1", "b2"}
        c.api.kill()
        assert c.n1.stop() == 0
        assert reached(c) == {"b1", "b2"}
        c.n1.start(wait=False)
        wait_for("control socket", lambda: c.n1.cli("status", check=False).returncode == 1, 10)
        time.sleep(2)
        assert reached(c) == {"b1", "b2"}
        p = c.n1.cli("svc", "list", "-o", "json", check=False)
        assert p.returncode == 2 or '"web"' in p.stdout, p
        c.delete("Service", "web")
        c.delete("EndpointSlice", "web-v4")
        c.delete("EndpointSlice", "web-v6")
        c.service("other", WEB, [c.b1], ips=["10.96.0.12"])
        c.resume_api(rv + 1000)
        wait_for("ready again", lambda: ready(c, c.n1), 40)
        assert [s["name"] for s in c.n1.json("svc", "list")] == ["other"]


def test_forbidden():
    """What may not be read is named; the rest works, at the start and later."""
    words = 'User "node" cannot list resource "%s"'
    with web("kx", start=False) as c:
        c.api("fault", resource="nodes", times=-1, status=403, message=words % "nodes")
        c.n1.start(wait=False)
        wait_for("services in force", lambda: reached(c) == {"b1", "b2"}, 15)
        assert not ready(c, c.n1)
        assert c.errors(c.n1) == {"nodes": "nodes: list forbidden (403): " + words % "nodes"}
        c.api("clear")
        wait_for("ready", lambda: ready(c, c.n1), 40)
        c.api("fault", resource="networkpolicies", times=-1, status=403, message="not you")
        c.api("drop")
        # Which of the two is refused first depends on what the dropped connection took with it.
        wait_for("named", lambda: re.fullmatch(r"\{'networkpolicies': 'networkpolicies: (list|watch) forbidden "
                                               r"\(403\): not you'\}", str(c.errors(c.n1))), 10)
        c.endpoints("web", WEB, [c.b1], families={4: True, 6: True})
        wait_for("only b1", lambda: reached(c) == {"b1"}, 3)
        wait_for("not ready", lambda: not ready(c, c.n1), 20)


def test_nothing_before_all():
    """One list of several does not come: nothing that needs it is touched, what does not need it is."""
    with web("kn", nodes=1) as c:
        c.policy("deny", DENY_WEB)
        wait_for("denied", lambda: c.a.ask(VIP, 80, timeout=0.5) == "timeout", 5)
        assert c.n1.stop() == 0
        c.delete("NetworkPolicy", "deny")
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        c.service("new", WEB, [c.b1], ips=["10.96.0.13"])
        c.api("fault", resource="namespaces", times=-1, hang=True)
        c.n1.start(wait=False)
        wait_for("services are in force", lambda: len(c.n1.json("svc", "list", check=False)) == 2, 10)
        assert c.a.ask(VIP, 80, timeout=0.5) == "timeout"  # the policy that is pinned
        assert "policies have not been read in full" in str(c.status(c.n1)[1]["waiting"])
        c.api("clear")
        c.api("drop")
        wait_for("allowed", lambda: reached(c) == {"b2"}, 10)
        assert c.n1.stop() == 0
        c.endpoints("web", WEB, [c.b1], families={4: True, 6: True})
        c.delete("Service", "new")
        c.delete("EndpointSlice", "new-v4")
        c.policy("deny", dict(DENY_WEB, podSelector={}))
        c.api("fault", resource="endpointslices", times=-1, hang=True)
        c.n1.start(wait=False)
        wait_for("policies are in force", lambda: c.a.ask(VIP, 80, timeout=0.5) == "timeout", 10)
        c.delete("NetworkPolicy", "deny")
        wait_for("the old endpoint", lambda: reached(c) == {"b2"}, 5)
        assert {f["address"] for s in c.n1.json("svc", "list") for f in s["frontends"]} == \
            {VIP, VIP6, "10.96.0.13"}  # as it was left
        c.api("clear")
        c.api("drop")
        wait_for("the new one", lambda: reached(c) == {"b1"}, 10)
        wait_for("ready", lambda: ready(c, c.n1), 40)


def test_forbidden_policies():
    """No right to read what policies need, on a node that never enforced any: services work there, and
    status says what is missing. With the right, and without it again, policies are in force.
    """
    for res in ("networkpolicies", "pods"):
        with web("kz", start=False) as c:
            c.api("fault", resource=res, times=-1, status=403, message="not you")
            c.n1.start(wait=False)
            wait_for("services in force", lambda: reached(c) == {"b1", "b2"}, 20)
            late = c.pod("n1", "late")
            # Pods that were there are left alone at once; a new one is, when the lists have failed for 10 s.
            wait_for("a new pod too",
                     lambda: late.ask(VIP, 80, timeout=0.5).split(" ")[0] in ("b1", "b2"), 15)
            code, st = c.status(c.n1)
            assert code == 1 and any("no policy is enforced" in w for w in st["waiting"]), st
            assert c.errors(c.n1) == {res: f"{res}: list forbidden (403): not you"}
            c.policy("deny", DENY_WEB)
            time.sleep(0.5)
            assert reached(c) == {"b1", "b2"}
            c.api("clear")
            wait_for("ready", lambda: ready(c, c.n1), 40)
            wait_for("denied", lambda: c.a.ask(c.b1.ip, 8080, timeout=0.5) == "timeout", 5)
            assert c.n1.stop() == 0
            c.api("fault", resource=res, times=-1, status=403, message="not you")
            c.n1.start(wait=False)
            wait_for("named", lambda: c.errors(c.n1), 10)
            fresh = c.pod("n1", "fresh")
            time.sleep(11)
            assert c.a.ask(c.b1.ip, 8080, timeout=0.5) == "timeout"
            assert fresh.ask(VIP, 80, timeout=0.5) == "timeout"
            assert not any("no policy" in w for w in c.status(c.n1)[1]["waiting"])


def test_churn():
    """Thousands of changes, the watch cut off again and again; at the end everything is equal."""
    with web("kc") as c:
        for i in range(300):
            c.service(f"s{i % 50}", [("p", "TCP", 1000 + i, 8080)], [c.b1, c.b2][i % 2:],
                      ips=[f"10.96.1.{i % 50 + 1}"])
            if i % 60 == 30:
                c.api("drop")
            if i % 100 == 50:
                c.api("compact")
            if i % 7 == 3:
                c.delete("Service", f"s{i % 50}")
                c.delete("EndpointSlice", f"s{i % 50}-v4")
        want = {}
        for o in c.objects.values():
            if o["kind"] == "Service":
                m = o["metadata"]
                sl = c.objects[f"endpointslice.default.{m['name']}-v4"]
                want[m["name"]] = (o["spec"]["ports"][0]["port"],
                                   sorted(e["addresses"][0] for e in sl["endpoints"]))

        def have(node):
            return {s["name"]: (f["port"], sorted(b["address"] for b in f["backends"]))
                    for s in node.json("svc", "list") for f in s["frontends"]
                    if ":" not in f["address"]}
        for node in (c.n1, c.n2):
            wait_for(f"{node.name} equal", lambda node=node: have(node) == want, 40)
