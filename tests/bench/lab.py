# SPDX-License-Identifier: MIT
"""The ways from a client to a server that are compared, each in a cluster of namespaces of its own, so
that a client port that one of them used is never met by another (TIME_WAIT)."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "e2e"))
import leftover  # noqa: E402
from harness import BUILD, Cluster, cgroup2_root, sh, wait_for  # noqa: E402
from kubecluster import KubeCluster  # noqa: E402

import objects  # noqa: E402
from cpu import Meter  # noqa: E402

LOAD = os.path.join(BUILD, "tests/tools/load")
LIMIT = os.path.join(BUILD, "tests/bench/limit")
KUBE_PROXY = os.environ.get("KUBE_PROXY", "")
BIG = os.environ.get("BENCH_BIG") == "1"

# Arguments of bpfnetd by the name of the variant.
BPFNET = {"socket": ["--host-routing", "stack"], "socket+peer": ["--host-routing", "bpf"],
          "tc": ["--socket-lb", "off", "--host-routing", "stack"],
          "tc+peer": ["--socket-lb", "off", "--host-routing", "bpf"]}
# The least that programs on the same hooks cost (limit.bpf.c).
LIMITS = ["bare", "look", "peer"]


def others(size):
    """The alternatives that can be measured at that size in reasonable time."""
    out = ["iptables-legacy", "nftables"]
    if size <= 1000 or BIG: # iptables-nft-restore of 10,000 services takes one to two minutes
        out.append("iptables-nft")
    if KUBE_PROXY:
        out += ["kube-proxy-iptables", "kube-proxy-nftables"]
    return out


def sweep():
    leftover.sweep(os.getpid(), os.path.join(BUILD, "bpfnet"), cgroup2_root())


def in_ns(host, cmd, **kw):
    return sh(["nsenter", "--net=/var/run/netns/" + host.ns] + cmd, **kw)


def write_list(cluster, items, name="bench.json"):
    path = os.path.join(cluster.manifests, "." + name)
    with open(path, "w") as f:
        json.dump({"apiVersion": "v1", "kind": "List", "items": items}, f)
    os.rename(path, os.path.join(cluster.manifests, name))


def load_rules(node, name, svcs):
    """kube-proxy-like rules in the node's namespace; the real kube-proxy is start_kube_proxy."""
    if name == "nftables":
        for text in objects.nft_rules(svcs):
            in_ns(node, ["nft", "-f", "-"], input=text, timeout=300)
    else:
        in_ns(node, [name + "-restore"], input=objects.iptables_rules(svcs), timeout=600)


def start_kube_proxy(c, node, mode, objs):
    for o in objs:
        c.put(o)
    args = [KUBE_PROXY, "--proxy-mode", mode, "--kubeconfig", os.path.join(c.api.dir, "kubeconfig"), "--hostname-override",
            node.name, "--cluster-cidr", "10.244.0.0/16", "--metrics-bind-address", "127.0.0.1:10249", "--healthz-bind-address",
            "127.0.0.1:10256", "--conntrack-max-per-core", "0", "--kube-api-content-type", "application/json"]
    # iptables-legacy, which is the faster one: to read (10,000 services take iptables-nft minutes) and for packets.
    tools = os.path.join(c.dir, "legacy")
    os.mkdir(tools)
    for name in ("iptables", "ip6tables"):
        for suffix in ("", "-save", "-restore"):
            os.symlink(shutil.which(name + "-legacy" + suffix), os.path.join(tools, name + suffix))
    log = open(os.path.join(c.dir, "kube-proxy.log"), "ab")
    p = node.popen(args, stdout=log, stderr=log, env=dict(os.environ, PATH=tools + ":" + os.environ["PATH"]))
    log.close()
    with contextlib.suppress(subprocess.TimeoutExpired): # of another architecture, say: not waited for until it answers
        p.wait(1)
        with open(log.name, errors="replace") as f:
            raise RuntimeError(f"kube-proxy ended with {p.returncode}: {f.read().strip().splitlines()[-1:]}")


def start_limit(node, *args):
    """Programs that do the least that could be done on the hooks of that node (limit.bpf.c, limit_xdp.bpf.c)."""
    p = node.popen([LIMIT, *map(str, args)], stdout=subprocess.PIPE, text=True)
    if p.stdout.readline().strip() != "ready":
        raise RuntimeError(f"limit {' '.join(map(str, args))}: ended with {p.wait(10)}")


def mac_of(host):
    return json.loads(in_ns(host, ["ip", "-j", "link", "show", "eth0"]).stdout)[0]["address"]


class Way:
    """run(mode, seconds) measures one round; ways differ in what they set up.

    Client and server share one CPU, but for bulk (one each): left to the scheduler, a request costs 20 or
    80 µs here, depending on whether it wakes an idle CPU, and that is all that would be seen.
    """
    opened = 0
    together = False # bulk on one CPU, too

    def open(self, name, stack, nodes, daemon_args):
        self.name = name
        Way.opened += 1
        kind = KubeCluster if name.startswith("kube-proxy") else Cluster
        self.c = stack.enter_context(kind(f"be{Way.opened % 1000}", nodes=nodes, daemon_args=daemon_args))
        return self.c

    def ready(self):
        hosts = [*self.c.nodes.values(), *self.c.clients, self.c.fabric]
        self.meter = Meter([h.cgroup for h in hosts])
        wait_for(f"{self.name}: answers", lambda: self.run("tcp-new", 0.05)["ops"],
                 300 if self.name.startswith("kube-proxy") else 30)

    def run(self, mode, seconds, size=None):
        cpus = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(self.service.pid, {cpus[0 if mode == "bulk" and not self.together else -1]})
        before = self.meter.read()
        p = self.client.run(["taskset", "-c", str(cpus[-1]), LOAD, mode, self.addr, str(self.port), str(seconds)] + ([str(size)] if size else []),
                            check=False, timeout=seconds + 60)
        after = self.meter.read()
        r = json.loads(p.stdout or '{"ops": 0, "failed": 1, "seconds": 1}')
        for i, k in enumerate(("machine", "own")):
            r[k] = (after[i] - before[i]) / r["ops"] if r["ops"] else None
        return r


class PodToPod(Way):
    """Client and server are pods of one node. policies: how many are in force (names with +policy)."""

    def __init__(self, name, size, stack, npolicies=0):
        args = BPFNET.get(name.split("+policy")[0])
        c = self.open(name, stack, 1, args or ())
        self.client = c.pod("n1", "client", labels={"app": "client"})
        self.server = c.pod("n1", "server", labels={"app": "server"})
        direct = name == "direct"
        self.addr, self.port = (self.server.ip, objects.DIRECT_PORT) if direct else (objects.VIP, objects.SVC_PORT)
        self.service = self.server.popen([LOAD, "serve", str(objects.DIRECT_PORT if direct else objects.POD_PORT)])
        svcs = objects.services(size, self.server.ip)
        if args:
            write_list(c, objects.service_objects(svcs) + (objects.policies(npolicies) if npolicies else []))
            c.n1.start(timeout=90)
        elif name.startswith("kube-proxy"):
            start_kube_proxy(c, c.n1, name.split("-")[2], objects.service_objects(svcs))
        elif name in LIMITS:
            start_limit(c.n1, "pods", name, c.n1.cgroup, self.addr, self.port, self.server.ip, objects.POD_PORT,
                        self.client.host_if, self.server.host_if)
        elif not direct:
            load_rules(c.n1, name, svcs)
        self.ready()


class NodePort(Way):
    """An outside client, the port of node n1, a backend on n2. `direct` goes to the pod by its own node, n2;
    `routed` by n1 as a router, there and back: the links of a NodePort, without a service; `xdp-bare` by an XDP
    program on n1 that knows this one NodePort by heart: the least that one costs by XDP here. Whole checksums
    and GRO on the links, which XDP on a veth needs, are the same for all ways."""

    ARGS = {"tc": ["--xdp", "off", "--host-routing", "stack"], "tc+peer": ["--xdp", "off", "--host-routing", "bpf"],
            "xdp": ["--xdp", "native", "--host-routing", "bpf"]}

    def __init__(self, name, size, stack):
        args = self.ARGS.get(name)
        c = self.open(name, stack, 2, args or ())
        self.client = c.client()
        self.server = c.pod("n2", "server", labels={"app": "server"})
        for h in (c.n1, c.n2, self.client, self.server):
            in_ns(h, ["ethtool", "-K", "eth0", "tx", "off"])
            if h is not self.server:
                in_ns(c.fabric, ["ethtool", "-K", f"f{h.ns[-8:]}", "tx", "off", "gro", "on"])
            in_ns(h, ["sysctl", "-qw", "net.ipv4.conf.all.send_redirects=0", "net.ipv4.conf.eth0.send_redirects=0",
                      "net.ipv4.conf.all.accept_redirects=0", "net.ipv4.conf.eth0.accept_redirects=0"])
        # The fabric is a wire: no netfilter where its bridge forwards.
        in_ns(c.fabric, ["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"], check=False)
        direct = name in ("direct", "routed")
        self.addr, self.port = (self.server.ip, objects.DIRECT_PORT) if direct else (c.n1.ip, objects.NODE_PORT)
        self.service = self.server.popen([LOAD, "serve", str(objects.DIRECT_PORT if direct else objects.POD_PORT)])
        svcs = objects.services(size, self.server.ip, nodeport=True)
        if name == "direct":
            in_ns(self.client, ["ip", "route", "add", self.addr + "/32", "via", c.n2.ip])
        elif direct:
            in_ns(c.n2, ["ip", "route", "add", self.client.ip + "/32", "via", c.n1.ip])
        elif args:
            write_list(c, objects.service_objects(svcs))
            c.n1.start(timeout=90)
            if name == "xdp":
                wait_for("XDP sends", lambda: "out" in next(
                    x for x in c.n1.json("status", check=False)["xdp"] if x["interface"] == "eth0")["sends"], 20)
        elif name.startswith("kube-proxy"):
            start_kube_proxy(c, c.n1, name.split("-")[2], objects.service_objects(svcs))
        elif name == "xdp-bare":
            start_limit(c.n1, "nodeport", "eth0", self.client.ip, mac_of(self.client), c.n1.ip, objects.NODE_PORT, self.server.ip,
                        objects.POD_PORT, mac_of(c.n2))
        else:
            load_rules(c.n1, name, svcs)
        self.ready()


@contextlib.contextmanager
def ways(report, kind, names, size, *args):
    """The ways that could be set up; what could not is in the report's `failed`. `direct` has to be."""
    with contextlib.ExitStack() as st:
        out = []
        for n in names:
            began = time.monotonic()
            with contextlib.ExitStack() as own:
                try:
                    w = kind(n, size, own, *args)
                except (AssertionError, RuntimeError, OSError, subprocess.SubprocessError) as e:
                    if n == "direct":
                        raise
                    report.fail(f"{n} at {size}", e)
                    continue
                st.push(own.pop_all())
            out.append(w)
            if time.monotonic() - began > 20:
                print(f"  ({n} took {time.monotonic() - began:.0f} s to set up)", flush=True)
        yield out


def one_round(report, way, mode, seconds, size):
    """A result, or None: a way whose operations fail is not measured. A busy machine can let one operation
    time out: that round again; up to 1 % that fail every time are in the report's `lost`."""
    for _ in range(3):
        m = way.run(mode, seconds, size)
        if m["ops"] and not m.get("failed"):
            return m
        report.retry(f"{way.name} {mode}: {m.get('failed')} operations failed, {m['ops']} did not")
    if not m["ops"] or m["failed"] > 0.01 * m["ops"]:
        return None
    report.machine["lost"].append(f"{way.name} {mode}: {m['failed']} of {m['failed'] + m['ops']}")
    return m


def interleave(report, all_ways, seconds, rounds, mode, size=None):
    """rounds + 1 times each way in turn; the first round warms up. {name: [result, ...]}"""
    got, going = {w.name: [] for w in all_ways}, list(all_ways)
    for r in range(rounds + 1):
        for w in list(going):
            m = one_round(report, w, mode, seconds, size)
            if m is None:
                if w.name == "direct":
                    raise AssertionError(f"direct {mode}: operations fail, again and again")
                report.fail(f"{w.name} {mode}", "operations fail, again and again")
                going.remove(w)
                del got[w.name]
            elif r:
                got[w.name].append(m)
    return got
