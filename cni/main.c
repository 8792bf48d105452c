/* SPDX-License-Identifier: MIT */
/* bpfnet-cni: a chained CNI plugin, last in a conflist. When ADD has returned, the pod's interface
 * carries bpfnet's programs and passes nothing that its policies do not allow, also while bpfnetd
 * is down. It changes nothing of the network that the plugins before it have made.
 *
 *   { "type": "bpfnet-cni", "runDir": "/run/bpfnet", "allowUnenforced": false, "timeoutMs": 5000 }
 *
 * allowUnenforced: let pods start whose interface has no end on the host (SR-IOV, macvlan, ipvlan).
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cni/install.h"
#include "maps/util.h"

#define CONF_MAX    (4 << 20)
#define WAIT_POD_MS 1000

/* Error codes of the specification; from 100 on they are the plugin's own. */
enum {
	CNI_VERSION_UNKNOWN = 1,
	CNI_ENVIRONMENT = 4,
	CNI_IO = 5,
	CNI_DECODE = 6,
	CNI_CONFIG = 7,
	CNI_TRY_LATER = 11,
	CNI_NOT_AVAILABLE = 50,
	CNI_NOT_ENFORCED = 100,
};

static const char *const versions[] = {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

struct call {
	const char *command, *container, *netns, *ifname, *args;
	json_t *conf, *prev;
	const char *version, *run_dir;
	struct bn_cni_node node;
};

/* The error as the specification wants it, on standard output. Returns the exit status. */
static int fail(const struct call *c, int code, const char *fmt, ...) _printf_(3, 4);
static int fail(const struct call *c, int code, const char *fmt, ...)
{
	_cleanup_(freep) char *msg = NULL;
	json_t *j;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&msg, fmt, ap) < 0)
		msg = NULL;
	va_end(ap);
	j = json_pack("{s:s, s:i, s:s}", "cniVersion", c->version ?: "1.1.0", "code", code, "msg",
		      msg ?: "out of memory");
	if (j)
		json_dumpf(j, stdout, 0);
	json_decref(j);
	return 1;
}

static const char *text(const json_t *j, const char *key)
{
	return json_string_value(json_object_get(j, key));
}

static int version(void)
{
	json_t *j = json_pack("{s:s, s:[]}", "cniVersion", "1.1.0", "supportedVersions");
	size_t i;

	for (i = 0; i < ARRAY_SIZE(versions); i++)
		json_array_append_new(json_object_get(j, "supportedVersions"),
				      json_string(versions[i]));
	json_dumpf(j, stdout, 0);
	json_decref(j);
	return 0;
}

static int read_conf(struct call *c)
{
	_cleanup_(freep) char *buf = malloc(CONF_MAX);
	size_t n = 0, got, i;
	json_error_t e;

	if (!buf)
		return fail(c, CNI_IO, "out of memory");
	while (n < CONF_MAX && (got = fread(buf + n, 1, CONF_MAX - n, stdin)) > 0)
		n += got;
	c->conf = json_loadb(buf, n, 0, &e);
	if (!json_is_object(c->conf))
		return fail(c, CNI_DECODE, "configuration on standard input: %s", e.text);
	c->prev = json_object_get(c->conf, "prevResult");
	c->run_dir = text(c->conf, "runDir") ?: "/run/bpfnet";
	for (i = 0; i < ARRAY_SIZE(versions); i++)
		if (text(c->conf, "cniVersion") &&
		    !strcmp(text(c->conf, "cniVersion"), versions[i]))
			c->version = versions[i];
	if (!c->version)
		return fail(c, CNI_VERSION_UNKNOWN, "cniVersion '%s' is not supported",
			    text(c->conf, "cniVersion") ?: "");
	return 0;
}

/* "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;..." as pairs, as libcni's cache has them. */
static json_t *args_json(const char *args)
{
	_cleanup_(freep) char *copy = strdup(args ?: "");
	json_t *list = json_array();
	char *save = NULL, *p, *eq;

	for (p = copy ? strtok_r(copy, ";", &save) : NULL; p; p = strtok_r(NULL, ";", &save)) {
		eq = strchr(p, '=');
		if (!eq)
			continue;
		*eq = '\0';
		json_array_append_new(list, json_pack("[s, s]", p, eq + 1));
	}
	return list;
}

static int add_note(struct call *c, const struct bn_nl_link *host, char **err)
{
	json_t *ips = json_object_get(c->prev, "ips"), *note;
	int r;

	note = json_pack("{s:s, s:s, s:s, s:s, s:o, s:{s:s, s:[{s:s}], s:O}}", "kind", "cniCacheV1",
			 "containerId", c->container, "ifName", c->ifname, "networkName",
			 text(c->conf, "name") ?: "", "cniArgs", args_json(c->args), "result",
			 "cniVersion", c->version, "interfaces", "name", host->name, "ips",
			 ips ?: json_null());
	r = note ? bn_cni_note_write(&c->node, c->container, c->ifname, note, err) : -ENOMEM;
	json_decref(note);
	return r;
}

static int pass_on(const struct call *c)
{
	return json_dumpf(c->prev, stdout, 0) ? fail(c, CNI_IO, "writing the result") : 0;
}

static int open_node(struct call *c, int code)
{
	_cleanup_(freep) char *err = NULL;

	if (bn_cni_node_read(c->run_dir, &c->node, &err) < 0)
		return fail(c, code, "bpfnetd has not run on this node with run dir '%s': %s",
			    c->run_dir, err ?: "");
	return 0;
}

static int add(struct call *c)
{
	json_int_t ms = json_integer_value(json_object_get(c->conf, "timeoutMs"));
	_cleanup_(freep) char *err = NULL;
	struct bn_nl_link host;
	int r;

	if (!json_is_object(c->prev))
		return fail(c, CNI_CONFIG,
			    "no prevResult: bpfnet-cni comes last in a list of plugins");
	if (open_node(c, CNI_TRY_LATER))
		return 1;
	r = bn_cni_host_link(c->netns, c->ifname, &host, &err);
	if (r == -ENOTSUP && json_is_true(json_object_get(c->conf, "allowUnenforced")))
		return pass_on(c);
	if (r < 0)
		return fail(c, r == -ENOTSUP ? CNI_NOT_ENFORCED : CNI_IO, "%s",
			    err ?: strerror(-r));
	r = add_note(c, &host, &err);
	if (r < 0)
		return fail(c, CNI_IO, "%s", err ?: strerror(-r));
	r = bn_cni_install(&c->node, &host, ms > 0 && ms < 60000 ? ms : 5000, &err);
	if (r < 0) {
		bn_cni_note_remove(&c->node, c->container, c->ifname);
		return fail(c, CNI_TRY_LATER, "the pod cannot be isolated: %s",
			    err ?: strerror(-r));
	}
	bn_cni_wait_pod(&c->node, host.ifindex, WAIT_POD_MS);
	return pass_on(c);
}

static int check(struct call *c)
{
	_cleanup_(freep) char *err = NULL;
	struct bn_nl_link host;
	int r;

	if (open_node(c, CNI_NOT_ENFORCED))
		return 1;
	r = bn_cni_host_link(c->netns, c->ifname, &host, &err);
	if (r == -ENOTSUP && json_is_true(json_object_get(c->conf, "allowUnenforced")))
		return 0;
	r = r ?: bn_cni_check(&c->node, host.ifindex, &err);
	return r < 0 ? fail(c, CNI_NOT_ENFORCED, "%s", err ?: strerror(-r)) : 0;
}

/* What is not there any more is no error, and what cannot be done now is not worth one. */
static int del(struct call *c)
{
	_cleanup_(freep) char *err = NULL;

	if (!bn_cni_node_read(c->run_dir, &c->node, &err))
		bn_cni_note_remove(&c->node, c->container, c->ifname);
	return 0;
}

static int gc(struct call *c)
{
	_cleanup_(freep) char *err = NULL;
	json_t *valid = json_object_get(c->conf, "cni.dev/valid-attachments")
				?: json_object_get(c->conf, "cni.dev/attachments");

	if (bn_cni_node_read(c->run_dir, &c->node, &err) < 0)
		return 0;
	if (!json_is_array(valid))
		return fail(c, CNI_CONFIG, "GC without cni.dev/valid-attachments");
	if (bn_cni_note_gc(&c->node, valid, &err) < 0)
		return fail(c, CNI_IO, "%s", err ?: "");
	return 0;
}

static int status(struct call *c)
{
	_cleanup_(freep) char *err = NULL;

	if (open_node(c, CNI_NOT_AVAILABLE))
		return 1;
	if (bn_cni_ready(&c->node, &err) < 0)
		return fail(c, CNI_NOT_AVAILABLE, "%s", err ?: "");
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(struct call *c);
	bool container, netns; /* which variables it cannot do without */
} commands[] = {
	{"ADD", add, true, true}, {"CHECK", check, true, true},	    {"DEL", del, true, false},
	{"GC", gc, false, false}, {"STATUS", status, false, false},
};

int main(void)
{
	struct call c = {.command = getenv("CNI_COMMAND"),
			 .container = getenv("CNI_CONTAINERID"),
			 .netns = getenv("CNI_NETNS"),
			 .ifname = getenv("CNI_IFNAME"),
			 .args = getenv("CNI_ARGS")};
	size_t i;
	int r;

	if (!c.command)
		return fail(&c, CNI_ENVIRONMENT,
			    "CNI_COMMAND is not set: started by a runtime only");
	if (!strcmp(c.command, "VERSION"))
		return version();
	if (read_conf(&c)) {
		json_decref(c.conf);
		return 1;
	}
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, c.command))
			break;
	if (i == ARRAY_SIZE(commands))
		r = fail(&c, CNI_ENVIRONMENT, "CNI_COMMAND '%s' is not known", c.command);
	else if (commands[i].container &&
		 (!c.container || !*c.container || !c.ifname || !*c.ifname))
		r = fail(&c, CNI_ENVIRONMENT, "CNI_CONTAINERID and CNI_IFNAME must be set");
	else if (commands[i].netns && (!c.netns || !*c.netns))
		r = fail(&c, CNI_ENVIRONMENT, "CNI_NETNS must be set");
	else
		r = commands[i].fn(&c);
	bn_cni_node_done(&c.node);
	json_decref(c.conf);
	return r;
}
