#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What a cluster leaves whose process was killed: namespaces, daemons, pins, cgroups, its directory.

A cluster's process holds a lock on the file `owner` in the cluster's directory while it lives; the file names the
cluster's prefix, with which all that it makes begins. clean() takes away what belongs to directories whose lock nobody
holds, and nothing else: a directory without such a file, of another user, or of a living process is left alone.
"""
import contextlib
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

OWNER = "owner"


def claim(directory, prefix):
    """The descriptor of the lock: closed, by whatever way, the cluster is nobody's."""
    new = os.path.join(directory, "." + OWNER)
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    os.write(fd, prefix.encode())
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(new, os.path.join(directory, OWNER))
    return fd


def _take(path):
    """(descriptor with the lock, prefix) of a dead cluster, or None."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        d = os.stat(os.path.dirname(path))
        prefix = os.read(fd, 64).decode(errors="replace")
        if d.st_uid == os.geteuid() and not d.st_mode & 0o022 and re.fullmatch(r"bn[a-z0-9]+-[0-9a-f]+", prefix):
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path):  # else somebody else was quicker
                return fd, prefix
    except OSError:
        pass
    os.close(fd)
    return None


def _cgroups(root, prefix):
    """Of the cluster, the deepest first."""
    return sorted((d for top in glob.glob(os.path.join(root, prefix + "-*")) for d, _, _ in os.walk(top)), key=len, reverse=True)


def _pids(spaces, cgroups):
    out = set()
    for ns in spaces:
        out |= set(subprocess.run(["ip", "netns", "pids", ns], capture_output=True, text=True).stdout.split())
    for d in cgroups:
        with contextlib.suppress(OSError), open(os.path.join(d, "cgroup.procs")) as f:
            out |= set(f.read().split())
    return {int(p) for p in out if int(p) > 1}


def _kill(spaces, cgroups):
    for _ in range(100):
        pids = _pids(spaces, cgroups)
        if not pids:
            return
        for p in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(p, signal.SIGKILL)
        time.sleep(0.05)


def _remove(directory, prefix, bpfnet, cgroup_root):
    spaces = [os.path.basename(p) for p in glob.glob(f"/var/run/netns/{prefix}-*")]
    cgroups = _cgroups(cgroup_root, prefix)
    _kill(spaces, cgroups)
    for run in glob.glob(os.path.join(directory, "run-*")):
        ns = f"/var/run/netns/{prefix}-{os.path.basename(run)[4:]}"
        if os.path.exists(ns) and os.path.exists(bpfnet):
            subprocess.run(["nsenter", "--net=" + ns, bpfnet, "--run-dir", run, "cleanup"], capture_output=True, timeout=60)
    for d in glob.glob(f"/sys/fs/bpf/{prefix}-*"):
        shutil.rmtree(d, ignore_errors=True)
    for ns in spaces:
        subprocess.run(["ip", "netns", "del", ns], capture_output=True)
    for d in cgroups:
        with contextlib.suppress(OSError):
            os.rmdir(d)
    shutil.rmtree(directory, ignore_errors=True)


def clean(bpfnet, cgroup_root):
    """The prefixes of what was taken away."""
    owners = sorted(glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), "bn*", OWNER)))
    dead = {p: t for p in owners if (t := _take(p))}
    living = set()
    for p in set(owners) - set(dead):
        with contextlib.suppress(OSError), open(p) as f:
            living.add(f.read(64))
    gone = []
    for path, (fd, prefix) in dead.items():
        if prefix not in living:  # two clusters of one process have one prefix
            _remove(os.path.dirname(path), prefix, bpfnet, cgroup_root)
            gone.append(prefix)
        os.close(fd)
    return gone


def sweep(pid, bpfnet, cgroup_root):
    """After all clusters of the process are closed: a host that an interrupt met while it was being made."""
    names = os.listdir("/var/run/netns") + os.listdir(cgroup_root)
    for prefix in {m[1] for n in names if (m := re.match(rf"(bn[a-z0-9]+-{pid % 46656:x})-", n))}:
        _remove("/nonexistent", prefix, bpfnet, cgroup_root)


if __name__ == "__main__":
    import harness

    try:
        root = harness.cgroup2_root()
    except RuntimeError:
        raise SystemExit(0) from None  # without it there was no cluster
    for name in clean(os.path.join(harness.BUILD, "bpfnet"), root):
        print(f"cleaned up what a killed run left: {name}")
