#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make bench: bpfnet beside the direct path and beside kube-proxy's rules, in one run.

Every figure is taken interleaved (A B C A B C): medians with quartiles over the rounds. `direct` is the
same pair of hosts on plain routed veths, without services and rules. Ratios are what counts; see
docs/PERFORMANCE.md. `bare`, `look`, `peer` and `xdp-bare` are limits, at the first size only: the same hooks with programs
that do nothing (and socket hooks that know the one service by heart); with the data plane's own parser,
look-up and insertion and nothing else; with a redirect_peer and nothing else; and a NodePort by an XDP program
that knows it by heart. KUBE_PROXY=/path measures the real kube-proxy too, BENCH_BIG=1 goes to 50,000
services and measures iptables-nft at every size, BENCH_QUICK=1 takes the least that is a report.
"""
import argparse
import os
import shutil
import signal
import sys
import traceback

from lab import BIG, BUILD, KUBE_PROXY, sweep
import cpu
import part_control
import part_http
import part_net
import part_testrun
from report import Report

PARTS = {"services": part_net.services, "policies": part_net.policies, "nodeport": part_net.nodeport, "latency": part_net.latency,
         "bulk": part_net.bulk, "http": part_http.http, "testrun": part_testrun.testrun, "control": part_control.control}

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def arguments():
    quick = os.environ.get("BENCH_QUICK") == "1"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rounds", type=int, default=2 if quick else 7)
    p.add_argument("--seconds", type=float, default=0.1 if quick else 0.4, help="of one round of one way")
    p.add_argument("--sizes", default="10" if quick else "10,1000,10000" + (",50000" if BIG else ""))
    p.add_argument("--only", default=",".join(PARTS), help="parts: " + ", ".join(PARTS))
    p.add_argument("--cpu", choices=["auto", "machine", "own"], default="auto",
                   help="whose CPU time counts: the whole machine's, or that of the measured namespaces' cgroups and ksoftirqd; "
                        "auto: own where something else keeps the machine busy (and the kernel can)")
    p.add_argument("--without", default="iptables-nft" if quick else "", help="alternatives to leave out")
    p.add_argument("--keep", action="store_true", help="keep the figures of other parts in the report that is there")
    p.add_argument("--out", default=os.path.join(BUILD, "bench"))
    a = p.parse_args()
    unknown = [x for x in a.only.split(",") if x not in PARTS]
    if unknown:
        p.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    a.sizes = [int(x) for x in a.sizes.split(",")]
    a.quick = quick
    a.others = lambda names: [n for n in names if n not in a.without.split(",")]
    return a


def interrupted(signum, _frame):
    """Everything that was set up is taken down on the way out, which takes some seconds; once is enough."""
    for s in ENDING:
        signal.signal(s, signal.SIG_IGN)
    print(f"{signal.Signals(signum).name}: cleaning up", flush=True)
    sys.exit(128 + signum)


def main():
    a = arguments()
    if os.geteuid():
        sys.exit("the benchmark needs root")
    if KUBE_PROXY and not shutil.which(KUBE_PROXY):
        sys.exit(f"KUBE_PROXY={KUBE_PROXY}: no such program")
    for s in ENDING:
        signal.signal(s, interrupted)
    busy = cpu.busy_share(1 if a.quick else 3)
    if a.cpu == "auto":
        a.cpu = "own" if busy > 0.03 and not cpu.irq_time_accounting() else "machine"
    print(f"the machine is {busy:.0%} busy before the run: CPU is that of " + ("the measured cgroups" if a.cpu == "own" else "the machine"))
    report = Report(a.out, a.cpu, os.path.join(BUILD, "bpfnet"))
    report.machine["busy_before"] = round(busy, 3)
    if a.keep:
        report.merge()
    try:
        for part in a.only.split(","):
            try:
                PARTS[part](report, a)
            except Exception as e: # the other parts are measured all the same
                traceback.print_exc()
                report.fail(part, e)
            report.write()
    finally:
        report.machine["load_after"] = os.getloadavg()[0]
        report.write()
        sweep()
        print(f"report: {a.out}/report.json, report.html")
    return 1 if report.machine["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
