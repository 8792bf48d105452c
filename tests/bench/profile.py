#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make profile-<load>: where the CPU time of an operation goes, beside the direct path.

  profile.py [--way tc] [--size 10] [--policies N] [--seconds 3] tcp-new|udp-new|tcp-kept|packets|nodeport-tcp|nodeport-udp|
             http-keepalive|http-head1k|http-close

Samples (perf, by time) of the CPU that client and server share (HTTP: of all), the load's own tasks only; printed are
nanoseconds an operation by function, most added against direct first, and folded stacks go to
build/bench/profile/<way>.folded (for any flame graph tool).
"""
import argparse
import collections
import os
import re
import subprocess
import sys

from lab import BUILD, NodePort, PodToPod, ways
from part_http import Http


class Plain:
    """What ways() needs of a report."""
    cpu = "own"

    def fail(self, what, error):
        sys.exit(f"{what}: {error}")


def sample(way, mode, seconds, out):
    """Runs the load under perf. (CPU ns an operation, {function: samples}, {stack: samples})"""
    data = os.path.join(out, way.name + ".data")
    http = isinstance(way, Http)
    cpus = ["-a"] if http else ["-C", str(sorted(os.sched_getaffinity(0))[-1])]
    perf = subprocess.Popen(["perf", "record", "-q", "-e", "cpu-clock", "-F", "9999", "-g", *cpus, "-o", data, "--", "sleep",
                             str(seconds + 0.5)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    r = way.run(mode, seconds)
    perf.wait()
    p = subprocess.run(["perf", "script", "-i", data, "--comms", "wrk,nginx,haproxy" if http else "load", "-F", "comm,ip,sym"], capture_output=True, text=True)
    os.unlink(data)
    top, stacks = collections.Counter(), collections.Counter()
    for block in p.stdout.split("\n\n"):
        frames = []
        for line in block.splitlines()[1:]:
            m = re.match(r"\s*[0-9a-f]+ (.+)", line)
            if m:
                frames.append(re.sub(r"\+0x[0-9a-f]+$", "", m[1].split(" (")[0]))
        if frames:
            top[frames[0]] += 1
            stacks[";".join(reversed(frames))] += 1
    return r["own"] * 1e9, top, stacks


def inside(stacks, word):
    """Samples below the first frame whose name contains the word."""
    return sum(n for s, n in stacks.items() if any(word in f for f in s.split(";")))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("load")
    p.add_argument("--way", default="tc", help="any way of make bench: socket, tc, socket+peer, nftables, ...; +policy where it applies")
    p.add_argument("--size", type=int, default=10)
    p.add_argument("--policies", type=int, default=10)
    p.add_argument("--seconds", type=float, default=3)
    p.add_argument("--lines", type=int, default=40)
    a = p.parse_args()
    out = os.path.join(BUILD, "bench", "profile")
    os.makedirs(out, exist_ok=True)
    nodeport = a.load.startswith("nodeport-")
    http = a.load.startswith("http-")
    kind, mode = (NodePort, a.load[9:] + "-new") if nodeport else (Http, a.load[5:]) if http else (PodToPod, a.load)
    if http and a.way == "tc":
        a.way = "bpfnet"
    with ways(Plain(), kind, ["direct", a.way], a.size, *([] if nodeport or http else [a.policies])) as ws:
        for w in ws:
            w.run(mode, 0.5)
        got = {w.name: sample(w, mode, a.seconds, out) for w in ws}
    per = {}
    for name, (ns, top, stacks) in got.items():
        total = sum(top.values()) or 1
        per[name] = {f: n / total * ns for f, n in top.items()}
        with open(os.path.join(out, name + ".folded"), "w") as f:
            f.writelines(f"{s} {n}\n" for s, n in stacks.most_common())
        programs = sorted({f for s in stacks for f in s.split(";") if f.startswith("bpf_prog_")})
        print(f"{name}: {ns:.0f} ns an operation, {total} samples" + "".join(
            f"\n    {inside(stacks, f) / total * ns:7.0f} ns in {f} and what it calls" for f in programs))
    d, w = per["direct"], per[a.way]
    print(f"{'direct':>8s} {a.way:>14s} {'added':>8s}   ns an operation, self")
    for f in sorted(set(d) | set(w), key=lambda f: d.get(f, 0) - w.get(f, 0))[:a.lines]:
        print(f"{d.get(f, 0):8.0f} {w.get(f, 0):14.0f} {w.get(f, 0) - d.get(f, 0):+8.0f}   {f}")
    print(f"stacks: {out}/*.folded")


if __name__ == "__main__":
    main()
