#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the end-to-end tests: run.py [-v] [NAME-PART...]. One line a test; the last line is the count."""
import importlib
import os
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)


def main():
    wanted = [a for a in sys.argv[1:] if not a.startswith("-")]
    if os.geteuid():
        sys.exit("end-to-end tests need root")
    passed = failed = 0
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
            if wanted and not any(w in label for w in wanted):
                continue
            began = time.monotonic()
            try:
                fn()
                passed += 1
                print(f"ok     {label} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:
                failed += 1
                print(f"FAILED {label} ({time.monotonic() - began:.1f} s)", flush=True)
                traceback.print_exc()
    print(f"e2e: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
