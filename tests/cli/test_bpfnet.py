#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the real build/bpfnet against a control server of our own, without a daemon and without root.

The last line is "N passed, N failed".
"""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import yaml

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BN_BUILD", os.path.join(ROOT, "build"))
BPFNET = os.path.join(BUILD, "bpfnet")
BPFNETD = os.path.join(BUILD, "bpfnetd")


class Daemon:
    """Answers each command with what `answers` says: data, an Error, or a function of the args."""

    def __init__(self, **answers):
        self.answers = {k.replace("__", "."): v for k, v in answers.items()}
        self.requests = []

    def __enter__(self):
        self.dir = tempfile.mkdtemp(prefix="cli-")
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(self.dir + "/control.sock")
        self.sock.listen(16)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *a):
        # First the thread, then the descriptor: its number is the next daemon's, and accept() of a thread
        # that was late would take that one's clients.
        self.sock.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.sock.close()
        shutil.rmtree(self.dir)

    def serve(self):
        while True:
            try:
                c, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.client, args=(c,), daemon=True).start()

    def client(self, c):
        try:
            for line in c.makefile("rb"):
                req = json.loads(line)
                self.requests.append(req)
                answer = self.answers.get(req["cmd"])
                if callable(answer):
                    answer = answer(req.get("args"))
                if isinstance(answer, bytes):  # as it is, and the end
                    c.sendall(answer)
                    break
                if isinstance(answer, Error):
                    out = {"ok": False, "error": answer.text, "errno": answer.errno}
                elif isinstance(answer, Stream):
                    c.sendall(b'{"ok":true,"stream":true}\n')
                    for o in answer.lines:
                        c.sendall(json.dumps(o).encode() + b"\n")
                        time.sleep(answer.pause)
                    break
                else:
                    out = {"ok": True, "data": answer}
                c.sendall(json.dumps(out).encode() + b"\n")
        except (OSError, ValueError):
            pass
        finally:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            c.close()

    def run(self, *args, **kw):
        return run("--run-dir", self.dir, *args, **kw)


class Error:
    def __init__(self, text, errno=22):
        self.text, self.errno = text, errno


class Stream:
    def __init__(self, *lines, pause=0):
        self.lines, self.pause = lines, pause


class Result:
    def __init__(self, p):
        self.rc, self.out, self.err = p.returncode, p.stdout, p.stderr

    def json(self):
        return json.loads(self.out)


def run(*args, stdin="", stdout=subprocess.PIPE, timeout=20):
    p = subprocess.run([BPFNET, *args], input=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True,
                       timeout=timeout)
    assert p.returncode in (0, 1, 2), f"bpfnet {args}: exit {p.returncode}: {p.stderr}"
    return Result(p)


def eq(got, want):
    assert got == want, f"got  {got!r}\nwant {want!r}"


def has(text, part):
    assert part in text, f"{part!r} is not in\n{text}"


def nowhere(*args):
    return run("--run-dir", "/nonexistent/cli-test", *args)


# --- the table ------------------------------------------------------------------------------------


def commands():
    """Every command as words, from the program's own help."""
    out, on = [], False
    for line in run("help").out.splitlines():
        if line.startswith("commands"):
            on = True
        elif not line.startswith("  "):
            on = False
        elif on:
            words = []
            for w in line[2:33].split():
                if not re.fullmatch(r"[a-z]+", w):
                    break
                words.append(w)
            out.append(words)
    return out


def options(words):
    out = set()
    for line in run("help", *words).out.splitlines():
        m = re.match(r"  (?:-(.), |    )--([a-z-]+)", line)
        if m:
            out.add(m.group(2))
    return out


GLOBAL = {"run-dir", "output", "help"}


def test_help():
    cmds = commands()
    for want in ("status", "check", "svc list", "svc show", "endpoint list", "policy list", "policy show",
                 "policy trace", "policy lint", "identity list", "ct list", "ct flush", "flows", "metrics",
                 "cleanup", "version", "completion", "help"):
        assert want.split() in cmds, f"no command '{want}'"
    for c in cmds:
        by_help, by_option = run("help", *c), run(*c, "--help")
        eq(by_help.rc, 0)
        eq(by_help.out, by_option.out)
        has(by_help.out, "usage: bpfnet " + " ".join(c))
        assert GLOBAL <= options(c)
    r = run()
    eq((r.rc, r.out), (2, ""))
    has(r.err, "usage: bpfnet")
    r = run("svc")
    eq((r.rc, r.out), (2, ""))
    has(r.err, "svc list")
    eq(run("-h").out, run("help").out)


def test_usage_errors():
    for args, text in (
        (["stat", "--outptu", "json"], "unknown option '--outptu'; did you mean '--output'?"),
        (["flows", "--dorp"], "did you mean '--drop'?"),
        (["flows", "--xyzzyx"], "unknown option '--xyzzyx'; see 'bpfnet help flows'"),
        (["statsu"], "unknown command 'statsu'; did you mean 'status'?"),
        (["svc", "lsit"], "unknown command 'lsit'; did you mean 'list'?"),
        (["qqqqqqqq"], "unknown command 'qqqqqqqq'; see 'bpfnet help'"),
        (["s"], "'s' is ambiguous: status svc"),
        ([""], "unknown command ''"),
        (["status", "-o", "xml"], "'xml' is not one of table|wide|json|yaml"),
        (["status", "-o", "table|wide"], "is not one of"),
        (["status", "-o", ""], "is not one of"),
        (["status", "-o"], "option '--output' wants FORMAT"),
        (["status", "--help=x"], "option '--help' takes no value"),
        (["status", "-x"], "unknown option '-x'"),
        (["status", "extra"], "usage: bpfnet status"),
        (["svc", "show"], "usage: bpfnet svc show NS/NAME"),
        (["svc", "show", "a", "b"], "usage: bpfnet svc show NS/NAME"),
        (["--drop", "flows"], "unknown option '--drop'"),
        (["help", "nothing"], "no help for 'nothing'"),
        (["completion", "fish"], "no completion for 'fish'"),
        (["flows", "--last", "x"], "'x' is not a number from 0 to"),
        (["ct", "list", "--addr", "1.2.3"], "'1.2.3' is not an address"),
        (["ct", "list", "--proto", "300"], "is not a number from 0 to 255"),
        (["ct", "list", "--addr", "::1", "--pod", "a/b"], "exclude each other"),
        (["ct", "flush"], "ct flush wants --all"),
        (["ct", "flush", "--all", "--port", "1"], "ct flush wants --all"),
        (["policy", "trace", "--from", "a/b"], "wants --from and --to"),
        (["policy", "trace", "--from", "a/b", "--to", "c/d"], "wants --port"),
        (["policy", "trace", "--from", "a/b", "--to", "c/d", "--port", "65536"], "0 to 65535"),
        (["policy", "trace", "--from", "a/b", "--to", "c/d", "--port", "1", "--proto", "x"], "'x' is not"),
        (["policy", "trace", "--from", "a/b", "--to", "c/d", "--port", "1", "--http", "GET"], "METHOD TARGET"),
        (["policy", "trace", "--from", "a/b", "--to", "c/d", "--port", "1", "--host", "h"], "belong to --http"),
    ):
        r = run(*args)
        assert r.rc == 2, f"{args}: exit {r.rc}"
        eq(r.out, "")
        has(r.err, text)
        assert r.err.startswith("bpfnet: ")


def test_option_forms():
    status = {"ready": True, "sources": [], "version": "x", "kernel": "k", "features": {}}
    with Daemon(status=status) as d:
        for args in (["-o", "json", "status"], ["status", "-o", "json"], ["-ojson", "status"],
                     ["status", "-o=json"], ["--output", "json", "status"], ["status", "--output=json"],
                     ["-o", "yaml", "status", "-o", "json"], ["sta", "-ojson"], ["status", "-ojson", "--"]):
            r = d.run(*args)
            eq((r.rc, r.err), (0, ""))
            eq(r.json(), status)
        r = run("status", "--run-dir", d.dir, "-ojson")
        eq(r.json(), status)
        r = run("status", "--run-dir=" + d.dir, "-ojson")
        eq(r.json(), status)


# --- commands -------------------------------------------------------------------------------------


def test_status():
    s = {"ready": False, "sources": [
        {"name": "services", "synced": True, "ageSeconds": 1.25, "error": None},
        {"name": "endpointslices", "synced": False, "ageSeconds": None,
         "error": "endpointslices: list forbidden (403)"}],
        "version": "0.1.0", "kernel": "6.1.0", "features": {"tcx": True},
        "rejected": [{"kind": "Service", "namespace": "a", "name": "b", "origin": "x.yaml:3",
                      "field": "spec.ports[0].port", "message": "is no number", "inForce": "nothing"}]}
    with Daemon(status=s) as d:
        r = d.run("status")
        eq(r.rc, 1)
        for part in ("ready              no", "services", "1.25", "list forbidden (403)", "x.yaml:3",
                     "spec.ports[0].port"):
            has(r.out, part)
        assert "tcx" not in r.out
        has(d.run("status", "-o", "wide").out, "tcx=yes")
        r = d.run("status", "-o", "json")
        eq((r.rc, r.json()), (1, s))
        has(d.run("status", "-o", "yaml").out, "ready: false\n")
        d.answers["status"] = dict(s, ready=True)
        eq(d.run("status").rc, 0)
        d.answers["status"] = dict(s, ready="yes")  # only true is true
        eq(d.run("status").rc, 1)
    for fmt in ("table", "json"):
        r = nowhere("status", "-o", fmt)
        eq(r.rc, 1)
        has(r.err, "no daemon listens at /nonexistent/cli-test/control.sock")
    o = r.json()
    eq(o["ready"], False)
    eq(o["sources"], [])
    eq(o["features"], {})
    assert o["version"] and o["kernel"]


SVCS = [
    {"namespace": "shop", "name": "web", "type": "NodePort", "frontends": [
        {"kind": "ClusterIP", "address": "10.96.0.1", "port": 80, "protocol": "TCP", "backends": [
            {"address": f"10.0.0.{i}", "port": 8080, "state": "active", "local": i == 1} for i in range(6)]},
        {"kind": "NodePort", "address": "0.0.0.0", "port": 30080, "protocol": "TCP", "backends": []}]},
    {"namespace": "dns", "name": "dns", "type": "ClusterIP", "frontends": [
        {"kind": "ClusterIP", "address": "fd00::a", "port": 53, "protocol": "UDP", "backends": [
            {"address": "2001:db8::1", "port": 53, "state": "terminating", "local": False}]}]},
]


def test_svc_list():
    with Daemon(svc__list=SVCS) as d:
        r = d.run("svc", "list")
        eq((r.rc, r.err), (0, ""))
        lines = r.out.splitlines()
        eq(len(lines), 4)
        eq(lines[0].split(), "NAMESPACE NAME KIND ADDRESS PORT PROTOCOL ACTIVE BACKENDS".split())
        eq(lines[1].split(), ["shop", "web", "ClusterIP", "10.96.0.1", "80", "TCP", "6",
                              "10.0.0.0:8080,10.0.0.1:8080,10.0.0.2:8080,10.0.0.3:8080,+2"])
        eq(lines[2].split(), ["shop", "web", "NodePort", "0.0.0.0", "30080", "TCP", "0", "-"])
        has(lines[3], "[2001:db8::1]:53 (terminating)")
        has(d.run("svc", "list", "-o", "wide").out, "10.0.0.5:8080")
        eq(d.run("svc", "list", "-o", "json").json(), SVCS)
        eq(d.run("svc", "list", "-n", "dns", "-o", "json").json(), SVCS[1:])
        eq(d.run("svc", "list", "-n", "none", "-o", "json").json(), [])
        r = d.run("svc", "list", "-n", "none")
        eq((r.rc, r.out, r.err), (0, "", "bpfnet: nothing to show\n"))
        d.answers["svc.list"] = Error("not read in full yet", 11)
        r = d.run("svc", "list")
        eq((r.rc, r.out, r.err), (2, "", "bpfnet: not read in full yet\n"))
    r = nowhere("svc", "list", "--bpffs", "/nonexistent/cli-bpffs")
    eq((r.rc, r.out), (2, ""))
    has(r.err, "reading the pinned maps")
    has(r.err, "nothing is pinned at /nonexistent/cli-bpffs")


def test_svc_show():
    with Daemon(svc__show=dict(SVCS[0], affinity="None")) as d:
        r = d.run("svc", "show", "shop/web")
        eq(r.rc, 0)
        has(r.out, "affinity                   None")
        has(r.out, "10.0.0.5")
        eq(d.requests[-1]["args"], {"namespace": "shop", "name": "web"})
        eq(d.run("svc", "show", "shop/web", "-o", "json").json()["name"], "web")
        d.answers["svc.show"] = Error("no service shop/none is in force", 2)
        r = d.run("svc", "show", "shop/none")
        eq((r.rc, r.err), (1, "bpfnet: no service shop/none is in force\n"))
        for bad in ("web", "/web", "shop/", "a/b/c", "/"):
            r = d.run("svc", "show", bad)
            eq(r.rc, 2)
            has(r.err, "is not NAMESPACE/NAME")


def test_lists():
    rows = [{"namespace": "a", "name": "x", "interface": "veth1", "addresses": ["10.0.0.1", "fd00::1"],
             "ingress": "isolated", "egress": "open", "directions": ["ingress"], "message": "selects no pod"},
            {"namespace": "b", "name": "y"}]
    for cmd, words in (("endpoint.list", ["endpoint", "list"]), ("policy.list", ["policy", "list"]),
                       ("policy.lint", ["policy", "lint"]), ("identity.list", ["identity", "list"])):
        with Daemon(**{cmd.replace(".", "__"): rows}) as d:
            for fmt in ("table", "wide", "json", "yaml"):
                r = d.run(*words, "-o", fmt)
                eq((r.rc, r.err), (0, ""))
            eq(d.run(*words, "-o", "json").json(), rows)
            if "namespace" in options(words):
                eq(d.run(*words, "-n", "b", "-o", "json").json(), rows[1:])
        r = nowhere(*words)
        eq((r.rc, r.out), (2, ""))
        has(r.err, "no daemon listens")
    with Daemon(endpoint__list=rows) as d:
        has(d.run("endpoint", "list").out, "10.0.0.1,fd00::1")
    with Daemon(policy__show={"rules": [{"index": 0}]}) as d:
        eq(d.run("policy", "show", "a/b").out, "rules:\n- index: 0\n")
        eq(d.run("policy", "show", "a/b", "-ojson").json(), {"rules": [{"index": 0}]})


FLOW = {"time": "2026-11-23T02:48:50.123Z", "verdict": "denied", "reason": "POLICY_INGRESS",
        "direction": "ingress", "source": "10.0.0.1", "destination": "10.0.0.2", "sourcePod": "a/x",
        "destinationPod": None, "protocol": "TCP", "destinationPort": 80, "policy": "no rule matched",
        "http": {"method": "GET", "path": "/a", "host": "h\x1b[2J"}}


def test_flows():
    with Daemon(flows=Stream(FLOW, dict(FLOW, http=None, lost=7))) as d:
        r = d.run("flows", "--no-follow")
        eq((r.rc, r.err), (0, ""))
        eq(r.out, "02:48:50.123 denied   ingress  a/x -> 10.0.0.2:80 TCP  POLICY_INGRESS no rule matched"
                  "  GET h?[2J/a\n"
                  "... 7 flows were not shown: too many at once\n"
                  "02:48:50.123 denied   ingress  a/x -> 10.0.0.2:80 TCP  POLICY_INGRESS no rule matched\n")
        eq(d.requests[-1]["args"], {"drop": False, "follow": False})
        r = d.run("flows", "--drop", "--pod", "a/x", "--last", "3", "-o", "json")
        eq([json.loads(x) for x in r.out.splitlines()][0], FLOW)
        eq(d.requests[-1]["args"], {"drop": True, "follow": False, "pod": "a/x", "last": 3})
        eq((r.rc, r.err), (0, ""))
        r = d.run("flows", "--pod", "x")
        eq((r.rc, r.err), (2, "bpfnet: 'x' is not NAMESPACE/NAME\n"))
        d.answers["flows"] = Stream(*(dict(FLOW, http=None, protocol=p, destination="fd00::2") for p in ("UDP", "ICMPV6")))
        r = d.run("flows", "--no-follow")
        eq([x.split("-> ")[1].split("  ")[0] for x in r.out.splitlines()], ["[fd00::2]:80 UDP", "fd00::2 ICMPV6"])
        svc = dict(FLOW, http=None, destinationService="a/s")
        d.answers["flows"] = Stream(svc, dict(svc, destinationPod="a/y"))
        eq([x.split("-> ")[1].split("  ")[0] for x in d.run("flows", "--no-follow").out.splitlines()],
           ["10.0.0.2:80 (a/s) TCP", "a/y (a/s 10.0.0.2:80) TCP"])
        for args, last in (([], {}), (["--last", "3", "-f"], {"last": 3})):
            r = d.run("flows", *args)
            eq(d.requests[-1]["args"], {"drop": False, "follow": True, **last})
            eq((r.rc, r.err), (2, "bpfnet: the daemon has ended\n"))
        d.answers["flows"] = Stream()
        eq((d.run("flows", "--last", "1").err, d.run("flows", "--last", "1", "-o", "json").err), ("bpfnet: nothing to show\n", ""))
        d.answers["flows"] = Error("too many subscribers")
        eq(d.run("flows").rc, 2)


def test_flows_are_not_held_back():
    with Daemon(flows=Stream(FLOW, FLOW, pause=30)) as d:
        p = subprocess.Popen([BPFNET, "--run-dir", d.dir, "flows", "-o", "json"], stdout=subprocess.PIPE)
        try:
            eq(json.loads(p.stdout.readline()), FLOW)
        finally:
            p.terminate()
            p.wait()
            p.stdout.close()


def test_metrics_and_version():
    text = "# HELP a b\n# TYPE a counter\na 1\n"
    with Daemon(metrics=text, status={"ready": True, "version": "9.9"}) as d:
        eq(d.run("metrics").out, text)
        has(d.run("version").out, "9.9")
        eq(d.run("version", "-o", "json").json()["bpfnetd"], "9.9")
        d.answers["metrics"] = 'a_total{r="x\\"y",s=""} 3\nb 0.5\nc{le="+Inf"} +Inf\nnot a sample\n'
        eq(d.run("metrics", "-o", "json").json(), [
            {"name": "a_total", "labels": {"r": 'x"y', "s": ""}, "value": 3}, {"name": "b", "labels": {}, "value": 0.5},
            {"name": "c", "labels": {"le": "+Inf"}, "value": "+Inf"}])
    r = nowhere("version", "-o", "json")
    eq((r.rc, r.json()["bpfnetd"]), (0, None))
    eq(nowhere("--version").out, nowhere("version").out)
    eq(nowhere("metrics").rc, 2)


TRACE = {"verdict": "allow", "from": {}, "to": {}, "protocol": "TCP", "port": 80, "reason": "r",
         "egress": {"verdict": "allow"}, "ingress": {"verdict": "allow"}, "service": None}


def test_trace_by_daemon():
    q = ["policy", "trace", "--from", "a/x", "--to", "b/svc:y", "--port", "80"]
    with Daemon(policy__trace=TRACE) as d:
        r = d.run(*q, "-o", "json")
        eq((r.rc, r.json()), (0, TRACE))
        eq(d.requests[-1]["args"], {"from": "a/x", "to": "b/svc:y", "proto": "TCP", "port": 80,
                                    "verify": False, "headers": []})
        d.run(*q, "--proto", "udp", "--verify", "--http", "GET /p q", "--host", "h", "--header", "A: 1",
              "--header", "B: 2")
        eq(d.requests[-1]["args"], {"from": "a/x", "to": "b/svc:y", "proto": "UDP", "port": 80,
                                    "verify": True, "http": "GET /p q", "host": "h",
                                    "headers": ["A: 1", "B: 2"]})
        d.answers["policy.trace"] = dict(TRACE, verdict="deny")
        eq(d.run(*q).rc, 1)
        d.answers["policy.trace"] = Error("pod a/x is not known")
        r = d.run(*q)
        eq((r.rc, r.out, r.err), (2, "", "bpfnet: pod a/x is not known\n"))
        r = d.run(*q, "-o", "json")
        eq((r.rc, r.json()), (2, {"error": "pod a/x is not known"}))
        d.answers["policy.trace"] = lambda a: TRACE if a["port"] == 1 else Error("no")
        batch = 'a/x b/y tcp 1\n\n# note\na/x b/y tcp 2\nnonsense\na/x b/y tcp 1 GET /z host=h\n'
        r = d.run("policy", "trace", "--batch", "-", stdin=batch)
        eq(r.rc, 0)
        out = [json.loads(x) for x in r.out.splitlines()]
        eq(len(out), 4)
        eq((out[0], out[1], out[3]), (TRACE, {"error": "no"}, TRACE))
        assert list(out[2]) == ["error"]
        eq(d.requests[-1]["args"]["http"], "GET /z")
    r = nowhere(*q)
    eq(r.rc, 2)
    has(r.err, "--manifests needs none")


MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: n1}
status: {phase: Running, podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n2}
status: {phase: Running, podIPs: [{ip: 10.0.1.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 5432}]}]
"""


def test_trace_offline():
    with tempfile.TemporaryDirectory(prefix="cli-") as dir:
        with open(dir + "/a.yaml", "w") as f:
            f.write(MANIFESTS)
        with open(dir + "/b.yaml", "w") as f:
            f.write("kind: Service\napiVersion: v1\nmetadata: {name: '-'}\n")
        q = ["policy", "trace", "--manifests", dir, "--from", "shop/web", "--to"]
        r = nowhere(*q, "shop/db", "--port", "5432", "-o", "json")
        eq((r.rc, r.json()["verdict"]), (0, "allow"))
        has(r.err, "b.yaml")  # what was refused is said
        r = nowhere(*q, "shop/db", "--port", "80")
        eq(r.rc, 1)
        has(r.out, "deny")
        eq(nowhere(*q, "shop/nobody", "--port", "80").rc, 2)
        for port, verdict in ((5432, "allow"), (80, "deny")):  # the kernel agrees; as root
            o = nowhere(*q, "shop/db", "--port", str(port), "--verify", "-o", "json").json()
            eq((o["verdict"], o["ingress"]["kernel"]["verdict"]), (verdict, verdict))
        path = dir + "/queries"
        with open(path, "w") as f:
            f.write("shop/web shop/db tcp 5432\nshop/web shop/db udp 5432")
        r = nowhere("policy", "trace", "--manifests", dir, "--batch", path)
        eq(r.rc, 0)
        eq([json.loads(x)["verdict"] for x in r.out.splitlines()], ["allow", "deny"])
        eq(nowhere("policy", "trace", "--manifests", dir, "--batch", dir + "/none").rc, 2)
    eq(nowhere(*q, "shop/db", "--port", "1").rc, 2)


TWO_FAMILIES = """
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: shop, labels: {app: %s}}
spec: {nodeName: n1, containers: [{name: c, image: i}]}
status: {phase: Running, podIP: "10.0.0.%d", podIPs: [{ip: "10.0.0.%d"}, {ip: "fd00::%d"}]}
---
"""


def test_trace_both_families():
    """A pod's two addresses may be judged differently: the first one decides, the other is told."""
    with tempfile.TemporaryDirectory(prefix="cli-") as dir:
        with open(dir + "/a.yaml", "w") as f:
            f.write("".join(TWO_FAMILIES % (n, n, i, i, i) for n, i in (("web", 1), ("db", 2))) + """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: v4, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}
""")
        q = ["policy", "trace", "--manifests", dir, "--from", "shop/web", "--to", "shop/db", "--port", "80"]
        r = nowhere(*q, "--verify", "-o", "json")
        o = r.json()
        eq((r.rc, o["verdict"], o["kernel"]), (0, "allow", {"verdict": "allow", "agrees": True}))
        other = o["otherFamily"]
        eq((other["verdict"], other["to"]["address"], other["kernel"]),
           ("deny", "fd00::2", {"verdict": "deny", "agrees": True}))
        has(nowhere(*q).out, "but by the other family: deny")
        r = nowhere(*q[:-4], "--to", "fd00::2", "--port", "80", "-o", "json")
        eq((r.rc, r.json()["verdict"], "otherFamily" in r.json()), (1, "deny", False))


def test_bad_daemon():
    for answer in (b"garbage\n", b"", b"{\n", b'{"ok":true', b'{"ok":false}\n', b'[1]\n', b'{"ok":"true"}\n',
                   b"\xff\xfe\n"):
        with Daemon(svc__list=answer, status=answer) as d:
            r = d.run("svc", "list")
            eq((r.rc, r.out), (2, ""))
            assert r.err.startswith("bpfnet: ") and len(r.err.splitlines()) == 1, r.err
            r = d.run("status", "-o", "json")
            eq((r.rc, r.json()["ready"]), (1, False))
    dir = tempfile.mkdtemp(prefix="cli-")
    s = socket.socket(socket.AF_UNIX)  # bound, nobody listens
    s.bind(dir + "/control.sock")
    r = run("--run-dir", dir, "metrics")
    eq(r.rc, 2)
    has(r.err, "no daemon listens")
    s.close()
    shutil.rmtree(dir)
    r = run("--run-dir", "/tmp/" + "x" * 200, "metrics")
    eq(r.rc, 2)
    has(r.err, "too long for a socket path")


def test_full_disk():
    with Daemon(svc__list=SVCS, metrics="x 1\n") as d, open("/dev/full", "w") as full:
        for args in (["svc", "list"], ["svc", "list", "-ojson"], ["svc", "list", "-oyaml"], ["metrics"]):
            r = d.run(*args, stdout=full)
            eq(r.rc, 2)
            has(r.err, "cannot write the output")


def test_large_list():
    svcs = [dict(SVCS[0], name=f"s{i}") for i in range(5000)]
    with Daemon(svc__list=svcs) as d:
        eq(d.run("svc", "list", "-ojson").json(), svcs)
        eq(len(d.run("svc", "list").out.splitlines()), 10001)


def test_ct_without_pins():
    for args in (["ct", "list"], ["ct", "flush", "--all"]):
        r = run(*args, "--bpffs", "/nonexistent/cli")
        eq((r.rc, r.out), (2, ""))
        has(r.err, "nothing is pinned at /nonexistent/cli")


KUBE_PROXY = """set -e
for t in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do
    $t -t nat -N KUBE-SERVICES; $t -t nat -N KUBE-SVC-ABC; $t -t nat -N KUBE-SEP-1
    $t -t nat -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
    $t -t nat -A KUBE-SERVICES -p tcp -m comment --comment 'a/b "x" IP' --dport 80 -j KUBE-SVC-ABC
    $t -t nat -A KUBE-SVC-ABC -m statistic --mode random --probability 0.5 -j KUBE-SEP-1
    $t -N KUBE-FORWARD; $t -A FORWARD -j KUBE-FORWARD
    $t -N KUBE-FIREWALL; $t -A INPUT -j KUBE-FIREWALL
    $t -A INPUT -p tcp --dport 22 -m comment --comment "mine -j KUBE-FORWARD" -j ACCEPT
done
nft add table ip kube-proxy; nft add chain ip kube-proxy services; nft add table ip6 kube-proxy
nft add table ip mine
"""


def test_kube_proxy_cleanup():
    """In a network namespace that dies with its only process; as root."""
    script = KUBE_PROXY + f"""
    {BPFNET} cleanup --kube-proxy; echo "exit $?"
    for t in iptables-legacy ip6tables-legacy iptables-nft ip6tables-nft; do $t-save; done
    nft list tables
    {BPFNET} cleanup --kube-proxy; echo "exit $?"
    """
    p = subprocess.run(["unshare", "-n", "bash", "-c", script], capture_output=True, text=True, timeout=60)
    eq(p.returncode, 0)
    head, rest = p.stdout.split("exit 0\n", 1)
    eq(len(head.splitlines()), 6)
    has(head, "ip6tables-legacy-save: 4 chains of kube-proxy")
    has(head, "nftables: table ip6 kube-proxy")
    for gone in ("KUBE-S", "-A FORWARD", "table ip kube-proxy", "table ip6 kube-proxy"):
        assert gone not in rest, rest
    eq(rest.count("-A INPUT -j KUBE-FIREWALL\n"), 4)
    eq(rest.count('--comment "mine -j KUBE-FORWARD" -j ACCEPT\n'), 4)
    has(rest, "table ip mine")
    assert rest.endswith("nothing was there\nexit 0\n")


def test_cleanup_of_nothing():
    r = run("cleanup", "--run-dir", "/nonexistent/cli", "--bpffs", "/sys/fs/bpf/cli-none")
    eq((r.rc, r.out), (0, "nothing was there\n"))
    r = run("cleanup", "--run-dir", "/nonexistent/cli")  # which directory of pins was meant is not known
    eq(r.rc, 2)
    has(r.err, "no record")


# --- the HTTPNetworkPolicy resource ---------------------------------------------------------------


def schema_nodes(schema, path=()):
    """Every object of a schema that names its properties, with where it is."""
    if schema.get("type") == "array":
        yield from schema_nodes(schema["items"], path + (0,))
    elif "properties" in schema:
        yield path, schema
        for k, v in schema["properties"].items():
            yield from schema_nodes(v, path + (k,))


def sample(schema, name=""):
    """An object with everything that the schema knows."""
    if "properties" in schema:
        return {k: sample(v, k) for k, v in schema["properties"].items()}
    if schema.get("type") == "array":
        return [sample(schema["items"], name)]
    if "additionalProperties" in schema:
        return {"app": "web"}
    return {"operator": "In", "cidr": "10.0.0.0/8", "except": "10.1.0.0/16", "protocol": "TCP", "port": 80, "endPort": 90,
            "path": "/", "type": "Exact", "value": "/v1", "method": "GET", "hostnames": "*.example.org",
            "policyTypes": "Egress"}.get(name, "name")


def test_http_resource():
    """The schema of deploy/crds knows what the parser knows, prunes nothing, and what it does not know is refused."""
    crd = yaml.safe_load(source("deploy/crds/httpnetworkpolicies.yaml"))
    top = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    keys = {"type", "description", "properties", "required", "items", "enum", "default", "minLength", "maxLength", "maxItems", "minimum",
            "maximum", "format", "additionalProperties"}

    def check(s):
        strange = [k for k in s if k not in keys and not k.startswith("x-kubernetes-")]
        assert not strange, strange  # an unquoted comma makes a key of a sentence
        for v in list(s.get("properties", {}).values()) + ([s["items"]] if "items" in s else []):
            check(v)
    check(top)
    spec = top["properties"]["spec"]
    nodes = list(schema_nodes(spec))
    assert len(nodes) > 20
    for path, node in nodes:
        assert node.get("x-kubernetes-preserve-unknown-fields"), f"{path}: fields that are not known would be pruned"
    good = sample(spec)
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        peer = good[direction][0][peers][0]
        block = peer.pop("ipBlock")
        good[direction][0][peers].append({"ipBlock": block})

    def said(spec):
        with tempfile.TemporaryDirectory(prefix="cli-") as dir:
            with open(f"{dir}/p.json", "w") as f:
                json.dump({"apiVersion": "bpfnet.io/v1alpha1", "kind": "HTTPNetworkPolicy", "metadata": {"name": "p"}, "spec": spec}, f)
            return run("policy", "trace", "--manifests", dir, "--from", "10.0.0.1", "--to", "10.0.0.2", "--port", "1").err
    eq(said(good), "")
    for path, _ in nodes:
        bad = json.loads(json.dumps(good))
        at = up = bad
        for k in path:
            if k == "ipBlock":  # a peer of its own
                at = up[1]
            up, at = at, at[k]
        at["nonsense"] = 1
        has(said(bad), "nonsense")


def test_http_questions():
    """A request that could not be sent as it is asked is an error that names the part, not a denial for something else."""
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": n, "namespace": "a"}, "spec": {"nodeName": "n", "containers": []},
             "status": {"phase": "Running", "podIPs": [{"ip": ip}]}} for n, ip in (("x", "10.0.0.1"), ("y", "10.0.0.2"))]
    policy = {"apiVersion": "bpfnet.io/v1alpha1", "kind": "HTTPNetworkPolicy", "metadata": {"name": "p", "namespace": "a"},
              "spec": {"podSelector": {}, "ingress": [{"http": [{"hostnames": ["api.shop"]}]}]}}
    with tempfile.TemporaryDirectory(prefix="cli-") as dir:
        with open(f"{dir}/all.json", "w") as f:
            json.dump({"apiVersion": "v1", "kind": "List", "items": pods + [policy]}, f)

        def ask(*args):
            return run("policy", "trace", "--manifests", dir, "--from", "a/x", "--to", "a/y", "--port", "80", "--http", *args)
        eq(ask("GET /", "--host", "api.shop").rc, 0)
        eq(ask("GET /", "--header", "Host: api.shop").rc, 0)
        eq(ask("GET /", "--header", "host: other").rc, 1)
        eq(ask("GET /", "--host", "api.shop", "--header", "Host: api.shop").rc, 1)  # two of them, as asked for
        for args, words in ((("GET /", "--header", "X-Team checkout"), "header 'X-Team checkout' is not 'Name: value'"),
                            (("GET /", "--header", "A: b\r\nC: d"), "is not 'Name: value'"),
                            (("GET /\r\nX: y",), "line break in the request's target"),
                            (("GET /", "--host", "a\nb"), "line break in the request's host"),
                            (("GET /", "--proto", "udp"), "goes by TCP")):
            r = ask(*args)
            eq(r.rc, 2)
            has(r.err, words)


# --- completion and manual ------------------------------------------------------------------------


def complete(script, words):
    """What bash would offer for the last word."""
    code = (f'source {script}; COMP_WORDS=({" ".join("%r" % w for w in words)}); '
            f'COMP_CWORD={len(words) - 1}; _bpfnet; printf "%s\\n" "${{COMPREPLY[@]}}"')
    return subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_completion():
    with tempfile.TemporaryDirectory(prefix="cli-") as dir:
        for shell in ("bash", "zsh"):
            path = f"{dir}/{shell}"
            with open(path, "w") as f:
                f.write(run("completion", shell).out)
            p = subprocess.run([shell, "-n", path], capture_output=True, text=True)
            eq((p.returncode, p.stderr), (0, ""))
        bash = dir + "/bash"
        eq(complete(bash, ["bpfnet", "st"]), ["status"])
        eq(sorted(complete(bash, ["bpfnet", "svc", ""])), ["list", "show"])
        eq(complete(bash, ["bpfnet", "policy", "trace", "--ba"]), ["--batch"])
        eq(complete(bash, ["bpfnet", "status", "-o", "j"]), ["json"])
        eq(complete(bash, ["bpfnet", "-o", "json", "svc", "l"]), ["list"])
        eq(complete(bash, ["bpfnet", "--run-dir", "/tmp", "end"]), ["endpoint"])
        eq(complete(bash, ["bpfnet", "completion", ""]), ["bash", "zsh"])
        eq(complete(bash, ["bpfnet", "svc", "list", "-n", "shop", "--bp"]), ["--bpffs"])
        # names of what is there; one that the shell would run is not among them
        rows = [{"namespace": "shop", "name": n, "frontends": [{"backends": []}]} for n in ("web", "db", "$(id)")]
        with Daemon(svc__list=rows, endpoint__list=rows) as d:
            cmd = [BPFNET, "--run-dir", d.dir]
            eq(complete(bash, [*cmd, "svc", "show", "shop/"]), ["shop/db", "shop/web"])
            eq(complete(bash, [*cmd, "policy", "trace", "--from", "shop/w"]), ["shop/web"])
            script = (f"compadd() {{ print -rl -- \"$@\" }}; _arguments() {{ : }}; _describe() {{ : }}; words=({' '.join(cmd)} svc show ''); "
                      f"CURRENT=6; source {dir}/zsh; dir=(--run-dir {d.dir}); _bpfnet_names svc")
            has(subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True).stdout, "shop/db\nshop/web\n")
        for c in commands():
            eq(set(complete(bash, ["bpfnet", *c, "--"])), {"--" + o for o in options(c)})
        # the zsh function is defined and knows each command
        code = (f"_arguments() {{ print -rl -- \"$@\" }}; _describe() {{ print -rl -- $list }}; "
                f"source {dir}/zsh")
        for c in commands():
            script = f"words=(bpfnet {' '.join(c)} ''); CURRENT={len(c) + 2}; {code}"
            p = subprocess.run(["zsh", "-f", "-c", script], capture_output=True, text=True)
            for o in options(c):
                has(p.stdout, "--" + o)


def man(page):
    path = os.path.join(ROOT, "docs/man", page)
    p = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True)
    eq(p.stdout + p.stderr, "")
    with open(path) as f:
        return f.read()


def test_man_bpfnet():
    """Each command and each of its options is on the page, and nothing else is."""
    sections, current = {}, None
    for line in man("bpfnet.1").splitlines():
        m = re.match(r"\.It Cm ([a-z]+(?: [a-z]+)?)", line)
        if m:
            current = tuple(m.group(1).split())
            sections[current] = set()
        elif line.startswith((".It Fl", ".Fl Fl")):
            for o in re.findall(r"Fl Fl ([a-z-]+)", line):
                sections.setdefault(current or (), set()).add(o)
    on_page = {c for c in sections if c}
    in_table = {tuple(c) for c in commands()}
    eq(on_page, in_table)
    eq(sections[()], GLOBAL)
    for c in in_table:
        eq((c, sections[c]), (c, options(c) - GLOBAL))


def test_man_bpfnetd():
    page = set(re.findall(r"^\.It Fl Fl ([a-z-]+)", man("bpfnetd.8"), re.M))
    p = subprocess.run([BPFNETD, "--help"], capture_output=True, text=True)
    eq(p.returncode, 0)
    eq(page, set(re.findall(r"^  --([a-z-]+)", p.stdout, re.M)))


# --- pages that lists in the sources have -------------------------------------------------------------


def source(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def test_doc_of_drops():
    """Every reason, in the order of the numbers, with the header's own words."""
    header = re.findall(r'^\tX\((\w+),\s+"([^"]*)"\)', source("maps/drop.h"), re.M)
    page = re.findall(r"^\| ([A-Z0-9_]+) \| ([^|]*) \|", source("docs/drops.md"), re.M)
    assert len(header) > 20
    eq(page, header)


def test_doc_of_request_reasons():
    text = source("maps/http.h").replace("\\\n", " ")
    items = re.findall(r'X\((\w+),\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\)', text[text.index("BN_HTTP_LIST"):])
    want = [(name, "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', s)).replace("\\\\", "\\")) for name, s in items]
    page = re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]*) \|", source("docs/drops.md"), re.M)
    assert len(want) > 20
    eq(page, want)


def test_doc_of_metrics():
    have = set()
    for dir, _, names in os.walk(os.path.join(ROOT, "loader")):
        for name in names:
            if name.endswith(".c"):
                text = source(os.path.join(dir, name)).replace('{ P "', '"kubeproxy_sync_proxy_rules_')
                have |= set(re.findall(r'"((?:bpfnet|kubeproxy|rest_client|kubernetes|process)_[a-z0-9_]+)"',
                                       text))
    have.discard("kubeproxy_sync_proxy_rules_")
    assert len(have) > 60, have
    page = set(re.findall(r"\b((?:bpfnet|kubeproxy|rest_client|kubernetes|process)_[a-z0-9_]+)\b",
                          source("docs/METRICS.md")))
    eq(sorted(have - page), [])
    eq(sorted(page - have), [])


def test_dashboard_and_alerts():
    """What they ask for exists; the rules and every expression of the dashboard parse."""
    known = set(re.findall(r"\b((?:bpfnet|kubeproxy|rest_client|process)_[a-z0-9_]+)\b",
                           source("docs/METRICS.md")))
    exprs = [t["expr"] for p in json.loads(source("deploy/grafana/bpfnet.json"))["panels"]
             for t in p["targets"]]
    assert len(exprs) > 20
    for e in exprs + [source("deploy/grafana/alerts.yaml")]:
        for name in re.findall(r"\b((?:bpfnet|kubeproxy|rest_client|process)_[a-z0-9_]+)\b", e):
            assert re.sub(r"_(bucket|count|sum)$", "", name) in known, name
    rules = {"groups": [{"name": "d", "rules": [
        {"record": f"r{i}", "expr": e.replace("$__rate_interval", "5m").replace("$node", ".*")
            .replace("$job", ".*")} for i, e in enumerate(exprs)]}]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        json.dump(rules, f)  # JSON is YAML
        f.flush()
        for path in (f.name, os.path.join(ROOT, "deploy/grafana/alerts.yaml")):
            p = subprocess.run(["promtool", "check", "rules", path], capture_output=True, text=True)
            assert p.returncode == 0, p.stdout + p.stderr


def test_alert_of_one_node():
    """A daemon that is scraped no more is told by its instance, others are not; drops for want of room by reason."""
    def fires(alert, text, at, **labels):
        return {"eval_time": at, "alertname": alert, "exp_alerts": [
            {"exp_labels": labels, "exp_annotations": {"summary": text}}] if labels else []}
    down = "bpfnetd of b is not scraped any more. What is in force stays, changes do not come in."
    room = "a drops for want of room (NAT_PORTS): bpfnet status says what to do."
    test = {"rule_files": [os.path.join(ROOT, "deploy/grafana/alerts.yaml")], "evaluation_interval": "1m", "tests": [{
        "interval": "1m",
        "input_series": [{"series": f'bpfnet_build_info{{instance="{n}"}}', "values": v} for n, v in (("a", "1x60"), ("b", "1x20"))]
        + [{"series": 'bpfnet_drops_total{instance="a",reason="NAT_PORTS"}', "values": "0+10x60"}],
        "alert_rule_test": [fires("BpfnetNodeDown", down, "15m"), fires("BpfnetNodeDown", down, "40m", instance="b"),
                            fires("BpfnetNoRoom", room, "40m", instance="a", reason="NAT_PORTS")]}]}
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
        json.dump(test, f)
        f.flush()
        p = subprocess.run(["promtool", "test", "rules", f.name], capture_output=True, text=True)
        assert p.returncode == 0, p.stdout + p.stderr


def main():
    passed = failed = 0
    only = sys.argv[1:]
    for name, fn in sorted(globals().items()):
        if not name.startswith("test_") or (only and name not in only):
            continue
        try:
            fn()
            passed += 1
        except Exception:
            failed += 1
            print(f"--- {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{passed} passed, {failed} failed")
    return failed > 0


sys.exit(main())
