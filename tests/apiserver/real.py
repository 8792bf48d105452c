#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A real kube-apiserver and etcd behind the same control socket as apiserver.py, as far as a server that
behaves can follow: put, delete, present, compact, drop (restart), stop, start, delete_in_etcd, tokens; and
what operators do to real ones: term, signal.

    KUBE_APISERVER=... ETCD=... real.py --dir DIR [--address A] [--port N] [--token T] [--second A] [--api-arg=ARG]...

kubeconfig is a cluster administrator's; with --token it is that of user "bpfnet", who has the rights that
somebody gives him, and admin.kubeconfig is the administrator's.
"""
import argparse
import base64
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import apiserver  # noqa: E402
import certs  # noqa: E402
from store import KINDS, RESOURCES  # noqa: E402

CRD = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
       "metadata": {"name": "httpnetworkpolicies.bpfnet.io"},
       "spec": {"group": "bpfnet.io", "scope": "Namespaced",
                "names": {"plural": "httpnetworkpolicies", "singular": "httpnetworkpolicy",
                          "kind": "HTTPNetworkPolicy", "listKind": "HTTPNetworkPolicyList"},
                "versions": [{"name": "v1alpha1", "served": True, "storage": True,
                              "schema": {"openAPIV3Schema": {
                                  "type": "object",
                                  "x-kubernetes-preserve-unknown-fields": True}}}]}}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


class Real:
    def __init__(self, args):
        self.d, self.procs, self.address = args.dir, {}, args.address
        d = self.d
        os.makedirs(d, exist_ok=True)
        self.port, self.etcd_port = args.port or free_port(), free_port()
        self.peer_port = free_port()
        self.token, self.user = "admin-token", args.token
        self.second, self.api_args = args.second, args.api_arg
        certs.make_certs(d, ["DNS:localhost", "DNS:api.test", "IP:127.0.0.1", f"IP:{self.address}"] +
                         [f"IP:{a}" for a in [args.second] if a])
        certs.openssl("genrsa", "-out", f"{d}/sa.key", "2048")
        self.write_tokens([self.token])
        self.log = open(f"{d}/servers.log", "ab")

    def write_tokens(self, tokens):
        with open(f"{self.d}/tokens.csv", "w", encoding="ascii") as f:
            for i, t in enumerate(tokens):
                f.write(f'{t},admin-{i},{i},"system:masters"\n')
            if self.user:
                f.write(f'{self.user},bpfnet,bpfnet\n')

    def spawn(self, name, *argv):
        self.procs[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=self.log,
                                            stderr=self.log)

    def start_etcd(self):
        url = f"http://127.0.0.1:{self.etcd_port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        self.spawn("etcd", os.environ["ETCD"], "--data-dir", f"{self.d}/etcd", "--listen-client-urls",
                   url, "--advertise-client-urls", url, "--listen-peer-urls", peer,
                   "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}")
        self.wait(lambda: self.etcd("/v3/kv/range", {"key": "eA=="}))

    def start_api(self, name="api", address=None):
        d, address = self.d, address or self.address
        ranges = ["10.96.0.0/16", "fd00:96::/112"]
        if ":" in address:
            ranges.reverse()  # the server's own Service is of its family
        self.spawn(name, os.environ["KUBE_APISERVER"],
                   f"--etcd-servers=http://127.0.0.1:{self.etcd_port}", f"--bind-address={address}",
                   f"--advertise-address={address}", *self.api_args,
                   f"--secure-port={self.port}", f"--cert-dir={d}", f"--tls-cert-file={d}/tls.crt",
                   f"--tls-private-key-file={d}/tls.key", f"--client-ca-file={d}/ca.crt",
                   f"--token-auth-file={d}/tokens.csv", "--authorization-mode=RBAC",
                   f"--service-account-key-file={d}/sa.key",
                   f"--service-account-signing-key-file={d}/sa.key",
                   "--service-account-issuer=https://kubernetes.default.svc",
                   "--service-cluster-ip-range=" + ",".join(ranges), "--allow-privileged=true",
                   "--disable-admission-plugins=ServiceAccount")
        self.wait(lambda: self.call("GET", "/readyz", parse=False, address=address), 120)

    def write_kubeconfigs(self):
        url = f"https://[{self.address}]:{self.port}" if ":" in self.address else f"https://{self.address}:{self.port}"
        certs.write_kubeconfig(self.d, url, self.token)
        os.rename(f"{self.d}/kubeconfig", f"{self.d}/admin.kubeconfig")
        certs.write_kubeconfig(self.d, url, self.user or self.token)
        return url

    def stop_api(self):
        self.procs["api"].kill()
        self.procs["api"].wait()

    def wait(self, fn, limit=60):
        until = time.time() + limit
        while True:
            try:
                return fn()
            except (OSError, RuntimeError, http.client.HTTPException) as e:
                if time.time() > until:
                    raise RuntimeError(f"not up after {limit} s: {e!r}") from e
                time.sleep(0.2)

    def etcd(self, path, body):
        c = http.client.HTTPConnection("127.0.0.1", self.etcd_port, timeout=10)
        c.request("POST", path, json.dumps(body))
        r = c.getresponse()
        text = r.read()
        if r.status != 200:
            raise RuntimeError(f"etcd {path}: {r.status} {text[:200]}")
        return json.loads(text)

    def call(self, method, path, body=None, parse=True, missing_ok=False, address=None):
        ctx = ssl.create_default_context(cafile=f"{self.d}/ca.crt")
        c = http.client.HTTPSConnection(address or self.address, self.port, context=ctx, timeout=20)
        c.request(method, path, json.dumps(body) if body else None,
                  {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"})
        r = c.getresponse()
        text = r.read()
        if r.status == 404 and missing_ok:
            return None
        if r.status >= 300:
            raise RuntimeError(f"{method} {path}: {r.status} {text[:300]}")
        return json.loads(text) if parse else text


def path_of(res, ns, name=None):
    pre, _, _, namespaced = RESOURCES[res]
    where = f"{pre}/namespaces/{ns or 'default'}/{res}" if namespaced else f"{pre}/{res}"
    return where + (f"/{name}" if name else "")


def complete(o):
    """What a real server insists on and the tests' objects leave out."""
    spec = o.get("spec", {})
    if o["kind"] == "Pod":
        for c in spec.setdefault("containers", [{"name": "c"}]):
            c.setdefault("image", "none")
    if o["kind"] == "Service" and len(spec.get("clusterIPs", [])) > 1:
        spec["ipFamilyPolicy"] = "RequireDualStack"
        spec["ipFamilies"] = ["IPv6" if ":" in a else "IPv4" for a in spec["clusterIPs"]]


class Control(apiserver.Control):
    def do_put(self, object, raw=None):
        assert raw is None
        res, meta = KINDS[object["kind"]], object["metadata"]
        ns, name = meta.get("namespace"), meta["name"]
        complete(object)
        old = self.s.call("GET", path_of(res, ns, name), missing_ok=True)
        if old:
            meta["resourceVersion"] = old["metadata"]["resourceVersion"]
            out = self.s.call("PUT", path_of(res, ns, name), object)
        else:
            out = self.s.call("POST", path_of(res, ns), object)
        if "status" in object and res != "namespaces":
            out["status"] = object["status"]
            out = self.s.call("PUT", path_of(res, ns, name) + "/status", out)
        return {"rv": int(out["metadata"]["resourceVersion"])}

    def do_now(self):
        return {"rv": int(self.s.etcd("/v3/kv/range", {"key": "eA=="})["header"]["revision"])}

    def do_delete(self, resource, name, namespace="", silent=False):
        self.s.call("DELETE", path_of(resource, namespace, name))

    def do_present(self, resource, present):
        base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        if present:
            self.s.call("POST", base, CRD)
            self.s.wait(lambda: self.s.call("GET", path_of(resource, "default")))
        else:
            self.s.call("DELETE", f"{base}/{CRD['metadata']['name']}")

    def do_compact(self):
        rev = self.s.etcd("/v3/kv/range", {"key": base64.b64encode(b"x").decode()})
        self.s.etcd("/v3/kv/compaction", {"revision": rev["header"]["revision"], "physical": True})

    def do_delete_in_etcd(self, key):
        """What nobody sees who does not list."""
        out = self.s.etcd("/v3/kv/deleterange", {"key": base64.b64encode(key.encode()).decode()})
        assert int(out.get("deleted", 0)) == 1, out

    def do_stop(self):
        self.s.stop_api()

    def do_start(self):
        self.s.start_api()

    def do_signal(self, name, sig):
        """To one of its processes: api, second, etcd."""
        self.s.procs[name].send_signal(sig)

    def do_await(self, name, seconds):
        """Its end."""
        self.s.procs[name].wait(seconds)

    def do_begin(self, name):
        if name == "etcd":
            self.s.start_etcd()
        else:
            self.s.start_api(name, self.s.second if name == "second" else None)

    def do_drop(self):
        self.s.stop_api()
        self.s.start_api()

    def do_user(self, token):
        """Another token for user bpfnet; the old one is no longer taken."""
        self.s.user = token
        self.s.write_tokens([self.s.token])
        self.do_drop()

    def do_tokens(self, tokens):
        self.s.write_tokens(tokens)
        self.s.token = tokens[0]
        self.do_drop()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--dir", required=True)
    p.add_argument("--address", default="127.0.0.1")
    p.add_argument("--port", type=int, default=0)
    p.add_argument("--token", help="of user bpfnet")
    p.add_argument("--second", help="another server of the same etcd, at this address and the same port")
    p.add_argument("--api-arg", action="append", default=[])
    args = p.parse_args()
    d, real = args.dir, Real(args)
    try:
        real.start_etcd()
        real.start_api()
        if args.second:
            real.start_api("second", args.second)
        url = real.write_kubeconfigs()
        control = Control(real)
        apiserver.threading.Thread(target=control.serve, args=(f"{d}/control.new",),
                                   daemon=True).start()
        while not os.path.exists(f"{d}/control"):
            time.sleep(0.01)
        print(url, flush=True)
        while sys.stdin.buffer.read(4096):
            pass
    finally:
        for p in real.procs.values():
            p.kill()


if __name__ == "__main__":
    main()
