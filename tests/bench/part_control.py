# SPDX-License-Identifier: MIT
"""The control plane, read from an API server: cold start, one change to in force, memory, growth."""
import subprocess
import time

import objects
from cpu import process_cpu, rss
from lab import LOAD, KubeCluster


def watching(client, addr, port, seconds):
    return client.popen([LOAD, "watch", addr, str(port), str(seconds)], stdout=subprocess.PIPE, text=True)


def daemon_map_bytes(node):
    return sum(float(x.rsplit(" ", 1)[1]) for x in node.cli("metrics").stdout.splitlines() if x.startswith("bpfnet_map_bytes{"))


def cold(report, a, c, name, size, rounds, by=""):
    """Starts with nothing in the kernel, until status says that all of it is in force. `by`: what grows, when it is not Services."""
    took, cpu, mem, maps = [], [], [], []
    for _ in range(rounds):
        began = time.monotonic()
        c.n1.start(timeout=300)
        took.append(time.monotonic() - began)
        cpu.append(process_cpu(c.n1.daemon.pid))
        time.sleep(1 if not a.quick else 0.1) # what start-up alone needed is given back
        mem.append(rss(c.n1.daemon.pid))
        maps.append(daemon_map_bytes(c.n1))
        c.n1.stop()
        c.n1.cli("cleanup")
    for what, unit, values in (("coldstart", "s", took), ("coldstart-cpu", "s", cpu), ("rss", "B", mem), ("mapmem", "B", maps)):
        report.add(f"{what}{by}/{name}/{size}", unit, values)
    return maps


def changes(report, c, client, servers, size, n):
    """One endpoint of one Service changes, n times: from the API server's sending the event to the first
    packet of a new flow that goes to the new backend (a client asks all the time)."""
    name = "changing"

    ports = [("u", "UDP", 80, objects.POD_PORT)]

    def put(i):
        c.endpoints(name, ports, [servers[i % 2]], families={4: True, 6: False})
    c.service(name, ports, ips=["10.95.0.1"])
    put(0)
    c.n1.start(timeout=300)
    out, unanswered = [], 0
    w = watching(client, "10.95.0.1", 80, 30 + n)
    try:
        while w.stdout.readline().split()[1] != servers[0].name:
            pass
        for i in range(1, n + 1):
            put(i)
            while True:
                when, who = w.stdout.readline().split()
                if who == servers[i % 2].name:
                    break
                unanswered += who == "-" # within 50 ms: a busy machine, or a packet lost
            out.append(max(float(when) - c.api("now")["sent"], 0.0))
            time.sleep(0.003 + 0.005 * (i % 7))
    finally:
        w.terminate()
    if unanswered:
        report.machine["lost"].append(f"endpoint changes at {size}: {unanswered} questions of {n} changes not answered in 50 ms")
    out.sort()
    groups = [out[i::7] for i in range(7)] if n >= 70 else [out]
    for what, f in (("p50", 0.5), ("p99", 0.99)):
        one = f"change-to-inforce-{what}/bpfnet/{size}"
        report.add(one, "s", [sorted(g)[int(f * (len(g) - 1))] for g in groups] if what == "p50" else [out[int(f * (n - 1))]])


def policy_changes(report, size, n):
    """One policy of N shuts the client out, n times: from the API server's sending the event to the first
    packet of a new flow that gets no answer."""
    with KubeCluster("bepol", nodes=1) as c:
        client = c.pod("n1", "client", labels={"app": "client"})
        server = c.pod("n1", "server", labels={"app": "server"})
        server.popen([LOAD, "serve", str(objects.POD_PORT), "server"])
        for o in objects.policies(size):
            c.put(o)
        c.n1.start(timeout=120)
        out = []
        w = watching(client, server.ip, objects.POD_PORT, 60 + n)

        def until(want):
            while True:
                line = w.stdout.readline().split()
                if line[1] == want:
                    return float(line[0])
        try:
            until("server")
            for _ in range(n):
                for app, want in (("nobody", "-"), ("client", "server")):
                    c.policy("in", {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"],
                                    "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}]})
                    when = until(want)
                    if want == "-":
                        out.append(max(when - c.api("now")["sent"], 0.0))
                time.sleep(0.01)
        finally:
            w.terminate()
    out.sort()
    report.add(f"policy-change-to-inforce-p50/bpfnet/{size}", "s", [out[len(out) // 2]])
    report.add(f"policy-change-to-inforce-p99/bpfnet/{size}", "s", [out[int(0.99 * (len(out) - 1))]])


def growth(report, a, rounds):
    """What only one kind of object costs: cold start, RSS and maps against endpoints (of 10 Services), pods, policies."""
    for by, how in (("endpoints", lambda n: {"services": 10, "endpoints": n // 10}), ("pods", lambda n: {"services": 10, "pods": n}),
                    ("policies", lambda n: {"services": 10, "policies": n})):
        for size in a.sizes:
            if size <= 10000:
                with KubeCluster("begro", nodes=1) as c:
                    c.api("fill", namespaces=min(size, 100), nodes=min(200, size), **how(size))
                    cold(report, a, c, "bpfnet", size, rounds, "-by-" + by)


def control(report, a):
    rounds, n = (1, 20) if a.quick else (3, 210)
    for size in a.sizes:
        print(f"control plane: {size} services of 10 endpoints")
        with KubeCluster("bectl", nodes=1) as c:
            client = c.pod("n1", "client")
            servers = [c.pod("n1", f"server{i}") for i in range(2)]
            for s in servers:
                s.popen([LOAD, "serve", str(objects.POD_PORT), s.name])
            c.api("fill", services=size, endpoints=10, namespaces=min(size, 100))
            maps = cold(report, a, c, "bpfnet", size, rounds)
            if size == a.sizes[0] and size <= 1000: # what the maps grow with large clusters is not the default
                report.add("mapmem/bpfnet/default", "B", maps)
            changes(report, c, client, servers, size, n)
            c.n1.stop()
            c.n1.cli("cleanup")
            if size <= 10000:
                c.api("fill", pods=2 * size, policies=size // 10, namespaces=min(size, 100), nodes=min(200, size))
                cold(report, a, c, "bpfnet+pods", size, rounds)
    for size in a.sizes:
        if size <= 10000:
            print(f"control plane: {size} policies")
            policy_changes(report, size, 10 if a.quick else 50)
    print("control plane: growth by one kind of object")
    growth(report, a, rounds)
