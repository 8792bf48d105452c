# SPDX-License-Identifier: MIT
"""A run that was killed by -9: the next cluster takes away what it left, and nothing of anybody else."""
import glob
import os
import signal
import subprocess
import sys
import tempfile

from harness import Cluster, cgroup2_root

DEAD = """
import sys, time
from harness import Cluster
c = Cluster("dead", nodes=1)
p = c.pod("n1", "a")
p.popen(["sleep", "1000"])
c.start()
print(c.prefix, c.dir, c.n1.daemon.pid, p.procs[0].pid, flush=True)
time.sleep(1000)
"""


def traces(prefix):
    return sorted(x for pattern in ("/var/run/netns/%s-*", "/sys/fs/bpf/%s-*", os.path.join(cgroup2_root(), "%s-*"),
                                    os.path.join(tempfile.gettempdir(), "%s-*")) for x in glob.glob(pattern % prefix))


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_run():
    # Of another kind: looks like a cluster's, but nobody says whose it is.
    with tempfile.TemporaryDirectory(prefix="bnother-1") as other, Cluster("live", nodes=1) as c:
        c.pod("n1", "b")
        c.start()
        mine = traces(c.prefix)
        p = subprocess.Popen([sys.executable, "-c", DEAD], stdout=subprocess.PIPE, text=True,
                             cwd=os.path.dirname(os.path.abspath(__file__)))
        prefix, directory, *pids = p.stdout.readline().split()
        left = traces(prefix)
        assert len(left) >= 3 + 1 + 2 + 1, left  # fabric, node and pod; pins; cgroups; the directory
        with Cluster("while", nodes=0):
            assert traces(prefix) == left, "it lives: nobody touches it"
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stdout.close()
        assert traces(prefix) == left and all(alive(x) for x in pids), "what is left of a killed run"
        with Cluster("next", nodes=0):
            assert traces(prefix) == [], traces(prefix)
            assert not any(alive(x) for x in pids) and not os.path.exists(directory)
            assert traces(c.prefix) == mine and os.path.isdir(other)
            assert c.n1.ready()
