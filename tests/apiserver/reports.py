# SPDX-License-Identifier: MIT
"""What clients write back: events, and merge patches of the status subresource."""
import json

EVENTS = "/apis/events.k8s.io/v1"


def merge(old, patch):
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    out = dict(old) if isinstance(old, dict) else {}
    for k, v in patch.items():
        if v is None:
            out.pop(k, None)
        else:
            out[k] = merge(out.get(k), v)
    return out


def create_event(store, ns, body):
    """(status, reason, object or words)"""
    o = json.loads(body)
    for key in ("eventTime", "reportingController", "reportingInstance", "action", "reason", "type"):
        if not o.get(key):
            return 422, "Invalid", f"{key}: Required value"
    if o["metadata"]["namespace"] != ns or o["regarding"].get("namespace", "default") != ns:
        return 422, "Invalid", "involvedObject.namespace: does not match event.namespace"
    if len(o.get("note", "")) > 1024:
        return 422, "Invalid", "note: too long"
    key = (ns, o["metadata"]["name"])
    with store.cond:
        if key in store.events:
            return 409, "AlreadyExists", f'events.events.k8s.io "{key[1]}" already exists'
        store.events[key] = o
    return 201, "", o


def patch_status(store, res, ns, name, content_type, body):
    if content_type != "application/merge-patch+json":
        return 415, "UnsupportedMediaType", f"{content_type}: not for custom resources"
    patch = json.loads(body)
    with store.cond:
        have = store.objects[res].get((ns, name))
        if not have:
            return 404, "NotFound", f'{res} "{name}" not found'
        old = json.loads(have[0])
        rv = patch.get("metadata", {}).get("resourceVersion")
        if rv and rv != old["metadata"]["resourceVersion"]:
            return 409, "Conflict", "the object has been modified; please apply your changes to the " \
                "latest version and try again"
        new = dict(old, status=merge(old.get("status"), patch.get("status")))
        if new != old:
            store.put(new)
        return 200, "", new


def route(server, st, req, path, entry):
    """True when the request was one of these."""
    method, parts = req[":method"], path.strip("/").split("/")
    if method == "POST" and path.startswith(EVENTS) and parts[-1] == "events":
        entry["resource"], entry["verb"] = "events", "create"
        ns, args = parts[-2], None
    elif method == "PATCH" and parts[-1] == "status":
        res, ns = parts[-3], parts[-4]
        entry["resource"], entry["verb"] = res + "/status", "patch"
        args = (res, ns, parts[-2], req.get("content-type"))
    else:
        return False
    f = server.fault(entry["resource"], entry["verb"])
    if "status" in f:
        entry["status"] = server.refuse(st, f["status"], f.get("message", "fault"),
                                        f.get("retry_after"), f.get("reason"))
        return True
    if args:
        code, reason, out = patch_status(server.store, *args, st.body)
    else:
        code, reason, out = create_event(server.store, ns, st.body)
    if code >= 300:
        entry["status"] = server.refuse(st, code, out, reason=reason)
        return True
    entry["status"] = code
    st.headers(code, [("Content-Type", "application/json")])
    st.data(json.dumps(out).encode())
    st.end()
    return True
