#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the end-to-end tests: run.py [-j N] [NAME-PART...]. One line a test; the last line is the count.

With -j each test is a process of its own, N at a time: they wait more than they work. A module's ALONE names
those that measure time; they come first, one by one. `=NAME` is that test only.
"""
import concurrent.futures
import importlib
import os
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


def find(wanted):
    """[(label, function, alone)]"""
    out = []
    for name in sorted(os.listdir(HERE)):
        if not (name.startswith("test_") and name.endswith(".py")):
            continue
        module = importlib.import_module(name[:-3])
        if getattr(module, "NOT_RUN", ""):
            if not wanted or any(w.split(".")[0] in name for w in wanted):
                print(f"not run: {name[5:-3]}: {module.NOT_RUN}", flush=True)
            continue
        for fn in [v for k, v in vars(module).items() if k.startswith("test_") and callable(v)]:
            label = f"{name[5:-3]}.{fn.__name__[5:]}"
            if not wanted or any(w == "=" + label if w[0] == "=" else w in label for w in wanted):
                out.append((label, fn, fn.__name__ in getattr(module, "ALONE", ())))
    return out


def run_here(label, fn):
    began = time.monotonic()
    try:
        fn()
        print(f"ok     {label} ({time.monotonic() - began:.1f} s)", flush=True)
        return True
    except Exception:
        print(f"FAILED {label} ({time.monotonic() - began:.1f} s)", flush=True)
        traceback.print_exc()
        return False


def run_apart(label):
    # One that hangs is one that failed: SIGINT, so that it takes its cluster away.
    p = subprocess.run(["timeout", "--signal=INT", "--kill-after=60", "300", sys.executable,
                        os.path.abspath(__file__), "=" + label], stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    if p.returncode in (124, 137):
        print(f"FAILED {label}: not through within 300 s", flush=True)
    lines = p.stdout.splitlines()
    print("\n".join(lines[:-1]) if p.returncode in (0, 1) else p.stdout, flush=True)
    return p.returncode == 0


def main():
    args = sys.argv[1:]
    jobs = 1
    if args and args[0] == "-j":
        jobs, args = int(args[1]), args[2:]
    if os.geteuid():
        sys.exit("end-to-end tests need root")
    tests = find(args)
    if jobs == 1:
        results = [run_here(label, fn) for label, fn, _ in tests]
    else:
        results = [run_apart(label) for label, _, alone in tests if alone]
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            results += pool.map(run_apart, [label for label, _, alone in tests if not alone])
    passed = sum(results)
    print(f"e2e: {passed} passed, {len(results) - passed} failed")
    return 0 if passed == len(results) and passed else 1


if __name__ == "__main__":
    sys.exit(main())
