#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""tables.py REPORT.json: the tables of docs/PERFORMANCE.md from a report."""
import json
import sys

from report import human, split

WAYS = ["bare", "look", "peer", "routed", "xdp-bare", "socket", "socket+peer", "tc", "tc+peer", "xdp", "socket+policy", "tc+policy", "tc+peer+policy", "iptables-legacy", "nftables",
        "iptables-nft", "kube-proxy-iptables", "kube-proxy-nftables", "l4", "bpfnet", "haproxy", "nginx"]


def table(rows):
    head, *rest = rows
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for r in rest:
        print("| " + " | ".join(r) + " |")
    print()


def ratios(figures, families):
    """A row for each family and number, a column for each way; ratios with direct's own value first."""
    cells, present = {}, []
    for f in figures:
        family, way, n = split(f["id"])
        if family in families and f["ratio"]:
            cells[family, n, way] = f
            if way not in present:
                present.append(way)
    ways = [w for w in WAYS if w in present]
    rows = [["", "", "direct"] + ways]
    for family in families:
        for n in sorted({k[1] or 0 for k in cells if k[0] == family}):
            n = n or None
            d = cells.get((family, n, "direct"))
            rows.append([family, f"{n:,}" if n else "", human(d["value"], d["unit"]) if d else ""]
                        + [f'{cells[family, n, w]["ratio"]:.2f}' if (family, n, w) in cells else "" for w in ways])
    if len(rows) > 1:
        table(rows)


def values(figures, families, way="bpfnet"):
    by = {split(f["id"]): f for f in figures}
    ns = sorted({n for fam, w, n in by if fam in families and w == way and n is not None})
    rows = [[""] + [f"{n:,}" for n in ns]]
    for family in families:
        got = [by.get((family, way, n)) for n in ns]
        if any(got):
            rows.append([family] + [human(f["value"], f["unit"]) if f else "" for f in got])
    if len(rows) > 1:
        table(rows)


def main():
    with open(sys.argv[1]) as f:
        report = json.load(f)
    figs = report["figures"]
    print(report["machine"], "\n")
    ratios(figs, ["tcp-new", "udp-new", "kept-tcp-services"])
    ratios(figs, ["kept-tcp", "tcp-new-policies", "udp-new-policies"])
    ratios(figs, ["nodeport-tcp", "nodeport-udp", "nodeport-tcp-kept"])
    ratios(figs, [f"{m}-latency-{p}" for m in ("tcp-new", "udp-new", "tcp-kept") for p in ("p50", "p99", "p999")])
    ratios(figs, ["bulk", "bulk-rate", "bulk-one-cpu", "bulk-one-cpu-rate", "packets", "packets-rate"])
    ratios(figs, ["http-keepalive", "http-head1k", "http-close", "http-keepalive-cpu", "http-latency-p50", "http-latency-p99", "http-upload",
                  "http-upload-chunked"])
    changes = ["coldstart", "coldstart-cpu", "rss", "mapmem", "change-to-inforce-p50", "change-to-inforce-p99", "policy-change-to-inforce-p50",
               "policy-change-to-inforce-p99"]
    values(figs, changes)
    values(figs, changes[:4], "bpfnet+pods")
    values(figs, sorted({split(f["id"])[0] for f in figs if "-by-" in f["id"]}))
    for kind in ("policies", "flows"):
        values(figs, sorted({split(f["id"])[0] for f in figs if f["id"].startswith(f"testrun-{kind}-")}))
    table([["program", "ns"]] + [[f["id"], human(f["value"], "s")] for f in figs if f["id"].startswith(("testrun/", "live-program/"))])


if __name__ == "__main__":
    main()
