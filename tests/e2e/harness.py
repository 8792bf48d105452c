# SPDX-License-Identifier: MIT
"""Clusters of network namespaces for end-to-end tests, the demo and the benchmark.

A cluster has nodes (one namespace each, joined by a bridge in a namespace of its own), pods (one
namespace each, on a routed veth as Calico's or on a bridge as Flannel's), outside clients, and one
directory of manifests that the bpfnetd of every node reads. Sockets are made inside any pod from
this process (setns and a move of cgroup), so that a check costs no process.

Everything is named after the cluster's prefix and goes away with Cluster.close(), whatever failed.
"""
import atexit
import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import leftover

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("BN_BUILD", os.path.join(ROOT, "build"))
CGROUP2 = None
_libc = ctypes.CDLL("libc.so.6", use_errno=True)
CLONE_NEWNET = 0x40000000


def cgroup2_root():
    global CGROUP2
    if CGROUP2 is None:
        with open("/proc/mounts") as f:
            for line in f:
                dev, where, kind = line.split()[:3]
                if kind == "cgroup2":
                    CGROUP2 = where
                    break
        if CGROUP2 is None:
            raise RuntimeError("no cgroup2 mount: mount -t cgroup2 none /sys/fs/cgroup/unified")
    return CGROUP2


def sh(cmd, check=True, timeout=60, **kw):
    p = subprocess.run(cmd, shell=isinstance(cmd, str), capture_output=True, text=True,
                       timeout=timeout, **kw)
    if check and p.returncode:
        raise RuntimeError(f"{cmd}: exit {p.returncode}\n{p.stdout}{p.stderr}")
    return p


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _ip_batch(ns, lines):
    text = "\n".join(lines) + "\n"
    p = subprocess.run(["ip", "-netns", ns, "-batch", "-"] if ns else ["ip", "-batch", "-"],
                       input=text, capture_output=True, text=True)
    if p.returncode:
        raise RuntimeError(f"ip -batch in {ns}: {p.stderr}\n{text}")


# Limits of waiting are those of an idle machine; a test runs beside others on one that may be slow.
PATIENCE = 3


def wait_for(what, fn, timeout=10.0, step=0.05):
    """Calls fn until it returns something true; raises after timeout seconds of an idle machine, with the
    last result."""
    timeout *= PATIENCE
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            last = fn()
            if last:
                return last
        except (OSError, RuntimeError, ValueError, KeyError, IndexError) as e:
            last = e
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {timeout} s (last: {last!r})")
        time.sleep(step)


class Host:
    """A namespace and a cgroup: a pod, a node or an outside client."""

    def __init__(self, cluster, name, ns, cgroup):
        self.cluster, self.name, self.ns, self.cgroup = cluster, name, ns, cgroup
        self.procs = []
        self.ips = []
        sh(["ip", "netns", "add", ns])
        os.makedirs(cgroup, exist_ok=True)
        _ip_batch(ns, ["link set lo up"])
        with self.enter():
            for path, value in (("net/ipv6/conf/all/accept_dad", "0"),
                                ("net/ipv6/conf/default/accept_dad", "0"),
                                ("net/ipv4/conf/all/rp_filter", "0"),
                                ("net/ipv4/conf/default/rp_filter", "0"),
                                ("net/ipv6/conf/all/disable_ipv6", "0"),
                                ("net/ipv6/conf/default/disable_ipv6", "0")):
                with open("/proc/sys/" + path, "w") as f:
                    f.write(value)

    @property
    def ip(self):
        return next(a for a in self.ips if ":" not in a)

    @property
    def ip6(self):
        return next(a for a in self.ips if ":" in a)

    def addr(self, family):
        return self.ip if family == 4 else self.ip6

    @contextlib.contextmanager
    def enter(self):
        """This thread and process inside the host's namespace and cgroup (not re-entrant)."""
        with self.cluster.lock:
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
            ns = os.open("/var/run/netns/" + self.ns, os.O_RDONLY)
            try:
                self._join(self.cgroup)
                _setns(ns)
                yield
            finally:
                _setns(home)
                self._join(cgroup2_root())
                os.close(home)
                os.close(ns)

    @staticmethod
    def _join(cgroup):
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as f:
            f.write(str(os.getpid()))

    def socket(self, family=4, kind="tcp", timeout=3.0):
        with self.enter():
            s = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6,
                              socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        s.settimeout(timeout)
        return s

    def popen(self, cmd, **kw):
        """Starts a command inside; it is ended with the cluster."""
        argv = cmd if isinstance(cmd, list) else ["sh", "-c", cmd]
        cg = os.path.join(self.cgroup, "cgroup.procs")
        p = subprocess.Popen(["nsenter", "--net=/var/run/netns/" + self.ns, "sh", "-c",
                              'echo $$ > "$0" && exec "$@"', cg] + argv, **kw)
        self.procs.append(p)
        return p

    def run(self, cmd, check=True, timeout=60, **kw):
        p = self.popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)
        try:
            out, err = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            out, err = p.communicate()
            raise RuntimeError(f"{cmd}: timeout\n{out}{err}") from None
        finally:
            self.procs.remove(p)
        if check and p.returncode:
            raise RuntimeError(f"{self.name}: {cmd}: exit {p.returncode}\n{out}{err}")
        return subprocess.CompletedProcess(cmd, p.returncode, out, err)

    def ask(self, addr, port, kind="tcp", timeout=3.0, sport=None, payload=b"who\n", connect=True):
        """One exchange with an echo server: its name, or the name of what went wrong."""
        family = 6 if ":" in addr else 4
        with contextlib.closing(self.socket(family, kind, timeout)) as s:
            try:
                if sport:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(("::" if family == 6 else "0.0.0.0", sport))
                if connect or kind == "tcp":
                    s.connect((addr, port))
                    s.send(payload)
                    data = s.recv(2048)
                else:
                    s.sendto(payload, (addr, port))
                    data, peer = s.recvfrom(2048)
                    if (peer[0], peer[1]) != (addr, port):
                        return f"answered-by-{peer[0]}:{peer[1]}"
                return data.decode(errors="replace").split("\n")[0] or "closed"
            except ConnectionRefusedError:
                return "refused"
            except ConnectionResetError:
                return "reset"
            except (TimeoutError, socket.timeout):
                return "timeout"
            except OSError as e:
                return f"errno-{e.errno}"

    def serve(self, port, kind="tcp", families=(4, 6), name=None):
        """An echo server that answers `<name> <peer address> <peer port>`, in a thread."""
        return Echo(self, port, kind, families, name or self.name)

    def close(self):
        for p in self.procs:
            if p.poll() is None:
                p.terminate()
        for p in self.procs:
            try:
                p.wait(5)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        sh(["ip", "netns", "del", self.ns], check=False)
        for _ in range(50):
            try:
                os.rmdir(self.cgroup)
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.02)


class Echo:
    def __init__(self, host, port, kind, families, name):
        self.name, self.kind, self.stop = name, kind, False
        self.socks = []
        for fam in families:
            s = host.socket(fam, kind, 0.2)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if fam == 6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind(("::" if fam == 6 else "0.0.0.0", port))
            if kind == "tcp":
                s.listen(256)
            self.socks.append(s)
        self.threads = [threading.Thread(target=self._loop, args=(s,), daemon=True)
                        for s in self.socks]
        for t in self.threads:
            t.start()
        host.cluster.echoes.append(self)

    def _line(self, peer):
        return f"{self.name} {peer[0]} {peer[1]}\n".encode()

    def _conn(self, c, peer):
        with contextlib.closing(c):
            c.settimeout(60)
            try:
                while not self.stop:
                    data = c.recv(65536)
                    if not data:
                        return
                    c.sendall(self._line(peer))
            except OSError:
                return

    def _loop(self, s):
        while not self.stop:
            try:
                if self.kind == "tcp":
                    c, peer = s.accept()
                    threading.Thread(target=self._conn, args=(c, peer), daemon=True).start()
                else:
                    _, peer = s.recvfrom(65536)
                    s.sendto(self._line(peer), peer)
            except (TimeoutError, socket.timeout):
                continue
            except OSError:
                if self.stop:
                    return

    def close(self):
        self.stop = True
        for t in self.threads:
            t.join()
        for s in self.socks:
            s.close()


class Pod(Host):
    def __init__(self, node, name, ns="default", labels=None, ports=None):
        c = node.cluster
        self.node, self.pod_ns, self.labels, self.ports = node, ns, labels or {}, ports or []
        self.phase = "Running"
        node.npods += 1
        self.index = node.npods + 1
        # The cgroup is known by index too: two pods may have one name in two namespaces.
        super().__init__(c, name, f"{c.prefix}-{node.name}-p{self.index}",
                         os.path.join(node.cgroup, f"p{self.index}"))
        self.host_if = f"ve{node.index}{self.index}"
        self.ips = [f"10.244.{node.index}.{self.index}", f"fd00:244:{node.index}::{self.index:x}"]
        self._wire()

    def _wire(self):
        n, (a4, a6) = self.node, self.ips
        _ip_batch(n.ns, [f"link add {self.host_if} type veth peer name eth0 netns {self.ns}"])
        if n.topology == "bridge":
            host = [f"link set {self.host_if} master cni0 up"]
            pod = ["link set eth0 up", f"addr add {a4}/24 dev eth0",
                   f"addr add {a6}/64 dev eth0 nodad",
                   f"route add default via 10.244.{n.index}.1",
                   f"route add default via fd00:244:{n.index}::1"]
        else:
            host = [f"link set {self.host_if} address ee:ee:ee:ee:ee:ee up",
                    f"addr add fe80::1/64 dev {self.host_if} nodad",
                    f"route add {a4}/32 dev {self.host_if}",
                    f"route add {a6}/128 dev {self.host_if}"]
            pod = ["link set eth0 up", f"addr add {a4}/32 dev eth0",
                   f"addr add {a6}/128 dev eth0 nodad",
                   "route add 169.254.1.1 dev eth0 scope link",
                   "route add default via 169.254.1.1 dev eth0",
                   "route add default via fe80::1 dev eth0"]
        _ip_batch(self.ns, pod)
        _ip_batch(n.ns, host)
        if n.topology != "bridge":
            with n.enter():
                for path, value in (("conf/{}/proxy_arp", "1"), ("neigh/{}/proxy_delay", "0")):
                    with open("/proc/sys/net/ipv4/" + path.format(self.host_if), "w") as f:
                        f.write(value)

    def object(self):
        return {"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": self.name, "namespace": self.pod_ns, "labels": self.labels},
                "spec": {"nodeName": self.node.name,
                         "containers": [{"name": "c", "image": "none", "ports": self.ports}]},
                "status": {"phase": self.phase, "podIP": self.ips[0],
                           "podIPs": [{"ip": i} for i in self.ips]}}


class Node(Host):
    def __init__(self, cluster, index, topology, daemon_args=()):
        self.index, self.topology, self.npods = index, topology, 0
        name = f"n{index}"
        p = cluster.prefix
        super().__init__(cluster, name, f"{p}-{name}", os.path.join(cgroup2_root(), f"{p}-{name}"))
        self.bpffs = f"/sys/fs/bpf/{p}-{name}"
        self.run_dir = os.path.join(cluster.dir, f"run-{name}")
        self.state_dir = os.path.join(cluster.dir, f"state-{name}")
        self.log_path = os.path.join(cluster.dir, f"{name}.log")
        self.daemon, self.daemon_args = None, list(daemon_args)
        self.ips = [f"192.0.2.{10 + index}", f"2001:db8:1::{10 + index:x}"]
        cluster._plug(self, "eth0", self.ips)
        _ip_batch(self.ns, ["route add default via 192.0.2.1",
                            "route add default via 2001:db8:1::1"])
        with self.enter():
            for path in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
                with open("/proc/sys/" + path, "w") as f:
                    f.write("1")
        if topology == "bridge":
            _ip_batch(self.ns, ["link add cni0 type bridge", "link set cni0 up",
                                f"addr add 10.244.{index}.1/24 dev cni0",
                                f"addr add fd00:244:{index}::1/64 dev cni0 nodad"])

    def object(self):
        return {"apiVersion": "v1", "kind": "Node",
                "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
                "spec": {"podCIDR": f"10.244.{self.index}.0/24",
                         "podCIDRs": [f"10.244.{self.index}.0/24", f"fd00:244:{self.index}::/64"]},
                "status": {"addresses": [{"type": "InternalIP", "address": a} for a in self.ips]}}

    def start(self, wait=True, extra=(), timeout=15, env=None):
        args = [os.path.join(BUILD, "bpfnetd"), *self.cluster.source_args(),
                "--node-name", self.name, "--bpffs", self.bpffs, "--run-dir", self.run_dir,
                "--state-dir", self.state_dir, "--cgroup", self.cgroup] + self.daemon_args + list(extra)
        log = open(self.log_path, "ab")
        # The daemon stays in this process's cgroup: its own sockets are not the node's.
        self.daemon = subprocess.Popen(["nsenter", "--net=/var/run/netns/" + self.ns] + args,
                                       stdout=log, stderr=log, env=dict(os.environ, **(env or {})))
        log.close()
        if wait:
            wait_for(f"{self.name}: bpfnet status ready", self.ready, timeout)
        return self.daemon

    def ready(self):
        if self.daemon and self.daemon.poll() is not None:
            raise AssertionError(f"bpfnetd of {self.name} ended with {self.daemon.returncode}:\n"
                                 + self.log_tail())
        return self.cli("status", check=False).returncode == 0

    def stop(self, sig=signal.SIGTERM, timeout=12 * PATIENCE):
        if self.daemon:
            if self.daemon.poll() is None:
                self.daemon.send_signal(sig)
            code = self.daemon.wait(timeout)
            self.daemon = None
            return code
        return None

    def cli(self, *args, check=True, timeout=20 * PATIENCE, input=None):
        return sh(["nsenter", "--net=/var/run/netns/" + self.ns, os.path.join(BUILD, "bpfnet"),
                   "--run-dir", self.run_dir] + list(args), check=check, timeout=timeout,
                  input=input)

    def json(self, *args, check=True):
        return json.loads(self.cli(*args, "-o", "json", check=check).stdout)

    def log_tail(self, lines=25):
        with contextlib.suppress(FileNotFoundError), open(self.log_path, errors="replace") as f:
            return "".join(f.readlines()[-lines:])
        return "(no log)"

    def drops(self):
        """Counted drops by reason, from the metrics."""
        out = {}
        for line in self.cli("metrics").stdout.splitlines():
            if line.startswith("bpfnet_drops_total{"):
                labels, value = line.rsplit(" ", 1)
                reason = labels.split('reason="')[1].split('"')[0]
                out[reason] = out.get(reason, 0) + float(value)
        return out

    def close(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.terminate()
            try:
                self.daemon.wait(12 * PATIENCE)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        if os.path.exists(self.bpffs) or os.path.isdir(self.run_dir):
            p = self.cli("cleanup", check=False)
            left = os.path.exists(self.bpffs)
            if left:
                shutil.rmtree(self.bpffs, ignore_errors=True)
            if left or p.returncode:
                self.cluster.dirty.append(f"{self.name}: cleanup: exit {p.returncode} "
                                          f"{p.stderr.strip()}{' bpffs left' if left else ''}")
        super().close()


class Cluster:
    """with Cluster("t1") as c: web = c.pod("n1", "web"); c.service(...); c.start()"""

    def __init__(self, prefix, nodes=2, topology="routed", daemon_args=()):
        leftover.clean(os.path.join(BUILD, "bpfnet"), cgroup2_root())
        # Two runs on one machine must not meet.
        self.prefix = f"bn{prefix}"[:7] + f"-{os.getpid() % 46656:x}"
        self.lock = threading.RLock()
        self.dir = tempfile.mkdtemp(prefix=self.prefix + "-")
        self.owner = leftover.claim(self.dir, self.prefix)
        self.manifests = os.path.join(self.dir, "manifests")
        os.makedirs(self.manifests)
        self.objects, self.echoes, self.pods, self.clients, self.dirty = {}, [], [], [], []
        self.nodes, self.fabric = {}, None
        self._closed = False
        atexit.register(self.close)
        try:
            self.fabric = Host(self, "fabric", f"{self.prefix}-fab",
                               os.path.join(cgroup2_root(), f"{self.prefix}-fab"))
            _ip_batch(self.fabric.ns, ["link add br0 type bridge", "link set br0 up",
                                          "addr add 192.0.2.1/24 dev br0",
                                          "addr add 2001:db8:1::1/64 dev br0 nodad"])
            for i in range(1, nodes + 1):
                self.nodes[f"n{i}"] = Node(self, i, topology, daemon_args)
            for a in self.nodes.values():
                for b in self.nodes.values():
                    if a is not b:
                        _ip_batch(a.ns, [f"route add 10.244.{b.index}.0/24 via {b.ip}",
                                         f"route add fd00:244:{b.index}::/64 via {b.ip6}"])
        except BaseException:
            self.close()
            raise
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
        for n in self.nodes.values():
            self.put(n.object())

    def source_args(self):
        """Where the daemons of the nodes read their objects."""
        return ["--manifests", self.manifests]

    def __getattr__(self, name):
        if name.startswith("n") and name[1:].isdigit() and name in self.nodes:
            return self.nodes[name]
        raise AttributeError(name)

    def _plug(self, host, ifname, ips):
        port = f"f{host.ns[-8:]}"
        _ip_batch(self.fabric.ns, [f"link add {port} type veth peer name {ifname} netns {host.ns}",
                                   f"link set {port} master br0 up"])
        _ip_batch(host.ns, [f"link set {ifname} up"] +
                  [f"addr add {a}/{64 if ':' in a else 24} dev {ifname}"
                   + (" nodad" if ":" in a else "") for a in ips])

    def client(self, name="ext"):
        """A machine outside the cluster; nodes' addresses and everything behind n1 are reachable."""
        i = len(self.clients) + 1
        h = Host(self, name, f"{self.prefix}-x{i}", os.path.join(cgroup2_root(), f"{self.prefix}-x{i}"))
        h.ips = [f"192.0.2.{200 + i}", f"2001:db8:1::{200 + i:x}"]
        self._plug(h, "eth0", h.ips)
        first = next(iter(self.nodes.values()))
        _ip_batch(h.ns, [f"route add default via {first.ip}", f"route add default via {first.ip6}"])
        self.clients.append(h)
        return h

    def pod(self, node, name, ns="default", labels=None, ports=None, manifest=True):
        p = Pod(self.nodes[node], name, ns, labels, ports)
        self.pods.append(p)
        if manifest:
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ns}},
                     only_if_missing=True)
            self.put(p.object())
        return p

    # --- manifests: one file an object, replaced by rename -------------------------------------

    @staticmethod
    def _key(o):
        m = o["metadata"]
        return f"{o['kind'].lower()}.{m.get('namespace', '')}.{m['name']}"

    def put(self, o, only_if_missing=False):
        key = self._key(o)
        if only_if_missing and key in self.objects:
            return
        self.objects[key] = o
        path = os.path.join(self.manifests, key + ".json")
        with open(os.path.join(self.manifests, "." + key), "w") as f:
            json.dump(o, f)
        os.rename(f.name, path)

    def delete(self, kind, name, ns="default"):
        key = f"{kind.lower()}.{ns}.{name}"
        del self.objects[key]
        os.unlink(os.path.join(self.manifests, key + ".json"))

    def service(self, name, ports, pods=None, ns="default", ips=None, **spec):
        """ports: [(name, proto, port, target port)]; pods: the ready endpoints."""
        families = {4: any(":" not in i for i in ips or []), 6: any(":" in i for i in ips or [])}
        self.put({"apiVersion": "v1", "kind": "Service",
                  "metadata": {"name": name, "namespace": ns},
                  "spec": {"type": "ClusterIP", "clusterIP": ips[0] if ips else "None",
                           "clusterIPs": ips or ["None"],
                           "ports": [dict({"name": n, "protocol": pr, "port": p, "targetPort": t},
                                          **(extra[0] if extra else {}))
                                     for n, pr, p, t, *extra in ports], **spec}})
        if pods is not None:
            self.endpoints(name, ports, pods, ns, families)

    def endpoints(self, name, ports, pods, ns="default", families=None, conditions=None):
        for fam in (4, 6):
            if families and not families[fam]:
                continue
            eps = []
            for p in pods:
                cond = (conditions or {}).get(p.name, {"ready": True})
                eps.append({"addresses": [p.addr(fam)], "conditions": cond,
                            "nodeName": p.node.name if isinstance(p, Pod) else getattr(p, "name", ""),
                            "targetRef": {"kind": "Pod", "name": p.name, "namespace": ns}})
            self.put({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                      "metadata": {"name": f"{name}-v{fam}", "namespace": ns,
                                   "labels": {"kubernetes.io/service-name": name}},
                      "addressType": f"IPv{fam}",
                      "ports": [{"name": n, "protocol": pr, "port": t} for n, pr, _, t, *_ in ports],
                      "endpoints": eps})

    def policy(self, name, spec, ns="default", kind="NetworkPolicy",
               api="networking.k8s.io/v1"):
        self.put({"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": ns},
                  "spec": spec})

    def start(self, **kw):
        for n in self.nodes.values():
            n.start(wait=False, **kw)
        for n in self.nodes.values():
            wait_for(f"{n.name}: ready", n.ready, 15)

    def close(self):
        if self._closed:
            return
        self._closed = True
        for e in self.echoes:
            e.close()
        for h in [*self.pods, *self.clients, *self.nodes.values()] + ([self.fabric] if self.fabric else []):
            h.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        os.close(self.owner)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, tb):
        if kind not in (None, KeyboardInterrupt, SystemExit):
            for n in self.nodes.values():
                print(f"--- log of bpfnetd on {n.name}\n{n.log_tail()}", flush=True)
        self.close()
        if kind is None:
            assert not self.dirty, self.dirty
