#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""make demo: a two-node cluster of network namespaces, with real servers in its pods.

Everything shown is asserted: the demo fails loudly when bpfnet does not do what the text says.
"""
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import yaml

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "e2e"))
from harness import Cluster, wait_for  # noqa: E402

VIP, VIP6 = "10.96.0.80", "fd00:96::80"
BOLD, DIM, OFF = ("\033[1m", "\033[2m", "\033[0m") if sys.stdout.isatty() else ("", "", "")


def step(text):
    print(f"\n{BOLD}== {text}{OFF}", flush=True)


def show(host, *cmd):
    print(f"{DIM}{host.name}$ {shlex.join(cmd)}{OFF}", flush=True)


def bpfnet(node, *args, check=True):
    show(node, "bpfnet", *args)
    p = node.cli(*args, check=check)
    print(p.stdout, end="", flush=True)
    return p


def nginx(pod):
    d = os.path.join(pod.cluster.dir, f"nginx-{pod.name}")
    os.makedirs(d)
    with open(os.path.join(d, "n.conf"), "w") as f:
        f.write(f"""daemon off; master_process off; pid {d}/pid; error_log {d}/err;
events {{ worker_connections 256; }}
http {{ access_log {d}/access; client_body_temp_path {d}; proxy_temp_path {d}; fastcgi_temp_path {d};
uwsgi_temp_path {d}; scgi_temp_path {d};
server {{ listen 8080; listen [::]:8080; location / {{ return 200 "{pod.name} $request_method $uri\\n"; }} }} }}""")
    pod.popen(["nginx", "-c", f"{d}/n.conf", "-e", f"{d}/err"],
              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return os.path.join(d, "access")


def curl(pod, url, *opts, quiet=False):
    """(exit code of curl, HTTP status, body)"""
    cmd = ["curl", "-sS", "-m", "1.5", "-o", "-", "-w", "\n%{http_code}", *opts, url]
    p = pod.run(cmd, check=False)
    body, _, code = p.stdout.rpartition("\n")
    if not quiet:
        show(pod, "curl", *opts, url)
        print(f"  {body.strip() or p.stderr.strip()}   [HTTP {code}]", flush=True)
    return p.returncode, int(code or 0), body


def build():
    c = Cluster("demo", nodes=2, topology="routed")
    for f in os.listdir(c.manifests): # the demo brings all of its objects itself
        os.unlink(os.path.join(c.manifests, f))
    c.objects.clear()
    pods = {}
    with open(os.path.join(HERE, "shop.yaml")) as f:
        for o in filter(None, yaml.safe_load_all(f)):
            if o["kind"] == "Pod":
                m = o["metadata"]
                p = c.pod(o["spec"]["nodeName"], m["name"], m["namespace"], m["labels"], manifest=False)
                want = [i["ip"] for i in o["status"]["podIPs"]]
                assert p.ips == want, (m["name"], p.ips, want)
                pods[m["name"]] = p
    return c, pods


def apply(c, name):
    shutil.copy(os.path.join(HERE, name), os.path.join(c.manifests, "." + name))
    os.rename(os.path.join(c.manifests, "." + name), os.path.join(c.manifests, name))
    print(f"{DIM}$ kubectl apply -f {name}{OFF}")


def services(c, pods):
    step("A ClusterIP, load-balanced in the kernel: 40 requests from shop/front")
    seen = {}
    for i in range(40):
        rc, code, body = curl(pods["front"], f"http://{VIP if i % 2 else f'[{VIP6}]'}/", quiet=True)
        assert rc == 0 and code == 200, (rc, code, body)
        seen[body.split()[0]] = seen.get(body.split()[0], 0) + 1
    print("  answered by:", ", ".join(f"{k} {v} times" for k, v in sorted(seen.items())), "(IPv4 and IPv6)")
    assert set(seen) == {"api-0", "api-1"}, seen
    bpfnet(c.n1, "svc", "list")
    bpfnet(c.n1, "endpoint", "list")


def policy(c, pods):
    step("NetworkPolicy: only shop/front may reach the api")
    rc, code, _ = curl(pods["stranger"], f"http://{VIP}/")
    assert code == 200, "open before the policy"
    apply(c, "policy.yaml")
    for n in c.nodes.values():
        wait_for("policy in force", lambda: n.json("policy", "list"))
    rc, code, _ = wait_for("denied", lambda: (lambda r: r[0] and r)(curl(pods["stranger"], f"http://{VIP}/", quiet=True)))
    print(f"{DIM}stranger$ curl http://{VIP}/{OFF}\n  nothing comes back   [curl exit {rc}]")
    rc, code, _ = curl(pods["front"], f"http://{VIP}/")
    assert code == 200
    print("\nWhy?")
    bpfnet(c.n1, "policy", "trace", "--from", "guests/stranger", "--to", "shop/svc:api", "--proto", "tcp",
           "--port", "80", check=False)
    show(c.n1, "bpfnet", "flows", "--drop", "--last", "1", "--no-follow")
    flow = wait_for("the denial in the flow log",
                    lambda: c.n1.cli("flows", "--drop", "--last", "1", "--no-follow").stdout + c.n2.cli("flows", "--drop", "--last", "1", "--no-follow").stdout)
    print(flow, end="")


def http(c, pods, logs):
    step("HTTP rules, enforced by the kernel, no proxy: read items, place orders for one's team, nothing else")
    apply(c, "http.yaml")
    os.unlink(os.path.join(c.manifests, "policy.yaml"))
    print(f"{DIM}$ kubectl delete -f policy.yaml{OFF}")
    for n in c.nodes.values():
        wait_for("rules in force", lambda: {p["kind"] for p in n.json("policy", "list")} == {"HTTPNetworkPolicy"})
    wait_for("the old rules are gone", lambda: curl(pods["front"], f"http://{VIP}/not-yet", quiet=True)[1] == 403)
    for want, path, opts in ((200, "/v1/items", ()), (200, "/v1/items/7", ()), (403, "/admin", ()),
                             (403, "/v1/items", ("-X", "DELETE")), (403, "/v1/items/%2e%2e/admin", ("--path-as-is",)),
                             (403, "/v1/orders/17", ("-d", "x")), (200, "/v1/orders/17", ("-d", "x", "-H", "X-Team: checkout"))):
        for vip in (VIP, f"[{VIP6}]"):
            _, code, _ = curl(pods["front"], f"http://{vip}{path}", *opts, quiet=vip != VIP)
            assert code == want, (vip, path, opts, code)
    for log in logs:
        with open(log) as f:
            text = f.read()
        assert "/admin" not in text and "DELETE" not in text, "a denied request reached the server"
    print("  (no denied request is in nginx's log)\n\nWhy?")
    p = bpfnet(c.n1, "policy", "trace", "--from", "shop/front", "--to", "shop/api-0", "--port", "8080", "--http",
               "DELETE /v1/items", "--verify", check=False)
    assert p.returncode == 1 and "http[0].method" in p.stdout and "kernel says deny NO_MATCH" in p.stdout, p.stdout
    show(c.n1, "bpfnet", "flows", "--drop", "--last", "1", "--no-follow")
    flow = wait_for("a denied request in the flow log", lambda: "".join(
        n.cli("flows", "--drop", "--last", "1", "--no-follow").stdout for n in c.nodes.values()))
    assert "HTTP_DENIED" in flow and "shop/api" in flow, flow
    print(flow, end="")


def resilience(c, pods):
    step("kill -9 bpfnetd: the data plane goes on by itself")
    c.n1.stop(signal.SIGKILL)
    for _ in range(10):
        rc, code, _ = curl(pods["front"], f"http://{VIP}/v1/items", quiet=True)
        assert code == 200, (rc, code)
    assert curl(pods["stranger"], f"http://{VIP}/v1/items", quiet=True)[0], "policy holds too"
    print("  10 requests answered, the stranger still kept out, no daemon running")
    began = time.monotonic()
    c.n1.start()
    print(f"  bpfnetd again, ready after {time.monotonic() - began:.2f} s, nothing was rewritten or reset")


def look(c):
    step("What it sees")
    bpfnet(c.n1, "status")
    print(f"{DIM}n1$ bpfnet metrics | grep -E '^bpfnet_(packets|drops|services|http)'{OFF}", flush=True)
    for line in c.n1.cli("metrics").stdout.splitlines():
        if line.startswith(("bpfnet_packets_total", "bpfnet_drops_total", "bpfnet_services", "bpfnet_http")) and not line.endswith(" 0"):
            print("  " + line)


def main():
    if os.geteuid():
        sys.exit("the demo needs root (namespaces, BPF): sudo make demo")
    step("Two nodes, four pods, each a network namespace; one bpfnetd a node")
    c, pods = build()
    with c:
        logs = [nginx(pods["api-0"]), nginx(pods["api-1"])]
        apply(c, "shop.yaml")
        began = time.monotonic()
        c.start()
        print(f"  both daemons ready after {time.monotonic() - began:.2f} s")
        services(c, pods)
        policy(c, pods)
        http(c, pods, logs)
        resilience(c, pods)
        look(c)
        step("Tearing down")
    print("  namespaces, pins, programs and processes are gone")
    print(json.dumps({"demo": "passed"}))


if __name__ == "__main__":
    main()
