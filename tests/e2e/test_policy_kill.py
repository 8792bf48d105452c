# SPDX-License-Identifier: MIT
"""kill -9 of the daemon at random moments amid random changes of policies, NetworkPolicy and HTTP rules: no packet passes
that both the old and the new policies deny, none is lost that both allow, and what is in force in the end is right."""
import json
import os
import random
import signal
import subprocess
import sys
import time

from harness import Cluster, wait_for

ROUNDS, SEED = int(os.environ.get("ROUNDS", "10")), int(os.environ.get("SEED", "0"))
UDP, PATHS = (5001, 5002), ("a", "b")
LATE_S = 3.0  # an answer is an answer however late it is

SERVER = """
import asyncio
class Echo(asyncio.DatagramProtocol):
    def connection_made(self, t):
        self.t = t
    def datagram_received(self, d, a):
        self.t.sendto(d, a)
async def http(r, w):
    try:
        await r.readuntil(b"\\r\\n\\r\\n")
        w.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nok")
        await w.drain()
        w.close()
    except Exception:
        pass
async def main():
    for port in (5001, 5002):
        await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=("0.0.0.0", port))
    await (await asyncio.start_server(http, "0.0.0.0", 8080)).serve_forever()
asyncio.run(main())
"""

# Asks each server on each UDP port, and for each path, over and over, each time from a new port. A line a question:
# [asked, told, server, what, passed].
CLIENT = """
import asyncio, json, sys, time
late, servers = float(sys.argv[1]), sys.argv[2:]
class Once(asyncio.DatagramProtocol):
    def __init__(self):
        self.got = asyncio.get_running_loop().create_future()
    def datagram_received(self, d, a):
        self.got.done() or self.got.set_result(True)
    def error_received(self, e):
        self.got.done() or self.got.set_result(False)
async def udp(server, port):
    t, p = await asyncio.get_running_loop().create_datagram_endpoint(Once, remote_addr=(server, port))
    t.sendto(b"x")
    try:
        return await asyncio.wait_for(p.got, late)
    except asyncio.TimeoutError:
        return False
    finally:
        t.close()
async def http(server, path):
    w = None
    async def ask():
        nonlocal w
        r, w = await asyncio.open_connection(server, 8080)
        w.write(b"GET /%s/x HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n" % path.encode())
        return b" 200 " in await r.readline()
    try:
        return await asyncio.wait_for(ask(), late)
    except (asyncio.TimeoutError, OSError):
        return False
    finally:
        if w:
            w.transport.abort()
async def loop(k, server, what):
    while True:
        t = time.monotonic()
        ok = await (http(server, what) if isinstance(what, str) else udp(server, what))
        print(json.dumps([t, time.monotonic(), k, what, bool(ok)]), flush=True)
        await asyncio.sleep(0.03)
async def main():
    jobs = [loop(k, s, what) for k, s in enumerate(servers) for what in (5001, 5002, "a", "b") for _ in range(2)]
    await asyncio.gather(*jobs)
asyncio.run(main())
"""


class Version:
    """Random policies, and what they allow: from client c to server s, on a UDP port or to a path."""

    def __init__(self, rnd, number):
        self.number, self.objects = number, []
        self.isolated, self.ok, self.out_isolated, self.out_ok = set(), set(), set(), set()
        self.add("NetworkPolicy", f"mark-{number}", {"podSelector": {"matchLabels": {"app": "nobody"}}})
        for i in range(rnd.randrange(4)):
            self.l4(rnd, f"l{i}-{number}", rnd.choice(([0], [1], [0, 1])))
        for i in range(rnd.randrange(3)):
            self.http(rnd, f"h{i}-{number}", rnd.choice(([0], [1], [0, 1])))
        if rnd.random() < 0.4:
            self.egress(rnd, f"out-{number}", rnd.randrange(2))

    def add(self, kind, name, spec):
        api = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "bpfnet.io/v1alpha1"
        self.objects.append({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec})

    @staticmethod
    def select(key, some):
        return {"matchExpressions": [{"key": key, "operator": "In", "values": [str(x) for x in some]}]}

    def l4(self, rnd, name, servers):
        rules = []
        for _ in range(rnd.randrange(4)):
            clients, port = rnd.choice(([0], [1], [0, 1])), rnd.choice(UDP)
            rules.append({"from": [{"podSelector": self.select("client", clients)}], "ports": [{"protocol": "UDP", "port": port}]})
            self.ok |= {(c, s, port) for c in clients for s in servers}
        self.isolated |= set(servers)
        self.add("NetworkPolicy", name, {"podSelector": self.select("server", servers), "policyTypes": ["Ingress"], "ingress": rules})

    def http(self, rnd, name, servers):
        rules = []
        for _ in range(rnd.randrange(3)):
            clients, path = rnd.choice(([0], [1], [0, 1])), rnd.choice(PATHS)
            rules.append({"from": [{"podSelector": self.select("client", clients)}], "ports": [{"port": 8080}],
                          "http": [{"path": {"value": "/" + path}}, {"path": {"type": "RegularExpression", "value": f"/n{self.number}.*"}}]})
            self.ok |= {(c, s, path) for c in clients for s in servers}
        self.isolated |= set(servers)
        self.add("HTTPNetworkPolicy", name, {"podSelector": self.select("server", servers), "policyTypes": ["Ingress"], "ingress": rules})

    def egress(self, rnd, name, client):
        servers = rnd.choice(([], [0], [1], [0, 1]))
        rules = [{"to": [{"podSelector": self.select("server", servers)}]}] if servers else []
        self.out_isolated.add(client)
        self.out_ok |= {(client, s) for s in servers}
        self.add("NetworkPolicy", name, {"podSelector": self.select("client", [client]), "policyTypes": ["Egress"], "egress": rules})

    def into(self, c, s, what):
        return s not in self.isolated or (c, s, what) in self.ok

    def out(self, c, s):
        return c not in self.out_isolated or (c, s) in self.out_ok

    def names(self):
        return {o["metadata"]["name"] for o in self.objects}


class World:
    def __init__(self, c):
        self.c = c
        self.servers = [c.pod("n1", f"s{i}", labels={"server": str(i)}) for i in range(2)]
        self.clients = [c.pod("n1", f"c{i}", labels={"client": str(i)}) for i in range(2)]
        for s in self.servers:
            s.popen([sys.executable, "-c", SERVER])
        self.history = []  # (version, written, in force for certain from: None while that is not known)
        self.asked = []

    def write(self, v):
        path = os.path.join(self.c.manifests, ".policies")
        with open(path, "w") as f:
            json.dump({"apiVersion": "v1", "kind": "List", "items": v.objects}, f)
        self.history.append([v, time.monotonic(), None])
        os.rename(path, os.path.join(self.c.manifests, "policies.json"))

    def settle(self):
        def settled():
            p = self.c.n1.cli("policy", "list", "-o", "json", check=False)
            return p.returncode == 0 and {x["name"] for x in json.loads(p.stdout)} == self.history[-1][0].names() and self.c.n1.ready()
        wait_for("in force", settled, 30)
        self.history[-1][2] = time.monotonic()

    def possible(self, a, b):
        """The versions of which each may have been in force somewhere at some time from a to b."""
        last = max(i for i, (_, written, _) in enumerate(self.history) if written <= b)
        first = max((i for i, (_, _, sure) in enumerate(self.history) if sure and sure <= a), default=None)
        return None if first is None else [v for v, _, _ in self.history[first:last + 1]]

    def start(self):
        self.out = []
        for k, host in enumerate(self.clients):
            path = os.path.join(self.c.dir, f"asked{k}")
            self.out.append(path)
            with open(path, "w") as f:
                host.popen([sys.executable, "-c", CLIENT, str(LATE_S), *(s.ip for s in self.servers)], stdout=f, stderr=subprocess.DEVNULL)

    def judge(self):
        """(questions that were judged, those that had to pass, that had to be denied, faults)"""
        n, good, bad, wrong = 0, 0, 0, []
        for c, path in enumerate(self.out):
            with open(path) as f:
                lines = [json.loads(x) for x in f if x.endswith("\n")]
            for a, b, s, what, passed in lines:
                v = self.possible(a, b)
                if not v:
                    continue
                n += 1
                may = any(x.out(c, s) for x in v) and any(x.into(c, s, what) for x in v)
                must = all(x.out(c, s) and x.into(c, s, what) for x in v)
                good += must
                bad += not may
                if passed and not may or must and not passed:
                    wrong.append((round(a, 3), round(b, 3), c, s, what, passed, [x.number for x in v]))
        return n, good, bad, wrong


def test_kill_amid_policy_changes():
    seed = SEED or random.randrange(1 << 30)
    print("SEED", seed)
    rnd = random.Random(seed)
    with Cluster("pkill", nodes=1) as c:
        w = World(c)
        w.write(Version(rnd, 0))
        c.start()
        w.settle()
        w.start()
        kills, number = 0, 0
        for _ in range(ROUNDS):
            for _ in range(rnd.randrange(1, 4)):
                number += 1
                w.write(Version(rnd, number))
                time.sleep(rnd.choice((0, 0.002, 0.005, 0.01, 0.03, 0.3)) * rnd.random())
            if rnd.random() < 0.8:
                c.n1.stop(signal.SIGKILL)
                kills += 1
                if rnd.random() < 0.3:  # changes while nobody is there
                    number += 1
                    w.write(Version(rnd, number))
                time.sleep(rnd.random() * 0.3)
                c.n1.start(wait=False)
                if rnd.random() < 0.4:  # and again while it starts
                    time.sleep(rnd.random() * 1.5)
                    c.n1.stop(signal.SIGKILL)
                    kills += 1
                    c.n1.start(wait=False)
            w.settle()
            time.sleep(0.3 + rnd.random() * 0.5)
        time.sleep(LATE_S + 0.5)
        n, good, bad, wrong = w.judge()
        print(f"{number} changes, {kills} kills, {n} questions: {good} had to pass, {bad} to be denied; {len(wrong)} were not")
        assert not wrong, (seed, wrong[:10], len(wrong))
        assert good > 500 and bad > 100 and kills > ROUNDS / 3, (seed, n, good, bad, kills)
