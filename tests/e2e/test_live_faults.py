# SPDX-License-Identifier: MIT
"""What operators, load balancers and clouds do to a real kube-apiserver: see test_live."""
import base64
import json
import os
import signal
import subprocess
import time

from harness import BUILD
from kubecluster import wait_for
from test_live import NOT_RUN, VIP, VIP6, WEB, HTTP_POLICY, condition, reached, ready, services, web, write

assert NOT_RUN is not None


def metric(node, name):
    return sum(float(line.rsplit(" ", 1)[1]) for line in node.cli("metrics").stdout.splitlines()
               if line.startswith(name))


def both_ready(c, limit=40):
    wait_for("ready", lambda: ready(c, c.n1) and ready(c, c.n2), limit)


def test_goaway():
    """--goaway-chance: of 400 requests of each daemon some are told to go elsewhere; no watch is lost by it."""
    with web("lfg", args=("--api-arg=--goaway-chance=0.02",)) as c:
        for round_ in range(4):
            items = []
            for i in range(40):
                o = json.loads(json.dumps(HTTP_POLICY))
                o["metadata"]["name"] = f"h{i}"
                o["spec"]["podSelector"] = {"matchLabels": {"app": "another"}}
                o["spec"]["ingress"][0]["http"][0]["path"]["value"] = f"/{round_}/{i}"
                items.append(o)
            c.kubectl("apply", "-f", "-", input={"apiVersion": "v1", "kind": "List", "items": items})
            for i in range(40):
                wait_for(f"h{i}", lambda i=i: condition(c, f"h{i}")[1].get("observedGeneration") == round_ + 1, 60)
            assert ready(c, c.n1) and ready(c, c.n2), (c.errors(c.n1), c.errors(c.n2))
        print(f"requests of n1: {metric(c.n1, 'rest_client_requests_total'):.0f}", flush=True)
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        wait_for("only b2", lambda: reached(c) == {"b2"}, 5)


def test_sigterm():
    """Ended as operators end it: refuses with Retry-After for a while, lets watches end, is gone; then back."""
    with web("lfs", args=("--api-arg=--shutdown-delay-duration=4s", "--api-arg=--shutdown-send-retry-after=true")) as c:
        c.api("signal", name="api", sig=signal.SIGTERM)
        c.api("await", name="api", seconds=90)
        wait_for("said so", lambda: not ready(c, c.n1), 25)
        assert reached(c) == {"b1", "b2"}
        c.api("begin", name="api")
        both_ready(c)
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        wait_for("only b2", lambda: reached(c) == {"b2"}, 5)


def test_etcd():
    """etcd stands still, then is gone, below a server that lives: what is in force stays, a daemon that starts
    meanwhile changes nothing; afterwards all is right."""
    with web("lfe") as c:
        c.api("signal", name="etcd", sig=signal.SIGSTOP)
        time.sleep(20)
        assert reached(c) == {"b1", "b2"}
        c.n1.stop(signal.SIGKILL)
        c.n1.start(wait=False)
        time.sleep(15)
        print(f"etcd stands still: {c.errors(c.n1)}", flush=True)
        assert reached(c) == {"b1", "b2"} and reached(c, VIP6) == {"b1", "b2"}
        c.api("signal", name="etcd", sig=signal.SIGCONT)
        both_ready(c, 100)
        c.api("signal", name="etcd", sig=signal.SIGKILL)
        c.api("await", name="etcd", seconds=10)
        time.sleep(10)
        assert reached(c) == {"b1", "b2"}
        c.api("begin", name="etcd")
        both_ready(c, 100)
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        wait_for("only b2", lambda: reached(c) == {"b2"}, 10)


def test_ipv6():
    """A server that has an IPv6 address only."""
    with web("lf6", args=("--address", "2001:db8:1::1")) as c:
        for vip in (VIP, VIP6):
            assert reached(c, vip) == {"b1", "b2"}
        c.api("drop")
        c.endpoints("web", WEB, [c.b2], families={4: True, 6: True})
        wait_for("only b2", lambda: reached(c) == {"b2"}, 40)


def own_hosts(c, node, text):
    """Starts the daemon with an /etc/hosts of its own; returns where it is."""
    path = os.path.join(c.dir, "hosts")
    with open(path, "w", encoding="ascii") as f:
        f.write(text)
    args = [os.path.join(BUILD, "bpfnetd"), *c.source_args(), "--node-name", node.name, "--bpffs", node.bpffs,
            "--run-dir", node.run_dir, "--state-dir", node.state_dir, "--cgroup", node.cgroup] + node.daemon_args
    with open(node.log_path, "ab") as log:
        node.daemon = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec nsenter --net="$@"', path,
             "/var/run/netns/" + node.ns, *args], stdout=log, stderr=log)
    wait_for(f"{node.name}: ready", node.ready, 20)
    return path


def test_two_masters():
    """One name, two servers: the one that it names dies, then the name moves; and back."""
    with web("lfm", args=("--second", "2001:db8:1::1")) as c:
        cfg = os.path.join(c.api.dir, "kubeconfig")
        with open(cfg, encoding="ascii") as f:
            conf = json.load(f)
        conf["clusters"][0]["cluster"]["server"] = "https://api.test:6443"
        with open(cfg, "w", encoding="ascii") as f:
            json.dump(conf, f)
        c.n1.stop()
        hosts = own_hosts(c, c.n1, "192.0.2.1 api.test\n")
        for ends, dead, alive, addr in (([c.b2], "api", "second", "2001:db8:1::1"), ([c.b1], "second", "api", "192.0.2.1")):
            if alive == "api":
                c.api("begin", name="api")
            c.api("signal", name=dead, sig=signal.SIGKILL)
            c.api("await", name=dead, seconds=10)
            wait_for("said so", lambda: not ready(c, c.n1), 25)
            with open(hosts, "w", encoding="ascii") as f:
                f.write(f"{addr} api.test\n")
            began = time.monotonic()
            wait_for("ready by the other", lambda: ready(c, c.n1), 40)
            print(f"by {alive} after {time.monotonic() - began:.1f} s", flush=True)
            if alive == "api":
                c.endpoints("web", WEB, ends, families={4: True, 6: True})
                wait_for("only b1", lambda: reached(c) == {ends[0].name}, 10)


LEEWAY_S = 60  # that the server gives to the end of a token


def jwt(c, uid, seconds):
    def b64(x):
        return base64.urlsafe_b64encode(x).rstrip(b"=")
    now = int(time.time())
    before = now - 2 * LEEWAY_S
    body = {"iss": "https://kubernetes.default.svc", "aud": ["https://kubernetes.default.svc"], "iat": before,
            "nbf": before, "exp": now + seconds - LEEWAY_S, "sub": "system:serviceaccount:kube-system:bpfnet",
            "kubernetes.io": {"namespace": "kube-system", "serviceaccount": {"name": "bpfnet", "uid": uid}}}
    text = b64(b'{"alg":"RS256","typ":"JWT"}') + b"." + b64(json.dumps(body).encode())
    p = subprocess.run(["openssl", "dgst", "-sha256", "-sign", os.path.join(c.api.dir, "sa.key")], input=text,
                       stdout=subprocess.PIPE, check=True)
    return (text + b"." + b64(p.stdout)).decode()


def test_token_expiry():
    """A service account's token that ends: a new one beside it is found; an ended one is said to be."""
    with web("lft", start=False) as c:
        sa = json.loads(c.kubectl("get", "serviceaccount", "-n", "kube-system", "bpfnet", "-o", "json"))
        uid = sa["metadata"]["uid"]
        path, cfg = os.path.join(c.api.dir, "sa.token"), os.path.join(c.api.dir, "kubeconfig")
        with open(cfg, encoding="ascii") as f:
            conf = json.load(f)
        conf["users"][0]["user"] = {"tokenFile": "sa.token"}
        with open(cfg, "w", encoding="ascii") as f:
            json.dump(conf, f)
        write(path, jwt(c, uid, 20))
        c.start()
        both_ready(c)
        write(path, jwt(c, uid, 45))
        time.sleep(22)
        c.api("drop")
        both_ready(c, 60)
        time.sleep(25)
        c.api("drop")
        wait_for("named", lambda: "unauthorized (401)" in str(c.errors(c.n1)), 40)
        assert reached(c) == {"b1", "b2"}
        write(path, jwt(c, uid, 600))
        both_ready(c, 60)
        c.delete("Service", "web")
        wait_for("gone", lambda: "web" not in services(c.n1), 5)
