# SPDX-License-Identifier: MIT
"""Requests as they should be, as they should not be, and in between: every form of what is ambiguous in HTTP/1 that is publicly known. For
test_httpdiff."""
import json

RULES = json.loads('''[
 {"method": "GET", "path": {"value": "/v1/items"}},
 {"method": "HEAD", "path": {"value": "/v1/items/"}},
 {"method": "POST", "path": {"type": "RegularExpression", "value": "/v1/orders/[0-9]+"}, "headers": [{"name": "X-Team", "value": "checkout"}]},
 {"path": {"type": "Exact", "value": "/exact"}, "hostnames": ["api.shop", "*.example.org"]},
 {"method": "GET", "path": {"value": "/q"}, "queryParams": [{"name": "team", "value": "a b"}]},
 {"method": "GET", "path": {"value": "/r"}, "queryParams": [{"name": "n", "type": "RegularExpression", "value": "[0-9]+"}, {"name": "m", "value": "x"}]},
 {"method": "PUT", "path": {"value": "/up"}},
 {"path": {"value": "/ws"}, "headers": [{"name": "Upgrade", "value": "websocket"}]},
 {"method": "CONNECT", "hostnames": ["proxy.shop"]},
 {"method": "OPTIONS"},
 {"method": "PURGE", "path": {"type": "RegularExpression", "value": "/(a|b)*/.*"}, "headers": [{"name": "x-list", "type": "RegularExpression", "value": "[a-z, ]+"}]},
 {"method": "GET", "path": {"type": "Exact", "value": "/%7Eme/%c3%a9"}}
]''')

METHODS = ["GET", "GET", "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "POST", "PUT", "PUT", "OPTIONS", "PURGE", "CONNECT", "DELETE",
    "get", "Get", "G", "PRI", "TRACE", "M-SEARCH", "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX", "GE T", 'G\tET', "",
    'GET\x00']
PATHS = ["/v1/items", "/v1/items", "/v1/items", "/v1/items", "/v1/items/", "/v1/items/7", "/v1/orders/17", "/v1/orders/17", "/v1/orders/",
    "/v1/orders/1x", "/exact", "/exact", "/up/x", "/ws", "/q", "/r", "/", "/%7eme/%C3%A9", "/~me/%c3%a9", "/%7Eme/%E9", "/a/x", "/ab/x", "/aba/b/",
    "/b/x", "/v1/itemsX", "/v1/items;x=1", "/v1/items/..;/x", "/v1/items/.;/x", "/v1/items/;x", "/v1/items//x", "//v1/items", "/v1//items",
    "/v1/./items", "/v1/items/.", "/v1/items/..", "/v1/items/../secret", "/v1/items/...", "/v1/items/..x", "/v1/items/.x", "/v1/items/x.",
    "/v1/items/x..", "/v1/items/%2e", "/v1/items/%2e%2e", "/v1/items/.%2e/x", "/v1/items/%2E./x", "/v1/items/%2e%2e%2f", "/v1/items%2f",
    "/v1%2Fitems", "/v1/items/%5c..", "/v1/items\\x", "/v1/items/%252e%252e/x", "/v1/items/%252f", "/v1/items/%00", "/v1/items/%0", "/v1/items/%",
    "/v1/items/%zz", "/v1/items/%0a", "/v1/items/%20", "/v1/items/%3b", "/v1/items/..%3b/x", "/v1/items/%3bx", "/v1/%69tems", "/%76%31/items",
    "/v1/ITEMS", '/v1/items/\xc3\xa9', "/v1/items/#f", '/v1/items/\x7f', '/v1/items/\t', "/v1/items/ x", '/v1/items/\x00', '/v1/items/\x01', "*",
    "**", "v1/items", "", "/v1/items/" + "a" * 3000, "/v1/items/[x]{y}|^`\"<>", "/v1/items/!$&'()*+,=:@-._~", "/v1/items/%c0%ae%c0%ae/x",
    "/v1/items/%C0%AFx", "/v1/items/%u002e"]
AUTHORITIES = ["http://api.shop", "HTTP://API.shop:80", "http://x.example.org:8080", "http://example.org", "http://a.b.example.org.",
    "http://other", "http://[::1]:80", "http://[::1", "http://u@api.shop", "http://u:p@api.shop", "http://", "http:///", "https://api.shop",
    "http:/api.shop", "ftp://x", "http://api.shop:", "http://api.shop:x", "http://api.shop:123456", "http://api%2eshop", "http://:80",
    "hTtP://api_shop"]
QUERIES = ["", "", "", "", "", "", "?", "?x", "?x=1", "?team=a+b", "?team=a%20b", "?team=a b", "?team=a+b&team=a+b", "?team=a+b&team=c",
    "?team=c&team=a+b", "?te%61m=a%20b", "?TEAM=a+b", "?team=", "?team", "?team=a+b&", "?&team=a+b", "?&&team=a+b&&", "?team=a+b;x=1", "?team=a+b%",
    "?team=a+b%4", "?team=a+b&x=%zz", "?x=%00&team=a+b", "?n=5&m=x", "?m=x&n=5", "?n=5&m=x&n=x", "?n=5&m=x&n=6", "?n=&m=x", "?n=5", "?a?b=/c",
    "?team=a+b#f", "?team=a+b\\", '?team=a+b\xe9', "?team=a%2Bb", "?team=a%2520b", "?te+am=1&team=a+b", "?team[]=a+b", "?=a", "?==", "?team==a+b",
    "?" + "y" * 2000, "?n=%35&%6d=%78", "?n=5%0a&m=x"]
VERSIONS = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.1",
    "HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.0", "HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.10", "HTTP/1.",
    "HTTP/11", "HTTP /1.1", "HTTP/1.1 ", 'HTTP/1.1\t', "", "HTTP/01.1", "HTTPS/1.1", "HTTP/1,1"]
HOSTS = ["Host: a", "Host: a", "Host: a", "Host: a", "Host: a", "Host: api.shop", "Host: api.shop", "Host: api.shop", "Host: api.shop",
    "Host: x.example.org", "host: API.SHOP", "HOST:api.shop:8080", "Host: a.b.example.org", "Host: example.org", "Host: .example.org",
    "Host: a..example.org", "Host: api.shop.", "Host: x.example.org.", "Host: xapi.shop", 'Host:\tapi.shop \t', "Host: api.shop:",
    "Host: api.shop:99999", "Host: api.shop:999999", "Host: api.shop:8a", "Host: [::1]", "Host: [::1]:80", "Host: [::1", "Host: ::1", "Host:",
    "Host: ", "Host: a b", "Host: a,b", "Host: a/b", "Host: u@a", "Host: a%2e", "Host: a_b", "Host: *.example.org", 'Host: \xe9', "Host : a",
    " Host: a", 'Host: a\x00', "Host: proxy.shop", "Host: proxy.shop:443", "Host: :80", "Host: a?b", 'Host: a\x7f']
FIELDS = ["X: y", "X:", 'X: \t', 'X:\xff\x80', "X-Team: checkout", "X-Team: checkout", 'x-team:\tcheckout \t', "X-TEAM:checkout",
    "X-Team: Checkout", "X-Team: check", "X-Team: checkout2", "X-Team:", "X-Team: other", "X-Team : checkout", "X_Team: checkout",
    "X-Team: checkout,", "x-list: a, b", "x-list: a", "X-List: b", "X-List:", "x-list: A", 'x-list: a\tb', "Upgrade: websocket",
    "upgrade: WebSocket", "Upgrade: h2c", "Upgrade: websocket, h2c", "Connection: Upgrade", "Connection: close", "Connection: keep-alive",
    "Expect: 100-continue", "TE: trailers", "Cookie: " + "c" * 4000, "A-b_c.d!#$%&'*+^`|~: v", "X(: v", ": v", "X y: v", "Xy", 'X:a\x01',
    'X: a\x7fb', 'X: a\rb', 'X: a\nHost: z', 'X: a\x0bb', 'X: a\x00', '\tX: y', 'X: a\r\n b', 'X: a\r\n\tb', 'X\t: a', '\x80: a', "Trailer: X-T",
    "Keep-Alive: 5", "Proxy-Connection: keep-alive", "X-HTTP-Method-Override: DELETE", "X-Original-URL: /admin"]
LENGTHS = ["Content-Length: %d", "content-length:%d", 'Content-Length:\t%d \t', "Content-Length: 0%d", "Content-Length: 000000000000000%d",
    "Content-Length: +%d", "Content-Length: -%d", "Content-Length: %d,%d", "Content-Length: %d, %d", "Content-Length: %d %d",
    "Content-Length: 0x%x", "Content-Length:", "Content-Length: %d.0", "Content-Length: \"%d\"", "Content-Length: %d;",
    "Content-Length: 1844674407370955161%d", "Content-Length: 99999999999999999999999999%d", 'Content-Length: %d\x0b', "Content-Length : %d",
    "Content_Length: %d", "Content-Length: %da", "Content-Length: 1e%d", 'Content-Length: %d\r\nContent-Length: %d',
    'Content-Length: %d\r\nContent-Length: 7', '\tContent-Length: %d', 'Content-Length\x00: %d']
ENCODINGS = ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "transfer-encoding:chunked", 'Transfer-Encoding:\tChunked \t',
    "Transfer-Encoding: CHUNKED", "Transfer-Encoding: xchunked", "Transfer-Encoding: chunkedx", "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, identity", "Transfer-Encoding: identity", "Transfer-Encoding:",
    "Transfer-Encoding: ,chunked", "Transfer-Encoding: chunked,", "Transfer-Encoding: \"chunked\"", "Transfer-Encoding: chunked;q=1",
    'Transfer-Encoding:\x0bchunked', 'Transfer-Encoding: \x00chunked', "Transfer-Encoding : chunked", " Transfer-Encoding: chunked",
    'X: a\nTransfer-Encoding: chunked', 'X: a\rTransfer-Encoding: chunked', 'Transfer-Encoding\r\n: chunked', 'Transfer-Encoding:\r\n chunked',
    'Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked', 'Transfer-Encoding: chunked\r\nTransfer-Encoding: x', "Transfer_Encoding: chunked",
    'Transfer-Encoding: ch\xfcnked', 'Transfer-Encoding: chunked\r\nContent-Length: 5', 'Content-Length: 5\r\nTransfer-Encoding: chunked',
    'Transfer-Encoding: chunked \x00', 'Transfer-Encoding: chunked\x7f']
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKS = ['5\r\nhello\r\n0\r\n\r\n', '5\r\nhello\r\n0\r\n\r\n', '5\r\nhello\r\n0\r\n\r\n', '5\r\nhello\r\n0\r\n\r\n', '5\r\nhello\r\n0\r\n\r\n',
    '0\r\n\r\n', '000\r\n\r\n', '05\r\nhello\r\n0\r\n\r\n', '00000000000005\r\nhello\r\n0\r\n\r\n', '00000000000000005\r\nhello\r\n0\r\n\r\n',
    '5;x=y\r\nhello\r\n0;z\r\n\r\n', '5;x="a;b"\r\nhello\r\n0\r\n\r\n', '5;\r\nhello\r\n0\r\n\r\n', '5 \r\nhello\r\n0\r\n\r\n',
    '5 ;a\r\nhello\r\n0\r\n\r\n', ' 5\r\nhello\r\n0\r\n\r\n', '+5\r\nhello\r\n0\r\n\r\n', '-5\r\nhello\r\n0\r\n\r\n', '0x5\r\nhello\r\n0\r\n\r\n',
    '5h\r\nhello\r\n0\r\n\r\n', 'A\r\n0123456789\r\n0\r\n\r\n', 'a\r\n0123456789\r\n0\r\n\r\n', '5\nhello\n0\n\n', '5\r\nhello\n0\r\n\r\n',
    '5\r\nhello0\r\n\r\n', '5\r\nhelloX\r\n0\r\n\r\n', '4\r\nhello\r\n0\r\n\r\n', '6\r\nhello\r\n0\r\n\r\n', '5\r\nhello\r\n0\r\n',
    '5\r\nhello\r\n0\r\nX: t\r\n\r\n', '5\r\nhello\r\n0\r\nX-Team: checkout\r\n\r\n', '5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n',
    '5\r\nhello\r\n0\r\nHost: b\r\n\r\n', '5\r\nhello\r\n0\r\n X: t\r\n\r\n', '5\r\nhello\r\n0\r\nX : t\r\n\r\n', '5\r\nhello\r\n0\r\nX: t\n\r\n',
    '5\r\nhello\r\n0\r\n\n', '5;x\ny\r\nhello\r\n0\r\n\r\n', '5;x\ry\r\nhello\r\n0\r\n\r\n', '5;\x00\r\nhello\r\n0\r\n\r\n',
    '5;\xff\r\nhello\r\n0\r\n\r\n', '5\r\r\nhello\r\n0\r\n\r\n', 'fffffffffffffff\r\nx', 'ffffffffffffffff\r\nx',
    '10000000000000005\r\nhello\r\n0\r\n\r\n', '\r\n5\r\nhello\r\n0\r\n\r\n', '23\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n',
    '0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n', "5;" + "e" * 4000 + '\r\nhello\r\n0\r\n\r\n', 'g\r\n',
    '5\r\nhello\r\n5\r\nworld\r\n0\r\nA: 1\r\nB: 2\r\n\r\n', ';x\r\n\r\n', '5,x\r\nhello\r\n0\r\n\r\n', '5\x0b\r\nhello\r\n0\r\n\r\n']
ENDS = ['\n', '\r', '\r\r\n', '\n\r', '\r\n\r\n', '\r\n ', '\x00\r\n']
KINDS = [("GET", "/v1/items/7", "", []), ("HEAD", "/v1/items/x", "", []), ("POST", "/v1/orders/17", "", ["X-Team: checkout"]), ("GET", "/q", "?team=a+b", []),
         ("GET", "/r", "?n=7&m=x", []), ("PUT", "/up/f", "", []), ("PATCH", "/exact", "", []), ("PURGE", "/ab/x", "", ["x-list: a", "X-List: b"]),
         ("OPTIONS", "*", "", []), ("GET", "/secret", "", []), ("DELETE", "/v1/items", "", []), ("GET", "/~me/%c3%A9", "", [])]
TARGETS = ["proxy.shop:443", "proxy.shop:443", "proxy.shop", "a:1", "/x", "PROXY.shop:80", "[::1]:80", "http://proxy.shop:80", "proxy.shop:443/x", "proxy.shop:"]


def first_line(r, odd, kind):
    """Method, path, query and version; each now and then another one."""
    method, path, query, _ = kind
    if r.random() < 0.4 * odd:
        method = r.choice(METHODS)
    if r.random() < 0.6 * odd:
        path = r.choice(PATHS)
    if r.random() < 0.5 * odd:
        query = r.choice(QUERIES)
    if method == "CONNECT":
        path, query = r.choice(TARGETS), ""
    elif r.random() < odd / 4 and path[:1] == "/":
        path = r.choice(AUTHORITIES) + ("" if r.random() < 0.15 else path)
    return method, path, query, r.choice(VERSIONS) if r.random() < 0.3 * odd else "HTTP/1.1"


def framing(r, odd, method):
    """The fields that say how long the body is, and one."""
    k = r.random()
    if k < 0.25 or (method in ("POST", "PUT") and k < 0.5):
        body = r.choice(["hello", "", SMUGGLED, "x" * r.randrange(3000)])
        form = r.choice(LENGTHS) if r.random() < odd / 2 else LENGTHS[0]
        return [form % ((len(body),) * form.count("%"))], body
    if k < 0.75 and (method in ("POST", "PUT") or k < 0.45):
        body = r.choice(CHUNKS) if r.random() < odd else r.choice(CHUNKS[:6])
        return [r.choice(ENCODINGS) if r.random() < odd * 0.6 else ENCODINGS[0]], body
    return [], r.choice(["hello", SMUGGLED, "\0", "0\r\n\r\n"]) if r.random() < odd / 10 else ""


def request(r, odd):
    kind = r.choice(KINDS)
    method, path, query, version = first_line(r, odd, kind)
    host = "Host: api.shop" if path == "/exact" else "Host: a"
    fields = [r.choice(HOSTS) if r.random() < 0.6 * odd else host] if r.random() > odd / 10 else []
    if r.random() < odd / 12:
        fields.append(r.choice(HOSTS))
    fields += kind[3]
    if "ws" in path and r.random() < 0.8:
        fields.append("Upgrade: websocket")
    for _ in range(r.randrange(4)):
        fields.append(r.choice(FIELDS) if r.random() < odd * 0.7 else r.choice(["X: y", "Accept: */*", "Cookie: a=b", "User-Agent: x"]))
    more, body = framing(r, odd, method)
    fields += more
    if r.random() < 0.5:
        r.shuffle(fields)
    out = "\r\n" * r.choice([1, 1, 2]) if r.random() < odd / 10 else ""
    for line in [f"{method} {path}{query} {version}", *fields, ""]:
        out += line + (r.choice(ENDS) if r.random() < odd / 12 else "\r\n")
    return out + body


def by_hand():
    """Each form once, in a request that is otherwise as it should be."""
    yield "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 100
    for n in range(4):
        yield "\r\n" * n + "GET /v1/items HTTP/1.1\r\nHost: a\r\n\r\n" + "\r\n" * n
    for n in (16384, 32767, 32768, 32769):
        for a, b in (("GET /v1/items HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n"), ("GET /v1/items/", " HTTP/1.1\r\nHost: a\r\n\r\n")):
            yield a + "y" * (n - len(a) - len(b)) + b
    for n in (200, 255, 256, 257):
        yield "GET /v1/items HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * (n - 1) + "\r\n"
        yield "PUT /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + "X: y\r\n" * n + "\r\n" + "GET /v1/items HTTP/1.1\r\nHost: a\r\n\r\n"
    for form in LENGTHS:
        yield "PUT /up HTTP/1.1\r\nHost: a\r\n" + form % ((5,) * form.count("%")) + "\r\n\r\nhelloGET /v1/items HTTP/1.1\r\nHost: a\r\n\r\n"
    for form in ENCODINGS[5:]:
        for chunk in CHUNKS[4:]:
            yield f"PUT /up HTTP/1.1\r\nHost: a\r\n{form}\r\n\r\n{chunk}GET /v1/items HTTP/1.1\r\nHost: a\r\n\r\n"
    for path in PATHS:
        for query in ("", "?team=a+b"):
            yield f"GET {path}{query} HTTP/1.1\r\nHost: a\r\n\r\n"
        for authority in AUTHORITIES[:3]:
            yield f"GET {authority}{path} HTTP/1.1\r\nHost: api.shop\r\n\r\n"
    for authority in AUTHORITIES:
        for host in ("api.shop", "other"):
            yield f"PATCH {authority}/exact HTTP/1.1\r\nHost: {host}\r\n\r\n"
            yield f"OPTIONS {authority} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    for query in QUERIES:
        yield f"GET /q{query} HTTP/1.1\r\nHost: a\r\n\r\n"
        yield f"GET /r{query} HTTP/1.1\r\nHost: a\r\n\r\n"
    for version in VERSIONS:
        yield f"GET /v1/items {version}\r\nHost: a\r\n\r\n"
        for host in HOSTS:
            yield f"PATCH /exact {version}\r\n{host}\r\n\r\n"
    for field in FIELDS:
        for other in FIELDS[:22]:
            yield f"POST /v1/orders/5 HTTP/1.1\r\nHost: a\r\n{field}\r\n{other}\r\n\r\n"
            yield f"PURGE /a/x HTTP/1.1\r\nHost: a\r\n{field}\r\n{other}\r\n\r\n"
        yield f"GET /ws HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"
    for method in METHODS:
        yield f"{method} /v1/items HTTP/1.1\r\nHost: a\r\n\r\n"
    for target in TARGETS:
        yield f"CONNECT {target} HTTP/1.1\r\nHost: proxy.shop\r\n\r\n"
    for field in FIELDS:
        yield f"CONNECT proxy.shop:80 HTTP/1.1\r\nHost: proxy.shop\r\n{field}\r\n\r\n"
    for end in ENDS:
        for text in ("GET /v1/items HTTP/1.1%sHost: a\r\n\r\n", "GET /v1/items HTTP/1.1\r\nHost: a%s\r\n", "GET /v1/items HTTP/1.1\r\nHost: a\r\n%s"):
            yield text % end + "GET /v1/items HTTP/1.1\r\nHost: a\r\n\r\n"


def streams(r, n):
    """n random ones behind those by hand."""
    for text in by_hand():
        yield text.encode("latin-1")
    for _ in range(n):
        odd = r.choice([0, 0.1, 0.3, 0.3, 0.8])
        data = bytearray("".join(request(r, odd) for _ in range(r.randrange(1, 5))).encode("latin-1"))
        if r.random() < 0.2:
            at = r.randrange(len(data))
            data[at:at + 1] = r.choice([b"", bytes(data[at:at + 1]) * 2, bytes([r.choice(b"\r\n\0 \t:;,/\\.%#?\x80a0")])])
        yield bytes(data)
