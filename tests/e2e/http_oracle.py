# SPDX-License-Identifier: MIT
"""What docs/POLICY.md says of HTTP requests, written down a second time, by regular expressions and without a thought of speed: what the
parser of the kernel programs is compared with."""
import re

TCHAR = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
HOST = re.compile(rb"(\[[0-9A-Fa-f.:]*\]|[A-Za-z0-9._~-]*)(:[0-9]{0,5})?")
FRAMING = {b"content-length", b"transfer-encoding", b"host", b"upgrade"}


class Deny(Exception):
    """The argument says why."""


class More(Exception):
    """The stream ends in the middle of something."""


def normal(path):
    """%XX of unreserved bytes decoded, of others in upper case."""
    def one(m):
        if not m[1]:
            raise Deny("percent")
        v = bytes.fromhex(m[1].decode())
        if v in (b"\0", b"/", b"\\"):
            raise Deny("encoded")
        return v if re.fullmatch(rb"[A-Za-z0-9._~-]", v) else b"%" + m[1].upper()
    return re.sub(rb"%([0-9A-Fa-f]{2})?", one, path)


def check_segments(path):
    parts = path[1:].split(b"/")
    for k, part in enumerate(parts):
        name = re.split(b";|%3B", part)[0]
        if name in (b".", b"..") or (not part and k < len(parts) - 1) or (part and not name):
            raise Deny("segment")


def host_name(text):
    m = HOST.fullmatch(text)
    if not m or (not m[1] and m[2]):
        raise Deny("host")
    return m[1].lower()


def decoded(text):
    """A query's part; whether it is one that servers read differently."""
    odd = False

    def one(m):
        nonlocal odd
        if m[1] == b"00":
            raise Deny("%00")
        odd |= not m[1]
        return bytes.fromhex(m[1].decode()) if m[1] else b""
    return re.sub(rb"%([0-9A-Fa-f]{2})?", one, text.replace(b"+", b" ")), odd


def says(kv, value):
    want = kv["value"].encode()
    return re.fullmatch(want, value, re.S) is not None if kv.get("type") == "RegularExpression" else value == want


def host_matches(pattern, host):
    pattern = pattern.lower().encode()
    if not pattern.startswith(b"*."):
        return host == pattern
    return host.endswith(pattern[1:]) and all(host[:-len(pattern) + 1].split(b"."))


def path_matches(rule, path):
    if path is None:
        return False
    kind, value = rule.get("type", "PathPrefix"), rule["value"].encode()
    if kind == "RegularExpression":
        return re.fullmatch(value, path, re.S) is not None
    value = normal(value)
    if kind == "Exact":
        return path == value
    return path == value.rstrip(b"/") or path.startswith(value.rstrip(b"/") + b"/")


def matches(m, q):
    names = {kv["name"].lower().encode() for kv in m.get("headers", [])}
    if (m.get("method", q["method"].decode()).encode() != q["method"] or (q["method"] == b"CONNECT" and m.get("method") != "CONNECT")
            or (q["upgrade"] and b"upgrade" not in names) or ("path" in m and not path_matches(m["path"], q["path"]))):
        return False
    if m.get("hostnames") and not (q["hosts"] and all(any(host_matches(p, h) for p in m["hostnames"]) for h in q["hosts"])):
        return False
    for kv in m.get("headers", []):
        values = [v for n, v in q["fields"] if n.lower() == kv["name"].lower().encode()]
        if not values or not says(kv, b", ".join(values)):
            return False
    for kv in m.get("queryParams", []):
        values = [v for n, v in q["query"] if n == kv["name"].encode()]
        if q["odd"] or not values or not all(says(kv, v) for v in values):
            return False
    return True


def line(d, at):
    """The line, and where the next one begins."""
    m = re.compile(rb"[^\r\n]*").match(d, at)
    end = d[m.end():m.end() + 2]
    if end == b"\r\n":
        return m[0], m.end() + 2
    if end in (b"", b"\r"):
        raise More
    raise Deny("line end")


def fields(d, at, never=()):
    out = []
    while True:
        text, at = line(d, at)
        if not text:
            return out, at
        m = re.fullmatch(rb"(" + TCHAR + rb"+):[ \t]*([\t -~\x80-\xff]*)", text, re.S)
        if not m or m[1].lower() in never or len(out) == 256:
            raise Deny("field")
        out.append((m[1], m[2].rstrip(b" \t")))


def target(q, text):
    """Path, hosts and query, of the four forms."""
    path, mark, query = text.partition(b"?")
    q["path"], q["hosts"], q["query"], q["odd"] = path, [], [], b";" in query
    if q["method"] == b"CONNECT":
        if b":" not in text.rpartition(b"]")[2] or not HOST.fullmatch(text):
            raise Deny("authority")
        q["path"], mark = None, b""
        q["hosts"].append(host_name(text))
    elif path[:7].lower() == b"http://":
        authority, slash, rest = path[7:].partition(b"/")
        q["hosts"].append(host_name(authority))
        if not authority:
            raise Deny("no authority")
        q["path"] = normal(slash + rest) or b"/"
    elif path[:1] == b"/":
        q["path"] = normal(path)
    elif text != b"*" or q["method"] != b"OPTIONS":
        raise Deny("form")
    if q["path"] not in (None, b"*"):
        check_segments(q["path"])
    for part in query.split(b"&") if mark else []:
        name, _, value = part.partition(b"=")
        (name, a), (value, b) = decoded(name), decoded(value)
        q["query"].append((name, value))
        q["odd"] |= a or b


def head(d, at, rules):
    """The request that begins here, or denied."""
    first, after = line(d, at)
    m = re.fullmatch(rb"(" + TCHAR + rb"{1,32}) ([!\"$-\[\]-~]+) HTTP/1\.([01])", first)
    if not m or m[1] == b"PRI":
        raise Deny("request line")
    q = {"method": m[1]}
    q["fields"], end = fields(d, after)
    if end - at > 32768:
        raise Deny("size")
    target(q, m[2])
    by_name = {n: [v for k, v in q["fields"] if k.lower() == n] for n in FRAMING}
    length, encoding, hosts = by_name[b"content-length"], by_name[b"transfer-encoding"], by_name[b"host"]
    if len(hosts) > 1 or (not hosts and m[3] == b"1"):
        raise Deny("host")
    q["hosts"] += [host_name(h) for h in hosts]
    # An offer of HTTP/2 is declined. (No rules here allow it.)
    q["upgrade"] = bool(by_name[b"upgrade"]) and [v.lower() for v in by_name[b"upgrade"]] != [b"h2c"]
    if len(length) + len(encoding) > 1 or (length and not re.fullmatch(rb"[0-9]{1,18}", length[0])):
        raise Deny("length")
    if encoding and (encoding[0].lower() != b"chunked" or m[3] == b"0"):
        raise Deny("encoding")
    if not any(matches(r, q) for r in rules):
        raise Deny("no match")
    if q["method"] == b"CONNECT" and (encoding or (length and int(length[0]))):
        raise Deny("a body that is none")
    return end, int(length[0]) if length else 0, bool(encoding), q["upgrade"] or q["method"] == b"CONNECT"


def chunks(d, at, never):
    while True:
        text, at = line(d, at)
        m = re.fullmatch(rb"([0-9a-fA-F]{1,15})(;[\t -~]*)?", text)
        if not m:
            raise Deny("chunk")
        size = int(m[1], 16)
        if not size:
            return fields(d, at, never)[1]
        end = d[at + size:at + size + 2]
        if len(end) < 2 and b"\r\n".startswith(end):
            raise More
        if end != b"\r\n":
            raise Deny("chunk's end")
        at += size + 2


def judge(d, rules):
    """[[begin, end of an allowed head]], and why what follows is denied; None: it is not."""
    never = FRAMING | {kv["name"].lower().encode() for m in rules for kv in m.get("headers", [])}
    at, out = 0, []
    try:
        while at < len(d):
            begin = at + 2 * d.startswith(b"\r\n", at)
            if begin >= len(d):
                break
            at, length, chunked, switch = head(d, begin, rules)
            out.append([begin, at])
            at = chunks(d, at, never) if chunked else at + length
            if switch and at < len(d):
                raise Deny("early")
    except More:
        return out, "?"
    except Deny as e:
        return out, str(e)
    return out, None
