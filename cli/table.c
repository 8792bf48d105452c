/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"
#include "cli/commands.h"

const struct bn_opt bn_global_opts[] = {
	{ .name = "run-dir", .arg = "DIR", .help = "of the daemon (default /run/bpfnet)" },
	{ .name = "output", .letter = 'o', .arg = "FORMAT", .values = "table|wide|json|yaml",
	  .help = "table (default), wide, json or yaml" },
	{ .name = "help", .letter = 'h', .help = "show help" },
	{ 0 },
};

static const struct bn_opt check_opts[] = {
	{ .name = "bpffs", .arg = "DIR", .help = "where the daemon pins (default /sys/fs/bpf/bpfnet)" },
	{ .name = "cgroup", .arg = "DIR", .help = "cgroup whose sockets are translated" },
	{ 0 },
};

static const struct bn_opt svc_list_opts[] = {
	{ .name = "namespace", .letter = 'n', .arg = "NS", .help = "only this namespace" },
	{ .name = "bpffs", .arg = "DIR", .help = "with the daemon down: where the maps are pinned" },
	{ 0 },
};

static const struct bn_opt svc_show_opts[] = {
	{ .name = "bpffs", .arg = "DIR", .help = "with the daemon down: where the maps are pinned" },
	{ 0 },
};

static const struct bn_opt ns_opts[] = {
	{ .name = "namespace", .letter = 'n', .arg = "NS", .help = "only this namespace" },
	{ 0 },
};

static const struct bn_opt trace_opts[] = {
	{ .name = "from", .arg = "NS/POD|ADDR", .help = "who connects" },
	{ .name = "to", .arg = "NS/POD|NS/svc:NAME|ADDR", .help = "to whom" },
	{ .name = "proto", .arg = "PROTO", .help = "tcp (default), udp, sctp; icmp or icmpv6, without --port" },
	{ .name = "port", .arg = "N", .help = "destination port" },
	{ .name = "http", .arg = "'METHOD TARGET'", .help = "judge this request: 'GET /path'" },
	{ .name = "host", .arg = "HOST", .help = "the request's Host" },
	{ .name = "header", .arg = "'NAME: VALUE'", .help = "a header of the request",
	  .repeat = true },
	{ .name = "batch", .arg = "FILE", .help = "a query a line (- is stdin), answers as JSON lines" },
	{ .name = "verify", .help = "ask the kernel program, too" },
	{ .name = "manifests", .arg = "DIR", .help = "judge these files; needs no daemon, no root" },
	{ 0 },
};

static const struct bn_opt ct_list_opts[] = {
	{ .name = "pod", .arg = "NS/NAME", .help = "flows of this pod (needs the daemon)" },
	{ .name = "addr", .arg = "ADDR", .help = "flows with this address at either end" },
	{ .name = "proto", .arg = "PROTO", .help = "tcp, udp, sctp, icmp, icmpv6 or a number" },
	{ .name = "port", .arg = "N", .help = "flows to this destination or backend port" },
	{ .name = "sockets", .help = "also the sockets that were given their backend by connect()" },
	{ .name = "limit", .arg = "N", .help = "at most so many" },
	{ .name = "bpffs", .arg = "DIR", .help = "where the maps are pinned" },
	{ 0 },
};

static const struct bn_opt ct_flush_opts[] = {
	{ .name = "all", .help = "forget every flow" },
	{ .name = "pod", .arg = "NS/NAME", .help = "flows of this pod (needs the daemon)" },
	{ .name = "addr", .arg = "ADDR", .help = "flows with this address at either end" },
	{ .name = "proto", .arg = "PROTO", .help = "tcp, udp, sctp, icmp, icmpv6 or a number" },
	{ .name = "port", .arg = "N", .help = "flows to this destination or backend port" },
	{ .name = "bpffs", .arg = "DIR", .help = "where the maps are pinned" },
	{ 0 },
};

static const struct bn_opt flows_opts[] = {
	{ .name = "drop", .help = "only what was denied or dropped" },
	{ .name = "pod", .arg = "NS/NAME", .help = "only flows of this pod" },
	{ .name = "last", .arg = "N", .help = "the last N that are remembered, and end" },
	{ .name = "follow", .letter = 'f', .help = "after --last: go on with what comes" },
	{ .name = "no-follow", .help = "end after those that are remembered" },
	{ 0 },
};

static const struct bn_opt cleanup_opts[] = {
	{ .name = "bpffs", .arg = "DIR", .help = "where the daemon pinned (default: as recorded)" },
	{ .name = "kube-proxy", .help = "remove what kube-proxy left in iptables and nftables, only" },
	{ 0 },
};

static const struct bn_cmd svc_cmds[] = {
	{ .name = "list", .help = "services, their addresses and backends, as in force",
	  .run = bn_cmd_svc_list, .opts = svc_list_opts,
	  .more = "With the daemon down the pinned maps are read. Exits 2 when not all can be shown." },
	{ .name = "show", .args = "NS/NAME", .help = "one service in detail, and why it does not answer",
	  .run = bn_cmd_svc_show, .min_args = 1, .max_args = 1, .opts = svc_show_opts,
	  .more = "With the daemon down: what the pinned maps hold of it." },
	{ 0 },
};

static const struct bn_cmd endpoint_cmds[] = {
	{ .name = "list", .help = "pods of this node, their interfaces and isolation",
	  .run = bn_cmd_endpoint_list, .opts = ns_opts },
	{ 0 },
};

static const struct bn_cmd policy_cmds[] = {
	{ .name = "list", .help = "policies and what they select", .run = bn_cmd_policy_list,
	  .opts = ns_opts },
	{ .name = "show", .args = "NS/NAME", .help = "rules of a policy with their counters",
	  .run = bn_cmd_policy_show, .min_args = 1, .max_args = 1 },
	{ .name = "trace", .help = "may A talk to B, and which rule says so",
	  .run = bn_cmd_policy_trace, .opts = trace_opts,
	  .more = "Exit status 0 allow, 1 deny, 2 error; 0 with --batch.\n"
		  "A line of a batch: from to proto port [METHOD TARGET [host=H] [header=\"K: V\"]...],\n"
		  "or with --http, --host and --header as here." },
	{ .name = "lint", .help = "rules that can never have the effect they seem to have",
	  .run = bn_cmd_policy_lint, .opts = ns_opts },
	{ 0 },
};

static const struct bn_cmd identity_cmds[] = {
	{ .name = "list", .help = "identities: what policies can tell apart",
	  .run = bn_cmd_identity_list },
	{ 0 },
};

static const struct bn_cmd ct_cmds[] = {
	{ .name = "list", .help = "the connections that the kernel follows", .run = bn_cmd_ct_list,
	  .opts = ct_list_opts },
	{ .name = "flush", .help = "forget connections (TCP to a service is reset)",
	  .run = bn_cmd_ct_flush, .opts = ct_flush_opts },
	{ 0 },
};

const struct bn_cmd bn_cmds[] = {
	{ .name = "status", .help = "is this node served, and if not, why", .run = bn_cmd_status,
	  .more = "Exits 0 when ready, 1 when not." },
	{ .name = "check", .help = "can this machine run bpfnet; what to do if not",
	  .run = bn_cmd_check, .opts = check_opts, .more = "Exits 1 when something is missing." },
	{ .name = "svc", .help = "services", .sub = svc_cmds },
	{ .name = "endpoint", .help = "pods of this node", .sub = endpoint_cmds },
	{ .name = "policy", .help = "network policies", .sub = policy_cmds },
	{ .name = "identity", .help = "identities of addresses", .sub = identity_cmds },
	{ .name = "ct", .help = "connection table", .sub = ct_cmds },
	{ .name = "flows", .help = "denied and dropped packets, and HTTP requests, as they come", .run = bn_cmd_flows,
	  .opts = flows_opts },
	{ .name = "metrics", .help = "the daemon's metrics as Prometheus text (-o json: a list)", .run = bn_cmd_metrics },
	{ .name = "cleanup", .help = "remove every trace of bpfnet from this node",
	  .run = bn_cmd_cleanup, .opts = cleanup_opts },
	{ .name = "version", .help = "versions of this command and of the daemon",
	  .run = bn_cmd_version },
	{ .name = "completion", .args = "bash|zsh", .help = "print the completion script of a shell",
	  .run = bn_cmd_completion, .min_args = 1, .max_args = 1 },
	{ .name = "help", .args = "[COMMAND...]", .help = "explain a command", .run = bn_cmd_help,
	  .max_args = 2 },
	{ 0 },
};
