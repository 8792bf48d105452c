# SPDX-License-Identifier: MIT
"""A browser through HTTP rules: `make check-browser`, or $BN_CHROMIUM names a Chromium (100 MB: not among what `make check` installs).
A page and what it loads, fetch with bodies and large cookies, many requests at once over the browser's six connections,
WebSockets: what is allowed works, what is denied is a 403 at once, and never at the server."""
import json
import os
import shutil
import subprocess
import sys
import time

from test_http import cluster, in_force

CHROMIUM = os.environ.get("BN_CHROMIUM", "")
NOT_RUN = "" if CHROMIUM and shutil.which(CHROMIUM) else "$BN_CHROMIUM names no browser"
PORT = 9020
PROMPT_MS = 2500  # the machine may be busy; a client that waits for something waits for longer

RULES = [{"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 8080}, {"port": PORT}], "http": [
    {"path": {"value": "/v1/items"}},
    {"method": "POST", "path": {"value": "/v1/orders"}, "headers": [{"name": "X-Team", "value": "checkout"}]},
    {"method": "PUT", "path": {"value": "/up"}},
    {"path": {"value": "/ws"}, "headers": [{"name": "Upgrade", "value": "websocket"}]},
]}]

PAGE = """<!doctype html><title>page</title><script>
const R = {}, start = performance.now();
const took = t => Math.round(performance.now() - t);
async function ask(name, path, what) {
  const t = performance.now();
  try { const r = await fetch(path, what); await r.text(); R[name] = [r.status, took(t)]; }
  catch (e) { R[name] = ['' + e, took(t)]; }
}
const seen = (name, what) => { R[name] = [what, took(start)]; };
function socket(name, path) {
  return new Promise(done => {
    const t = performance.now(), w = new WebSocket('ws://' + location.host + path);
    w.onopen = () => w.send('hello');
    w.onmessage = m => { R[name] = [m.data, took(t)]; w.close(); done(); };
    w.onerror = () => { R[name] = ['error', took(t)]; done(); };
  });
}
addEventListener('load', async () => {
  document.cookie = 'big=' + 'c'.repeat(3900);
  for (let i = 0; i < 3; i++) document.cookie = 'c' + i + '=' + 'd'.repeat(3000);
  await ask('get 200', '/v1/items/1');
  await ask('denied 403', '/secret');
  await ask('again 200', '/v1/items/2');
  const post = team => ({method: 'POST', headers: {'X-Team': team, 'Content-Type': 'application/json'}, body: JSON.stringify({a: 1})});
  await ask('post 200', '/v1/orders/1', post('checkout'));
  await ask('post by another 403', '/v1/orders/1', post('other'));
  await ask('upload 200', '/up/x', {method: 'PUT', body: 'x'.repeat(3000000)});
  await ask('upload 403', '/secret/x', {method: 'PUT', body: 'x'.repeat(3000000)});
  await ask('head 403', '/secret', {method: 'HEAD'});
  await ask('options 403', '/secret', {method: 'OPTIONS'});
  await Promise.all([...Array(60).keys()].map(i => i % 3 ? ask('many' + i + ' 200', '/v1/items/m' + i) : ask('many' + i + ' 403', '/secret/m' + i)));
  await socket('websocket hello', '/ws');
  await socket('other websocket error', '/secret/ws');
  await fetch('/v1/items/report', {method: 'POST', body: JSON.stringify(R)});
});
</script>
<img src=/v1/items/a.svg onload="seen('image loaded', 'loaded')" onerror="seen('image loaded', 'error')">
<img src=/secret.svg onload="seen('image error', 'loaded')" onerror="seen('image error', 'error')">
<script src=/secret.js onload="seen('script error', 'loaded')" onerror="seen('script error', 'error')"></script>
<iframe src=/secret.html></iframe>"""

SERVER = """
import base64, hashlib, http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with open(sys.argv[1], "a") as f:
            print(self.command, self.path, file=f, flush=True)
        if self.path == "/v1/items/report":
            with open(sys.argv[3], "wb") as f:
                f.write(body)
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.websocket()
        page = self.path == "/v1/items"
        text = open(sys.argv[4], "rb").read() if page else b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if page else "image/svg+xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = any
    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"),
                            ("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())):
            self.send_header(name, value)
        self.end_headers()
        n = self.rfile.read(2)[1] & 127
        mask = self.rfile.read(4)
        said = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(n)))
        self.wfile.write(bytes([0x81, n]) + said)
        self.rfile.read(2)  # its close
        self.close_connection = True
    def log_message(self, *a):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 512
Server(("::", int(sys.argv[2])), Handler).serve_forever()
"""


def test_page():
    with cluster("hbr", rules=RULES) as c:
        log, report, page = (os.path.join(c.dir, x) for x in ("served", "report", "page"))
        open(log, "w").close()
        with open(page, "w") as f:
            f.write(PAGE)
        c.web.popen([sys.executable, "-c", SERVER, log, str(PORT), report, page], stderr=subprocess.DEVNULL)
        for host, fam in ((c.near, 4), (c.near, 6), (c.far, 4), (c.far, 6)):
            in_force(c, host)
            visit(c, host, f"http://{c.web.ip}:{PORT}" if fam == 4 else f"http://[{c.web.ip6}]:{PORT}", report)
        with open(log) as f:
            strange = [x for x in f if "secret" in x]
        assert not strange, strange


def visit(c, host, url, report):
    if os.path.exists(report):
        os.unlink(report)
    home = os.path.join(c.dir, f"chromium-{host.name}-{'6' if '[' in url else '4'}")
    p = host.popen([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                    "--disable-background-networking", "--no-proxy-server", f"--user-data-dir={home}", "--remote-debugging-port=0", f"{url}/v1/items"],
                   stdout=open(home + ".out", "w"), stderr=open(home + ".err", "w"))
    until = time.monotonic() + 60
    while not (os.path.exists(report) and os.path.getsize(report)) and time.monotonic() < until:
        assert p.poll() is None, open(home + ".err").read()[-2000:]
        time.sleep(0.1)
    time.sleep(0.1)
    p.terminate()
    p.wait(10)
    with open(report) as f:
        got = json.load(f)
    assert len(got) == 74, got
    for name, (what, ms) in got.items():  # the last word of each is what is due
        assert str(what) == name.split()[-1], (host.name, url, name, what, ms)
        assert ms < PROMPT_MS or "upload" in name or "image" in name or "script" in name, (host.name, url, name, ms)
