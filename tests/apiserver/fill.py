# SPDX-License-Identifier: MIT
"""Objects as a cluster of that size has them, with everything a real one carries: managedFields, owner
references, conditions, volumes."""
import ipaddress
import json
import random
import time

V4 = int(ipaddress.ip_address("10.64.0.0"))


def _managed(manager, fields):
    return [{"manager": manager, "operation": "Update", "apiVersion": "v1",
             "time": "2026-11-23T05:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}]


def service(i, ns):
    ip = str(ipaddress.ip_address(int(ipaddress.ip_address("10.96.0.1")) + i))
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": f"svc-{i}", "namespace": ns, "labels": {"app": f"app-{i}"},
                         "managedFields": _managed("kubectl", {"f:metadata": {"f:labels": {
                             ".": {}, "f:app": {}}}, "f:spec": {
                                 "f:internalTrafficPolicy": {}, "f:ports": {
                                     ".": {}, 'k:{"port":80,"protocol":"TCP"}': {
                                         ".": {}, "f:name": {}, "f:port": {}, "f:protocol": {},
                                         "f:targetPort": {}}},
                                 "f:selector": {}, "f:sessionAffinity": {}, "f:type": {}}})},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "internalTrafficPolicy": "Cluster",
                     "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "type": "ClusterIP",
                     "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080}],
                     "selector": {"app": f"app-{i}"}, "sessionAffinity": "None"},
            "status": {"loadBalancer": {}}}


def slice_(i, ns, n, nodes):
    eps = []
    for j in range(n):
        k = i * n + j
        ip = str(ipaddress.ip_address(V4 + k + 1))
        eps.append({"addresses": [ip],
                    "conditions": {"ready": True, "serving": True, "terminating": False},
                    "nodeName": f"node-{k % nodes}", "zone": f"zone-{k % 3}",
                    "targetRef": {"kind": "Pod", "name": f"app-{i}-7c5b9d6f4-{k:06x}",
                                  "namespace": ns,
                                  "uid": f"5f3c1e0a-0000-4000-8000-{k:012x}"}})
    fields = {"f:addressType": {}, "f:endpoints": {}, "f:metadata": {
        "f:annotations": {".": {}, "f:endpoints.kubernetes.io/last-change-trigger-time": {}},
        "f:generateName": {}, "f:labels": {".": {}, "f:app": {},
                                           "f:endpointslice.kubernetes.io/managed-by": {},
                                           "f:kubernetes.io/service-name": {}},
        "f:ownerReferences": {".": {}, 'k:{"uid":"5f3c1e0a-0000-4000-8000-000000000000"}': {}}},
        "f:ports": {}}
    return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": f"svc-{i}-x7k2p", "generateName": f"svc-{i}-", "namespace": ns,
                         "generation": 3,
                         "annotations": {"endpoints.kubernetes.io/last-change-trigger-time":
                                         "2026-11-23T05:00:00Z"},
                         "labels": {"app": f"app-{i}", "kubernetes.io/service-name": f"svc-{i}",
                                    "endpointslice.kubernetes.io/managed-by":
                                    "endpointslice-controller.k8s.io"},
                         "ownerReferences": [{"apiVersion": "v1", "blockOwnerDeletion": True,
                                              "controller": True, "kind": "Service",
                                              "name": f"svc-{i}", "uid": f"owner-{i}"}],
                         "managedFields": _managed("kube-controller-manager", fields)},
            "endpoints": eps, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}


def pod(i, ns, nodes):
    ip = str(ipaddress.ip_address(V4 + i + 1))
    now = "2026-11-23T05:00:00Z"
    fields = {"f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:app": {}, "f:tier": {}}},
              "f:spec": {"f:containers": {'k:{"name":"main"}': {
                  ".": {}, "f:env": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
                  "f:ports": {}, "f:resources": {}, "f:terminationMessagePath": {}}},
                  "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {}}}
    status = {"f:status": {"f:conditions": {f'k:{{"type":"{t}"}}': {
        ".": {}, "f:lastProbeTime": {}, "f:lastTransitionTime": {}, "f:status": {}, "f:type": {}}
        for t in ("ContainersReady", "Initialized", "PodReadyToStartContainers", "Ready")},
        "f:containerStatuses": {}, "f:hostIP": {}, "f:phase": {}, "f:podIP": {}, "f:podIPs": {}}}
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": f"app-{i // 10}-7c5b9d6f4-{i:06x}", "namespace": ns,
                         "generateName": f"app-{i // 10}-7c5b9d6f4-",
                         "labels": {"app": f"app-{i // 10}", "tier": f"tier-{i % 5}",
                                    "pod-template-hash": "7c5b9d6f4"},
                         "managedFields": _managed("kube-controller-manager", fields) +
                         _managed("kubelet", status)},
            "spec": {"nodeName": f"node-{i % nodes}", "restartPolicy": "Always",
                     "dnsPolicy": "ClusterFirst", "serviceAccountName": "default",
                     "containers": [{"name": "main", "image": "registry.example/app:1.2.3",
                                     "ports": [{"name": "http", "containerPort": 8080,
                                                "protocol": "TCP"}],
                                     "env": [{"name": f"VAR_{e}", "value": "x" * 20}
                                             for e in range(5)],
                                     "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                                     "volumeMounts": [{"name": "kube-api-access", "readOnly": True,
                                                       "mountPath": "/var/run/secrets"}]}],
                     "volumes": [{"name": "kube-api-access", "projected": {"defaultMode": 420}}],
                     "tolerations": [{"effect": "NoExecute", "operator": "Exists",
                                      "key": "node.kubernetes.io/not-ready",
                                      "tolerationSeconds": 300}]},
            "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                       "hostIP": "192.0.2.1", "qosClass": "Burstable", "startTime": now,
                       "conditions": [{"type": t, "status": "True", "lastProbeTime": None,
                                       "lastTransitionTime": now}
                                      for t in ("PodReadyToStartContainers", "Initialized", "Ready",
                                                "ContainersReady", "PodScheduled")],
                       "containerStatuses": [{"name": "main", "ready": True, "restartCount": 0,
                                              "image": "registry.example/app:1.2.3",
                                              "imageID": "sha256:" + "0" * 64,
                                              "containerID": f"containerd://{i:064x}",
                                              "state": {"running": {"startedAt": now}}}]}}


def policy(i, ns):
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": f"np-{i}", "namespace": ns},
            "spec": {"podSelector": {"matchLabels": {"tier": f"tier-{i % 5}"}},
                     "policyTypes": ["Ingress"],
                     "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": f"app-{i}"}}}],
                                  "ports": [{"protocol": "TCP", "port": 8080}]}]}}


def fill(store, services=0, endpoints=10, pods=0, namespaces=1, policies=0, nodes=100):
    names = [f"ns-{i}" for i in range(namespaces)]
    for ns in names:
        store.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": ns, "labels": {"kubernetes.io/metadata.name": ns}}})
    for i in range(nodes):
        store.put({"apiVersion": "v1", "kind": "Node", "metadata": {
            "name": f"node-{i}", "labels": {"topology.kubernetes.io/zone": f"zone-{i % 3}"}},
            "spec": {"podCIDR": f"10.{64 + i // 256}.{i % 256}.0/24"},
            "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{i % 250 + 1}"}]}})
    for i in range(services):
        ns = names[i % len(names)]
        store.put(service(i, ns))
        store.put(slice_(i, ns, endpoints, nodes))
    for i in range(pods):
        store.put(pod(i, names[i // 10 % len(names)], nodes))
    for i in range(policies):
        store.put(policy(i, names[i % len(names)]))
    for log in store.log.values():  # the past of a big cluster is nobody's business
        log.clear()


def churn(store, rate, seconds, seed=1):
    """`rate` times a second one endpoint of a random service comes or goes, at an even pace."""
    rnd, began = random.Random(seed), time.monotonic()
    keys = [k for k in store.objects["endpointslices"] if k[1].startswith("svc-")]
    for i in range(int(rate * seconds)):
        left = began + i / rate - time.monotonic()
        if left > 0:
            time.sleep(left)
        o = json.loads(store.objects["endpointslices"][rnd.choice(keys)][0])
        cond = rnd.choice(o["endpoints"])["conditions"]
        cond["ready"] = cond["serving"] = not cond["ready"]
        o["metadata"]["annotations"]["endpoints.kubernetes.io/last-change-trigger-time"] = \
            time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        store.put(o)
        store.churned += 1
        store.churn_late = max(store.churn_late, -left)
    for log in store.log.values():
        del log[:-1000]


def turnover(store, first, n, alive=300, rate=4000):
    """Pods, services, policies and namespaces with names that never were before, each deleted again after
    `alive` others: numbers first to first + n."""
    def at(i):
        ns = f"ci-{i // 100}"
        out = [("pods", ns, pod(i % 60000, ns, 10))]
        out[0][2]["metadata"]["name"] = f"build-{i * 2654435761 % 2**32:08x}-{i}"
        out[0][2]["metadata"]["labels"]["build"] = f"b{i}"
        if i % 10 == 0:
            out += [("services", ns, service(i // 10 % 5000, ns)), ("endpointslices", ns, slice_(i // 10, ns, 3, 10))]
            for _, _, o in out[1:]:
                o["metadata"]["name"] = f"svc-{i * 2246822519 % 2**32:08x}"
            out[2][2]["metadata"]["labels"]["kubernetes.io/service-name"] = out[1][2]["metadata"]["name"]
        if i % 50 == 0:
            p = policy(i, ns)
            p["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"] = {"build": f"b{i}"}
            out.append(("networkpolicies", ns, p))
        if i % 100 == 0:
            out.insert(0, ("namespaces", "", {"apiVersion": "v1", "kind": "Namespace", "metadata": {
                "name": ns, "labels": {"kubernetes.io/metadata.name": ns}}}))
        return out

    began = time.monotonic()
    for i in range(first, first + n):
        for _, _, o in at(i):
            store.put(o)
        if i >= alive:
            for res, ns, o in reversed(at(i - alive)):
                store.delete(res, ns, o["metadata"]["name"])
        left = began + (i - first) / rate - time.monotonic()
        if left > 0.01:
            time.sleep(left)
        if i % 1000 == 0:
            for log in store.log.values():
                del log[:-20000]
