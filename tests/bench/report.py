# SPDX-License-Identifier: MIT
"""report.json and report.html: figures with the direct path of the same run beside them, and plots."""
import html
import json
import math
import os
import platform
import re
import statistics
import subprocess
import time

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#000000", "#994455", "#997700"]


def quartiles(v):
    q = statistics.quantiles(v, n=4, method="inclusive") if len(v) > 1 else [v[0]] * 3
    return statistics.median(v), q[0], q[2]


def version(cmd):
    try:
        p = subprocess.run(cmd, capture_output=True, text=True, timeout=10)
        return ((p.stdout + p.stderr).strip().splitlines() or ["?"])[0]
    except OSError:
        return None


def human(v, unit):
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs"), (1e9, "ns")):
            if v * factor >= 1 or name == "ns":
                return f"{v * factor:.4g} {name}"
    if unit in ("B", "B/s", "op/s"):
        for factor, name in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")):
            if v >= factor or factor == 1:
                return f"{v / factor:.4g} {name}{unit}"
    return f"{v:.4g} {unit}"


class Report:
    def __init__(self, out, cpu_method, bpfnet):
        self.out, self.figures, self.cpu = out, [], cpu_method
        with open("/proc/cpuinfo") as f:
            cpu = next((x.split(":", 1)[1].strip() for x in f if x.startswith("model name")), "?")
        self.machine = {"kernel": platform.release(), "cpus": os.cpu_count(), "cpu": cpu,
                        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "cpu_method": cpu_method,
                        "bpfnet": version([bpfnet, "version"]), "iptables": version(["iptables-legacy", "--version"]),
                        "nft": version(["nft", "--version"]), "haproxy": version(["haproxy", "-v"]), "nginx": version(["nginx", "-v"]),
                        "kube-proxy": version([os.environ["KUBE_PROXY"], "--version"]) if os.environ.get("KUBE_PROXY") else None,
                        "commit": version(["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "--short=12", "HEAD"]),
                        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                        "load_before": os.getloadavg()[0], "failed": [], "retried": [], "lost": []}

    def fail(self, what, error):
        """Something that could not be measured: said, not left out."""
        text = f"{what}: {str(error).strip().splitlines()[0] if str(error) else type(error).__name__}"[:300]
        print(f"  NOT MEASURED: {text}", flush=True)
        self.machine["failed"].append(text)

    def retry(self, text):
        print(f"  (again: {text})", flush=True)
        self.machine["retried"].append(text)

    def add(self, id_, unit, values, direct=None):
        """values and direct: one of each round, of the same rounds. ratio: the median of the rounds' ratios."""
        med, q1, q3 = quartiles(values)
        d = statistics.median(direct) if direct else None
        ratio = statistics.median([a / b for a, b in zip(values, direct)]) if direct and all(direct) else None
        self.figures = [f for f in self.figures if f["id"] != id_]
        self.figures.append({"id": id_, "unit": unit, "direct": d, "value": med, "ratio": ratio, "q1": q1, "q3": q3,
                             "rounds": len(values)})
        print(f"  {id_:44s} {human(med, unit):>14s}" + (f"  ratio {ratio:.3f}" if ratio else "")
              + f"  [{human(q1, unit)}, {human(q3, unit)}]", flush=True)

    def add_cpu(self, prefix, label, got):
        """A CPU figure for each way in got, beside got["direct"]."""
        direct = [m[self.cpu] for m in got["direct"]]
        for name, ms in got.items():
            self.add(f"{prefix}/{name}/{label}" if label != "" else f"{prefix}/{name}", "s", [m[self.cpu] for m in ms], direct)

    def add_other(self, prefix, label, got, unit, value):
        direct = [value(m) for m in got["direct"]]
        for name, ms in got.items():
            self.add(f"{prefix}/{name}/{label}" if label != "" else f"{prefix}/{name}", unit, [value(m) for m in ms], direct)

    def write(self):
        os.makedirs(self.out, exist_ok=True)
        with open(os.path.join(self.out, "report.json"), "w") as f:
            json.dump({"machine": self.machine, "figures": self.figures}, f, indent=1)
            f.write("\n")
        with open(os.path.join(self.out, "report.html"), "w") as f:
            f.write(page(self.machine, self.figures))

    def merge(self):
        """Figures of an earlier run of other parts in the same directory stay, as that run's."""
        try:
            with open(os.path.join(self.out, "report.json")) as f:
                self.figures = json.load(f)["figures"]
        except (OSError, ValueError, KeyError):
            pass


# --- the page --------------------------------------------------------------------------------------

def split(id_):
    """(family, way, number or None)"""
    m = re.fullmatch(r"([^/]+)/(.+?)(?:/(\d+))?", id_)
    return (m[1], m[2], int(m[3]) if m[3] else None) if m else (id_, "", None)


def line_plot(series, y_name, log_y):
    """series: {name: [(x, y, low, high)]} over a logarithmic x."""
    w, h, left, top, right, bottom = 720, 300, 70, 12, 190, 36
    pts = [p for s in series.values() for p in s]
    xs = sorted({p[0] for p in pts})
    lo, hi = min(p[2] for p in pts), max(p[3] for p in pts)
    if log_y:
        lo, hi = 10 ** math.floor(math.log10(lo)), 10 ** math.ceil(math.log10(hi * 1.0001))
    else:
        lo, hi = 0, hi * 1.08

    def px(x):
        a, b = math.log10(xs[0]), math.log10(xs[-1])
        return left + (math.log10(x) - a) / (b - a or 1) * (w - left - right)

    def py(y):
        f = (math.log10(y) - math.log10(lo)) / (math.log10(hi) - math.log10(lo)) if log_y else (y - lo) / (hi - lo)
        return h - bottom - f * (h - top - bottom)
    out = [f'<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img">',
           f'<rect x="{left}" y="{top}" width="{w - left - right}" height="{h - top - bottom}" fill="none" stroke="#999"/>']
    for x in xs:
        out.append(f'<text x="{px(x):.0f}" y="{h - bottom + 16}" text-anchor="middle">{x:,}</text>')
    ticks = [10.0 ** k for k in range(round(math.log10(lo)), round(math.log10(hi)) + 1)] if log_y else [hi * k / 5 for k in range(6)]
    for t in ticks:
        label = y_name(t)
        out.append(f'<line x1="{left}" x2="{w - right}" y1="{py(t):.1f}" y2="{py(t):.1f}" stroke="#ddd"/>'
                   f'<text x="{left - 6}" y="{py(t) + 4:.1f}" text-anchor="end">{label}</text>')
    for i, (name, s) in enumerate(series.items()):
        c, s = COLOURS[i % len(COLOURS)], sorted(s)
        out.append(f'<polyline fill="none" stroke="{c}" stroke-width="2" points="' + " ".join(f"{px(p[0]):.1f},{py(p[1]):.1f}" for p in s) + '"/>')
        for p in s:
            out.append(f'<line x1="{px(p[0]):.1f}" x2="{px(p[0]):.1f}" y1="{py(max(p[2], lo)):.1f}" y2="{py(p[3]):.1f}" stroke="{c}"/>'
                       f'<circle cx="{px(p[0]):.1f}" cy="{py(p[1]):.1f}" r="3" fill="{c}"/>')
        out.append(f'<rect x="{w - right + 12}" y="{top + i * 18}" width="12" height="12" fill="{c}"/>'
                   f'<text x="{w - right + 30}" y="{top + i * 18 + 11}">{html.escape(name)}</text>')
    return "".join(out) + "</svg>"


def bars(figs):
    top = max(f["ratio"] or 0 for f in figs) or 1
    rows = []
    for i, f in enumerate(figs):
        x = 300 * (f["ratio"] or 0) / top
        rows.append(f'<text x="0" y="{i * 20 + 14}">{html.escape(f["id"])}</text><rect x="330" y="{i * 20 + 3}" width="{x:.0f}" height="13" '
                    f'fill="#4477aa"/><text x="{336 + x:.0f}" y="{i * 20 + 14}">{f["ratio"]:.3f}</text>')
    one = 330 + 300 / top
    return (f'<svg viewBox="0 0 720 {len(figs) * 20 + 6}" width="720" height="{len(figs) * 20 + 6}">' + "".join(rows)
            + f'<line x1="{one:.0f}" x2="{one:.0f}" y1="0" y2="{len(figs) * 20}" stroke="#ee6677" stroke-dasharray="3"/></svg>')


def plot(figs):
    parts = [(split(f["id"]), f) for f in figs]
    if len({p[2] for p, _ in parts if p[2]}) >= 2:
        ratios = all(f["ratio"] for _, f in parts)
        series = {}
        for (_, way, n), f in parts:
            if n and f["value"] > 0:
                k = f["ratio"] / f["value"] if ratios else 1
                series.setdefault(way, []).append((n, f["value"] * k, max(f["q1"], 1e-12) * k, f["q3"] * k))
        unit = figs[0]["unit"]
        return line_plot(series, (lambda v: f"{v:.2f}") if ratios else (lambda v: human(v, unit)), not ratios)
    with_ratio = [f for f in figs if f["ratio"]]
    return bars(with_ratio) if with_ratio else ""


def page(machine, figures):
    families = {}
    for f in figures:
        families.setdefault(split(f["id"])[0], []).append(f)
    rows = []
    for name, figs in sorted(families.items()):
        rows.append(f'<h2 id="{name}">{name}</h2>{plot(figs)}<table><tr><th>id<th>value<th>direct<th>ratio<th>quartiles<th>rounds')
        for f in figs:
            rows.append(f'<tr><td>{html.escape(f["id"])}<td>{human(f["value"], f["unit"])}'
                        f'<td>{human(f["direct"], f["unit"]) if f["direct"] else ""}<td>{format(f["ratio"], ".3f") if f["ratio"] else ""}'
                        f'<td>{human(f["q1"], f["unit"])} to {human(f["q3"], f["unit"])}<td>{f["rounds"]}')
        rows.append("</table>")
    facts = "".join(f"<tr><td>{html.escape(k)}<td>{html.escape(str(v))}" for k, v in machine.items())
    nav = " ".join(f'<a href="#{n}">{n}</a>' for n in sorted(families))
    return ('<!doctype html><html lang="en"><meta charset="utf-8"><title>bpfnet bench</title><style>body{font:14px sans-serif;margin:2em;'
            'max-width:60em}td,th{padding:2px 10px;text-align:left;vertical-align:top}svg text{font:12px sans-serif}</style>'
            f"<h1>bpfnet bench</h1><table>{facts}</table><p>Ratios, plots of ratios and the dashed line at 1: against the direct path of the "
            f"same run. Whiskers: quartiles of the rounds. Other plots: the value, logarithmic.</p><p>{nav}</p>" + "\n".join(rows) + "</html>\n")
