# SPDX-License-Identifier: MIT
"""The daemon beside a real kube-apiserver and etcd, with kubectl as the client, when KUBE_APISERVER, ETCD and
KUBECTL name them: what the API says at the end is what packets meet.
"""
import contextlib
import json
import os
import shutil
import signal
import time

from harness import ROOT
from kubecluster import RealCluster, wait_for

_missing = [v for v in ("KUBE_APISERVER", "ETCD", "KUBECTL") if not os.access(os.environ.get(v, ""), os.X_OK)]
NOT_RUN = f"${_missing[0]} names no program" if _missing else ""

VIP, VIP6 = "10.96.0.10", "fd00:96::10"
WEB = [("http", "TCP", 80, 8080)]
DENY_WEB = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": []}
HTTP_POLICY = {"apiVersion": "bpfnet.io/v1alpha1", "kind": "HTTPNetworkPolicy",
               "metadata": {"name": "h", "namespace": "default"},
               "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
                        "ingress": [{"ports": [{"port": 8080}],
                                     "http": [{"path": {"type": "PathPrefix", "value": "/a"}}]}]}}


@contextlib.contextmanager
def web(prefix, start=True, args=()):
    """The daemons have the rights that deploy/kubernetes/bpfnet.yaml gives them, and no others."""
    with RealCluster(prefix, api_args=("--token", "node-token", *args)) as c:
        c.kubectl("apply", "-f", os.path.join(ROOT, "deploy/crds"))
        c.kubectl("apply", "-f", os.path.join(ROOT, "deploy/kubernetes/bpfnet.yaml"))
        c.kubectl("create", "clusterrolebinding", "test", "--clusterrole=bpfnet", "--user=bpfnet")
        c.a = c.pod("n1", "client")
        c.b1 = c.pod("n1", "b1", labels={"app": "web"})
        c.b2 = c.pod("n2", "b2", labels={"app": "web"})
        for b in (c.b1, c.b2):
            b.serve(8080)
        c.service("web", WEB, [c.b1, c.b2], ips=[VIP, VIP6])
        if start:
            c.start()
        yield c


def reached(c, vip=VIP, n=40):
    return {c.a.ask(vip, 80, timeout=1).split(" ")[0] for _ in range(n)}


def ready(c, node):
    return c.status(node)[0] == 0


def test_kubectl():
    """Created, patched, labelled and deleted with kubectl."""
    with web("lk") as c:
        for vip in (VIP, VIP6):
            assert reached(c, vip) == {"b1", "b2"}
        c.kubectl("patch", "endpointslice", "web-v4", "--type=json", "-p",
                  '[{"op":"replace","path":"/endpoints/1/conditions/ready","value":false}]')
        wait_for("only b1", lambda: reached(c) == {"b1"}, 3)
        c.kubectl("apply", "-f", "-", input={
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "deny", "namespace": "default"}, "spec": DENY_WEB})
        wait_for("denied", lambda: c.a.ask(VIP, 80, timeout=0.5) == "timeout", 5)
        c.kubectl("label", "pod", "b1", "app-")
        wait_for("no longer selected", lambda: reached(c) == {"b1"}, 5)
        c.kubectl("label", "pod", "b1", "app=web")
        wait_for("denied again", lambda: c.a.ask(VIP, 80, timeout=0.5) == "timeout", 5)
        c.kubectl("delete", "networkpolicy", "deny")
        wait_for("allowed", lambda: reached(c) == {"b1"}, 5)
        c.kubectl("label", "service", "web", "service.kubernetes.io/service-proxy-name=other")
        wait_for("another proxy's", lambda: "web" not in services(c.n1), 3)
        c.kubectl("label", "service", "web", "service.kubernetes.io/service-proxy-name-")
        wait_for("ours", lambda: reached(c) == {"b1"}, 3)
        c.kubectl("delete", "service", "web")
        wait_for("gone", lambda: "web" not in services(c.n1), 3)


def services(node):
    return {s["name"] for s in node.json("svc", "list")}


def test_kubernetes_service():
    """The API's own Service, which the server makes itself: the node reaches it, through us."""
    with web("ls") as c:
        assert "kubernetes" in services(c.n1)
        with c.n1.socket() as s:
            s.connect(("10.96.0.1", 443))


def test_restarts():
    """Killed and started again, with changes behind our back, compacted: at the end it is equal."""
    with web("lr") as c:
        c.api("drop")
        c.kubectl("patch", "endpointslice", "web-v4", "--type=json", "-p",
                  '[{"op":"remove","path":"/endpoints/1"}]')
        wait_for("only b1", lambda: reached(c) == {"b1"}, 40)
        c.api("stop")
        wait_for("status is not ready", lambda: not ready(c, c.n1), 20)
        assert reached(c) == {"b1"}
        c.api("delete_in_etcd", key="/registry/services/specs/default/web")
        c.api("compact")
        c.api("start")
        wait_for("ready again", lambda: ready(c, c.n1) and ready(c, c.n2), 40)
        wait_for("gone", lambda: "web" not in services(c.n1), 10)
        c.service("back", WEB, [c.b2], ips=["10.96.0.11"])
        wait_for("back", lambda: reached(c, "10.96.0.11") == {"b2"}, 5)
        for _ in range(3):
            c.api("compact")
            c.api("drop")
        wait_for("ready again", lambda: ready(c, c.n1), 40)
        c.delete("Service", "back")
        wait_for("gone", lambda: "back" not in services(c.n1), 40)


def test_token():
    """The token is another from now on: said by name, and read again without a restart."""
    with web("lt") as c:
        path = os.path.join(c.api.dir, "node.token")
        cfg = os.path.join(c.api.dir, "kubeconfig")
        with open(cfg, encoding="ascii") as f:
            conf = json.load(f)
        conf["users"][0]["user"] = {"tokenFile": "node.token"}
        with open(cfg, "w", encoding="ascii") as f:
            json.dump(conf, f)
        write(path, "node-token")
        for n in (c.n1, c.n2):
            assert n.stop() == 0
            n.start()
        c.api("user", token="new-token")
        wait_for("named", lambda: "unauthorized (401)" in str(c.errors(c.n1)), 40)
        assert reached(c) == {"b1", "b2"}
        write(path, "new-token")
        wait_for("ready again", lambda: ready(c, c.n1) and ready(c, c.n2), 60)
        c.delete("Service", "web")
        wait_for("gone", lambda: "web" not in services(c.n1), 5)


def write(path, text):
    with open(path + ".new", "w", encoding="ascii") as f:
        f.write(text)
    os.rename(path + ".new", path)


def test_wrong_ca():
    """Another CA than the server's: said so, nothing is believed; with the right one it goes on."""
    with web("lc", start=False) as c:
        ca = os.path.join(c.api.dir, "ca.crt")
        shutil.copy(ca, ca + ".right")
        shutil.copy(os.path.join(c.api.dir, "client.crt"), ca)
        c.n1.start(wait=False)
        wait_for("named", lambda: "certificate" in c.errors(c.n1).get("services", ""), 15)
        os.rename(ca + ".right", ca)
        wait_for("ready", lambda: ready(c, c.n1), 90)
        assert reached(c) == {"b1", "b2"}


def test_rights():
    """Each right that is taken away is named with verb and resource; the others work."""
    with web("lg") as c:
        role = json.loads(c.kubectl("get", "clusterrole", "bpfnet", "-o", "json"))
        rules = role["rules"]
        del role["metadata"]["resourceVersion"]
        role["rules"] = [r for r in rules if r["resources"] != ["networkpolicies"]]
        assert len(role["rules"]) < len(rules)
        c.kubectl("replace", "-f", "-", input=role)
        c.api("drop")
        wait_for("named", lambda: c.errors(c.n1).get("networkpolicies", "").startswith(
            "networkpolicies: watch forbidden (403): networkpolicies.networking.k8s.io is forbidden: "
            'User "bpfnet" cannot watch resource "networkpolicies"'), 40)
        wait_for("only that", lambda: set(c.errors(c.n1)) == {"networkpolicies"}, 20)
        c.endpoints("web", WEB, [c.b1], families={4: True, 6: True})
        wait_for("only b1", lambda: reached(c) == {"b1"}, 5)
        role["rules"] = rules
        c.kubectl("replace", "-f", "-", input=role)
        wait_for("ready again", lambda: ready(c, c.n1), 60)


def condition(c, name="h"):
    o = json.loads(c.kubectl("get", "httpnetworkpolicy", name, "-o", "json"))
    return o, {k["type"]: k for k in o.get("status", {}).get("conditions", [])}.get("Accepted", {})


def test_reports():
    """Taken and refused policies say so in the API, once however many nodes there are."""
    with web("lp") as c:
        c.kubectl("apply", "-f", "-", input=HTTP_POLICY)
        wait_for("accepted", lambda: condition(c)[1].get("status") == "True", 10)
        o, k = condition(c)
        assert k["reason"] == "Accepted" and k["observedGeneration"] == o["metadata"]["generation"], k
        bad = json.loads(json.dumps(HTTP_POLICY))
        bad["spec"]["ingress"][0]["http"][0]["path"] = {"type": "RegularExpression", "value": "(("}
        c.kubectl("apply", "-f", "-", input=bad)
        wait_for("refused", lambda: condition(c)[1].get("status") == "False", 10)
        o, k = condition(c)
        assert k["message"].startswith("spec.ingress[0].http[0].path.value: "), k
        assert k["observedGeneration"] == o["metadata"]["generation"], k

        def events(kind, name):
            all_ = json.loads(c.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
            return [e for e in all_ if (e["regarding"]["kind"], e["regarding"]["name"]) == (kind, name)]
        wait_for("an event", lambda: events("HTTPNetworkPolicy", "h"), 10)
        time.sleep(3)
        assert len(events("HTTPNetworkPolicy", "h")) == 1, events("HTTPNetworkPolicy", "h")
        assert "path.value" in c.kubectl("describe", "httpnetworkpolicy", "h")
        version = condition(c)[0]["metadata"]["resourceVersion"]
        time.sleep(3)
        assert condition(c)[0]["metadata"]["resourceVersion"] == version
        c.kubectl("apply", "-f", "-", input=HTTP_POLICY)
        wait_for("accepted", lambda: condition(c)[1].get("status") == "True", 10)


def test_churn():
    """Thousands of objects come, change and go, the server is killed meanwhile; at the end it is equal."""
    with web("lh") as c:
        began = time.monotonic()
        for i in range(1500):
            c.service(f"s{i % 300}", [("p", "TCP", 1000 + i, 8080)], [c.b1, c.b2][i % 2:],
                      ips=[f"10.96.{1 + i % 300 // 100}.{i % 100 + 1}"])
            if i % 7 == 3:
                c.delete("Service", f"s{i % 300}")
                c.delete("EndpointSlice", f"s{i % 300}-v4")
            if i % 500 == 250:
                c.api("drop")
            if i % 400 == 100:
                c.api("compact")
        print(f"3,400 writes in {time.monotonic() - began:.0f} s", flush=True)
        want = {}
        for o in json.loads(c.kubectl("get", "services", "-o", "json"))["items"]:
            want[o["metadata"]["name"]] = o["spec"]["ports"][0]["port"]
        ends = {}
        for o in json.loads(c.kubectl("get", "endpointslices", "-o", "json"))["items"]:
            if o["addressType"] == "IPv4":
                ends[o["metadata"]["labels"]["kubernetes.io/service-name"]] = sorted(
                    e["addresses"][0] for e in o["endpoints"])
        want = {k: (v, ends[k]) for k, v in want.items()}

        def have(node):
            return {s["name"]: (f["port"], sorted(b["address"] for b in f["backends"]))
                    for s in node.json("svc", "list") for f in s["frontends"]
                    if ":" not in f["address"]}
        for node in (c.n1, c.n2):
            wait_for(f"{node.name} equal", lambda node=node: have(node) == want, 40)
        name, (port, backends) = next((k, v) for k, v in sorted(want.items()) if k.startswith("s"))
        vip = next(f["address"] for s in c.n1.json("svc", "list") if s["name"] == name
                   for f in s["frontends"])
        got = {c.a.ask(vip, port).split(" ")[0] for _ in range(30)}
        assert got == {p.name for p in (c.b1, c.b2) if p.ip in backends}, (got, backends)


def test_killed_daemon():
    """kill -9 while objects change: the next one finds what was missed."""
    with web("lx") as c:
        c.n1.stop(signal.SIGKILL)
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        c.delete("EndpointSlice", "web-v6")
        assert reached(c) == {"b1", "b2"}
        c.n1.start()
        assert reached(c) == {"b2"}
