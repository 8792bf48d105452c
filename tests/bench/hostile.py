#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What one tenant's objects do to everybody else.

    hostile.py [--services 2000] [--pods 4000] [--policies 500] [--samples 60] [--realtime] [NAME...]

One node with the whole daemon reads from the test API server. For each attack (all, or those that are named)
hostile objects in one namespace are written, then changed or deleted, while a Service of somebody else's changes its only
endpoint all the time and a client notices. Prints a line an attack: the longest that one piece of work held the
loop (bpfnet_loop_longest_seconds of a daemon that is started for it), from the API server's sending the
innocent change to the first packet to the new endpoint (median, 99 %, worst), memory, and what is refused.
"""
import argparse
import ipaddress
import os
import threading
import time

import objects
from cpu import process_cpu, rss
from lab import LOAD, KubeCluster
from part_control import watching

NS = "evil"


def meta(name, **kw):
    return dict({"name": name, "namespace": NS}, **kw)


def ip(base, i):
    return str(ipaddress.ip_address(int(ipaddress.ip_address(base)) + i))


def service(name, addr, ports, **spec):
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name),
            "spec": dict({"type": "ClusterIP", "clusterIP": addr, "clusterIPs": [addr], "ports": ports}, **spec)}


def slice_(name, svc, addrs, ports):
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": meta(name, labels={"kubernetes.io/service-name": svc}),
            "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in addrs], "ports": ports}


def policy(name, selector=None, **spec):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta(name),
            "spec": dict({"podSelector": selector or {}}, **spec)}


def pod(name, addr, labels, node="elsewhere"):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta(name, labels=labels),
            "spec": {"nodeName": node, "containers": [{"name": "c"}]},
            "status": {"phase": "Running", "podIP": addr, "podIPs": [{"ip": addr}]}}


def svc_ports(n):
    return [{"name": f"p{i}", "port": 1000 + i, "protocol": "TCP", "targetPort": 1000 + i} for i in range(n)]


def slice_ports(n):
    return [{"name": f"p{i}", "port": 1000 + i, "protocol": "TCP"} for i in range(n)]


# Each yields rounds of objects to put; between rounds the daemon has time. ("del", kind, name) deletes.
def service_1000_ports(c):
    for k in range(3):
        yield [service("big", "10.98.0.1", svc_ports(1000)), slice_("big", "big", [ip("10.70.0.0", i + k) for i in range(100)],
                                                                     slice_ports(1000))]


def slice_1000x100(c):
    yield [service("big", "10.98.0.1", svc_ports(100))]
    for k in range(4):
        yield [slice_("big", "big", [ip("10.70.0.0", i + k) for i in range(1000)], slice_ports(100))]


def slices_5000(c):
    yield [service("many", "10.98.0.1", svc_ports(1))]
    yield [slice_(f"many-{i}", "many", [ip("10.70.0.0", i)], slice_ports(1)) for i in range(5000)]
    yield [slice_(f"many-{i}", "many", [ip("10.70.0.0", i + 7)], slice_ports(1)) for i in range(0, 5000, 10)]


def services_10000(c):
    yield [service(f"s{i}", ip("10.98.0.1", i), svc_ports(1)) for i in range(10000)]
    yield [service(f"s{i}", ip("10.98.0.1", i), svc_ports(2)) for i in range(10000)]
    yield [("del", "Service", f"s{i}") for i in range(10000)]


def rules_10000(c):
    for k in range(3):
        yield [policy("rules", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": f"a{i}"}}}],
                                         "ports": [{"port": 1 + (i + k) % 60000}]} for i in range(10000)])]


def blocks(c):
    for k in range(3):
        yield [policy("blocks", ingress=[{"from": [{"ipBlock": {"cidr": ip("11.0.0.0", (i + k) << 8) + "/24", "except": [
            ip("11.0.0.0", ((i + k) << 8) + 4 * j) + "/30" for j in range(8)]}} for i in range(3500)]}])]


def ranges(c):
    for k in range(3):
        yield [policy("ranges", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": f"a{i}"}}}],
                                          "ports": [{"port": 1 + i + k, "endPort": 65535 - i}]} for i in range(8000)])]


def values_10000(c):
    for k in range(3):
        yield [policy("values", selector={"matchExpressions": [{"key": "app", "operator": "NotIn",
                      "values": [f"v{i + k}" for i in range(10000)]}]}, ingress=[{"from": [{"podSelector": {
                          "matchExpressions": [{"key": "app", "operator": "In", "values": [f"v{i + k}" for i in range(10000)]}]}}]}])]


def policy_20000_pods(c):
    yield [pod(f"p{i}", ip("10.72.0.1", i), {"app": f"x{i % 50}"}) for i in range(20000)]
    for k in range(4):
        yield [policy("all", ingress=[{"from": [{"podSelector": {"matchLabels": {"app": f"x{k}"}}}]}])]
    yield [("del", "NetworkPolicy", "all")]


def namespace_flips(c):
    yield [pod(f"p{i}", ip("10.72.0.1", i), {"app": f"x{i % 50}"}) for i in range(5000)]
    yield [policy("sel", ingress=[{"from": [{"namespaceSelector": {"matchLabels": {"team": "a"}}}]}])]
    for k in range(6):
        yield [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS, "labels": {"team": "ab"[k % 2]}}}]


def identities(c):
    yield [policy(f"i{k}", ingress=[{"from": [{"podSelector": {"matchLabels": {f"k{k}": f"{j}"}}} for j in range(2)]}]) for k in range(13)]
    yield [pod(f"p{i}", ip("10.72.0.1", i), {f"k{k}": str(i >> k & 1) for k in range(13)}) for i in range(8192)]
    yield [pod(f"p{i}", ip("10.72.0.1", i), {f"k{k}": str((i + 1) >> k & 1) for k in range(13)}) for i in range(8192)]


def long_names(c):
    n = ".".join(["n" * 61] * 4)
    yield [service(f"{i:05d}"[:5] + "s" * 58, ip("10.98.0.1", i), svc_ports(1)) for i in range(2000)]
    yield [slice_(f"{i:05d}{n}"[:253], f"{i:05d}"[:5] + "s" * 58, [ip("10.70.0.0", i)], slice_ports(1)) for i in range(2000)]
    yield [pod(f"{i:05d}{n}"[:253], ip("10.72.0.1", i), {"x" * 63: "y" * 63}) for i in range(2000)]


def flapping(c):
    for k in range(1000):
        yield [policy("flap", ingress=[] if k % 2 else [{}])]


def full_backends(c):
    for k in range(60):
        yield [service(f"f{k}", ip("10.98.0.1", k), svc_ports(100)),
               slice_(f"f{k}", f"f{k}", [ip("10.70.0.0", i + 1000 * k) for i in range(1000)], slice_ports(100))]


def full_frontends(c):
    for k in range(60):
        yield [service(f"f{k}-{j}", ip("10.98.0.1", k * 20 + j), svc_ports(1000)) for j in range(20)]


def http_expressions(c):
    for k in range(4):
        yield [{"apiVersion": "bpfnet.io/v1alpha1", "kind": "HTTPNetworkPolicy", "metadata": meta("http"), "spec": {
            "podSelector": {}, "ingress": [{"ports": [{"port": 80 + i}], "http": [{"path": {
                "type": "RegularExpression", "value": f"/e{k}x{i}(ok|.*a.{{13}})"}}]} for i in range(4)]}}]


def nothing(c):
    for _ in range(40):
        yield []


ATTACKS = {f.__name__: f for f in (nothing, service_1000_ports, slice_1000x100, slices_5000, services_10000, rules_10000, blocks,
           ranges, values_10000, policy_20000_pods, namespace_flips, identities, long_names, flapping, full_backends,
           full_frontends, http_expressions)}


def metrics(node):
    out = {}
    for line in node.cli("metrics").stdout.splitlines():
        if line[0] != "#":
            out[line.rsplit(" ", 1)[0]] = float(line.rsplit(" ", 1)[1])
    return out


def hold(start, now, work):
    """The longest since `start`, in ms: exact where it is the longest of all, else as the histogram's bucket."""
    name = f'bpfnet_loop_longest_seconds{{work="{work}"}}'
    if now[name] > start[name]:
        return f"{now[name] * 1e3:.1f}"
    at, last = f'bpfnet_loop_hold_seconds_bucket{{work="{work}",le="', -1.0
    for k in (k for k in now if k.startswith(at)):
        last, more = now[k] - start[k], now[k] - start[k] > last
        top = k[len(at):-2] if more else top
    return f"<= {float(top) * 1e3:g}"


def feed(c, attack, pause, done):
    import json
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.connect(c.api.dir + "/control")
    f = s.makefile("rw")
    def call(**kw):
        f.write(json.dumps(kw) + "\n")
        f.flush()
        out = json.loads(f.readline())
        assert out["ok"], str(out)[:500]
    from kubecluster import KINDS
    try:
        seen = {}
        for some in attack(c):
            for o in some:
                if isinstance(o, tuple):
                    call(cmd="delete", resource=KINDS[o[1]], namespace=NS, name=o[2])
                    seen.pop(o[1:], None)
                else:
                    seen[(o["kind"], o["metadata"]["name"])] = o
                    call(cmd="put", object=o)
            time.sleep(pause)
        done.append(seen)
    finally:
        done.append(None)
        s.close()


def innocent(c, client, servers, busy, least):
    ports = [("u", "UDP", 80, objects.POD_PORT)]
    out, i = [], 0
    c.endpoints("changing", ports, [servers[0]], families={4: True, 6: False})
    w = watching(client, "10.95.0.1", 80, 900)
    try:
        while w.stdout.readline().split()[1] != servers[0].name:
            pass
        while busy() or i < least:
            i += 1
            c.endpoints("changing", ports, [servers[i % 2]], families={4: True, 6: False})
            when, who = w.stdout.readline().split()
            while who != servers[i % 2].name:
                when, who = w.stdout.readline().split()
            out.append(max(float(when) - c.api("now")["tracked_sent"], 0.0))
            time.sleep(0.01 + 0.005 * (i % 5))
    finally:
        w.terminate()
    return sorted(out)


def one(c, name, client, servers, a):
    c.n1.start(timeout=300)
    pid = c.n1.daemon.pid
    if a.realtime:  # on a busy machine: what others take is not counted
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    time.sleep(1)
    before, start = rss(pid), metrics(c.n1)
    done = []
    cpu, began = process_cpu(pid), time.monotonic()
    t = threading.Thread(target=feed, args=(c, ATTACKS[name], 0.01 if name == "flapping" else 0.3, done))
    t.start()
    out = innocent(c, client, servers, lambda: not done, a.samples)
    t.join()
    took, cpu = time.monotonic() - began, process_cpu(pid) - cpu
    now = metrics(c.n1)
    print(f"{name:20} hold read {hold(start, now, 'read')} sync {hold(start, now, 'sync')} answer {hold(start, now, 'answer')} ms; "
          f"innocent p50 {out[len(out) // 2] * 1e3:.2f} p99 {out[int(0.99 * (len(out) - 1))] * 1e3:.1f} worst "
          f"{out[-1] * 1e3:.1f} ms of {len(out)}; RSS {before >> 20} -> {rss(pid) >> 20} MiB; CPU {cpu / took * 100:.0f} % of {took:.0f} s; "
          f"refused {now['bpfnet_service_refused']:.0f}, rejected {now['bpfnet_objects_rejected']:.0f}", flush=True)
    for m in sorted(k for k in now if k.startswith("bpfnet_map_entries")):
        top = now.get(m.replace("entries", "max_entries"))
        if top and now[m] > 0.5 * top:
            print(f"    {m} {now[m]:.0f} of {top:.0f}")
    seen = done[0] or {}
    from kubecluster import KINDS
    for kind, n in seen:
        c.api("delete", resource=KINDS[kind], namespace="" if kind == "Namespace" else NS, name=n)
    c.n1.stop()
    c.n1.cli("cleanup")


def main():
    p = argparse.ArgumentParser()
    for name, default in (("services", 2000), ("endpoints", 10), ("pods", 4000), ("policies", 500), ("samples", 60)):
        p.add_argument("--" + name, type=int, default=default)
    p.add_argument("--realtime", action="store_true")
    p.add_argument("names", nargs="*", default=list(ATTACKS))
    a = p.parse_args()
    with KubeCluster("bhostile", nodes=1) as c:
        client = c.pod("n1", "client")
        servers = [c.pod("n1", f"server{i}") for i in range(2)]
        for s in servers:
            s.popen([LOAD, "serve", str(objects.POD_PORT), s.name])
        victim = c.pod("n1", "victim", ns=NS)
        assert victim
        c.api("fill", services=a.services, endpoints=a.endpoints, pods=a.pods, policies=a.policies,
              namespaces=min(1000, a.services), nodes=200)
        ports = [("u", "UDP", 80, objects.POD_PORT)]
        c.service("changing", ports, ips=["10.95.0.1"])
        c.api("churn", rate=0.001, seconds=1, tracked="changing-v4")
        c.api("present", resource="httpnetworkpolicies", present=True)
        for name in a.names:
            one(c, name, client, servers, a)


if __name__ == "__main__":
    main()
