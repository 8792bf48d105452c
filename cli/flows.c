/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "cli/commands.h"
#include "cli/control_client.h"
#include "cli/out.h"

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? s : NULL;
}

/* 12:00:01.123 denied  egress  shop/web -> 10.0.0.9:443 TCP  POLICY_EGRESS shop/deny-all
 * Values are data of others: control characters must not reach the terminal.
 */
static void put_safe(const char *s)
{
	for (; *s; s++)
		putchar((unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

/* shop/web, 10.0.0.9:443, [fd00::9]:443. What ICMP has in the place of a port is none. */
static void put_end(const char *pod, const char *addr, const char *proto, json_int_t port)
{
	bool with_port = port && strncmp(proto, "ICMP", 4);
	bool brackets = with_port && !pod && strchr(addr, ':');

	fputs(brackets ? "[" : "", stdout);
	put_safe(pod ?: addr);
	fputs(brackets ? "]" : "", stdout);
	if (with_port)
		printf(":%lld", (long long)port);
}

/* shop/api-0:8080; on the way through a service its own address is not in the packet yet: shop/api-0
 * (shop/api 10.96.0.80:80), or without a pod 10.96.0.80:80 (shop/api).
 */
static void put_destination(const json_t *f, const char *proto)
{
	json_int_t port = json_integer_value(json_object_get(f, "destinationPort"));
	const char *pod = str(f, "destinationPod"), *addr = str(f, "destination") ?: "?";
	const char *svc = str(f, "destinationService");

	put_end(svc ? NULL : pod, svc && pod ? pod : addr, proto, svc && pod ? 0 : port);
	if (!svc)
		return;
	fputs(" (", stdout);
	put_safe(svc);
	if (pod) {
		putchar(' ');
		put_end(NULL, addr, proto, port);
	}
	putchar(')');
}

static void print_flow(const json_t *f)
{
	const char *time = str(f, "time") ?: "?", *t = strchr(time, 'T');
	const char *proto = str(f, "protocol") ?: "?";
	const json_t *http = json_object_get(f, "http");
	json_int_t lost = json_integer_value(json_object_get(f, "lost"));

	if (lost)
		printf("... %lld flows were not shown: too many at once\n", (long long)lost);
	printf("%-12.12s %-8s %-8s ", t ? t + 1 : time,
	       json_is_true(json_object_get(f, "audit")) ? "audit" : str(f, "verdict") ?: "?", str(f, "direction") ?: "-");
	put_end(str(f, "sourcePod"), str(f, "source") ?: "?", proto, 0);
	fputs(" -> ", stdout);
	put_destination(f, proto);
	printf(" %s", proto);
	if (str(f, "reason"))
		printf("  %s", str(f, "reason"));
	if (str(f, "policy")) {
		putchar(' ');
		put_safe(str(f, "policy"));
	}
	if (json_is_object(http)) {
		fputs("  ", stdout);
		put_safe(str(http, "method") ?: "-");
		putchar(' ');
		put_safe(str(http, "host") ?: "");
		put_safe(str(http, "path") ?: "-");
		if (str(http, "message"))
			printf(" (%s)", str(http, "message"));
	}
	putchar('\n');
}

static void print_line(const struct bn_cli *c, const json_t *f)
{
	if (c->format == BN_JSON) {
		json_dumpf(f, stdout, JSON_COMPACT);
		putchar('\n');
	} else if (c->format == BN_YAML) {
		fputs("---\n", stdout);
		bn_out_yaml(stdout, f);
	} else {
		print_flow(f);
	}
	fflush(stdout);
}

/* Who asks for the last N wants those and an end. */
static bool follows(const struct bn_cli *c)
{
	return bn_cli_opt(c, "follow") || (!bn_cli_opt(c, "no-follow") && !bn_cli_opt(c, "last"));
}

static json_t *flow_args(const struct bn_cli *c)
{
	const char *last = bn_cli_opt(c, "last"), *pod = bn_cli_opt(c, "pod"), *name;
	_cleanup_(freep) char *ns = NULL;
	json_t *args;
	long n;

	if (pod && bn_cli_split_name(pod, &ns, &name) < 0)
		return NULL;
	args = json_pack("{sb sb}", "drop", bn_cli_opt(c, "drop") != NULL, "follow", follows(c));
	if (pod)
		json_object_set_new(args, "pod", json_string(pod));
	if (last && bn_cli_number("--last", last, 0, 1000000, &n) < 0) {
		json_decref(args);
		return NULL;
	}
	if (last)
		json_object_set_new(args, "last", json_integer(n));
	return args;
}

int bn_cmd_flows(struct bn_cli *c)
{
	_cleanup_(bn_client_freep) struct bn_client *cl = NULL;
	_cleanup_(json_decrefp) json_t *args = flow_args(c), *none = NULL;
	char err[640] = "";
	bool any = false;
	int r;

	if (!args)
		return BN_EXIT_ERROR;
	r = bn_client_new(c->run_dir, &cl, err, sizeof(err));
	r = r ?: bn_client_call(cl, "flows", args, &none, err, sizeof(err));
	while (!r) {
		_cleanup_(json_decrefp) json_t *f = NULL;
		int n = bn_client_next(cl, &f, err, sizeof(err));

		if (n <= 0) {
			r = n;
			break;
		}
		print_line(c, f);
		any = true;
	}
	if (r < 0)
		return bn_cli_fail("%s", err);
	if (follows(c))
		return bn_cli_fail("the daemon has ended");
	if (!any && (c->format == BN_TABLE || c->format == BN_WIDE))
		bn_cli_say("nothing to show");
	return BN_EXIT_OK;
}
