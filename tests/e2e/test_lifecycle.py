# SPDX-License-Identifier: MIT
"""What becomes of flows when endpoints and services go: UDP of every kind of socket, rolling updates."""

import os
import signal
import subprocess
import time

from harness import Cluster, wait_for

VIP, VIP6 = "10.96.1.10", "fd00:96:1::10"
BOTH = [("http", "TCP", 80, 8080), ("dns", "UDP", 53, 5353)]
NODEPORTS = [(n, pr, p, t, {"nodePort": 30000 + p}) for n, pr, p, t in BOTH]


def who(a):
    return a.split(" ")[0]


def cluster(prefix, args=(), ports=BOTH, **spec):
    c = Cluster(prefix, daemon_args=list(args))
    try:
        c.a = c.pod("n1", "client")
        c.b1, c.b2 = c.pod("n1", "b1"), c.pod("n2", "b2")
        for b in (c.b1, c.b2):
            b.serve(8080)
            b.serve(5353, "udp")
        c.service("web", ports, [c.b1, c.b2], ips=[VIP, VIP6], **spec)
        c.start()
    except BaseException:
        c.close()
        raise
    return c


def in_force(c, want):
    """Which backends new UDP flows of n1 get."""
    fronts = next((s["frontends"] for s in c.n1.json("svc", "list") if s["name"] == "web"), [])
    return {b["address"] for f in fronts if f["protocol"] == "UDP" for b in f["backends"]} == want


class Flow:
    """A UDP socket that is connected once and then only sends."""

    def __init__(self, host, addr, port, family=None, timeout=2):
        self.s = host.socket(family or (6 if ":" in addr else 4), "udp", timeout)
        self.s.connect((addr, port))
        self.sport = self.s.getsockname()[1]

    def ask(self):
        try:
            self.s.send(b"x")
            return who(self.s.recv(200).decode())
        except TimeoutError:
            return "timeout"
        except OSError as e:
            return type(e).__name__


def test_connected_udp_of_the_node_moves():
    """The process notices nothing: same socket, same port, another endpoint."""
    with cluster("cu", ports=NODEPORTS, type="NodePort") as c:
        both = {a for b in (c.b1, c.b2) for a in b.ips}
        for addr, port, fam in ((VIP, 53, 4), (VIP6, 53, 6), ("::ffff:" + VIP, 53, 6),
                                ("127.0.0.1", 30053, 4), ("::1", 30053, 6), (c.n1.ip, 30053, 4),
                                (c.n2.ip6, 30053, 6)):
            c.endpoints("web", BOTH, [c.b1, c.b2])
            wait_for("both", lambda: in_force(c, both))
            flows = [Flow(c.n1, addr, port, fam) for _ in range(6)]
            direct = [Flow(c.n1, b.ip, 5353) for b in (c.b1, c.b2)]
            first = [f.ask() for f in flows]
            assert set(first) <= {"b1", "b2"}, (addr, first)
            for keep in (c.b1, c.b2, c.b1):
                c.endpoints("web", BOTH, [keep])
                wait_for("one", lambda: in_force(c, set(keep.ips)))
                # One of two, so both kinds are there: those that stay and those that move.
                got = wait_for(f"{addr}: all at {keep.name}",
                               lambda: {f.ask() for f in flows} == {keep.name} or None, 2)
                assert got
                assert [f.s.getsockname()[1] for f in flows] == [f.sport for f in flows]
                # Whoever speaks to the pod itself stays there, whatever the service does.
                assert [f.ask() for f in direct] == ["b1", "b2"]
            for f in flows + direct:
                f.s.close()
        metrics = c.n1.cli("metrics").stdout
        moved = next(float(x.rsplit(" ", 1)[1]) for x in metrics.splitlines()
                     if x.startswith('bpfnet_udp_sockets_total{outcome="moved"}'))
        assert moved >= 7 * 2 * 6, moved


def test_udp_of_the_node_while_no_daemon_runs():
    """An endpoint that leaves while the daemon is down: its sockets move when it is back."""
    with cluster("cd") as c:
        flows = [Flow(c.n1, VIP, 53) for _ in range(8)]
        assert {f.ask() for f in flows} <= {"b1", "b2"}
        c.n1.stop()
        c.endpoints("web", BOTH, [c.b2])
        c.n1.start()
        wait_for("moved", lambda: {f.ask() for f in flows} == {"b2"}, 3)


def test_udp_without_endpoints_and_without_service():
    """No endpoint: refused at once. No service: the address is one like any other, and nothing of what
    was is held against it. Back again: every flow of a pod finds an endpoint again."""
    for args in ([], ["--socket-lb", "off"]):
        with cluster("cz", args) as c:
            pods = [Flow(c.a, vip, 53, timeout=0.5) for vip in (VIP, VIP6) for _ in range(3)]
            hosts = [Flow(c.n1, vip, 53, timeout=0.5) for vip in (VIP, VIP6)]
            assert {f.ask() for f in pods + hosts} <= {"b1", "b2"}
            c.endpoints("web", BOTH, [])
            wait_for("none", lambda: in_force(c, set()))
            assert {f.ask() for f in pods} == {"ConnectionRefusedError"}, [f.ask() for f in pods]
            wait_for("the node's own are ended",
                     lambda: {f.ask() for f in hosts} & {"b1", "b2", "timeout"} == set(), 2)
            c.endpoints("web", BOTH, [c.b1])
            wait_for("one", lambda: in_force(c, set(c.b1.ips)))
            assert {f.ask() for f in pods} == {"b1"}
            hosts = [Flow(c.n1, vip, 53, timeout=0.5) for vip in (VIP, VIP6)]
            assert {f.ask() for f in hosts} == {"b1"}
            c.delete("Service", "web")
            wait_for("gone", lambda: not c.n1.json("svc", "list"))
            before = c.n1.drops().get("NO_BACKEND", 0)
            # Nobody has the address: the router at the edge says so or nothing does, but not we.
            assert not {f.ask() for f in pods} & {"b1", "b2"}
            assert not {f.ask() for f in hosts} & {"b1", "b2"}
            assert c.n1.drops().get("NO_BACKEND", 0) == before, "refused for what is no service"
            c.service("web", BOTH, [c.b2], ips=[VIP, VIP6])
            wait_for("back", lambda: in_force(c, set(c.b2.ips)))
            assert {f.ask() for f in pods} == {"b2"}, [f.ask() for f in pods]


def test_show_counts_what_is_live():
    """svc show: sockets and packets together, masqueraded ones, affinity; ct list --sockets."""
    with cluster("sc", ports=NODEPORTS, type="NodePort", sessionAffinity="ClientIP",
                 sessionAffinityConfig={"clientIP": {"timeoutSeconds": 600}}) as c:
        x = c.client()
        held = []

        def hold(host, addr, port, n):
            for _ in range(n):
                s = host.socket(6 if ":" in addr else 4)
                s.connect((addr, port))
                s.send(b"x")
                assert who(s.recv(200).decode()) in ("b1", "b2")
                held.append(s)

        def sums(address, port=80):
            show = c.n1.json("svc", "show", "default/web")
            f = next(f for f in show["frontends"] if f["address"] == address and f["port"] == port)
            return tuple(sum(b[k] for b in f["backends"]) for k in ("connections", "sockets", "masqueraded"))
        assert sums(VIP) == (0, 0, 0)
        hold(c.n1, VIP, 80, 3)  # a process of the node
        hold(c.a, VIP, 80, 2)   # a pod
        hold(c.n1, VIP6, 80, 1)
        assert sums(VIP) == (5, 5, 0), sums(VIP)
        assert sums(VIP6) == (1, 1, 0)
        # From outside one client has one backend; a remote one costs a port of the node.
        for n, host in enumerate([x, c.client("ext2"), c.client("ext3"), c.client("ext4")]):
            hold(host, c.n1.ip, 30080, 1)
        total, socks, masq = sums("0.0.0.0", 30080)
        rows = [r for r in c.n1.json("ct", "list") if r["destinationPort"] == 30080]
        assert (total, socks) == (4, 0) and masq == sum("masqueradeAddress" in r for r in rows), (total, socks, masq)
        show = c.n1.json("svc", "show", "default/web")
        clients = {e["client"] for e in show["affinityEntries"]}
        assert {x.ip} < clients and all(590 < e["expiresSeconds"] <= 600 for e in show["affinityEntries"]), show
        text = c.n1.cli("svc", "show", "default/web").stdout
        assert x.ip in text and "MASQUERADED" in text and "CLIENT" in text
        rows = [r for r in c.n1.json("ct", "list", "--sockets", "--addr", VIP) if r["state"] == "SOCKET"]
        assert len(rows) == 5 and {r["destination"] for r in rows} == {VIP}, rows
        assert {r["sourcePort"] for r in rows} == {s.getsockname()[1] for s in held[:5]}
        for s in held:
            s.close()
        wait_for("none left", lambda: sums(VIP) == (0, 0, 0), 3)


class Replica:
    """A pod of a Deployment: nginx with a master and a worker, which ends as kubelet makes it end."""

    def __init__(self, c, node, name):
        self.pod = c.pod(node, name)
        d = os.path.join(c.dir, "nginx-" + name)
        os.makedirs(d)
        with open(d + "/index.html", "w") as f:
            f.write(name)
        with open(d + "/n.conf", "w") as f:
            f.write(f"""daemon off; user root; worker_processes 1; pid {d}/pid; error_log {d}/err;
events {{ worker_connections 512; }}
http {{ access_log off; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d};
uwsgi_temp_path {d}; scgi_temp_path {d};
server {{ listen 8080 backlog=512; listen [::]:8080 backlog=512; root {d}; }} }}""")
        # exec: the signal is for nginx, not for a shell around it.
        self.proc = self.pod.popen(["nginx", "-c", d + "/n.conf", "-e", d + "/err"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(name + " listens", lambda: self.pod.run(["ss", "-Hltn", "sport", "=", "8080"]).stdout)
        self.condition = {"ready": True}

    def terminating(self):
        self.condition = {"ready": False, "serving": True, "terminating": True}

    def end(self):
        """SIGQUIT: open requests are answered, nothing new is accepted."""
        self.proc.send_signal(signal.SIGQUIT)
        self.proc.wait(10)


def rolling(args):
    with Cluster("ru", daemon_args=list(args) + ["--cluster-cidr", "10.244.0.0/16,fd00:244::/48"]) as c:
        c.a, x = c.pod("n1", "client"), c.client()
        ports = [("http", "TCP", 80, 8080, {"nodePort": 30080})]
        pods = [Replica(c, f"n{1 + i % 2}", f"old{i}") for i in range(3)]

        def publish():
            c.endpoints("web", ports, [p.pod for p in pods],
                        conditions={p.pod.name: p.condition for p in pods})
        c.service("web", ports, [p.pod for p in pods], ips=[VIP, VIP6], type="NodePort")
        c.start()
        targets = [(c.a, f"http://{VIP}/"), (c.a, f"http://[{VIP6}]/"), (c.n2, f"http://{VIP}/"),
                   (x, f"http://{c.n1.ip}:30080/"), (x, f"http://[{c.n2.ip6}]:30080/")]
        load = [h.popen(["wrk", "-t1", "-c2", "-d600s", "--timeout", "5s", "-H", "Connection: close", u],
                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for h, u in targets]
        time.sleep(0.5)
        for i in range(3):
            pods.append(Replica(c, f"n{2 - i % 2}", f"new{i}"))
            publish()
            time.sleep(0.2)
            old = pods[0]
            old.terminating()
            publish()
            time.sleep(0.3)  # the preStop hook that the Kubernetes documentation asks for
            old.end()
            pods.pop(0)
            publish()
            c.delete("Pod", old.pod.name)
            c.pods.remove(old.pod)
            old.pod.close()
        # All of them go at once, with nobody else there: they serve to the end.
        for p in pods:
            p.terminating()
        publish()
        time.sleep(0.7)
        for p in load:
            p.send_signal(signal.SIGINT)
        for p, (h, u) in zip(load, targets):
            out = p.communicate(timeout=60)[0]
            n = int(out.split(" requests in")[0].split()[-1])
            assert n > 50, (h.name, u, out)
            assert "Socket errors" not in out and "Non-2xx" not in out, (args, h.name, u, out)
        # Not serving any more is no fallback.
        for p in pods:
            p.condition = {"ready": False, "serving": False, "terminating": True}
        publish()
        wait_for("refused", lambda: c.a.ask(VIP, 80) == "refused" and c.n1.ask(VIP6, 80) == "refused")


def test_rolling_update_without_a_failed_request():
    for args in ([], ["--socket-lb", "off"]):
        rolling(args)
