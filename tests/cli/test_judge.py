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
from httppol_oracle import HttpWorld, allowing  # noqa: E402
from netpol_oracle import World  # noqa: E402

QUERIES = 150
VERIFY = int(os.environ.get("JUDGE_VERIFY", "2")) if os.geteuid() == 0 else 0  # clusters that the loaded programs are asked about, too


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


def http_differs(want, q, got):
    """The same of a world with HTTP rules, for the request q or, None, for the connection."""
    if "error" in got:
        return got["error"]
    verdict = True
    for d, (isolated, plain, http) in want.items():
        g, rule = got[d], got[d].get("rule")
        allow, alone = (True, []) if not isolated or plain else allowing(http, q) if q else (bool(http), [])
        verdict &= allow
        if (g["isolated"], g["verdict"]) != (isolated, "allow" if allow else "deny"):
            return f"{d}: {g['verdict']}, isolated {g['isolated']}; wanted {allow}, {isolated}, {plain}, {http}"
        if not g.get("kernel", {"agrees": True}).get("agrees"):
            return f"{d}: the kernel: {g['kernel']}"
        if isolated and plain and ((rule["namespace"], rule["name"], rule["index"]) not in plain or ("moot" in g) != bool(http)):
            return f"{d}: {rule}, moot {g.get('moot')}; wanted {plain}, {http}"
        if isolated and not plain and allow and q and ((rule["namespace"], rule["name"], rule["index"]), rule["match"]) not in alone:
            return f"{d}: {rule} is none of {alone}"
        if isolated and not plain and http and {(u["namespace"], u["name"], u["index"]) for u in g["http"]["rules"]} != {u for u, _ in http}:
            return f"{d}: judged by {g['http']['rules']}; wanted {http}"
    return None if got["verdict"] == ("allow" if verdict else "deny") else f"verdict {got['verdict']}"


def http_line(a, b, p, n, q):
    return f"{a} {b} {p.lower()} {n}" + (f" {q[0]} {q[1]} host={q[2]}" + "".join(f' header="{h}"' for h in q[3]) if q else "")


def cluster(seed, path, kind, verify):
    w = kind(seed)
    with open(path + "/all.json", "w") as f:
        json.dump({"apiVersion": "v1", "kind": "List", "items": w.objects()}, f)
    queries = list(w.queries(QUERIES))
    lines = [f"{a} {b} {p.lower()} {n}" if kind is World else http_line(a, b, p, n, *q) for a, b, p, n, *q in queries]
    p = subprocess.run([BUILD + "/bpfnet", "policy", "trace", "--manifests", path, "--batch", "-"] + ["--verify"] * verify,
                       capture_output=True, text=True, input="".join(x + "\n" for x in lines))
    answers = [json.loads(x) for x in p.stdout.splitlines()]
    if p.returncode or p.stderr or len(answers) != len(queries):
        return [f"exit {p.returncode}, {len(answers)} answers: {p.stderr}"], 0
    whys = [differs(w.judge(*q[:4]), got) if kind is World else http_differs(w.judge(*q[:4]), q[4], got) for q, got in zip(queries, answers)]
    return [f"{line}: {why}" for line, why in zip(lines, whys) if why], sum(got.get("verdict") == "deny" for got in answers)


def main():
    first, last = (int(x) for x in (sys.argv[1:] + ["0", "60"][len(sys.argv) - 1:])[:2])
    passed = failed = 0
    for kind in (World, HttpWorld):
        denied = bad_clusters = 0
        with tempfile.TemporaryDirectory(prefix="bn-judge-") as path:
            for seed in range(first, last):
                bad, n = cluster(seed, path, kind, kind is HttpWorld and seed < first + VERIFY)
                denied += n
                bad_clusters += bool(bad)
                for b in bad[:5]:
                    print(f"{kind.__name__} {seed}: {b}")
        total = (last - first) * QUERIES
        if last - first >= 20 and not total // 10 < denied < total * 9 // 10:
            print(f"{kind.__name__}: {denied} of {total} denied: these clusters ask nothing")
            bad_clusters += 1
        failed += bad_clusters
        passed += last - first - min(bad_clusters, last - first)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
