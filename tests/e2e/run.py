#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the end-to-end tests: run.py [-j N] [NAME-PART...]. One line a test; the last line is the count.

With -j each test is a process of its own, N at a time: they wait more than they work. A module's ALONE names
those that measure time; they come first, one by one, when the machine is quiet. `=NAME` is that test only.
"""
import concurrent.futures
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

TEST_LIMIT = 300  # seconds
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


def say(line, began=[float(os.environ.get("CHECK_BEGAN") or time.time())]):
    s = int(time.time() - began[0])
    print(f"[{s // 60:02d}:{s % 60:02d}] e2e   {line}", flush=True)


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


def time_left():
    """Seconds until the check of which this is a part must be through."""
    began, limit = (float(os.environ.get(v) or 0) for v in ("CHECK_BEGAN", "CHECK_LIMIT"))
    return began + limit - time.time() if began and limit else float("inf")


def run_apart(label):
    """(has it passed, what it said)"""
    limit = min(TEST_LIMIT, time_left())
    if limit <= 0:
        return False, f"FAILED {label}: no time left"
    # A file, no pipe: who keeps it open does not keep us. One that hangs is one that failed: SIGINT, so that
    # it takes its cluster away.
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        p = subprocess.run(["timeout", "--signal=INT", "--kill-after=60", f"{limit:.0f}", sys.executable,
                            os.path.abspath(__file__), "=" + label], stdin=subprocess.DEVNULL,
                           stdout=said, stderr=subprocess.STDOUT)
        said.seek(0)
        text = said.read().rstrip()
    if p.returncode in (0, 1):
        text = "\n".join(text.splitlines()[:-1])  # without the count
    elif p.returncode in (124, 137, -9):
        text = f"FAILED {label}: not through within {limit:.0f} s\n{text}"
    else:
        text = f"FAILED {label}: exit {p.returncode}\n{text}"
    return p.returncode == 0, text


def run_many(tests, jobs):
    """How many passed. That several run at a time, on a machine that may be slow, is this runner's choice and no
    test's: one that failed then is tried again with nothing beside it. Twice failed is failed.
    """
    passed = 0

    def one(label, alone=True):
        good, text = run_apart(label)
        say(text if good or alone else f"once more later, alone: {label} failed with others beside it:\n{text}")
        return good

    for label in [t[0] for t in tests if t[2]]:
        passed += one(label)
    crowd = [t[0] for t in tests if not t[2]]
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(lambda label: one(label, alone=False), crowd))
    passed += sum(results)
    for label in [label for label, good in zip(crowd, results) if not good]:
        if one(label):
            passed += 1
            say(f"FLAKY: {label}, passed alone (what it said with others beside it stands above)")
    return passed


def main():
    args = sys.argv[1:]
    jobs = 1
    if args and args[0] == "-j":
        jobs, args = int(args[1]), args[2:]
    if os.geteuid():
        sys.exit("end-to-end tests need root")
    # Also as a background job of a shell, which ignores it: the clusters are taken away.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tests = find(args)
    if jobs == 1:
        passed = sum(run_here(label, fn) for label, fn, _ in tests)
    else:
        passed = run_many(tests, jobs)
    print(f"e2e: {passed} passed, {len(tests) - passed} failed")
    return 0 if passed == len(tests) and passed else 1


if __name__ == "__main__":
    sys.exit(main())
