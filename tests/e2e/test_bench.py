# SPDX-License-Identifier: MIT
"""The smallest benchmark makes a report that holds what docs/PERFORMANCE.md says of one."""
import html.parser
import json
import os
import signal
import subprocess
import tempfile

from harness import ROOT, cgroup2_root, wait_for

FIELDS = {"id", "unit", "direct", "value", "ratio", "q1", "q3", "rounds"}


def test_report():
    with tempfile.TemporaryDirectory(prefix="bn-bench-") as out:
        p = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "tests/bench/bench.py"), "--only", "services,control", "--out", out],
                           env=dict(os.environ, BENCH_QUICK="1", KUBE_PROXY=""), capture_output=True, text=True, timeout=300)
        assert p.returncode == 0, p.stdout[-3000:] + p.stderr[-3000:]
        with open(os.path.join(out, "report.json")) as f:
            report = json.load(f)
        with open(os.path.join(out, "report.html")) as f:
            page = f.read()
    assert set(report) == {"machine", "figures"} and report["machine"]["kernel"] and report["machine"]["failed"] == []
    figures = {f["id"]: f for f in report["figures"]}
    assert len(figures) == len(report["figures"]), "an id twice"
    ways = ("direct", "socket", "tc", "socket+peer", "tc+peer", "bare", "look", "iptables-legacy", "nftables")
    for id_ in [f"{family}/{w}/10" for family in ("tcp-new", "udp-new") for w in ways]:
        f = figures[id_]
        assert set(f) == FIELDS and f["unit"] == "s" and f["rounds"] == 2, f
        assert 1e-6 < f["value"] < 1e-2 and f["q1"] <= f["value"] <= f["q3"] and f["ratio"] > 0, f
        assert f["ratio"] == 1 or "/direct/" not in id_
    for id_ in ("change-to-inforce-p50/bpfnet/10", "change-to-inforce-p99/bpfnet/10", "coldstart-cpu/bpfnet/10", "rss/bpfnet/10",
                "mapmem/bpfnet/default", "policy-change-to-inforce-p99/bpfnet/10"):
        assert figures[id_]["value"] > 0 and figures[id_]["direct"] is None, id_

    class Page(html.parser.HTMLParser):
        tags, outside = set(), []

        def handle_starttag(self, tag, attrs):
            self.tags.add(tag)
            self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("#")]
    Page().feed(page)
    assert {"svg", "table"} <= Page.tags and Page.outside == [], "self-contained, with plots"
    assert all(f"<td>{id_}<" in page for id_ in figures)


def test_interrupted():
    """A benchmark that is told to end takes down what it has set up, in whatever it was."""
    with tempfile.TemporaryDirectory(prefix="bn-bench-") as out:
        p = subprocess.Popen(["/usr/bin/python3", os.path.join(ROOT, "tests/bench/bench.py"), "--only", "services", "--out", out],
                             env=dict(os.environ, BENCH_QUICK="1", KUBE_PROXY=""), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

        def made():
            tail = f"-{p.pid % 46656:x}-"
            return [n for d in ("/var/run/netns", cgroup2_root(), "/sys/fs/bpf") for n in os.listdir(d) if n.startswith("bnbe") and tail in n]
        try:
            wait_for("three ways", lambda: len([n for n in made() if n.endswith("-fab")]) >= 6, 60) # a namespace and a cgroup each
            p.send_signal(signal.SIGTERM)
            said = p.communicate(timeout=60)[0]
        finally:
            p.kill()
        assert p.returncode == 128 + signal.SIGTERM and "SIGTERM: cleaning up" in said, said
        assert made() == [] and os.path.exists(os.path.join(out, "report.json"))
