# SPDX-License-Identifier: MIT
"""What a packet costs in the programs alone: test_pod_speed (caches warm, private maps), and the programs of
a live daemon with policies in force (tests/bench/testrun.c), and what the kernel counts under load."""
import json
import os
import re
import subprocess

import objects
from lab import BUILD, LOAD, NodePort, PodToPod, in_ns, sh, ways


def warm(report, a):
    """The lines of test_pod_speed: `from_pod, established, translated: 130 ns`, with v4 and v6 where it differs."""
    got = {}
    for _ in range(1 if a.quick else 3):
        p = sh([os.path.join(BUILD, "tests/bpf/test_pod_speed")], timeout=120)
        for line in (p.stdout + p.stderr).splitlines():
            m = re.match(r"(?:(v[46]) )?(.+): (\d+) ns$", line.strip())
            if m:
                id_ = re.sub(r"[ ,/]+", "-", m[2]) + (f"-{m[1]}" if m[1] else "")
                got.setdefault(id_, []).append(int(m[3]) / 1e9)
    for id_, values in got.items():
        report.add("testrun/" + id_, "s", values)


def run_live(w, a):
    links = os.path.join(w.c.n1.bpffs, "links")
    p = in_ns(w.c.n1, [os.path.join(BUILD, "tests/bench/testrun"), os.path.join(links, "prog_from_pod"), os.path.join(links, "prog_to_pod"),
                       w.client.host_if, w.server.host_if, w.client.ip, w.server.ip, w.addr, str(w.port), str(objects.POD_PORT),
                       "2000" if a.quick else "20000"], timeout=120)
    return json.loads(p.stdout)


def live(report, a):
    """One packet a run through the programs that a daemon with N policies attached."""
    for n in [0] + [s for s in a.sizes if s <= 10000]:
        with ways(report, PodToPod, ["tc+policy"], 10, n) as ws:
            if not ws:
                continue
            for id_, ns in run_live(ws[0], a).items():
                report.add(f"testrun-policies-{id_}/bpfnet/{n}", "s", [x / 1e9 for x in ns])


def with_flows(report, a):
    """The same with so many flows in the connection table."""
    for n in (100, 1000) if a.quick else (100, 1000, 10000, 60000):
        with ways(report, PodToPod, ["tc+policy"], 10, 10) as ws:
            for w in ws:
                p = w.client.run([LOAD, "flows", w.addr, str(w.port), str(n)], timeout=120)
                if json.loads(p.stdout)["ops"] < 0.98 * n:
                    raise AssertionError(f"{n} flows: {p.stdout}")
                for id_, ns in run_live(w, a).items():
                    if id_.startswith(("established", "new")):
                        report.add(f"testrun-flows-{id_}/bpfnet/{n}", "s", [x / 1e9 for x in ns])


def program_times(kind, name, size, modes, seconds, report, *args):
    """What the kernel counts for each program while the load runs: {program-mode: (ns a run, runs)}."""
    out = {}
    with ways(report, kind, [name], size, *args) as ws:
        for w in ws:
            for mode in modes:
                a = program_counts(w)
                w.run(mode, seconds)
                b = program_counts(w)
                for prog, (ns, runs) in b.items():
                    n = runs - a.get(prog, (0, 0))[1]
                    if n > 100:
                        out[f"{prog}-{mode}"] = ((ns - a.get(prog, (0, 0))[0]) / n, n)
    return out


def program_counts(w):
    """{program name: (ns, runs)} of the programs that this way's daemon attached, by its pinned links."""
    links, out, ids = os.path.join(w.c.n1.bpffs, "links"), {}, set()
    for f in os.listdir(links):
        p = subprocess.run(["bpftool", "-j", "link", "show", "pinned", os.path.join(links, f)], capture_output=True, text=True)
        if p.returncode == 0 and p.stdout.strip(): # some pins are programs
            ids.add(json.loads(p.stdout)["prog_id"])
    for i in ids:
        prog = json.loads(sh(["bpftool", "-j", "prog", "show", "id", str(i)]).stdout)
        ns, runs = out.get(prog["name"], (0, 0))
        out[prog["name"]] = (ns + prog.get("run_time_ns", 0), runs + prog.get("run_cnt", 0))
    return out


def under_load(report, a):
    """kernel.bpf_stats_enabled: on for these runs only, since it costs the programs of everybody."""
    path = "/proc/sys/kernel/bpf_stats_enabled"
    with open(path) as f:
        before = f.read()
    try:
        with open(path, "w") as f:
            f.write("1")
        runs = [(PodToPod, "tc+policy", 10, ("tcp-new", "udp-new", "tcp-kept"), (10,)), (PodToPod, "socket+policy", 10, ("tcp-new", "udp-new", "tcp-kept"), (10,)),
                (NodePort, "tc", 10, ("tcp-new", "udp-new", "tcp-kept"), ())]
        runs += [(NodePort, n, 10, ("tcp-new", "udp-new", "tcp-kept"), ()) for n in NodePort.ARGS if n.startswith("xdp")]
        for kind, name, size, modes, args in runs:
            where = "nodeport-" if kind is NodePort else ""
            for prog, (ns, _) in program_times(kind, name, size, modes, a.seconds, report, *args).items():
                report.add(f"live-program/{where}{name}/{prog}", "s", [ns / 1e9])
    finally:
        with open(path, "w") as f:
            f.write(before)


def testrun(report, a):
    print("programs: test runs")
    warm(report, a)
    live(report, a)
    with_flows(report, a)
    print("programs: under load")
    under_load(report, a)
