# SPDX-License-Identifier: MIT
"""The part of Helm that deploy/helm/ uses: Go's templates, and a dozen functions. What is not known here
is an error, so that the chart cannot come to use what this does not render."""
import json
import os
import re

import yaml

TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|:=|[()|,]|\$\w*(?:\.\w+)*|\.[\w.]*|[^\s()|,]+)')


class Fail(Exception):
    pass


def nindent(n, s):
    return "\n" + "\n".join(" " * n + line for line in s.split("\n"))


def text(v):
    return {True: "true", False: "false", None: ""}.get(v, str(v)) if not isinstance(v, str) else v


def fail(msg):
    raise Fail(msg)


def kind_is(kind, v):
    return {"bool": isinstance(v, bool), "string": isinstance(v, str), "map": isinstance(v, dict)}[kind]


FUNCS = {
    "toYaml": lambda v: yaml.safe_dump(v, default_flow_style=False, sort_keys=True).rstrip("\n"),
    "toJson": lambda v: json.dumps(v, separators=(",", ":"), sort_keys=True),
    "trimAll": lambda chars, s: s.strip(chars),
    "nindent": nindent,
    "quote": lambda v: '"' + text(v).replace("\\", "\\\\").replace('"', '\\"') + '"',
    "default": lambda d, v: v if v else d,
    "not": lambda v: not v,
    "and": lambda *a: next((x for x in a if not x), a[-1]),
    "fail": fail,
    "printf": lambda f, *a: f % tuple(text(x) for x in a),
    "dir": os.path.dirname,
    "kindIs": kind_is,
    "hasPrefix": lambda p, s: s.startswith(p),
}


class Template:
    def __init__(self, defines):
        self.defines = defines

    def parse(self, src):
        """[str | (words, body, else body)]; defines are kept aside."""
        parts = re.split(r"(\{\{-? ?.*? ?-?\}\})", src, flags=re.S)
        out = []
        for i, p in enumerate(parts):
            if i % 2 == 0:
                if i and parts[i - 1].endswith("-}}"):
                    p = p.lstrip()
                if i + 1 < len(parts) and parts[i + 1].startswith("{{-"):
                    p = p.rstrip()
                out.append(p)
            else:
                out.append(("action", p.strip("{}").strip("-").strip()))
        tree, rest = self.block(out, 0)
        assert rest == len(out), "an end too many"
        return tree

    def block(self, items, i):
        tree = []
        while i < len(items):
            it = items[i]
            if isinstance(it, str):
                tree.append(it)
                i += 1
                continue
            word = it[1].split()[0]
            if word in ("end", "else"):
                return tree, i
            if word in ("if", "with", "range", "define"):
                body, i = self.block(items, i + 1)
                other = []
                if items[i][1] == "else":
                    other, i = self.block(items, i + 1)
                assert items[i][1] == "end", items[i]
                if word == "define":
                    self.defines[it[1].split()[1].strip('"')] = body
                else:
                    tree.append((word, it[1][len(word):], body, other))
            else:
                tree.append(("show", it[1], None, None))
            i += 1
        return tree, i

    def render(self, tree, dot, scope):
        out = ""
        for it in tree:
            if isinstance(it, str):
                out += it
                continue
            word, expr, body, other = it
            if word == "range":
                m = re.fullmatch(r"\s*(\$\w+), (\$\w+) := (.*)", expr)
                v = self.value(m[3], dot, scope)
                for k in sorted(v):
                    out += self.render(body, v[k], dict(scope, **{m[1]: k, m[2]: v[k]}))
                continue
            v = self.value(expr, dot, scope)
            if word == "show":
                out += text(v)
            elif v:
                out += self.render(body, v if word == "with" else dot, scope)
            else:
                out += self.render(other, dot, scope)
        return out

    def value(self, expr, dot, scope):
        words = TOKEN.findall(expr)
        v, rest = self.pipe(words, dot, scope)
        assert not rest, (expr, rest)
        return v

    def pipe(self, words, dot, scope):
        v, words = self.call(words, dot, scope, [])
        while words and words[0] == "|":
            v, words = self.call(words[1:], dot, scope, [v])
        return v, words

    def call(self, words, dot, scope, last):
        args = []
        while words and words[0] not in ("|", ")"):
            if words[0] == "(":
                v, words = self.pipe(words[1:], dot, scope)
                assert words[0] == ")"
                words = words[1:]
            else:
                v, words = self.atom(words[0], dot, scope), words[1:]
            args.append(v)
        args += last
        if not callable(args[0]):
            assert len(args) == 1, args
            return args[0], words
        return args[0](*args[1:]), words

    def atom(self, w, dot, scope):
        if w[0] in '"`':
            return w[1:-1].replace('\\"', '"')
        if re.fullmatch(r"\d+", w):
            return int(w)
        if w[0] == "$":
            name, _, path = w.partition(".")
            return self.field(scope[name], path)
        if w[0] == ".":
            return self.field(dot, w[1:])
        if w == "include":
            return lambda name, d: self.render(self.defines[name], d, {"$": d})
        return FUNCS[w]

    @staticmethod
    def field(v, path):
        for k in filter(None, path.split(".")):
            v = v.get(k) if isinstance(v, dict) else None
        return v


def merge(a, b):
    return {k: merge(a[k], b[k]) if isinstance(a.get(k), dict) and isinstance(b.get(k), dict) and a[k]
            else b.get(k, a.get(k)) for k in {**a, **b}}


def helm_template(chart, values=None, namespace="kube-system", release="bpfnet"):
    """The objects that `helm template` would print, without the CRDs; and the notes."""
    with open(chart + "/Chart.yaml") as f:
        meta = yaml.safe_load(f)
    with open(chart + "/values.yaml") as f:
        values = merge(yaml.safe_load(f), values or {})
    dot = {"Values": values, "Chart": {k[0].upper() + k[1:]: v for k, v in meta.items()},
           "Release": {"Name": release, "Namespace": namespace, "Service": "Helm"}}
    defines, docs, notes = {}, [], ""
    t = Template(defines)
    files = sorted(os.listdir(chart + "/templates"))
    trees = {}
    for name in files:
        with open(f"{chart}/templates/{name}") as f:
            trees[name] = t.parse(f.read())
    for name, tree in trees.items():
        out = t.render(tree, dot, {"$": dot})
        if name.endswith(".txt"):
            notes = out
        elif not name.startswith("_"):
            docs += [d for d in yaml.safe_load_all(out) if d]
    return docs, notes
