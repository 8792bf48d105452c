#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Sustained churn: a big cluster in force, and endpoints that change all the time.

    churn.py [--services 10000] [--pods 20000] [--policies 2000] [--rate 100] [--seconds 60]

One node with the whole daemon reads from the test API server. Every second `rate` endpoints of random
services come or go; one more service changes its only endpoint about five times a second, and a client that
asks it all the time says when the first packet went to the new one. Prints CPU and RSS of the daemon before,
while and after, and the time from the server's sending an event to that packet.
"""
import argparse
import time

import objects
from cpu import process_cpu, rss
from lab import LOAD, KubeCluster
from part_control import watching


def latency(node):
    """Samples of bpfnet_event_to_kernel_seconds by upper bound."""
    out = {}
    for line in node.cli("metrics").stdout.splitlines():
        if line.startswith("bpfnet_event_to_kernel_seconds_bucket{"):
            out[float(line.split('le="')[1].split('"')[0])] = float(line.rsplit(" ", 1)[1])
    return out


def measure(c, client, servers, a):
    ports = [("u", "UDP", 80, objects.POD_PORT)]

    def put(i):
        c.endpoints("changing", ports, [servers[i % 2]], families={4: True, 6: False})
    c.service("changing", ports, ips=["10.95.0.1"])
    put(0)
    began = time.monotonic()
    c.n1.start(timeout=300)
    pid = c.n1.daemon.pid
    print(f"start to in force: {time.monotonic() - began:.1f} s, CPU {process_cpu(pid):.2f} s")
    time.sleep(10)
    idle = process_cpu(pid)
    time.sleep(5)
    idle, before = (process_cpu(pid) - idle) / 5, rss(pid)
    w, out, mem = watching(client, "10.95.0.1", 80, a.seconds + 60), [], []
    try:
        while w.stdout.readline().split()[1] != servers[0].name:
            pass
        c.api("churn", rate=a.rate, seconds=a.seconds, tracked="changing-v4")
        lat = latency(c.n1)
        began, cpu, i = time.monotonic(), process_cpu(pid), 0
        while time.monotonic() - began < a.seconds:
            i += 1
            put(i)
            when, who = w.stdout.readline().split()
            while who != servers[i % 2].name:  # "-": nobody answered within 50 ms
                when, who = w.stdout.readline().split()
            out.append(max(float(when) - c.api("now")["tracked_sent"], 0.0))
            mem.append(rss(pid))
            time.sleep(0.15 + 0.01 * (i % 7))
        took, cpu = time.monotonic() - began, process_cpu(pid) - cpu
        now = c.api("now")
        lat = {k: v - lat[k] for k, v in latency(c.n1).items()}
    finally:
        w.terminate()
    out.sort()
    mib = 1 << 20
    print(f"idle CPU {idle * 100:.2f} %, RSS {before / mib:.1f} MiB")
    print(f"{now['churned'] + len(out)} changes in {took:.1f} s ({(now['churned'] + len(out)) / took:.0f}/s, at most "
          f"{now['late'] * 1e3:.0f} ms late): CPU {cpu / took * 100:.2f} % = "
          f"{cpu / (now['churned'] + len(out)) * 1e6:.0f} us a change")
    print(f"RSS at most {max(mem) / mib:.1f} MiB, at the end {mem[-1] / mib:.1f} MiB")
    n = lat[float("inf")]
    print("event received to kernel, " + ", ".join(f"{f * 100:g} % within "
          f"{min(k for k, v in lat.items() if v >= f * n) * 1e3:g} ms" for f in (0.5, 0.9, 0.99, 0.999)) + f" ({n:.0f} turns)")
    print(f"event sent to first packet, {len(out)} of them: p50 {out[len(out) // 2] * 1e6:.0f} us, p90 "
          f"{out[int(0.9 * len(out))] * 1e6:.0f} us, p99 {out[int(0.99 * len(out))] * 1e6:.0f} us, worst {out[-1] * 1e6:.0f} us")


def main():
    p = argparse.ArgumentParser()
    for name, default in (("services", 10000), ("endpoints", 10), ("pods", 20000), ("policies", 2000),
                          ("rate", 100), ("seconds", 60)):
        p.add_argument("--" + name, type=int, default=default)
    a = p.parse_args()
    with KubeCluster("bchurn", nodes=1) as c:
        client = c.pod("n1", "client")
        servers = [c.pod("n1", f"server{i}") for i in range(2)]
        for s in servers:
            s.popen([LOAD, "serve", str(objects.POD_PORT), s.name])
        c.api("fill", services=a.services, endpoints=a.endpoints, pods=a.pods, policies=a.policies,
              namespaces=min(1000, a.services), nodes=200)
        measure(c, client, servers, a)


if __name__ == "__main__":
    main()
