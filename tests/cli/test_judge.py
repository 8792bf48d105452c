#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""policy trace --manifests --batch against an oracle that shares nothing with it: test_judge.py [FIRST [LAST]] (seeds).
Verdict, isolation and rule of both directions of every query; what differs is printed with its seed."""
import json
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.environ.get("BN_BUILD", os.path.join(os.path.dirname(os.path.dirname(HERE)), "build"))
sys.path.insert(0, HERE)
from netpol_oracle import World  # noqa: E402

QUERIES = 150


def differs(want, got):
    """What is wrong with an answer, or None."""
    if "error" in got:
        return got["error"]
    for d, (isolated, rules) in want.items():
        allow = not isolated or bool(rules)
        g = got[d]
        if (g["isolated"], g["verdict"]) != (isolated, "allow" if allow else "deny"):
            return f"{d}: {g['verdict']}, isolated {g['isolated']}; wanted {allow}, {isolated}, {rules}"
        u = g["rule"]
        if isolated and allow and (u["namespace"], u["name"], u["index"]) not in rules:
            return f"{d}: {u} is none of {rules}"
    allow = all(not i or r for i, r in want.values())
    return None if got["verdict"] == ("allow" if allow else "deny") else f"verdict {got['verdict']}"


def cluster(seed, path):
    w = World(seed)
    with open(path + "/all.json", "w") as f:
        json.dump({"apiVersion": "v1", "kind": "List", "items": w.objects()}, f)
    queries = list(w.queries(QUERIES))
    p = subprocess.run([BUILD + "/bpfnet", "policy", "trace", "--manifests", path, "--batch", "-"], capture_output=True, text=True,
                       input="".join(f"{a} {b} {p.lower()} {n}\n" for a, b, p, n in queries))
    answers = [json.loads(x) for x in p.stdout.splitlines()]
    if p.returncode or p.stderr or len(answers) != len(queries):
        return [f"exit {p.returncode}, {len(answers)} answers: {p.stderr}"], 0
    bad = [f"{q}: {why}" for q, got in zip(queries, answers) for why in [differs(w.judge(*q), got)] if why]
    return bad, sum(got.get("verdict") == "deny" for got in answers)


def main():
    first, last = (int(x) for x in (sys.argv[1:] + ["0", "60"][len(sys.argv) - 1:])[:2])
    failed = denied = 0
    with tempfile.TemporaryDirectory(prefix="bn-judge-") as path:
        for seed in range(first, last):
            bad, n = cluster(seed, path)
            denied += n
            failed += bool(bad)
            for b in bad[:5]:
                print(f"seed {seed}: {b}")
    total = (last - first) * QUERIES
    if last - first >= 20 and not total // 10 < denied < total * 9 // 10:
        print(f"{denied} of {total} denied: these clusters ask nothing")
        failed += 1
    print(f"{last - first - min(failed, last - first)} passed, {failed} failed")
    return failed > 0


sys.exit(main())
