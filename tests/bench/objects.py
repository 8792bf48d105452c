# SPDX-License-Identifier: MIT
"""The objects of a benchmark's cluster, and the rules that kube-proxy writes for them."""
VIP = "10.96.0.10"
SVC_PORT, POD_PORT, DIRECT_PORT, NODE_PORT = 80, 8080, 8081, 30080
PROTOS = (("t", "TCP"), ("u", "UDP"))


def services(n, backend, nodeport=False, others=3):
    """n Services: n - 1 with a TCP port and three endpoints, and last the one that is measured, with a TCP and a
    UDP port and one endpoint (`backend`). [(name, VIP, [endpoint addresses], NodePort or 0, ports)]"""
    out = []
    for i in range(n - 1):
        out.append((f"s{i}", f"10.97.{i >> 8}.{i & 255}",
                    [f"10.{250 + (i * others + k >> 16)}.{(i * others + k) >> 8 & 255}.{(i * others + k) & 255}"
                     for k in range(others)], 0, PROTOS[:1]))
    out.append((f"s{n - 1}", VIP, [backend], NODE_PORT if nodeport else 0, PROTOS))
    return out


def service_objects(svcs):
    out = []
    for name, vip, eps, nodeport, protos in svcs:
        port = {"nodePort": nodeport} if nodeport else {}
        out.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                    "spec": {"type": "NodePort" if nodeport else "ClusterIP", "clusterIP": vip, "clusterIPs": [vip],
                             "ports": [dict(name=n, port=SVC_PORT, protocol=p, targetPort=POD_PORT, **port) for n, p in protos]}})
        out.append({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                    "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
                    "addressType": "IPv4", "ports": [{"name": n, "port": POD_PORT, "protocol": p} for n, p in protos],
                    "endpoints": [{"addresses": [a], "conditions": {"ready": True}} for a in eps]})
    return out


def iptables_rules(svcs):
    """nat and filter as kube-proxy's iptables mode writes them: a chain a service port, a chain an endpoint."""
    head = ["*nat"] + [f":{c} - [0:0]" for c in ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-MARK-MASQ", "KUBE-POSTROUTING")]
    body = ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", "-A POSTROUTING -j KUBE-POSTROUTING",
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0", "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"]
    for i, (_, vip, eps, nodeport, protos) in enumerate(svcs):
        for tag, proto in protos:
            proto = proto.lower()
            svc, ext = f"KUBE-SVC-{i:08d}{tag}", f"KUBE-EXT-{i:08d}{tag}"
            head.append(f":{svc} - [0:0]")
            body.append(f"-A KUBE-SERVICES -d {vip}/32 -p {proto} -m {proto} --dport {SVC_PORT} -j {svc}")
            body.append(f"-A {svc} ! -s 10.244.0.0/16 -d {vip}/32 -p {proto} -m {proto} --dport {SVC_PORT} -j KUBE-MARK-MASQ")
            if nodeport:
                head.append(f":{ext} - [0:0]")
                body += [f"-A KUBE-NODEPORTS -d 192.0.2.0/24 -p {proto} -m {proto} --dport {nodeport} -j {ext}",
                         f"-A {ext} -j KUBE-MARK-MASQ", f"-A {ext} -j {svc}"]
            for k, a in enumerate(eps):
                sep = f"KUBE-SEP-{i:08d}{tag}{k}"
                left = len(eps) - k
                prob = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
                head.append(f":{sep} - [0:0]")
                body += [f"-A {svc}{prob} -j {sep}", f"-A {sep} -s {a}/32 -j KUBE-MARK-MASQ",
                         f"-A {sep} -p {proto} -m {proto} -j DNAT --to-destination {a}:{POD_PORT}"]
    body.append("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    chains = ("KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL", "KUBE-SERVICES")
    new = "-m conntrack --ctstate NEW -j"
    flt = ["*filter"] + [f":{c} - [0:0]" for c in chains] + [
        f"-A INPUT {new} KUBE-PROXY-FIREWALL", "-A INPUT -j KUBE-NODEPORTS", f"-A INPUT {new} KUBE-EXTERNAL-SERVICES",
        f"-A FORWARD {new} KUBE-PROXY-FIREWALL", "-A FORWARD -j KUBE-FORWARD", f"-A FORWARD {new} KUBE-SERVICES",
        f"-A FORWARD {new} KUBE-EXTERNAL-SERVICES", f"-A OUTPUT {new} KUBE-PROXY-FIREWALL", f"-A OUTPUT {new} KUBE-SERVICES",
        "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP", "-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT",
        "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", "COMMIT", ""]
    return "\n".join(head + body + ["COMMIT"] + flt)


def nft_rules(svcs):
    """The table of kube-proxy's nftables mode: verdict maps, a chain a service port, a chain an endpoint.

    In transactions: the kernel looks through a transaction for every anonymous map in it, and through
    the table for every name of one, so that all of 10,000 services at once take many minutes. The
    hooks come last, and nothing is judged by half of it.
    """
    t = "ip kube-proxy"
    first = [f"add table {t}", f"add chain {t} mark-for-masquerade", f"add rule {t} mark-for-masquerade meta mark set meta mark or 0x4000",
             f"add map {t} service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict; }}",
             f"add map {t} service-nodeports {{ type inet_proto . inet_service : verdict; }}",
             f"add set {t} nodeport-ips {{ type ipv4_addr; }}",
             f"add element {t} nodeport-ips {{ {', '.join(f'192.0.2.{i}' for i in (11, 12))} }}",
             f"add chain {t} services", f"add rule {t} services ip daddr . meta l4proto . th dport vmap @service-ips",
             f"add rule {t} services ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports",
             f"add map {t} no-endpoint-services {{ type ipv4_addr . inet_proto . inet_service : verdict; }}",
             f"add chain {t} service-endpoints-check",
             f"add rule {t} service-endpoints-check ip daddr . meta l4proto . th dport vmap @no-endpoint-services",
             f"add chain {t} masquerading", f"add rule {t} masquerading meta mark & 0x4000 == 0 return",
             f"add rule {t} masquerading meta mark set meta mark xor 0x4000", f"add rule {t} masquerading masquerade fully-random"]
    parts, rules, elems = [first], [], []
    for i, (name, vip, eps, nodeport, protos) in enumerate(svcs):
        for tag, proto in protos:
            proto = proto.lower()
            svc, ext = f"service-{name}-{tag}", f"external-{name}-{tag}"
            rules += [f"add chain {t} {svc}"] + [f"add chain {t} endpoint-{name}-{tag}-{k}" for k in range(len(eps))]
            for k, a in enumerate(eps):
                ep = f"endpoint-{name}-{tag}-{k}"
                rules += [f"add rule {t} {ep} ip saddr {a} jump mark-for-masquerade",
                          f"add rule {t} {ep} meta l4proto {proto} dnat to {a}:{POD_PORT}"]
            rules.append(f"add rule {t} {svc} ip daddr {vip} {proto} dport {SVC_PORT} ip saddr != 10.244.0.0/16 jump mark-for-masquerade")
            rules.append(f"add rule {t} {svc} numgen random mod {len(eps)} vmap {{ "
                         + ", ".join(f"{k} : goto endpoint-{name}-{tag}-{k}" for k in range(len(eps))) + " }")
            elems.append(f"add element {t} service-ips {{ {vip} . {proto} . {SVC_PORT} : goto {svc} }}")
            if nodeport:
                rules += [f"add chain {t} {ext}", f"add rule {t} {ext} jump mark-for-masquerade", f"add rule {t} {ext} goto {svc}"]
                elems.append(f"add element {t} service-nodeports {{ {proto} . {nodeport} : goto {ext} }}")
        if i % 500 == 499:
            parts.append(rules)
            rules = []
    hooks = [("filter-input", "filter hook input priority -110", "ct state new jump service-endpoints-check"),
             ("filter-forward", "filter hook forward priority -110", "ct state new jump service-endpoints-check"),
             ("filter-output", "filter hook output priority -110", "ct state new jump service-endpoints-check"),
             ("nat-prerouting", "nat hook prerouting priority dstnat", "jump services"),
             ("nat-output", "nat hook output priority -100", "jump services"),
             ("nat-postrouting", "nat hook postrouting priority srcnat", "jump masquerading")]
    last = [x for name, hook, rule in hooks for x in (f"add chain {t} {name} {{ type {hook}; }}", f"add rule {t} {name} {rule}")]
    return ["\n".join(p) + "\n" for p in parts + [rules, elems, last] if p]


def policies(n):
    """n NetworkPolicies: the last two let the measured pair talk; every tenth of the others (200 at most)
    selects the measured server too, with ports and peers of its own, the rest select other pods."""
    def one(name, selector, **spec):
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "default"},
                "spec": dict(podSelector={"matchLabels": selector}, **spec)}
    out = []
    for i in range(n - 2):
        mine = i % 10 == 0 and i < 2000
        out.append(one(f"p{i}", {"app": "server"} if mine else {"app": f"other{i}"}, policyTypes=["Ingress"], ingress=[
            {"from": [{"podSelector": {"matchLabels": {"role": f"r{i % 50}"}}}], "ports": [{"port": 10000 + i}]}]))
    both = [{"port": POD_PORT}, {"port": POD_PORT, "protocol": "UDP"}, {"port": DIRECT_PORT}, {"port": DIRECT_PORT, "protocol": "UDP"}]
    out.append(one("in", {"app": "server"}, policyTypes=["Ingress"], ingress=[
        {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": both}]))
    out.append(one("out", {"app": "client"}, policyTypes=["Egress"], egress=[
        {"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}]))
    return out
