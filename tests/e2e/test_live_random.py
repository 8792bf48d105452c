# SPDX-License-Identifier: MIT
"""Random objects at a real API server (see test_live) while it is killed and compacted, and daemons
are killed: at the end the data plane is what a plain reading of the API says. BN_SEED, BN_ROUNDS.
"""
import ipaddress
import json
import os
import random
import signal
import time

from kubecluster import wait_for
from test_live import NOT_RUN, services, web

assert NOT_RUN is not None
SEED, ROUNDS = int(os.environ.get("BN_SEED", "1")), int(os.environ.get("BN_ROUNDS", "300"))
SPACES = ["default", "a", "b"]


# --- a plain reading --------------------------------------------------------------------------------

def items(c, kind):
    return json.loads(c.kubectl("get", kind, "-A", "-o", "json"))["items"]


def key_of(o):
    return o["metadata"]["namespace"], o["metadata"]["name"]


def ip(text):
    return str(ipaddress.ip_address(text))


def families(slices, service, fam, port):
    """{(address, port): (ready, serving and terminating, node)} of one port."""
    out = {}
    for s in slices:
        if (s["metadata"]["namespace"], s["metadata"]["labels"]["kubernetes.io/service-name"]) != service or \
                s["addressType"] != fam:
            continue
        for p in s.get("ports") or []:
            if (p.get("name", ""), p["protocol"]) == (port.get("name", ""), port["protocol"]):
                for e in s.get("endpoints") or []:
                    cond = e["conditions"]
                    out[ip(e["addresses"][0]), p["port"]] = (
                        cond["ready"], cond.get("serving", True) and cond.get("terminating", False), e.get("nodeName"))
    return out


def usable(eps):
    return {k for k, v in eps.items() if v[0]} or {k for k, v in eps.items() if v[1]}


def wanted(c, node):
    """{service: {(kind, address or family, port, protocol): backends of clients outside and pods}}"""
    slices = [s for s in items(c, "endpointslices") if "kubernetes.io/service-name" in s["metadata"].get("labels", {})]
    out = {}
    for o in items(c, "services"):
        spec, lb, fronts = o["spec"], o["status"]["loadBalancer"].get("ingress", []), {}
        if "service.kubernetes.io/service-proxy-name" in o["metadata"].get("labels", {}) or \
                spec.get("clusterIP", "None") == "None":
            continue
        for vip in spec["clusterIPs"]:
            v6 = ":" in vip
            for p in spec["ports"]:
                eps = families(slices, key_of(o), "IPv6" if v6 else "IPv4", p)
                everyone = usable(eps)
                here = usable({k: v for k, v in eps.items() if v[2] == node})
                # Pods of the node get all endpoints of an external address, others those of the node.
                outside = everyone | here if spec.get("externalTrafficPolicy") == "Local" else everyone
                inside = here if spec.get("internalTrafficPolicy") == "Local" else everyone
                fronts["ClusterIP", ip(vip), p["port"], p["protocol"]] = inside
                for kind, a in [("ExternalIP", a) for a in spec.get("externalIPs", [])] + \
                        [("LoadBalancer", i["ip"]) for i in lb]:
                    if (":" in a) == v6:
                        fronts[kind, ip(a), p["port"], p["protocol"]] = outside
                if p.get("nodePort"):
                    fronts["NodePort", v6, p["nodePort"], p["protocol"]] = outside
        out[key_of(o)] = fronts
    return out


def in_force(node):
    return {(s["namespace"], s["name"]): {
        (f["kind"], ":" in f["address"] if f["kind"] == "NodePort" else ip(f["address"]), f["port"], f["protocol"]):
        {(ip(b["address"]), b["port"]) for b in f["backends"]} for f in s["frontends"]}
        for s in node.json("svc", "list")}


def selected(policy, pod):
    sel, labels = policy["spec"]["podSelector"], pod["metadata"].get("labels", {})
    return all(labels.get(k) == v for k, v in sel.get("matchLabels", {}).items()) and \
        all((x["key"] in labels) == (x["operator"] == "Exists") for x in sel.get("matchExpressions", []))


def difference(c, node):
    want, have = wanted(c, node.name), in_force(node)
    out = [(k, want.get(k), have.get(k)) for k in want.keys() | have.keys() if want.get(k) != have.get(k)]
    policies, pods = items(c, "networkpolicies"), {key_of(o): o for o in items(c, "pods")}
    names = {(p["namespace"], p["name"]) for p in node.json("policy", "list")}
    out += [("policy", k) for k in names ^ {key_of(o) for o in policies}]
    for e in node.json("endpoint", "list"):
        pod = pods[e["namespace"], e["name"]]
        for way in ("Ingress", "Egress"):
            isolated = any(key_of(p)[0] == e["namespace"] and way in p["spec"]["policyTypes"] and selected(p, pod)
                           for p in policies)
            if e[way.lower()] != ("isolated" if isolated else "open"):
                out.append((e, way, isolated))
    return out


def equal(c, what):
    for node in (c.n1, c.n2):
        try:
            wait_for("equal", lambda node=node: not difference(c, node), 20, step=1)
        except AssertionError as e:
            raise AssertionError(f"{what}: {node.name}: {difference(c, node)[:3]} {c.errors(node)}") from e


# --- what comes and goes ----------------------------------------------------------------------------

class Churn:
    def __init__(self, c, rnd):
        self.c, self.rnd, self.live, self.n = c, rnd, {}, 0

    def put(self, key, objects):
        self.live[key] = objects
        for o in objects:
            self.c.put(o)

    def drop(self, key):
        for o in self.live.pop(key):
            self.c.delete(o["kind"], o["metadata"]["name"], o["metadata"]["namespace"])

    def service(self, ns, name, i):
        rnd, fams = self.rnd, self.rnd.choice([["IPv4"], ["IPv6"], ["IPv4", "IPv6"], ["IPv6", "IPv4"]])
        spec = {"type": rnd.choice(["ClusterIP", "NodePort", "LoadBalancer"]), "ipFamilies": fams,
                "ipFamilyPolicy": "RequireDualStack" if len(fams) == 2 else "SingleStack",
                "internalTrafficPolicy": rnd.choice(["Cluster", "Cluster", "Local"]),
                "sessionAffinity": rnd.choice(["None", "ClientIP"]),
                "ports": [{"name": f"p{j}", "port": 80 + j, "protocol": rnd.choice(["TCP", "UDP", "SCTP"])}
                          for j in range(rnd.choice([1, 1, 3]))]}
        if spec["type"] != "ClusterIP":
            spec["externalTrafficPolicy"] = rnd.choice(["Cluster", "Local"])
        if rnd.random() < 0.2:
            spec["externalIPs"] = [f"198.51.{100 + SPACES.index(ns)}.{i + 1}",
                                   f"2001:db8:8:{SPACES.index(ns)}::{i + 1:x}"]
        if rnd.random() < 0.05:
            spec = {"type": "ExternalName", "externalName": "x.example"}
        labels = {"service.kubernetes.io/service-proxy-name": "x"} if rnd.random() < 0.05 else {}
        out = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns, "labels": labels},
                "spec": spec}]
        if spec["type"] == "LoadBalancer":
            out[0]["status"] = {"loadBalancer": {"ingress": [
                {"ip": f"203.0.{113 + SPACES.index(ns)}.{i + 1}" if fams[0] == "IPv4" else
                 f"2001:db8:9:{SPACES.index(ns)}::{i + 1:x}"}]}}
        return out + [self.slice(ns, name, fam, k, spec["ports"]) for fam in fams if "ports" in spec
                      for k in range(rnd.choice([0, 1, 2]))]

    def slice(self, ns, name, fam, k, ports):
        rnd, eps = self.rnd, []
        for a in rnd.sample(range(100, 200), rnd.choice([0, 1, 2, 5])):
            ready = rnd.random() < 0.7
            eps.append({"addresses": [f"10.244.{k + 1}.{a}" if fam == "IPv4" else f"fd00:244:{k + 1}::{a:x}"],
                        "nodeName": rnd.choice(["n1", "n2", "n3"]), "conditions": {
                            "ready": ready, "serving": ready or rnd.random() < 0.5,
                            "terminating": not ready and rnd.random() < 0.6}})
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": fam, "metadata": {
            "name": f"{name}-{fam.lower()}-{k}", "namespace": ns, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": eps, "ports": [{"name": p["name"], "port": 8000 + p["port"], "protocol": p["protocol"]}
                                        for p in ports if rnd.random() < 0.95]}

    def policy(self, ns, name):
        sel = self.rnd.choice([{}, {"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "none"}},
                               {"matchExpressions": [{"key": "app", "operator": "Exists"}]},
                               {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}])
        types = self.rnd.choice([["Ingress"], ["Egress"], ["Ingress", "Egress"]])
        return [{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                 "metadata": {"name": name, "namespace": ns}, "spec": {"podSelector": sel, "policyTypes": types}}]

    def step(self):
        ns, i, p = self.rnd.choice(SPACES), self.rnd.randrange(60), self.rnd.random()
        key = ("np" if p < 0.2 else "s", ns, i)
        if key in self.live:
            self.drop(key)
            if p > 0.7:
                return
        self.put(key, self.policy(ns, f"np{i}") if p < 0.2 else self.service(ns, f"s{i}", i))


def restart(node):
    node.stop(signal.SIGKILL)
    node.start(wait=False)


def test_random():
    rnd = random.Random(SEED)
    with web("lz") as c:
        for ns in SPACES[1:]:
            c.kubectl("create", "namespace", ns)
        churn, began = Churn(c, rnd), time.monotonic()
        faults = [lambda: c.api("drop"), lambda: restart(c.n1),
                  lambda: (c.api("stop"), c.api("start"), c.api("compact")),
                  lambda: restart(c.n2), lambda: (c.api("compact"), c.api("drop"), c.api("compact"))]
        for i in range(ROUNDS):
            churn.step()
            if i % (ROUNDS // 6) == ROUNDS // 12:
                faults[i // (ROUNDS // 6) % len(faults)]()
            if i == ROUNDS // 2:
                equal(c, "half-way")
        equal(c, "at the end")
        print(f"{len(churn.live)} of {ROUNDS} left, equal after {time.monotonic() - began:.0f} s", flush=True)
        for key in list(churn.live):
            churn.drop(key)
        wait_for("gone", lambda: services(c.n1) == services(c.n2) == {"web", "kubernetes"}, 30)
        equal(c, "with all gone")
