# SPDX-License-Identifier: MIT
"""The daemon as its DaemonSet starts it: the container's arguments, directories, capabilities and service
account, found in the rendered chart; in a mount and cgroup namespace of its own in place of a container."""
import os
import subprocess
import sys

from harness import BUILD, ROOT, cgroup2_root, wait_for
from kubecluster import KubeCluster

sys.path.insert(0, os.path.join(ROOT, "tests", "cli"))
from gotemplate import helm_template  # noqa: E402

# $1: where the volumes are. What a runtime does: the volumes at their places, nothing else of the host's
# /run, /sys/fs/bpf and cgroup2; the service account's files. The node's own are hidden, not touched.
CONTAINER = r"""
set -eu
vol=$1; shift
mount --make-rprivate /
mkdir -p "$vol"/run "$vol"/state "$vol"/cni
mount -t tmpfs none "$vol"
mkdir -p "$vol"/run "$vol"/state "$vol"/cni "$vol"/bpf "$vol"/cg "$vol"/sa
mount --bind "$ACCOUNT" "$vol"/sa
mount -t bpf none "$vol"/bpf
awk '$3 == "cgroup2" {print $2}' /proc/mounts | while read -r m; do umount -l "$m"; done
mount -t cgroup2 none "$vol"/cg
mount --bind "$BINARIES" /usr/local/bin
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
mkdir -p /run/bpfnet /run/secrets/kubernetes.io/serviceaccount /var/lib/bpfnet /var/lib/cni
mount --bind "$vol"/sa /run/secrets/kubernetes.io/serviceaccount
mount --bind "$vol"/run /run/bpfnet
mount --bind "$vol"/bpf /sys/fs/bpf
mount --bind "$vol"/state /var/lib/bpfnet
mount --bind "$vol"/cni /var/lib/cni
mount -o remount,bind,ro /var/lib/cni
mount -t tmpfs none /sys/fs/cgroup
mount --bind "$vol"/cg /sys/fs/cgroup
exec setpriv --bounding-set "$CAPS" --inh-caps=-all --no-new-privs "$@"
"""


def test_as_the_daemonset():
    with KubeCluster("dep", nodes=1) as c:
        n = c.n1
        web, red = c.pod("n1", "web"), c.pod("n1", "red")
        web.serve(8080)
        c.service("web", [("http", "TCP", 80, 8080)], [web], ips=["10.96.7.1", "fd00:96:7::1"])
        docs = helm_template(ROOT + "/deploy/helm/bpfnet", {"api": {"master": "https://192.0.2.1:6443"}})[0]
        spec = next(d for d in docs if d["kind"] == "DaemonSet")["spec"]["template"]["spec"]
        box = spec["containers"][0]
        assert sorted(m["mountPath"] for m in box["volumeMounts"]) == [
            "/run/bpfnet", "/sys/fs/bpf", "/sys/fs/cgroup", "/var/lib/bpfnet", "/var/lib/cni"]
        assert box["securityContext"]["capabilities"]["drop"] == ["ALL"]
        args = [a.replace("$(NODE_NAME)", "n1") for a in box["args"]]
        vol, account = os.path.join(c.dir, "vol"), os.path.join(c.dir, "account")
        os.makedirs(vol)
        os.makedirs(account)
        with open(account + "/token", "w") as f:
            f.write("t0ken")
        os.link(os.path.join(c.api.dir, "ca.crt"), account + "/ca.crt")
        caps = ",".join(["-all"] + ["+" + x.lower() for x in box["securityContext"]["capabilities"]["add"]])
        env = dict(os.environ, CAPS=caps, ACCOUNT=account, BINARIES=BUILD)
        log = open(n.log_path, "ab")
        # In the node's cgroup first, so that this is the root of what the daemon mounts.
        p = subprocess.Popen(
            ["nsenter", "--net=/var/run/netns/" + n.ns, "sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"',
             n.cgroup, "unshare", "--mount", "--cgroup", "sh", "-c", CONTAINER, "box", vol,
             "bpfnetd", *args], stdout=log, stderr=log, env=env)
        log.close()
        n.procs.append(p)
        holder = None

        def inside(*cmd):
            return subprocess.run(["nsenter", f"--target={p.pid}", "--mount", "--net", "--cgroup", *cmd],
                                  capture_output=True, text=True, timeout=20)

        def ready():
            assert p.poll() is None, n.log_tail()
            return inside(*box["readinessProbe"]["exec"]["command"]).returncode == 0
        try:
            wait_for("the readiness probe", ready, 20)
            probe = box["livenessProbe"]["httpGet"]
            assert n.run(["curl", "-sf", f"http://{probe['host']}:{probe['port']}{probe['path']}"]).returncode == 0
            assert "bpfnet_" in n.run(["curl", "-sf", "http://127.0.0.1:10249/metrics"]).stdout
            for ip in ("10.96.7.1", "fd00:96:7::1"):
                wait_for("the service", lambda: red.ask(ip, 80, timeout=0.5).startswith("web"))
            # The node's own connections: its cgroup is the root of the mount that the daemon sees.
            assert n.ask("10.96.7.1", 80).startswith("web")
            assert "only by asking" not in n.log_tail(), n.log_tail()
            # The node's directories outlive a container; these are in its mount namespace.
            holder = subprocess.Popen(["nsenter", f"--target={p.pid}", "--mount", "sleep", "60"])
            n.procs.append(holder)
            wait_for("the holder", lambda: os.readlink(f"/proc/{holder.pid}/ns/mnt") ==
                     os.readlink(f"/proc/{p.pid}/ns/mnt"))
            p.terminate()
            assert p.wait(12) == 0
            assert red.ask("10.96.7.1", 80).startswith("web"), "in force without the daemon"
        finally:
            if p.poll() is None:
                p.kill()
                p.wait()
        assert os.path.isdir(cgroup2_root())
