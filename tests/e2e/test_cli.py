# SPDX-License-Identifier: MIT
"""What people see: the commands, the metrics and the health answers beside a daemon at work, and the
commands that work when it is down."""
import contextlib
import json
import os
import select
import signal
import socket
import stat
import subprocess
import time

from harness import BUILD, Cluster, sh, wait_for

VIP, VIP6 = "10.96.2.10", "fd00:96:2::10"
PORTS = [("http", "TCP", 80, 8080), ("dns", "UDP", 53, 5353)]


@contextlib.contextmanager
def cluster(prefix, *args):
    """red and web on one node; web serves; a packet path for every connection (no socket hooks)."""
    with Cluster(prefix, nodes=1, daemon_args=["--socket-lb", "off", *args]) as c:
        c.web = c.pod("n1", "web", labels={"app": "web"})
        c.red = c.pod("n1", "red", labels={"color": "red"})
        c.web.serve(8080)
        c.web.serve(5353, "udp")
        c.service("web", PORTS, [c.web], ips=[VIP, VIP6])
        c.start()
        yield c


def flows_to(c, addr, *args):
    return [f for f in c.n1.json("ct", "list", *args) if f["destination"] == addr]


def connect(c, addr, port=80):
    s = c.red.socket(6 if ":" in addr else 4)
    s.connect((addr, port))
    s.send(b"hello\n")
    assert s.recv(100).startswith(b"web ")
    return s


def test_connections():
    with cluster("cla") as c:
        socks = {}
        for vip, be in ((VIP, c.web.ip), (VIP6, c.web.ip6)):
            socks[vip] = connect(c, vip)
            flows = flows_to(c, vip)
            assert len(flows) == 1, flows  # two entries, one flow
            f = flows[0]
            assert (f["protocol"], f["destinationPort"], f["backend"], f["backendPort"], f["state"]) == \
                ("TCP", 80, be, 8080, "ESTABLISHED"), f
            assert f["sourcePort"] == socks[vip].getsockname()[1]
            assert f["packets"] >= 4 and f["bytes"] > 200, f
            assert c.red.ask(vip, 53, "udp").startswith("web ")
            udp = [f for f in flows_to(c, vip, "--proto", "udp")]
            assert [(f["state"], f["backendPort"]) for f in udp] == [("REPLIED", 5353)], udp
        # filters
        assert len(flows_to(c, VIP, "--pod", "default/red", "--proto", "tcp")) == 1
        assert len(flows_to(c, VIP, "--addr", c.web.ip, "--port", "8080")) == 1
        assert not flows_to(c, VIP, "--addr", "192.0.2.250")
        assert not flows_to(c, VIP, "--port", "81")
        assert len(c.n1.json("ct", "list", "--limit", "1")) == 1
        assert c.n1.cli("ct", "list", "--pod", "default/none", check=False).returncode == 2
        show = c.n1.json("svc", "show", "default/web")
        front = next(f for f in show["frontends"] if f["address"] == VIP and f["port"] == 80)
        assert [b["connections"] for b in front["backends"]] == [1], front
        table = c.n1.cli("ct", "list").stdout
        assert VIP in table and "ESTABLISHED" in table
        # forgotten: reset at the next packet; the other connection lives
        c.n1.cli("ct", "flush", "--addr", VIP)
        assert not flows_to(c, VIP)
        for vip, want in ((VIP, "reset"), (VIP6, "web")):
            try:
                socks[vip].send(b"again\n")
                got = socks[vip].recv(100).split()[0].decode()
            except ConnectionResetError:
                got = "reset"
            assert got == want, (vip, got)
        c.n1.cli("ct", "flush", "--all")
        assert c.n1.json("ct", "list") == []
        for s in socks.values():
            s.close()


def test_daemon_down():
    with cluster("clb") as c:
        up = c.n1.json("svc", "list")
        s = connect(c, VIP)
        c.n1.stop(signal.SIGKILL)
        p = c.n1.cli("svc", "list", "-o", "json")
        assert json.loads(p.stdout) == up
        assert "pinned" in p.stderr
        assert flows_to(c, VIP)[0]["state"] == "ESTABLISHED"
        p = c.n1.cli("status", "-o", "json", check=False)
        assert p.returncode == 1 and json.loads(p.stdout)["ready"] is False
        for cmd in (["endpoint", "list"], ["policy", "list"], ["identity", "list"], ["flows"], ["metrics"]):
            p = c.n1.cli(*cmd, check=False)
            assert p.returncode == 2 and "no daemon listens" in p.stderr, (cmd, p)
        # the socket file of the killed one is replaced
        c.n1.start()
        assert c.n1.json("svc", "list") == up
        path = os.path.join(c.n1.run_dir, "control.sock")
        assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
        s.send(b"again\n")
        assert s.recv(100).startswith(b"web ")
        s.close()
        p = c.n1.cli("cleanup", check=False)
        assert p.returncode == 2 and c.n1.ready(), p  # not under a daemon's feet
        c.n1.stop()
        report = c.n1.json("cleanup")
        assert report, report
        assert not os.path.exists(c.n1.bpffs)
        assert c.n1.cli("ct", "list", check=False).returncode == 2
        for ifname in ("eth0", c.red.host_if):
            for way in ("ingress", "egress"):
                out = sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, "tc", "filter", "show", "dev",
                          ifname, way], check=False).stdout
                assert "bpf" not in out, out
        progs = sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, "bpftool", "-j", "net", "show"])
        assert "from_pod" not in progs.stdout and "to_net" not in progs.stdout, progs.stdout


@contextlib.contextmanager
def following(c, *args):
    p = subprocess.Popen([os.path.join(BUILD, "bpfnet"), "--run-dir", c.n1.run_dir, "flows", "-o", "json",
                          *args], stdout=subprocess.PIPE, text=True)
    try:
        yield p.stdout
    finally:
        p.terminate()
        p.wait()
        p.stdout.close()


def test_flow_log():
    with cluster("clc") as c:
        c.policy("only-blue", {"podSelector": {"matchLabels": {"app": "web"}},
                               "ingress": [{"from": [{"podSelector": {"matchLabels": {"color": "blue"}}}]}]})
        for addr in (c.web.ip, c.web.ip6):
            with following(c, "--drop", "--pod", "default/red", "--last", "0", "-f") as lines:
                wait_for("denied", lambda: c.red.ask(addr, 8080, timeout=0.3) == "timeout")
                # Until the follower follows, what is denied is not shown to it: again and again.
                wait_for("a line", lambda: c.red.ask(addr, 8080, timeout=0.3) and
                         select.select([lines], [], [], 0)[0])
                # a SYN of the other family's attempt may come once more
                f = next(f for f in map(json.loads, lines) if f["destination"] == addr)
                assert f["verdict"] == "denied" and f["reason"] == "POLICY_INGRESS", f
                assert (f["sourcePod"], f["destinationPod"]) == ("default/red", "default/web"), f
                assert (f["protocol"], f["destinationPort"]) == ("TCP", 8080), f
                assert f["policy"] == "no rule matched" and f["direction"] == "ingress", f
                assert f["http"] is None and f["time"].endswith("Z"), f
        text = c.n1.cli("flows", "--no-follow").stdout
        assert "default/red -> default/web:8080 TCP  POLICY_INGRESS no rule matched" in text, text
        assert c.n1.cli("flows", "--no-follow", "--pod", "default/blue").stdout == ""
        assert c.n1.drops()["POLICY_INGRESS"] >= 2
        metrics = c.n1.cli("metrics").stdout
        assert 'bpfnet_flow_events_total{verdict="denied",reason="POLICY_INGRESS"}' in metrics


def get(c, port, path, addr="127.0.0.1"):
    """(status, headers, body) from inside the node."""
    with c.n1.enter():
        s = socket.socket(socket.AF_INET6 if ":" in addr else socket.AF_INET)
    s.settimeout(5)
    s.connect((addr, port))
    s.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    data = b""
    while chunk := s.recv(65536):
        data += chunk
    s.close()
    head, body = data.decode().split("\r\n\r\n", 1)
    return int(head.split()[1]), head, body


def test_metrics_and_health():
    with cluster("cld") as c:
        for vip in (VIP, VIP6):
            connect(c, vip).close()
        code, head, body = get(c, 10249, "/metrics")
        assert code == 200 and "text/plain; version=0.0.4" in head, head
        p = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, text=True)
        odd = [line for line in (p.stdout + p.stderr).splitlines() if not line.startswith(
            ("kubeproxy_sync_proxy_rules_iptables_total", "kubeproxy_sync_proxy_rules_no_local_endpoints_total"))]
        assert not odd, odd
        values = {}
        for line in body.splitlines():
            if line and line[0] != "#":
                k, v = line.rsplit(" ", 1)
                assert k not in values, f"twice: {k}"
                values[k] = float(v)
        assert values['bpfnet_packets_total{hook="from_pod"}'] >= 8
        assert values['bpfnet_bytes_total{hook="from_pod"}'] >= 400
        assert values["bpfnet_services"] == 1 and values["bpfnet_ready"] == 1
        assert values['bpfnet_map_entries{map="fronts"}'] >= 4
        assert values['bpfnet_map_max_entries{map="fronts"}'] > 1000
        assert values["bpfnet_ct_max_entries"] >= 131072
        assert values['kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"}'] >= 1
        assert values['kubeproxy_sync_proxy_rules_service_changes_total'] >= 1
        assert values['kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"}'] > 1.7e9
        assert values["process_open_fds"] > 10
        assert get(c, 10249, "/healthz")[::2] == (200, "ok")
        assert get(c, 10249, "/proxyMode")[::2] == (200, "bpf")
        config = json.loads(get(c, 10249, "/configz")[2])
        assert config["kubeproxy.config.k8s.io"]["hostnameOverride"] == "n1", config
        assert config["bpfnet"]["socketLBPods"] is False, config
        assert get(c, 10249, "/nothing")[0] == 404
        for addr in ("127.0.0.1", "::1", c.n1.ip):
            code, head, body = get(c, 10256, "/healthz", addr)
            assert code == 200 and "application/json" in head
            assert json.loads(body)["nodeEligible"] is True
        assert set(json.loads(get(c, 10256, "/livez")[2])) == {"lastUpdated", "currentTime"}
        # a node that the autoscaler takes away is not eligible, but alive
        o = c.n1.object()
        o["spec"]["taints"] = [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]
        c.put(o)
        wait_for("not eligible", lambda: get(c, 10256, "/healthz")[0] == 503)
        assert json.loads(get(c, 10256, "/healthz")[2])["nodeEligible"] is False
        assert get(c, 10256, "/livez")[0] == 200


def test_port_taken():
    """A port that another has is tried again; the daemon works meanwhile."""
    with Cluster("cle", nodes=1) as c:
        with c.n1.enter():
            s = socket.socket(socket.AF_INET6)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("::", 10256))
        s.listen(1)
        c.start()
        assert "10256" in c.n1.log_tail(100)
        s.close()
        wait_for("the port", lambda: get(c, 10256, "/healthz")[0] == 200, timeout=15)


def test_trace_agrees():
    with cluster("clf") as c:
        c.policy("web", {"podSelector": {"matchLabels": {"app": "web"}},
                         "ingress": [{"from": [{"podSelector": {"matchLabels": {"color": "red"}}}],
                                      "ports": [{"port": 8080}]}]})
        wait_for("the policy", lambda: len(c.n1.json("policy", "list")) == 1)
        q = ["policy", "trace", "--from", "default/red", "--port"]
        assert c.n1.cli(*q, "80", "--to", "default/svc:web").returncode == 0
        assert c.n1.cli(*q, "9090", "--to", "default/web", check=False).returncode == 1
        live = c.n1.json(*q, "8080", "--to", "default/web")
        offline = c.n1.json(*q, "8080", "--to", "default/web", "--manifests", c.manifests)
        for o in (live, offline):
            for side in ("from", "to"):
                o[side].pop("identity", None)  # numbers are the daemon's own
        assert live == offline, (live, offline)
        batch = "default/red default/web tcp 8080\ndefault/red default/nobody tcp 1\n"
        p = c.n1.cli("policy", "trace", "--batch", "-", input=batch)
        out = [json.loads(x) for x in p.stdout.splitlines()]
        assert out[0]["verdict"] == "allow" and "error" in out[1], out


def test_state_disk_full():
    """--state-dir on a disk without room is a warning, and what fits is kept."""
    with Cluster("clf", nodes=1) as c:
        web = c.pod("n1", "web", labels={"app": "web"})
        web.serve(8080)
        os.makedirs(c.n1.state_dir)
        sh(["mount", "-t", "tmpfs", "-o", "size=16k", "none", c.n1.state_dir])
        try:
            for i in range(100):
                c.service(f"s{i}", PORTS, [web], ips=[f"10.96.3.{i + 1}"])
            c.start()
            assert len(c.n1.json("svc", "list")) == 100
            wait_for("warned", lambda: "No space left on device" in c.n1.log_tail(200), 5)
            assert c.n1.log_tail(200).count("No space left on device") == 1
            c.service("s1", PORTS, [web], ips=["not-an-address"])
            wait_for("refused", lambda: c.n1.cli("status", "-o", "json").stdout.count("not-an-address"), 5)
            assert len(c.n1.json("svc", "list")) == 100  # its last good version stays
            assert c.n1.stop() == 0
            c.n1.start()
            assert len(c.n1.json("svc", "list")) >= 99
        finally:
            c.n1.stop()
            sh(["umount", "-l", c.n1.state_dir])


def test_ports_taken():
    """A second daemon with the same ports in the namespace names them, works, and gets them in the end."""
    with cluster("clp") as c:
        log = os.path.join(c.dir, "second.log")
        with open(log, "wb") as f:
            p = subprocess.Popen(
                ["nsenter", "--net=/var/run/netns/" + c.n1.ns, os.path.join(BUILD, "bpfnetd"), "--manifests",
                 c.manifests, "--node-name", "n1", "--bpffs", c.n1.bpffs + "b", "--run-dir", c.n1.run_dir + "b",
                 "--state-dir", c.n1.state_dir + "b", "--cgroup", c.n1.cgroup], stdout=f, stderr=f)
        try:
            def said():
                with open(log) as f:
                    return [x for x in f if "Address already in use" in x]
            wait_for("both named", lambda: len(said()) >= 2, 10)
            assert any("10256" in x for x in said()) and any("10249" in x for x in said()), said()
            assert c.n1.ready()
            assert c.n1.stop() == 0
            url = ["nsenter", "--net=/var/run/netns/" + c.n1.ns, "curl", "-sf", "http://127.0.0.1:10256/livez"]
            wait_for("taken over", lambda: sh(url, check=False).returncode == 0, 20)
        finally:
            p.terminate()
            p.wait(10)
            sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, os.path.join(BUILD, "bpfnet"), "--run-dir",
                c.n1.run_dir + "b", "cleanup"])


def test_verify_holds_up_nothing():
    """The programs that --verify asks take seconds to load: the daemon goes on meanwhile, and who asked has to wait."""
    with Cluster("cv", nodes=1) as c:
        for name in ("a", "b"):
            c.pod("n1", name)
        c.policy("h", {"podSelector": {}, "ingress": [{"http": [{"path": {"value": "/a"}}]}]}, kind="HTTPNetworkPolicy",
                 api="bpfnet.io/v1alpha1")
        c.start()
        query = ["policy", "trace", "--from", "default/a", "--to", "default/b", "--port", "80", "--http", "GET /a", "--verify", "-o", "json"]
        asked = subprocess.Popen(["nsenter", "--net=/var/run/netns/" + c.n1.ns, os.path.join(BUILD, "bpfnet"), "--run-dir", c.n1.run_dir,
                                  *query], stdout=subprocess.PIPE, text=True)
        waits = []
        while asked.poll() is None:
            began = time.monotonic()
            c.n1.cli("svc", "list")
            waits.append(time.monotonic() - began)
            time.sleep(0.05)
        out = json.loads(asked.stdout.read())
        asked.stdout.close()
        assert asked.returncode == 0 and out["ingress"]["kernel"]["agrees"], out
        print(f"{len(waits)} answers meanwhile, the longest after {max(waits):.2f} s", flush=True)
        assert len(waits) < 10 or sorted(waits)[len(waits) // 2] < 0.5, waits
        assert max(waits) < 2, waits
