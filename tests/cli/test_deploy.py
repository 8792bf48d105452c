#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What deploy/ ships: the Helm chart renders, the plain manifests say the same, their options are the
daemon's, and the image has the libraries that the binaries want. (Started with exactly these options and
capabilities: tests/e2e/test_deploy.py.)"""
import os
import re
import subprocess
import sys
import traceback

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.environ.get("BN_BUILD", os.path.join(ROOT, "build"))
sys.path.insert(0, HERE)
from gotemplate import Fail, helm_template  # noqa: E402

CHART = ROOT + "/deploy/helm/bpfnet"
MASTER = {"api": {"master": "https://API-SERVER:6443"}}


def plain(name):
    with open(f"{ROOT}/deploy/kubernetes/{name}") as f:
        return [d for d in yaml.safe_load_all(f) if d]


def one(docs, kind):
    return next(d for d in docs if d["kind"] == kind)


def pod_spec(docs):
    return one(docs, "DaemonSet")["spec"]["template"]["spec"]


def options_are_known(args):
    args = [a.replace("$(NODE_NAME)", "n1") for a in args]
    p = subprocess.run([BUILD + "/bpfnetd", *args, "--version"], capture_output=True, text=True, timeout=20)
    assert p.returncode == 0 and "bpfnetd" in p.stdout, (args, p.stdout, p.stderr)


def test_chart_is_the_plain_manifest():
    chart, flat = helm_template(CHART, MASTER)[0], plain("bpfnet.yaml")
    assert sorted(d["kind"] for d in chart) == sorted(d["kind"] for d in flat)
    assert pod_spec(chart) == pod_spec(flat)
    for key in ("updateStrategy", "selector"):
        assert one(chart, "DaemonSet")["spec"][key] == one(flat, "DaemonSet")["spec"][key]
    assert one(chart, "ClusterRole")["rules"] == one(flat, "ClusterRole")["rules"]
    for key in ("roleRef", "subjects"):
        assert one(chart, "ClusterRoleBinding")[key] == one(flat, "ClusterRoleBinding")[key]
    for d in chart:
        assert d["metadata"]["labels"]["k8s-app"] == "bpfnet", d
    options_are_known(pod_spec(chart)["containers"][0]["args"])


def test_static_pod():
    pod = one(plain("static-pod.yaml"), "Pod")
    mine, daemon = pod["spec"]["containers"][0], pod_spec(plain("bpfnet.yaml"))["containers"][0]
    for key in ("image", "securityContext", "livenessProbe", "readinessProbe", "resources"):
        assert mine[key] == daemon[key], key
    # whatever the capabilities: containers' AppArmor profile denies /sys/fs/bpf, their SELinux type bpf()
    assert pod["spec"]["securityContext"] == pod_spec(plain("bpfnet.yaml"))["securityContext"]
    assert pod["spec"]["securityContext"]["appArmorProfile"] == {"type": "Unconfined"}
    assert [m for m in mine["volumeMounts"] if m["name"] != "kubeconfig"] == daemon["volumeMounts"]
    assert {m["name"] for m in mine["volumeMounts"]} == {v["name"] for v in pod["spec"]["volumes"]}
    options_are_known(mine["args"])


def test_chart_with_everything():
    docs, notes = helm_template(CHART, {
        "api": {"kubeconfig": "/etc/kubernetes/bpfnet.kubeconfig"}, "cni": {"install": True},
        "image": {"repository": "registry.example/bpfnet", "tag": "1"},
        "flags": {"lb-algorithm": "maglev", "ct-max": 2000000, "cluster-cidr": "10.244.0.0/16,fd00:244::/48",
                  "policy-audit": True, "masquerade-all": False},
        "podAnnotations": {"a": "b"}, "imagePullSecrets": [{"name": "s"}], "tolerations": [],
        "metrics": {"bind": "0.0.0.0", "service": True, "serviceMonitor": {"enabled": True, "labels": {"x": "y"}}},
    }, namespace="net")
    spec = pod_spec(docs)
    args = spec["containers"][0]["args"]
    assert args[1:2] == ["--kubeconfig=/etc/kubernetes/bpfnet.kubeconfig"] and args[-4:] == [
        "--cluster-cidr=10.244.0.0/16,fd00:244::/48", "--ct-max=2000000", "--lb-algorithm=maglev",
        "--policy-audit"], args
    options_are_known(args)
    for c in spec["containers"] + spec["initContainers"]:
        assert c["image"] == "registry.example/bpfnet:1"
        assert {m["name"] for m in c["volumeMounts"]} <= {v["name"] for v in spec["volumes"]}, c["name"]
    assert "tolerations" not in spec
    assert one(docs, "Service")["spec"]["selector"] == one(docs, "DaemonSet")["spec"]["selector"]["matchLabels"]
    assert one(docs, "ServiceMonitor")["metadata"]["labels"]["x"] == "y"
    assert {d["metadata"].get("namespace", "net") for d in docs} == {"net"}
    assert "-n net " in notes


def test_chart_refuses():
    for values, said in (({}, "api.master"), (dict(MASTER, metrics={"service": True}), "metrics.bind"),
                         (dict(MASTER, metrics={"serviceMonitor": {"enabled": True}}), "metrics.service")):
        try:
            helm_template(CHART, values)
        except Fail as e:
            assert said in str(e), e
        else:
            raise AssertionError(f"rendered with {values}")


def test_chart_names_the_version():
    with open(CHART + "/Chart.yaml") as f:
        chart = yaml.safe_load(f)
    said = subprocess.run([BUILD + "/bpfnetd", "--version"], capture_output=True, text=True).stdout
    assert chart["appVersion"] in said and chart["version"] == chart["appVersion"], said
    crds = os.listdir(CHART + "/crds")
    assert crds == os.listdir(ROOT + "/deploy/crds"), crds
    for name in crds:
        assert os.path.samefile(f"{CHART}/crds/{name}", f"{ROOT}/deploy/crds/{name}")


def needed(binary):
    """The shared libraries that a program names itself."""
    out = subprocess.run(["objdump", "-p", binary], capture_output=True, text=True, check=True).stdout
    return re.findall(r"NEEDED\s+(\S+)", out)


def test_image_has_the_libraries():
    """Debian names a library's package after its SONAME (libfoo.so.1: libfoo1); t64 is a later suffix."""
    with open(ROOT + "/deploy/Dockerfile") as f:
        final = f.read().rsplit("FROM ", 1)[1]
    have = set(re.findall(r"[a-z0-9.+-]+", final))
    own = {"libelf.so.1": "libelf1", "libz.so.1": "zlib1g", "libyaml-0.so.2": "libyaml-0-2",
           "libevent-2.1.so.7": "libevent-2.1-7", "libfa.so.1": "libaugeas0", "libc.so.6": None, "libm.so.6": None}
    libs = set()
    for b in ("bpfnetd", "bpfnet", "bpfnet-cni"):
        libs |= set(needed(f"{BUILD}/{b}"))
    for lib in libs:
        name, _, version = lib.partition(".so.")
        package = own.get(lib, name + ("-" if name[-1].isdigit() else "") + version)
        assert package is None or package in have, f"{lib}: {package} is not in the image's {sorted(have)}"
    assert len(libs) > 8, libs


def main():
    passed = failed = 0
    for name, fn in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            fn()
            passed += 1
        except Exception:
            failed += 1
            print(f"--- {name}")
            traceback.print_exc()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
