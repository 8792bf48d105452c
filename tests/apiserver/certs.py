# SPDX-License-Identifier: MIT
"""A CA, certificates from it, and the kubeconfig that goes with them."""
import json
import os
import subprocess


def openssl(*args, text=None):
    subprocess.run(("openssl",) + args, check=True, input=text, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


def make_certs(d, names):
    """A CA, the server's certificate and a client's (CN node)."""
    if os.path.exists(f"{d}/tls.crt"):
        return
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
            "2", "-subj", "/CN=test-ca", "-keyout", f"{d}/ca.key", "-out", f"{d}/ca.crt")
    for who, subj, ext in (("tls", "/CN=kube-apiserver", "subjectAltName=" + ",".join(names)),
                           ("client", "/O=system:nodes/CN=system:node:test",
                            "extendedKeyUsage=clientAuth")):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subj,
                "-keyout", f"{d}/{who}.key", "-out", f"{d}/{who}.csr")
        with open(f"{d}/{who}.ext", "w", encoding="ascii") as f:
            f.write(ext + "\n")
        openssl("x509", "-req", "-in", f"{d}/{who}.csr", "-CA", f"{d}/ca.crt", "-CAkey", f"{d}/ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", f"{d}/{who}.ext", "-out", f"{d}/{who}.crt")


def write_kubeconfig(d, server, token):
    user = {"token": token} if token else {}
    if not token and server.startswith("https"):
        user = {"client-certificate": "client.crt", "client-key": "client.key"}
    cluster = {"server": server}
    if server.startswith("https"):
        cluster["certificate-authority"] = "ca.crt"
    with open(f"{d}/kubeconfig", "w", encoding="ascii") as f:
        json.dump({"apiVersion": "v1", "kind": "Config", "current-context": "test",
                   "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                   "clusters": [{"name": "test", "cluster": cluster}],
                   "users": [{"name": "test", "user": user}]}, f, indent=1)
