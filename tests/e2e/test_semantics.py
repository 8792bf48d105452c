# SPDX-License-Identifier: MIT
"""Services from every kind of client through every kind of address, against the rules of kube-proxy written
down once more here: endpoint lists, traffic policies, REJECT or DROP, whose address the server sees."""
import concurrent.futures
import itertools
import time

from harness import Cluster, sh, wait_for

TARGETS = {"TCP": 8080, "UDP": 5353}
READY = {"ready": True}
UNREADY = {"ready": False, "serving": False, "terminating": False}
LEAVING = {"ready": False, "serving": True, "terminating": True}
GONE = {"ready": False, "serving": False, "terminating": True}


class Svc:
    count = 0

    def __init__(self, name, eps, itp="Cluster", etp="Cluster", zones=None, **spec):
        Svc.count += 1
        self.i = Svc.count
        self.name, self.eps, self.itp, self.etp, self.zones, self.spec = name, eps, itp, etp, zones or {}, spec
        i = self.i
        self.vip = {4: f"10.96.7.{i}", 6: f"fd00:96:7::{i:x}"}
        self.lb = {4: f"198.51.100.{100 + i}", 6: f"2001:db8:7::{100 + i:x}"}
        self.ext = {4: f"198.51.100.{i}", 6: f"2001:db8:7::{i:x}"}
        self.np = 31000 + i

    def put(self, c):
        ports = [("t", "TCP", 80, 8080, {"nodePort": self.np}), ("u", "UDP", 80, 5353, {"nodePort": self.np})]
        c.service(self.name, ports, None, ips=[self.vip[4], self.vip[6]], type="LoadBalancer",
                  externalIPs=[self.ext[4], self.ext[6]], internalTrafficPolicy=self.itp,
                  externalTrafficPolicy=self.etp, **self.spec)
        o = c.objects[f"service.default.{self.name}"]
        o["status"] = {"loadBalancer": {"ingress": [{"ip": self.lb[4]}, {"ip": self.lb[6]}]}}
        c.put(o)
        hosts = {h.name: h for h in (*c.pods, c.n1, c.n2)}
        c.endpoints(self.name, ports, [hosts[e] for e in self.eps], conditions=self.eps)
        for fam in (4, 6):
            o = c.objects[f"endpointslice.default.{self.name}-v{fam}"]
            for e, name in zip(o["endpoints"], self.eps):
                if name in self.zones:
                    e["hints"] = {"forZones": [{"name": z} for z in self.zones[name]]}
            c.put(o)

    # --- the rules --------------------------------------------------------------------------------

    def lists(self, node, node_of, zone):
        def pick(names):
            ready = [n for n in names if self.eps[n] is READY]
            return set(ready or [n for n in names if self.eps[n] is LEAVING])
        ready = [n for n in self.eps if self.eps[n] is READY]
        cluster = pick(list(self.eps))
        if ready and all(n in self.zones for n in ready) and any(zone in self.zones[n] for n in ready):
            cluster = {n for n in ready if zone in self.zones[n]}
        return cluster, pick([n for n in self.eps if node_of[n] == node])

    def expect(self, kind, node, internal, node_of, zone):
        """Who may answer, or 'refused' or 'timeout'. node: where the packet meets the service."""
        cluster, local = self.lists(node, node_of, zone)
        use_local = self.itp == "Local" if kind == "vip" else self.etp == "Local" and not internal
        if not cluster and not local:
            return "refused"
        return (local if use_local else cluster) or "timeout"


def services():
    both = {"b1": READY, "b2": READY}
    return [
        Svc("plain", both),
        Svc("itp-both", both, itp="Local"),
        Svc("itp-remote", {"b2": READY}, itp="Local"),
        Svc("etp-both", both, etp="Local"),
        Svc("etp-remote", {"b2": READY}, etp="Local"),
        Svc("all-local", {"b2": READY, "b1": UNREADY}, itp="Local", etp="Local"),
        Svc("none", {}),
        Svc("none-local", {"b1": UNREADY}, itp="Local", etp="Local"),
        Svc("leaving", {"b1": LEAVING, "b2": LEAVING}),
        Svc("leaving-one", {"b1": LEAVING, "b2": READY}),
        Svc("leaving-local", {"b1": LEAVING, "b2": READY}, etp="Local", itp="Local"),
        Svc("gone", {"b1": GONE, "b2": READY}),
        Svc("gone-local", {"b1": GONE, "b2": READY}, etp="Local"),
        Svc("gone-all", {"b1": GONE, "b2": UNREADY}),
        Svc("node", {"n1": READY, "n2": READY}),
        Svc("node-local", {"n1": READY}, etp="Local", itp="Local"),
        Svc("zone", both, zones={"b1": ["z1"], "b2": ["z2"]}),
        Svc("zone-partly", both, zones={"b1": ["z1"]}),
        Svc("zone-unready", {"b1": READY, "b2": READY, "b3": UNREADY}, zones={"b1": ["z1"], "b2": ["z2"]}),
        Svc("zone-leaving", {"b1": LEAVING, "b2": READY}, zones={"b2": ["z2"]}),
    ]


def ask(c, host, addr, port, kind, want):
    """None, or what was wrong. A set of two is asked until both have answered."""
    seen, n = set(), 0
    while n < 40 and not (n >= 3 and seen == want):
        got = host.ask(addr, port, kind, timeout=0.35 if want == "timeout" else 2.5,
                       connect=n % 2 == 0 or want == "refused") # an unconnected socket is not told
        n += 1
        who = got.split(" ")[0]
        if isinstance(want, str):
            if who != want:
                return f"{got!r}, not {want}"
            if n >= (1 if want == "timeout" else 2):
                return None
            continue
        if who not in want:
            return f"{got!r}, not of {sorted(want)}"
        seen.add(who)
        bad = source_wrong(c, host, addr, got)
        if bad:
            return bad
    return None if seen == want else f"only {sorted(seen)} of {sorted(want)}"


def source_wrong(c, host, addr, got):
    """Pods and nodes are seen as what they are; outside clients too, unless the server is on another node."""
    who, source = got.split(" ")[:2]
    fam = 6 if ":" in addr else 4
    if host is c.x:
        node = c.n2 if addr == c.n2.addr(fam) else c.n1
        near = c.node_of[who] == node.name
        want = {c.x.addr(fam)} if near else {node.addr(fam)}
    elif host in (c.n1, c.n2):
        want = {host.addr(fam), addr}
        if addr.startswith("127.") or addr == "::1" or c.node_of[who] == host.name:
            return None # any address of the node itself
    else:
        # To another node's NodePort a pod is an outside client, and masqueraded if the server is elsewhere.
        other = {"n1": c.n2, "n2": c.n1}[host.node.name]
        want = {host.addr(fam)}
        if addr == other.addr(fam) and c.node_of[who] != other.name:
            want = {other.addr(fam)}
    return None if source in want else f"{got!r}: the server sees {source}, not {sorted(want)}"


def walk(args):
    Svc.count = 0
    with Cluster("se", daemon_args=list(args) + ["--cluster-cidr", "10.244.0.0/16,fd00:244::/48"]) as c:
        for n, zone in ((c.n1, "z1"), (c.n2, "z2")):
            o = n.object()
            o["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone
            c.put(o)
        a, d = c.pod("n1", "a"), c.pod("n2", "d")
        for node, name in (("n1", "b1"), ("n2", "b2"), ("n1", "b3")):
            c.pod(node, name)
        c.x = c.client()
        c.node_of = {p.name: p.node.name for p in c.pods} | {"n1": "n1", "n2": "n2"}
        for h in [p for p in c.pods if p.name[0] == "b"] + [c.n1, c.n2]:
            h.serve(8080)
            h.serve(5353, "udp")
        every = services()
        for s in every:
            s.put(c)
        c.start()
        rows = []
        at = {a: c.n1, d: c.n2, c.n1: c.n1, c.n2: c.n2}
        for s, host, fam, kind in itertools.product(every, (a, d, c.n1, c.n2, c.x), (4, 6), ("tcp", "udp")):
            node = at.get(host, c.n1) # the outside client's router is n1
            zone = {"n1": "z1", "n2": "z2"}
            for front, addr in (("vip", s.vip[fam]), ("lb", s.lb[fam]), ("ext", s.ext[fam])):
                rows.append((s, host, addr, 80, kind,
                             s.expect(front, node.name, host is not c.x, c.node_of, zone[node.name])))
            for to in (c.n1, c.n2):
                # Whether a pod of another node is outside is the cluster's choice (detect-local-mode).
                if host in (a, d) and to is not node and s.etp == "Local":
                    continue
                rows.append((s, host, to.addr(fam), s.np, kind,
                             s.expect("np", to.name, to is at.get(host), c.node_of, zone[to.name])))
            if host in (c.n1, c.n2):
                rows.append((s, host, "127.0.0.1" if fam == 4 else "::1", s.np, kind,
                             s.expect("np", node.name, True, c.node_of, zone[node.name])))
        wrong = []

        def one(row):
            s, host, addr, port, kind, want = row
            bad = ask(c, host, addr, port, kind, want)
            if bad: # once more, alone: the machine may be busy
                bad = ask(c, host, addr, port, kind, want)
            if bad:
                wrong.append(f"{s.name}: {host.name} -> {addr} {port} {kind}: {bad}")
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            list(pool.map(one, rows))
        print(f"{len(rows)} rows, {len(wrong)} wrong", flush=True)
        assert not wrong, "\n" + "\n".join(sorted(wrong)[:60])


def test_walk_sockets():
    walk([])


def test_walk_packets():
    walk(["--socket-lb", "off"])


def small(prefix, args=(), nodes=2):
    c = Cluster(prefix, nodes=nodes, daemon_args=list(args) + ["--cluster-cidr", "10.244.0.0/16,fd00:244::/48"])
    try:
        c.a, c.b1 = c.pod("n1", "a"), c.pod("n1", "b1")
        c.b2 = c.pod("n2", "b2")
        c.x = c.client()
        for h in (c.a, c.b1, c.b2):
            h.serve(8080)
            h.serve(5353, "udp")
        c.node_of = {p.name: p.node.name for p in c.pods}
    except BaseException:
        c.close()
        raise
    return c


def test_hairpin_through_every_address():
    """A pod that is its own endpoint: the server must not see its own address as the client's."""
    for args in ([], ["--socket-lb", "off"]):
        with small("sh", args) as c:
            Svc.count = 0
            for s in (Svc("own", {"a": READY}), Svc("own-local", {"a": READY}, itp="Local", etp="Local")):
                s.put(c)
            c.start()
            for s in (Svc.count - 1, Svc.count):
                for fam in (4, 6):
                    for addr, port in (((f"10.96.7.{s}", f"fd00:96:7::{s:x}")[fam == 6], 80),
                                       ((f"198.51.100.{100 + s}", f"2001:db8:7::{100 + s:x}")[fam == 6], 80),
                                       ((f"198.51.100.{s}", f"2001:db8:7::{s:x}")[fam == 6], 80),
                                       (c.n1.addr(fam), 31000 + s)):
                        for kind in ("tcp", "udp"):
                            for connect in (True, False):
                                got = c.a.ask(addr, port, kind, connect=connect)
                                assert got.split(" ")[0] == "a", (args, addr, port, kind, connect, got)


def test_affinity_is_per_service_port():
    """One client, one backend, whichever of the port's addresses it names; another port is another choice."""
    for args in ([], ["--socket-lb", "off"]):
        with small("sa", args) as c:
            Svc.count = 0
            s = Svc("sticky", {"b1": READY, "b2": READY}, sessionAffinity="ClientIP",
                    sessionAffinityConfig={"clientIP": {"timeoutSeconds": 2}})
            s.put(c)
            c.start()
            clients = [c.a, c.n1, c.x] + [c.client(f"x{i}") for i in range(6)]
            seen = set()
            for fam, kind in itertools.product((4, 6), ("tcp", "udp")):
                for host in clients:
                    addrs = [(s.vip[fam], 80), (s.lb[fam], 80), (s.ext[fam], 80), (c.n1.addr(fam), s.np)]
                    got = {host.ask(ad, p, kind, connect=k).split(" ")[0]
                           for ad, p in addrs for k in (True, False, True)}
                    assert len(got) == 1 and got < {"b1", "b2"}, (args, host.name, fam, kind, got)
                    seen |= got
            assert seen == {"b1", "b2"}, "clients are spread"
            if args:
                continue
            # It ends when it has been idle for so long, and not while it is used.
            first = c.x.ask(s.vip[4], 80).split(" ")[0]
            for _ in range(5):
                time.sleep(0.8)
                assert c.x.ask(c.n1.ip, s.np).split(" ")[0] == first, "refreshed by use"
            got = set()
            for _ in range(6):
                time.sleep(3.1)
                got.add(c.x.ask(s.vip[4], 80).split(" ")[0])
                if len(got) == 2:
                    break
            assert got == {"b1", "b2"}, "after the time-out another one may be chosen"


def test_source_ranges_of_pods_and_nodes():
    """They apply to whoever names the load balancer's address, pods and the node itself included."""
    for args in ([], ["--socket-lb", "off"]):
        with small("sr", args) as c:
            Svc.count = 0
            both = {"b1": READY, "b2": READY}
            mine = [Svc("outside", both, loadBalancerSourceRanges=[c.x.ip + "/32", c.x.ip6 + "/128"]),
                    Svc("pods", both, loadBalancerSourceRanges=["10.244.0.0/16", "fd00:244::/32"]),
                    Svc("node", both, loadBalancerSourceRanges=[c.n1.ip + "/32", c.n1.ip6 + "/128"])]
            for s in mine:
                s.put(c)
            c.start()
            for s, (host, name), fam, kind in itertools.product(
                    mine, ((c.x, "outside"), (c.a, "pods"), (c.n1, "node")), (4, 6), ("tcp", "udp")):
                want = {"b1", "b2"} if s.name == name else "timeout"
                for addr, port, w in ((s.lb[fam], 80, want), (s.vip[fam], 80, {"b1", "b2"}),
                                      (s.ext[fam], 80, {"b1", "b2"}), (c.n1.addr(fam), s.np, {"b1", "b2"})):
                    bad = ask(c, host, addr, port, kind, w)
                    assert not bad, (args, s.name, host.name, addr, kind, bad)


def test_objects_that_come_and_change():
    """ipMode Proxy, service-proxy-name, types and ports that change under a client."""
    with small("sx") as c:
        Svc.count = 0
        s = Svc("web", {"b1": READY, "b2": READY})
        s.put(c)
        c.start()
        key = "service.default.web"

        def put(fn):
            o = c.objects[key]
            fn(o)
            c.put(o)

        def answers(host, addr, port, kind="tcp"):
            return host.ask(addr, port, kind, timeout=0.5).split(" ")[0] in ("b1", "b2")
        assert answers(c.x, s.lb[4], 80) and answers(c.a, s.lb[6], 80)
        put(lambda o: [i.update(ipMode="Proxy") for i in o["status"]["loadBalancer"]["ingress"]])
        wait_for("the proxy's own now", lambda: not answers(c.x, s.lb[4], 80))
        assert not answers(c.a, s.lb[4], 80) and answers(c.x, c.n1.ip, s.np) and answers(c.a, s.vip[4], 80)
        put(lambda o: [i.update(ipMode="VIP") for i in o["status"]["loadBalancer"]["ingress"]])
        wait_for("ours again", lambda: answers(c.x, s.lb[4], 80))
        # Other ports of the addresses: refused on a ClusterIP, nobody's business on the others.
        assert c.a.ask(s.vip[4], 81) == "refused" and c.n1.ask(s.vip[6], 81, timeout=1) in ("refused", "timeout")
        before = c.n1.drops()
        c.x.ask(s.lb[4], 81, timeout=0.3)
        c.x.ask(s.ext[6], 81, timeout=0.3)
        assert c.n1.drops() == before, "not refused by us"
        put(lambda o: o["metadata"].setdefault("labels", {}).update({"service.kubernetes.io/service-proxy-name": "x"}))
        wait_for("another proxy's", lambda: not answers(c.a, s.vip[4], 80))
        put(lambda o: o["metadata"]["labels"].clear())
        wait_for("ours", lambda: answers(c.a, s.vip[4], 80))
        put(lambda o: o["spec"]["ports"][0].update(nodePort=31999))
        wait_for("another NodePort", lambda: answers(c.x, c.n1.ip, 31999))
        assert not answers(c.x, c.n1.ip, s.np) and answers(c.x, c.n1.ip, s.np, "udp")
        def plain(o):
            o["spec"].update(type="ClusterIP", externalIPs=[])
            for p in o["spec"]["ports"]: # as the API server does
                del p["nodePort"]
        put(plain)
        wait_for("ClusterIP only", lambda: not answers(c.x, c.n1.ip, 31999))
        assert not answers(c.x, s.ext[4], 80) and answers(c.x, s.vip[4], 80)
        put(lambda o: o["spec"].update(clusterIP="10.96.7.200", clusterIPs=["10.96.7.200"]))
        wait_for("moved", lambda: answers(c.a, "10.96.7.200", 80))
        assert not answers(c.a, s.vip[4], 80) and not answers(c.a, s.vip[6], 80)
        put(lambda o: o["spec"].update(type="ExternalName", externalName="example.org"))
        wait_for("no more", lambda: not answers(c.a, "10.96.7.200", 80))
        put(lambda o: o["spec"].update(type="ClusterIP", clusterIP="None", clusterIPs=["None"]))
        wait_for("headless", lambda: not c.n1.json("svc", "list"))


UNHOOKED = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(1)
s.connect((sys.argv[1], int(sys.argv[2])))
try:
    for _ in range(3):
        s.send(b"x")
        got = s.recv(100).decode().split(" ")[0]
    print(got)
except OSError as e:
    print(type(e).__name__)
"""


def test_packets_of_the_node_itself():
    """What no socket hook translated (here: a process outside of --cgroup) is translated as packets, and the
    errors that come back are about what was sent."""
    with small("sn") as c:
        for i, pod in enumerate((c.b1, c.b2)):
            for name, target in (("on", 5353), ("off", 9)):
                c.service(f"{name}{i}", [("u", "UDP", 80 + i, target)], [pod],
                          ips=[f"10.96.7.{200 + target % 100 + i}", f"fd00:96:7::{200 + target % 100 + i:x}"])
        c.n1.serve(5353, "udp")
        c.service("self", [("u", "UDP", 90, 5353)], [c.n1], ips=["10.96.7.240", "fd00:96:7::240"])
        c.start()
        for vip in ("10.96.7.240", "fd00:96:7::240"): # a server of the node itself
            for _ in range(3):
                got = sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, "python3", "-c", UNHOOKED, vip, "90"]).stdout
                assert got == "n1\n", (vip, got)
        for i, name in enumerate(("b1", "b2")):
            for target, want in ((5353, name), (9, "ConnectionRefusedError")):
                for vip in (f"10.96.7.{200 + target % 100 + i}", f"fd00:96:7::{200 + target % 100 + i:x}"):
                    got = sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns, "python3", "-c", UNHOOKED, vip,
                              str(80 + i)]).stdout.strip()
                    assert got == want, (vip, 80 + i, "to", name, got, want)
