#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make bench: bpfnet beside the direct path and beside rules like kube-proxy's, in one run.

Every figure is taken interleaved (A B C A B C), medians with quartiles over the rounds. CPU is the
whole machine's busy time (softirq included) per operation. `direct` is the same pair of pods on a
plain routed veth, without services and rules. Ratios are what counts; see docs/PERFORMANCE.md.

  bench.py [--rounds N] [--seconds S] [--sizes 10,1000,10000] [--only PART,...] [--out DIR]
"""
import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
from harness import BUILD, Cluster, sh, wait_for  # noqa: E402

LOAD = os.path.join(BUILD, "tests/tools/load")
HZ = os.sysconf("SC_CLK_TCK")
VIP = "10.96.0.10"
SVC_PORT, POD_PORT, DIRECT_PORT = 80, 8080, 8081


def busy_seconds():
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:9]]
    return (sum(v) - v[3] - v[4]) / HZ


def service_objects(n, backend):
    """n services of three endpoints each; the last one is what is measured."""
    out = []
    for i in range(n):
        name = f"s{i}"
        vip = VIP if i == n - 1 else f"10.97.{i >> 8}.{i & 255}"
        eps = [backend] if i == n - 1 else [f"10.250.{(i * 3 + k) >> 8 & 255}.{(i * 3 + k) & 255}" for k in range(3)]
        out.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                    "spec": {"clusterIP": vip, "ports": [{"name": "t", "port": SVC_PORT, "protocol": "TCP"},
                                                         {"name": "u", "port": SVC_PORT, "protocol": "UDP"}]}})
        out.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                    "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
                    "addressType": "IPv4", "ports": [{"name": "t", "port": POD_PORT, "protocol": "TCP"},
                                                     {"name": "u", "port": POD_PORT, "protocol": "UDP"}],
                    "endpoints": [{"addresses": [a]} for a in eps]})
    return out


def iptables_rules(objs):
    """The nat table as kube-proxy's iptables mode writes it: services, per-service, per-endpoint chains."""
    head, body = ["*nat", ":KUBE-SERVICES - [0:0]", ":KUBE-MARK-MASQ - [0:0]", ":KUBE-POSTROUTING - [0:0]"], [
        "-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", "-A POSTROUTING -j KUBE-POSTROUTING",
        "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0", "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"]
    for i in range(0, len(objs), 2):
        svc, sl = objs[i], objs[i + 1]
        vip = svc["spec"]["clusterIP"]
        for p in svc["spec"]["ports"]:
            proto = p["protocol"].lower()
            ch = f"KUBE-SVC-{i // 2:08d}{p['name'].upper()}"
            head.append(f":{ch} - [0:0]")
            body.append(f"-A KUBE-SERVICES -d {vip}/32 -p {proto} -m {proto} --dport {p['port']} -j {ch}")
            body.append(f"-A {ch} ! -s 10.244.0.0/16 -d {vip}/32 -p {proto} -m {proto} --dport {p['port']} -j KUBE-MARK-MASQ")
            n = len(sl["endpoints"])
            for k, e in enumerate(sl["endpoints"]):
                sep = f"KUBE-SEP-{i // 2:08d}{p['name'].upper()}{k}"
                head.append(f":{sep} - [0:0]")
                prob = f" -m statistic --mode random --probability {1 / (n - k):.10f}" if k < n - 1 else ""
                body.append(f"-A {ch}{prob} -j {sep}")
                body.append(f"-A {sep} -s {e['addresses'][0]}/32 -j KUBE-MARK-MASQ")
                body.append(f"-A {sep} -p {proto} -m {proto} -j DNAT --to-destination {e['addresses'][0]}:{POD_PORT}")
    return "\n".join(head + body + ["COMMIT", ""])


def nft_rules(objs):
    """A table as kube-proxy's nftables mode writes it: one verdict map, a chain a service port."""
    chains, elems = [], []
    for i in range(0, len(objs), 2):
        svc, sl = objs[i], objs[i + 1]
        vip = svc["spec"]["clusterIP"]
        for p in svc["spec"]["ports"]:
            proto = p["protocol"].lower()
            name = f"service-{i // 2}-{p['name']}"
            n = len(sl["endpoints"])
            jumps = []
            for k, e in enumerate(sl["endpoints"]):
                a = e["addresses"][0]
                ep = f"endpoint-{i // 2}-{p['name']}-{k}"
                chains.append(f'chain {ep} {{ ip saddr {a} jump mark-for-masquerade; meta l4proto {proto} dnat to {a}:{POD_PORT}; }}')
                jumps.append(f"{k} : goto {ep}")
            chains.append(f"chain {name} {{ ip daddr {vip} {proto} dport {p['port']} ip saddr != 10.244.0.0/16 jump mark-for-masquerade; "
                          f"numgen random mod {n} vmap {{ {', '.join(jumps)} }}; }}")
            elems.append(f"{vip} . {proto} . {p['port']} : goto {name}")
    nl = "\n"
    return f"""table ip kube-proxy {{
chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
{nl.join(chains)}
map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; elements = {{ {', '.join(elems)} }} }}
chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
chain nat-output {{ type nat hook output priority -100; jump services; }}
chain masquerading {{ meta mark & 0x4000 == 0 return; meta mark set meta mark xor 0x4000; masquerade fully-random; }}
chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
}}
"""


def policy_objects(n):
    """n policies, each selecting other pods; the last two concern the measured pods."""
    out = [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": f"p{i}", "namespace": "default"},
            "spec": {"podSelector": {"matchLabels": {"app": f"other{i}"}}, "policyTypes": ["Ingress", "Egress"],
                     "ingress": [{"from": [{"podSelector": {"matchLabels": {"role": f"r{i % 50}"}}}], "ports": [{"port": 1000 + i}]}]}}
           for i in range(n - 2)]
    out.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "in", "namespace": "default"},
                "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "ingress": [
                    {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}],
                     "ports": [{"port": POD_PORT}, {"port": POD_PORT, "protocol": "UDP"}]}]}})
    out.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "out", "namespace": "default"},
                "spec": {"podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"], "egress": [
                    {"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}]}})
    return out


class Variant:
    """One way for a client pod to reach a server pod on its node."""

    def __init__(self, name, size, stack):
        self.name = name
        args = {"socket": ["--host-routing", "stack"], "socket+peer": ["--host-routing", "bpf"],
                "tc": ["--socket-lb", "off", "--host-routing", "stack"],
                "tc+peer": ["--socket-lb", "off", "--host-routing", "bpf"]}.get(name.split("+policy")[0])
        self.bpfnet = args is not None
        tag = "".join(ch for ch in name if ch.isalnum())[:5]
        self.c = c = stack.enter_context(Cluster(f"b{tag}", nodes=1, daemon_args=args or ()))
        self.client = c.pod("n1", "client", labels={"app": "client"})
        self.server = c.pod("n1", "server", labels={"app": "server"})
        self.port = DIRECT_PORT if name == "direct" else SVC_PORT
        self.addr = self.server.ip if name == "direct" else VIP
        for p in (POD_PORT, DIRECT_PORT):
            self.server.popen([LOAD, "serve", str(p)])
        policy = "+policy" in name
        objs = service_objects(10 if policy else size, self.server.ip)
        if self.bpfnet:
            with open(os.path.join(c.manifests, "services.json"), "w") as f:
                json.dump({"apiVersion": "v1", "kind": "List", "items": objs + (policy_objects(size) if policy else [])}, f)
            c.n1.start(timeout=60)
        elif name != "direct":
            text = nft_rules(objs) if name == "nftables" else iptables_rules(objs)
            cmd = {"nftables": ["nft", "-f", "-"], "iptables-legacy": ["iptables-legacy-restore"],
                   "iptables-nft": ["iptables-nft-restore"]}[name]
            sh(["nsenter", "--net=/var/run/netns/" + c.n1.ns] + cmd, input=text, timeout=300)
        wait_for(f"{name}: answers", lambda: self.run("tcp-new", 0.05)["ops"], 20)

    def run(self, mode, seconds):
        b = busy_seconds()
        p = self.client.run([LOAD, mode, self.addr, str(self.port), str(seconds)], check=False, timeout=seconds + 30)
        b = busy_seconds() - b
        r = json.loads(p.stdout or '{"ops": 0}')
        r["cpu"] = b / r["ops"] if r["ops"] else None
        return r


def quartiles(v):
    q = statistics.quantiles(v, n=4) if len(v) > 1 else [v[0]] * 3
    return statistics.median(v), q[0], q[2]


class Report:
    def __init__(self, out):
        self.out, self.figures = out, []
        self.machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "python": platform.python_version(),
                        "cpu": next((x.split(":", 1)[1].strip() for x in open("/proc/cpuinfo") if x.startswith("model name")), "?"),
                        "bpfnet": sh([os.path.join(BUILD, "bpfnet"), "version"]).stdout.strip(),
                        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}

    def add(self, id_, unit, values, direct=None):
        med, q1, q3 = quartiles(values)
        d = statistics.median(direct) if direct else None
        ratio = statistics.median([a / b for a, b in zip(values, direct)]) if direct else None
        self.figures.append({"id": id_, "unit": unit, "direct": d, "value": med, "ratio": ratio, "q1": q1, "q3": q3,
                             "rounds": len(values)})
        print(f"  {id_:38s} {med:12.4g} {unit:8s}" + (f"  ratio {ratio:.3f}" if ratio else ""), flush=True)

    def write(self):
        os.makedirs(self.out, exist_ok=True)
        with open(os.path.join(self.out, "report.json"), "w") as f:
            json.dump({"machine": self.machine, "figures": self.figures}, f, indent=1)
        with open(os.path.join(self.out, "report.html"), "w") as f:
            f.write(self.html())
        print(f"report: {self.out}/report.json, report.html")

    def html(self):
        rows, groups = [], {}
        for g in self.figures:
            groups.setdefault(g["id"].split("/")[0], []).append(g)
        for name, figs in sorted(groups.items()):
            top = max((g["ratio"] or 0) for g in figs) or 1
            rows.append(f"<h2>{name}</h2><table>")
            for g in figs:
                w = int(300 * (g["ratio"] or 0) / top)
                ratio = f'{g["ratio"]:.3f}' if g["ratio"] else ""
                rows.append(f'<tr><td>{g["id"]}</td><td>{g["value"]:.4g} {g["unit"]}</td><td>{ratio}</td>'
                            f'<td><svg width="300" height="12"><rect width="{w}" height="12" fill="#4477aa"/></svg></td>'
                            f'<td>{g["q1"]:.4g} to {g["q3"]:.4g}, {g["rounds"]} rounds</td></tr>')
            rows.append("</table>")
        m = ", ".join(f"{k}: {v}" for k, v in self.machine.items())
        return ("<!doctype html><meta charset=utf-8><title>bpfnet bench</title><style>body{font:14px sans-serif;margin:2em}"
                "td{padding:2px 12px}</style><h1>bpfnet bench</h1><p>" + m + "</p><p>Bars and ratios: against the direct path "
                "of the same run.</p>" + "\n".join(rows))


def interleave(report, variants, modes, rounds, seconds, label):
    """modes: {id prefix: load mode}; a figure for each variant but direct."""
    for prefix, mode in modes.items():
        got = {v.name: [] for v in variants}
        for r in range(rounds + 1):
            for v in variants:
                m = v.run(mode, seconds)
                if m.get("failed"):
                    raise AssertionError(f"{v.name} {mode}: {m['failed']} operations failed")
                if r: # the first round warms up
                    got[v.name].append(m)
        direct = [m["cpu"] for m in got["direct"]]
        for v in variants:
            if v.name == "direct":
                report.add(f"{prefix}/direct/{label}", "s", direct, direct)
                continue
            report.add(f"{prefix}/{v.name}/{label}", "s", [m["cpu"] for m in got[v.name]], direct)
            for p in ("p50", "p99", "p999"):
                report.add(f"{prefix}-latency-{p}/{v.name}/{label}", "s", [m[p] for m in got[v.name]],
                           [m[p] for m in got["direct"]])
            report.add(f"{prefix}-rate/{v.name}/{label}", "op/s", [m["ops"] / m["seconds"] for m in got[v.name]],
                       [m["ops"] / m["seconds"] for m in got["direct"]])


def bench_services(report, a):
    for size in a.sizes:
        print(f"services: {size}")
        with contextlib.ExitStack() as st:
            names = ["direct", "socket", "tc", "tc+peer", "iptables-legacy"]
            if size <= 1000: # nft takes more than five minutes to load the table of 10,000 services
                names.append("nftables")
            else:
                print("  (nftables is left out beyond 1,000 services)")
            variants = [Variant(n, size, st) for n in names]
            interleave(report, variants, {"tcp-new": "tcp-new", "udp-new": "udp-new", "kept-tcp": "tcp-kept"},
                       a.rounds, a.seconds, size)


def bench_policies(report, a):
    for size in a.sizes:
        print(f"policies: {size}")
        with contextlib.ExitStack() as st:
            variants = [Variant(n, size, st) for n in ("direct", "socket+policy", "tc+policy", "tc+peer+policy")]
            interleave(report, variants, {"tcp-new": "tcp-new", "kept-tcp": "tcp-kept"}, a.rounds, a.seconds, size)


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmRSS"))


def cpu_of(pid):
    with open(f"/proc/{pid}/stat") as f:
        v = f.read().rsplit(")", 1)[1].split()
    return (int(v[11]) + int(v[12])) / HZ


def bench_control(report, a):
    for size in a.sizes:
        print(f"control plane: {size} services x 10 endpoints")
        with Cluster("bctl", nodes=1) as c:
            client, server = c.pod("n1", "client"), c.pod("n1", "server")
            server.serve(POD_PORT)
            server2 = c.pod("n1", "server2")
            server2.serve(POD_PORT)
            objs = service_objects(size, server.ip)
            for o in objs:
                if o["kind"] == "EndpointSlice" and o["metadata"]["name"] != f"s{size - 1}":
                    base = int(o["metadata"]["name"][1:])
                    o["endpoints"] = [{"addresses": [f"10.{200 + k}.{base >> 8 & 255}.{base & 255}"]} for k in range(10)]
            last = objs.pop()
            with open(os.path.join(c.manifests, "services.json"), "w") as f:
                json.dump({"apiVersion": "v1", "kind": "List", "items": objs}, f)
            c.put(last)
            cold, cpu = [], []
            for _ in range(3):
                t = time.monotonic()
                c.n1.start(timeout=120)
                cold.append(time.monotonic() - t)
                cpu.append(cpu_of(c.n1.daemon.pid))
                mem = rss(c.n1.daemon.pid)
                c.n1.stop()
                c.n1.cli("cleanup")
            report.add(f"coldstart/bpfnet/{size}", "s", cold)
            report.add(f"coldstart-cpu/bpfnet/{size}", "s", cpu)
            report.add(f"rss/bpfnet/{size}", "B", [mem])
            c.n1.start(timeout=120)
            times = []
            for i in range(40):
                want = server if i % 2 else server2
                last["endpoints"] = [{"addresses": [want.ip]}]
                t = time.monotonic()
                c.put(last)
                while client.ask(VIP, SVC_PORT).split(" ")[0] != want.name:
                    assert time.monotonic() - t < 5
                times.append(time.monotonic() - t)
            report.add(f"change-to-inforce-p50/bpfnet/{size}", "s", [statistics.median(times)])
            report.add(f"change-to-inforce-p99/bpfnet/{size}", "s", [sorted(times)[-1]])
            mm = [x.rsplit(" ", 1) for x in c.n1.cli("metrics").stdout.splitlines() if x.startswith("bpfnet_map_bytes{")]
            report.add("mapmem/bpfnet/default" if size == a.sizes[0] else f"mapmem/bpfnet/{size}", "B", [sum(float(v) for _, v in mm)])


PARTS = {"services": bench_services, "policies": bench_policies, "control": bench_control}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.7)
    p.add_argument("--sizes", default="10,1000,10000" + (",50000" if os.environ.get("BENCH_BIG") == "1" else ""))
    p.add_argument("--only", default=",".join(PARTS))
    p.add_argument("--out", default=os.path.join(BUILD, "bench"))
    a = p.parse_args()
    a.sizes = [int(x) for x in a.sizes.split(",")]
    if os.geteuid():
        sys.exit("the benchmark needs root")
    report = Report(a.out)
    try:
        for part in a.only.split(","):
            PARTS[part](report, a)
    finally:
        report.write()


if __name__ == "__main__":
    main()
