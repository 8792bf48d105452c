# SPDX-License-Identifier: MIT
"""Taking over from kube-proxy with connections open: rules like its own, in nftables and iptables-legacy,
then bpfnetd, then `bpfnet cleanup --kube-proxy`. No connection may break, change its server or its source."""
import threading
import time

from harness import Cluster, sh, wait_for

VIP, VIP6 = "10.96.3.10", "fd00:96:3::10"
PORTS = [("http", "TCP", 80, 8080, {"nodePort": 30080}), ("dns", "UDP", 53, 5353, {"nodePort": 30053})]
PODS, PODS6 = "10.244.0.0/16", "fd00:244::/48"


def nft_rules(v6, backends):
    fam, vip, pods = ("ip6", VIP6, PODS6) if v6 else ("ip", VIP, PODS)
    out = []
    for proto, port, target, node_port in (("tcp", 80, 8080, 30080), ("udp", 53, 5353, 30053)):
        dnat = (f"dnat {fam} to numgen random mod {len(backends)} map {{ "
                + ", ".join(f"{i} : {b} . {target}" for i, b in enumerate(backends)) + " }")
        out += [f"{fam} daddr {vip} {proto} dport {port} {fam} saddr != {pods} meta mark set mark or 0x4000",
                f"{fam} daddr {vip} {proto} dport {port} {dnat}",
                f"fib daddr type local {proto} dport {node_port} meta mark set mark or 0x4000",
                f"fib daddr type local {proto} dport {node_port} {dnat}"]
    hair = "\n".join(f"{fam} saddr {b} {fam} daddr {b} masquerade" for b in backends)
    return f"""table {fam} kube-proxy {{
 chain services {{
  {chr(10).join(out)}
 }}
 chain pre {{ type nat hook prerouting priority -100; jump services; }}
 chain out {{ type nat hook output priority -100; jump services; }}
 chain post {{ type nat hook postrouting priority 100; meta mark & 0x4000 == 0x4000 masquerade
  {hair}
 }}
}}
"""


def legacy_rules(v6, backends):
    vip, pods = (VIP6, PODS6) if v6 else (VIP, PODS)
    r = ["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]", ":KUBE-POSTROUTING - [0:0]",
         ":KUBE-NODEPORTS - [0:0]", "-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES",
         "-A POSTROUTING -j KUBE-POSTROUTING", "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
         "-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE"]
    for b in backends:
        r.append(f"-A KUBE-POSTROUTING -s {b} -d {b} -j MASQUERADE")
    for proto, port, target, node_port in (("tcp", 80, 8080, 30080), ("udp", 53, 5353, 30053)):
        chain = f"KUBE-SVC-{proto.upper()}"
        r += [f":{chain} - [0:0]",
              f"-A KUBE-SERVICES ! -s {pods} -d {vip} -p {proto} --dport {port} -j KUBE-MARK-MASQ",
              f"-A KUBE-SERVICES -d {vip} -p {proto} --dport {port} -j {chain}",
              f"-A KUBE-NODEPORTS -p {proto} --dport {node_port} -j KUBE-MARK-MASQ",
              f"-A KUBE-NODEPORTS -p {proto} --dport {node_port} -j {chain}"]
        for i, b in enumerate(backends):
            sep = f":KUBE-SEP-{proto.upper()}{i} - [0:0]"
            left = len(backends) - i
            p = f"-m statistic --mode random --probability {1 / left:.10f} " if left > 1 else ""
            to = f"[{b}]:{target}" if v6 else f"{b}:{target}"
            r += [sep, f"-A {chain} {p}-j KUBE-SEP-{proto.upper()}{i}",
                  f"-A KUBE-SEP-{proto.upper()}{i} -p {proto} -j DNAT --to-destination {to}"]
    r += ["-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS", "COMMIT", ""]
    return "\n".join(r)


def install(node, kind, backends):
    for v6 in (False, True):
        mine = [b.addr(6 if v6 else 4) for b in backends]
        if kind == "nft":
            cmd, text = ["nft", "-f", "-"], nft_rules(v6, mine)
        else:
            cmd = ["ip6tables-legacy-restore" if v6 else "iptables-legacy-restore", "--noflush"]
            text = legacy_rules(v6, mine)
        sh(["nsenter", "--net=/var/run/netns/" + node.ns] + cmd, input=text)


def rules_left(node):
    def there(cmd):
        return sh(["nsenter", "--net=/var/run/netns/" + node.ns] + cmd, check=False).stdout
    return [x for x in (there(["nft", "list", "ruleset"]) + there(["iptables-legacy-save"])
                        + there(["ip6tables-legacy-save"])).splitlines() if "KUBE" in x or "kube" in x]


class Conn:
    """One connection, asked again and again: the answer names server, source address and port."""

    def __init__(self, host, addr, port, kind):
        self.what = (host.name, addr, port, kind)
        self.s = host.socket(6 if ":" in addr else 4, kind, 3)
        self.s.connect((addr, port))
        self.first = None
        self.first = self.ask()

    def ask(self):
        for _ in range(3):
            self.s.send(b"x")
            try:
                return self.s.recv(200).decode()
            except TimeoutError:
                if self.what[3] == "tcp":
                    break # TCP does its own repeating
        return "timeout"

    def check(self, when):
        try:
            got = self.ask()
        except OSError as e:
            got = type(e).__name__
        assert got == self.first, (when, self.what, "was", self.first, "is", got)


class Traffic:
    """Everything that is open, and short connections that begin and end, all the time."""

    def __init__(self, conns, short):
        self.conns, self.short, self.wrong, self.n, self.stop = conns, short, [], 0, False
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._open, self._short)]
        for t in self.threads:
            t.start()

    def _open(self):
        while not self.stop:
            for k in self.conns:
                try:
                    k.check("meanwhile")
                except AssertionError as e:
                    self.wrong.append(e)

    def _short(self):
        while not self.stop:
            for host, addr, port in self.short:
                got = host.ask(addr, port).split(" ")[0]
                self.n += 1
                if got not in ("b1", "b2"):
                    self.wrong.append((host.name, addr, port, got))

    def end(self):
        self.stop = True
        for t in self.threads:
            t.join()
        assert not self.wrong, (len(self.wrong), self.wrong[:3])
        assert self.n > 4, self.n


def takeover(kind):
    with Cluster("to" + kind[0], daemon_args=["--cluster-cidr", f"{PODS},{PODS6}"]) as c:
        c.a = c.pod("n1", "client", labels={"app": "client"})
        c.b1 = c.pod("n1", "b1", labels={"app": "web"})
        c.b2 = c.pod("n2", "b2", labels={"app": "web"})
        c.free = c.pod("n1", "free")
        x = c.client()
        for b in (c.b1, c.b2):
            b.serve(8080)
            b.serve(5353, "udp")
        c.service("web", PORTS, [c.b1, c.b2], ips=[VIP, VIP6], type="NodePort")
        # Judged on the pods behind the service, not on the address that the packets carry.
        c.policy("client", {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
                            "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]})
        for n in (c.n1, c.n2):
            install(n, kind, [c.b1, c.b2])
        conns = []
        for v6 in (False, True):
            vip = VIP6 if v6 else VIP
            fam = 6 if v6 else 4
            for proto, port, np in (("tcp", 80, 30080), ("udp", 53, 30053)):
                for host, addr, p in ((c.a, vip, port), (x, vip, port), (x, c.n1.addr(fam), np),
                                      (x, c.n2.addr(fam), np), (c.n1, vip, port), (c.b1, vip, port),
                                      (c.a, c.n1.addr(fam), np), (c.free, c.n2.addr(fam), np)):
                    conns += [Conn(host, addr, p, proto) for _ in range(4)]
        seen = {k.first.split(" ")[0] for k in conns}
        assert seen == {"b1", "b2"}, seen
        assert any(k.first.split(" ")[1] == c.n1.ip for k in conns), "some are masqueraded"
        traffic = Traffic(conns, [(c.a, VIP, 80), (x, VIP6, 80), (x, c.n1.ip, 30080), (x, c.n2.ip6, 30080)])
        c.start(timeout=20)
        time.sleep(0.3)
        traffic.end()
        for k in conns:
            k.check("after the start")
        traffic = Traffic(conns, traffic.short)
        for n in (c.n1, c.n2):
            n.cli("cleanup", "--kube-proxy")
        time.sleep(0.3)
        traffic.end()
        for n in (c.n1, c.n2):
            assert not rules_left(n), rules_left(n)
        for _ in range(2):
            for k in conns:
                k.check("after the clean-up")
        # What begins now is ours.
        for host, addr, p in ((c.a, VIP, 80), (x, c.n1.ip, 30080), (c.n1, VIP6, 80), (x, VIP6, 80)):
            assert {host.ask(addr, p).split(" ")[0] for _ in range(20)} == {"b1", "b2"}, (host.name, addr)
        rows = c.n1.json("ct", "list")
        assert any(r["source"] == x.ip and r["destination"] == c.n1.ip and r["backend"] == c.b2.ip
                   for r in rows), "taken over connections are listed as what they are"
        c.n1.stop()
        c.n1.start()
        for k in conns:
            k.check("after a restart")
        # UDP leaves an endpoint that is gone, also what kube-proxy began.
        c.endpoints("web", PORTS, [c.b2])
        wait_for("one", lambda: {c.a.ask(VIP, 53, "udp").split(" ")[0] for _ in range(8)} == {"b2"})
        mine = [k for k in conns if k.what[0] in ("client", "free", "ext") and k.what[3] == "udp"]
        wait_for("UDP is moved", lambda: {k.ask().split(" ")[0] for k in mine} == {"b2"}, 3)
        for k in conns:
            if k.what[3] == "tcp":
                k.check("TCP keeps its server")
            k.s.close()
        time.sleep(0.1)


def test_nftables():
    takeover("nft")


def test_iptables_legacy():
    takeover("legacy")
