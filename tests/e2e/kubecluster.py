# SPDX-License-Identifier: MIT
"""A cluster of namespaces whose daemons read from the test API server in place of files."""
import contextlib
import json
import os
import socket
import subprocess
import sys

from harness import ROOT, Cluster, sh, wait_for

sys.path.insert(0, os.path.join(ROOT, "tests", "apiserver"))
from store import KINDS, RESOURCES  # noqa: E402


class ApiServer:
    """apiserver.py at 192.0.2.1:6443, in the fabric's namespace."""

    program = "apiserver.py"

    def __init__(self, cluster, *args):
        self.cluster, self.args, self.proc = cluster, args, None
        self.dir = os.path.join(cluster.dir, "api")

    def start(self, *more):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.dir, "control"))
        self.proc = subprocess.Popen(
            ["nsenter", "--net=/var/run/netns/" + self.cluster.fabric.ns, "/usr/bin/python3",
             os.path.join(ROOT, "tests/apiserver", self.program), "--dir", self.dir, "--address",
             "192.0.2.1", "--port", "6443", *self.args, *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.proc.stdout.readline().startswith("https://"):
            raise RuntimeError("the test API server did not start")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(os.path.join(self.dir, "control"))
        self.file = self.sock.makefile("rw")

    def kill(self):
        if self.proc:
            self.file.close()
            self.sock.close()
            self.proc.kill()
            self.proc.wait()
            self.proc.stdin.close()
            self.proc.stdout.close()
            self.proc = None

    def __call__(self, cmd, **kw):
        self.file.write(json.dumps(dict(kw, cmd=cmd)) + "\n")
        self.file.flush()
        out = json.loads(self.file.readline())
        if not out["ok"]:
            raise RuntimeError(f"{cmd}: {out['error']}")
        return out


class RealServer(ApiServer):
    """A kube-apiserver and its etcd, as real.py starts them."""

    program = "real.py"

    def kill(self):
        if self.proc:
            self.file.close()
            self.sock.close()
            self.proc.stdin.close()  # it ends what it started, and itself
            self.proc.wait(20)
            self.proc.stdout.close()
            self.proc = None


class KubeCluster(Cluster):
    server = ApiServer

    def __init__(self, prefix, api_args=("--token", "t0ken"), **kw):
        self.api = None
        self.api_args = api_args
        super().__init__(prefix, **kw)

    def put(self, o, only_if_missing=False):
        if self.api is None:
            self.api = self.server(self, *self.api_args)
            self.api.start()
        key = self._key(o)
        if only_if_missing and key in self.objects:
            return
        self.objects[key] = o
        if self.api.proc:
            self.api("put", object=o)

    def delete(self, kind, name, ns="default"):
        del self.objects[f"{kind.lower()}.{ns}.{name}"]
        res = KINDS[kind] if kind in KINDS else next(
            r for r, v in RESOURCES.items() if v[2].lower() == kind.lower())
        if self.api.proc:
            self.api("delete", resource=res, namespace=ns, name=name)

    def source_args(self):
        return ["--kubeconfig", os.path.join(self.api.dir, "kubeconfig")]

    def restart_api(self):
        """A new server with the cluster's present objects, its versions beyond the old one's."""
        rv = self.api("now")["rv"] if self.api.proc else 0
        self.api.kill()
        self.resume_api(rv + 1000)

    def resume_api(self, rv):
        self.api.start("--rv", str(rv))
        for o in self.objects.values():
            self.api("put", object=o)

    def status(self, node):
        p = node.cli("status", "-o", "json", check=False)
        return p.returncode, json.loads(p.stdout)

    def errors(self, node):
        return {s["name"]: s["error"] for s in self.status(node)[1]["sources"] if s["error"]}

    def close(self):
        if self.api and not self._closed:
            self.api.kill()
        super().close()


class RealCluster(KubeCluster):
    server = RealServer

    def kubectl(self, *args, input=None, check=True):
        """As the cluster's administrator."""
        return sh(["nsenter", "--net=/var/run/netns/" + self.fabric.ns, os.environ["KUBECTL"],
                   "--kubeconfig", os.path.join(self.api.dir, "admin.kubeconfig"),
                   "--cache-dir", os.path.join(self.dir, "kubectl"), *args],
                  input=input if input is None or isinstance(input, str) else json.dumps(input),
                  check=check, timeout=60).stdout


__all__ = ["KubeCluster", "RealCluster", "wait_for"]
