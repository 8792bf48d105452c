# SPDX-License-Identifier: MIT
"""CPU seconds that an operation costs, in two ways.

machine: what the whole machine did not idle away. Right where nothing else runs, and blind to who worked.
own:     what the cgroups of the measured hosts used, and ksoftirqd. A task is charged for the softirqs
         that run on top of it, and packets on veths are worked off in their sender's context, so this is
         the same work, to the microsecond, and what others do on the machine is not in it. (Not with
         CONFIG_IRQ_TIME_ACCOUNTING, which takes softirqs out of the tasks: machine, then.)
"""
import glob
import gzip
import os
import time

HZ = os.sysconf("SC_CLK_TCK")


def _proc_stat():
    with open("/proc/stat") as f:
        v = [int(x) for x in f.readline().split()[1:9]]
    return (v[3] + v[4] + v[7]) / HZ # idle, iowait, stolen by the hypervisor


def irq_time_accounting():
    for path in ("/proc/config.gz", f"/boot/config-{os.uname().release}"):
        try:
            with (gzip.open if path.endswith("gz") else open)(path, "rt") as f:
                return "CONFIG_IRQ_TIME_ACCOUNTING=y" in f.read()
        except OSError:
            continue
    return True # not known: the method that is right on every kernel


def _ksoftirqd():
    out = []
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as f:
                if f.read().startswith("ksoftirqd/"):
                    out.append(os.path.join(os.path.dirname(path), "schedstat"))
        except OSError:
            continue
    return out


KSOFTIRQD = _ksoftirqd()


class Meter:
    """read() twice; the difference is CPU seconds (machine, own)."""

    def __init__(self, cgroups):
        self.files = [os.path.join(c, "cpu.stat") for c in cgroups]

    def read(self):
        idle, own = _proc_stat(), 0
        for path in self.files:
            with open(path) as f:
                own += int(f.readline().split()[1]) / 1e6
        for path in KSOFTIRQD:
            with open(path) as f:
                own += int(f.readline().split()[0]) / 1e9
        return time.monotonic() * os.cpu_count() - idle, own


def busy_share(seconds):
    """How busy the machine is while we do nothing, 0 to 1."""
    a, t = _proc_stat(), time.monotonic()
    time.sleep(seconds)
    return max(0.0, 1 - (_proc_stat() - a) / ((time.monotonic() - t) * os.cpu_count()))


def process_cpu(pid):
    """Threads that have ended included."""
    with open(f"/proc/{pid}/stat") as f:
        v = f.read().rsplit(")", 1)[1].split()
    return (int(v[11]) + int(v[12])) / HZ


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(x.split()[1]) * 1024 for x in f if x.startswith("VmRSS"))
