# SPDX-License-Identifier: MIT
"""3 a.m.: a service does not answer. Do the commands name the cause?"""
import contextlib
import os
import signal
import subprocess

from harness import BUILD, Cluster, sh, wait_for

HTTP = [("http", "TCP", 80, 8080)]


def trace(c, to, port=80, start="shop/front"):
    p = c.n1.cli("policy", "trace", "--from", start, "--to", to, "--port", str(port), check=False)
    return p.returncode, p.stdout + p.stderr



def services(c):
    """name -> what svc show calls its problem, what trace gives as the reason, trace's exit status"""
    c.service("none", HTTP, ns="shop", ips=["10.96.9.1"])
    c.service("empty", HTTP, [], ns="shop", ips=["10.96.9.2"])
    c.service("down", HTTP, ns="shop", ips=["10.96.9.3"])
    c.endpoints("down", HTTP, [c.api], "shop", {4: True, 6: False}, {"api": {"ready": False, "serving": False}})
    c.service("name", [("web", "TCP", 80, "web")], ns="shop", ips=["10.96.9.4"])
    c.endpoints("name", HTTP, [c.api], "shop", {4: True, 6: False})
    c.service("six", HTTP, ns="shop", ips=["fd00:96:9::5"])
    c.endpoints("six", HTTP, [c.api], "shop", {4: True, 6: False})
    c.service("inner", HTTP, [c.far], ns="shop", ips=["10.96.9.6"], internalTrafficPolicy="Local")
    c.service("outer", [("http", "TCP", 80, 8080, {"nodePort": 30080})], [c.far], ns="shop", ips=["10.96.9.7"],
              type="NodePort", externalTrafficPolicy="Local")
    return {"none": ("no EndpointSlice", "no EndpointSlice", 1),
            "empty": ("EndpointSlices are empty", "EndpointSlices are empty", 1),
            "down": ("none of its 1 endpoint is ready", "none of its 1 endpoint is ready", 1),
            "name": ("has the port 'web' TCP, but 'http' TCP", "has the port 'web' TCP", 1),
            "six": ("hold no IPv6 address", "hold no IPv6 address", 1),
            "inner": ("internalTrafficPolicy is Local", "no endpoint on the client's node", 1),
            "outer": ("externalTrafficPolicy is Local", "all backends are allowed", 0)}


def test_service_does_not_answer():
    with Cluster("why", nodes=2, daemon_args=["--socket-lb", "off"]) as c:
        c.front = c.pod("n1", "front", "shop", {"app": "front"})
        c.api = c.pod("n1", "api", "shop", {"app": "api"})
        c.far = c.pod("n2", "far", "shop", {"app": "far"})
        c.api.serve(8080)
        c.service("good", HTTP, [c.api], ns="shop", ips=["10.96.9.9"])
        c.service("headless", HTTP, [c.api], ns="shop")
        want = services(c)
        c.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bad", "namespace": "shop"},
               "spec": {"clusterIPs": ["10.96.9.300"], "ports": [{"port": 80}]}})
        c.start()
        for name, (problem, reason, status) in want.items():
            shown = c.n1.json("svc", "show", f"shop/{name}")["problems"]
            assert len(shown) == 1 and problem in shown[0], (name, shown)
            assert c.n1.cli("svc", "show", f"shop/{name}").stdout.startswith("PROBLEM"), name
            got = trace(c, f"shop/svc:{name}")
            assert got[0] == status and reason in got[1], (name, got)
        assert c.n1.json("svc", "show", "shop/good")["problems"] == []
        assert "headless" in c.n1.json("svc", "show", "shop/headless")["notServed"]
        assert "is not served: headless" in trace(c, "shop/svc:headless")[1]
        assert "30080 is the node port of its port 80" in trace(c, "shop/svc:outer", 30080)[1]
        assert "its ports: 80/TCP" in trace(c, "shop/svc:good", 81)[1]
        assert "this is the ClusterIP" in trace(c, "shop/svc:outer", start="192.0.2.250")[1]
        assert "this is the ClusterIP" not in trace(c, "shop/svc:outer")[1]
        rc, text = trace(c, "10.96.9.9", 81)
        assert rc == 1 and "shop/good" in text and "its ports: 80/TCP" in text, text
        p = c.n1.cli("svc", "show", "shop/bad", check=False)
        assert p.returncode == 1 and "'10.96.9.300' is not an IP address" in p.stderr, p
        # what is dropped names the service
        assert c.front.ask("10.96.9.1", 80, timeout=1) == "refused"
        ext = c.client()
        assert ext.ask(c.n1.ip, 30080, timeout=0.5) == "timeout"
        c.policy("closed", {"podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress"],
                            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}]}]}, ns="shop")
        wait_for("the refused policy isolates", lambda: c.front.ask("10.96.9.9", 80, timeout=0.5) == "timeout")
        lines = wait_for("three drops", lambda: (lambda s: s if "(shop/outer)" in s else None)(
            c.n1.cli("flows", "--no-follow").stdout))
        assert "10.96.9.1:80 (shop/none)" in lines and f"{c.n1.ip}:30080 (shop/outer)" in lines, lines
        assert "shop/closed (refused" in trace(c, "shop/svc:good")[1]
        # with the daemon dead: what the kernel goes on doing
        c.n1.stop(signal.SIGKILL)
        p = c.n1.cli("svc", "show", "shop/good")
        assert c.api.ip in p.stdout and "reading the pinned maps" in p.stderr, p
        assert c.n1.cli("svc", "show", "shop/nothing", check=False).returncode == 1


def test_no_room():
    """What did not fit stands in status: the connection table, and the slots of backends."""
    with Cluster("whyroom", nodes=1, daemon_args=["--ct-max", "64", "--max-backends", "64"]) as c:
        a, b = c.pod("n1", "a", "shop"), c.pod("n1", "b", "shop")
        b.serve(8080)
        c.service("big", HTTP, ns="shop", ips=["10.96.9.20"])
        c.put({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": "big-v4", "namespace": "shop", "labels": {"kubernetes.io/service-name": "big"}},
               "addressType": "IPv4", "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
               "endpoints": [{"addresses": [f"10.244.9.{i}"]} for i in range(1, 120)]})
        c.start()
        assert {x["reason"] for x in c.n1.json("status")["limits"]} == {"SERVICES"}
        assert "found no room" in c.n1.json("svc", "show", "shop/big")["problems"][0]
        text = c.n1.cli("policy", "trace", "--from", "shop/a", "--to", "shop/svc:big", "--port", "80").stdout
        assert "and 115 more like the last one" in text, text
        socks = []
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                s = stack.enter_context(contextlib.closing(a.socket(4, "tcp", 0.3)))
                try:
                    s.connect((b.ip, 8080))
                    s.send(b"x\n")
                    s.recv(100)
                    socks.append(s)
                except OSError:
                    break
            assert 64 <= len(socks) < 200, len(socks)
            row = wait_for("status says so", lambda: next(
                (x for x in c.n1.json("status")["limits"] if x["reason"] == "CT_FULL"), None))
            assert row["packets"] >= 1 and "--ct-max" in row["advice"] and row["secondsAgo"] < 60, row
            assert "CT_FULL" in c.n1.cli("status").stdout


def test_another_proxys_service():
    """A Service of the proxy that --service-proxy-name says is traced as any; one of a third proxy is named as such."""
    with Cluster("whyprox", nodes=1, daemon_args=["--service-proxy-name", "mine"]) as c:
        c.pod("n1", "front", "shop")
        api = c.pod("n1", "api", "shop")
        for name, ip in (("mine", "10.96.9.30"), ("theirs", "10.96.9.31")):
            c.service(name, HTTP, [api], ns="shop", ips=[ip])
            o = c.objects[f"service.shop.{name}"]
            o["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": name}
            c.put(o)
        c.start()
        assert trace(c, "shop/svc:mine")[0] == 0, trace(c, "shop/svc:mine")
        assert trace(c, "10.96.9.30")[1].count("shop/mine"), trace(c, "10.96.9.30")
        assert "the proxy 'theirs'" in trace(c, "shop/svc:theirs")[1], trace(c, "shop/svc:theirs")
        assert "the proxy 'theirs'" in c.n1.json("svc", "show", "shop/theirs")["notServed"]


def test_mtu():
    """A pod that may send more than the uplink takes: check says so, before and after the daemon's death."""
    with Cluster("whymtu", nodes=1) as c:
        c.pod("n1", "a", "shop")
        c.start()

        def row():
            return next(r for r in c.n1.json("check", check=False) if r["name"] == "mtu")
        wait_for("no complaint", lambda: row()["status"] == "ok")
        sh(["ip", "-n", c.n1.ns, "link", "set", "eth0", "mtu", "1400"])
        wait_for("a warning", lambda: row()["status"] == "warn")
        c.n1.stop(signal.SIGKILL)
        assert "'eth0' takes 1400" in row()["text"], row()


def test_a_slip_leaves_nothing():
    """No source, or a file that is not there: said at once, and nothing is attached, pinned or made."""
    with Cluster("whyslip", nodes=1) as c:
        n = c.n1
        bpffs, run = n.bpffs + "x", n.run_dir + "x"
        env = {k: v for k, v in os.environ.items() if not k.startswith("KUBE")}
        for args, words in (([], "no --kubeconfig"), (["--kubeconfig", "/nonexistent/kc"], "/nonexistent/kc"),
                            (["--log-level", "loud"], "error|warn|info|debug")):
            p = subprocess.run(["nsenter", "--net=/var/run/netns/" + n.ns, os.path.join(BUILD, "bpfnetd"), "--bpffs", bpffs,
                                "--run-dir", run, "--cgroup", n.cgroup, *args], capture_output=True, text=True,
                               timeout=20, env=env)
            assert p.returncode and words in p.stderr, p
            assert not os.path.exists(bpffs) and not os.path.exists(run), args
