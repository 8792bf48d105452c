# SPDX-License-Identifier: MIT
"""UDP sockets that stay open while their service changes: as beside the real kube-proxy, a flow stays with an
endpoint that serves, whatever the policies say of new ones, moves when it leaves, and needs no new socket."""
import contextlib

from harness import wait_for
from test_semantics import READY, Svc, small


def said(s):
    """Who answers on an open socket, or what is wrong."""
    s.settimeout(0.7)
    try:
        s.send(b"who\n")
        return s.recv(200).decode().split(" ")[0]
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "timeout"


def twice(s):
    said(s) # an error of before is reported once
    return said(s)


def walk(args):
    with small("uf", args) as c, contextlib.ExitStack() as open_sockets:
        Svc.count = 0
        svc = Svc("flow", {"b2": READY})
        svc.put(c)
        c.start()

        def state(eps, itp="Cluster", etp="Cluster"):
            svc.eps, svc.itp, svc.etp = {e: READY for e in eps}, itp, etp
            svc.put(c)

        def new(host, addr, port):
            return host.ask(addr, port, "udp", timeout=0.7).split(" ")[0]

        def dial(host, addr, port):
            s = open_sockets.enter_context(host.socket(6 if ":" in addr else 4, "udp"))
            s.connect((addr, port))
            return s
        wait_for("in force", lambda: new(c.x, svc.lb[4], 80) == "b2" == new(c.a, svc.vip[6], 80))
        inner = [(h, svc.vip[f], 80) for h in (c.a, c.n1) for f in (4, 6)]
        own = [(c.n1, c.n1.addr(f), svc.np) for f in (4, 6)]
        outer = [(c.x, a, p) for f in (4, 6) for a, p in ((svc.lb[f], 80), (svc.ext[f], 80), (c.n1.addr(f), svc.np))]
        every = inner + outer
        kept = {e: dial(*e) for e in every + own}

        def check(s, e, who):
            if e[0] is c.n1: # the daemon moves the node's own connected sockets, soon
                wait_for(f"{args} {e[1:]}: {who}", lambda: twice(s) == who, 2)
            else:
                got = twice(s)
                assert got == who, (args, e[0].name, e[1:], who, got)

        def all_say(who, where=every):
            for e in where:
                check(kept[e], e, who)
        all_say("b2")
        state(["b2"], itp="Local", etp="Local")
        wait_for("nobody for new ones", lambda: {new(*e) for e in every} == {"timeout"}, 20)
        all_say("b2")
        # It leaves: flows move to whom the policies allow, or are dropped as new ones are.
        state(["b1"], itp="Local", etp="Local")
        wait_for("b1 is local", lambda: {new(*e) for e in every} == {"b1"})
        all_say("b1")
        state(["b2"], itp="Local", etp="Local")
        wait_for("nobody again", lambda: {new(*e) for e in every} == {"timeout"}, 20)
        all_say("timeout")
        state(["b2"])
        wait_for("b2 for all", lambda: {new(*e) for e in every} == {"b2"})
        all_say("b2")
        # Without endpoints all are refused, sockets of before and of now; they are served when there is one.
        state([])
        wait_for("refused", lambda: {new(*e) for e in every} == {"refused"})
        all_say("refused")
        early = {e: dial(*e) for e in inner}
        assert {twice(s) for s in early.values()} == {"refused"}
        for who in ("b1", "b2", "b1"): # one here, one elsewhere; then the Service itself is made anew
            if who == "b1" and svc.eps:
                c.delete("Service", "flow")
                wait_for("gone", lambda: not c.n1.json("svc", "list"))
                all_say("refused", own)
            state([who])
            wait_for(f"{who} for new ones", lambda w=who: {new(*e) for e in every} == {w})
            all_say(who, every + own)
            for e, s in early.items():
                check(s, e, who)


def test_sockets():
    walk([])


def test_packets():
    walk(["--socket-lb", "off"])
