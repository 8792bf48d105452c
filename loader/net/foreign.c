/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter_ipv4/ip_tables.h>
#include <linux/netfilter_ipv6/ip6_tables.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "loader/kernel/internal.h"
#include "loader/net/foreign.h"
#include "maps/util.h"

/* --- nftables -------------------------------------------------------------------------------- */

struct chain {
	uint8_t family;
	bool base;
	uint32_t hook, policy, rules;
	char name[64];
};

static int parse_chain(const struct nlmsghdr *h, struct chain *ret)
{
	const struct nfgenmsg *g = mnl_nlmsg_get_payload(h);
	struct chain c = {.policy = NF_ACCEPT};
	const struct nlattr *a, *b;

	if (h->nlmsg_len < NLMSG_HDRLEN + sizeof(*g))
		return -EBADMSG;
	c.family = g->nfgen_family;
	mnl_attr_for_each (a, h, sizeof(*g)) {
		size_t len = mnl_attr_get_payload_len(a);

		switch (mnl_attr_get_type(a)) {
		case NFTA_CHAIN_HOOK:
			c.base = true;
			mnl_attr_for_each_nested (b, a)
				if (mnl_attr_get_type(b) == NFTA_HOOK_HOOKNUM &&
				    mnl_attr_get_payload_len(b) == 4)
					c.hook = ntohl(mnl_attr_get_u32(b));
			break;
		case NFTA_CHAIN_POLICY:
			if (len == 4)
				c.policy = ntohl(mnl_attr_get_u32(a));
			break;
		case NFTA_CHAIN_USE:
			if (len == 4)
				c.rules = ntohl(mnl_attr_get_u32(a));
			break;
		case NFTA_CHAIN_NAME:
			if (len > 0 && len < sizeof(c.name))
				snprintf(c.name, sizeof(c.name), "%.*s", (int)len,
					 mnl_attr_get_str(a));
			break;
		}
	}
	*ret = c;
	return 0;
}

static bool matters(const struct chain *c)
{
	if (!c->base || (!c->rules && c->policy == NF_ACCEPT))
		return false;
	switch (c->family) {
	case NFPROTO_INET:
	case NFPROTO_IPV4:
	case NFPROTO_IPV6:
		return c->hook == NF_INET_PRE_ROUTING || c->hook == NF_INET_FORWARD ||
		       c->hook == NF_INET_POST_ROUTING || c->hook == NF_INET_INGRESS;
	case NFPROTO_ARP:
		return false;
	}
	return true;
}

static int on_chain(const struct nlmsghdr *h, void *data)
{
	struct chain *found = data, c;

	if (!found->base && parse_chain(h, &c) == 0 && matters(&c))
		*found = c;
	return 0;
}

static bool nft_rules(char *why, size_t size)
{
	_cleanup_(bn_nl_freep) struct bn_nl *nl = NULL;
	struct chain found = {};
	char buf[128] = {};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g;
	int r;

	r = bn_nl_open(NETLINK_NETFILTER, &nl);
	if (r == -EPROTONOSUPPORT)
		return false;
	if (r < 0)
		return true;
	h->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
	h->nlmsg_flags = NLM_F_DUMP;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = NFPROTO_UNSPEC;
	g->version = NFNETLINK_V0;
	r = bn_nl_call(nl, h, on_chain, &found);
	if (r == -EINVAL || r == -EOPNOTSUPP) /* no nf_tables in this kernel */
		return false;
	if (r < 0 || found.base)
		snprintf(why, size, "nftables chain '%s'", r < 0 ? "?" : found.name);
	return r < 0 || found.base;
}

/* --- legacy tables --------------------------------------------------------------------------- */

/* Entries of a table without rules: a policy for each of its hooks, and the closing error entry. */
static unsigned empty_entries(const char *table)
{
	static const struct {
		const char *name;
		unsigned n;
	} tables[] = {{"filter", 4}, {"nat", 5}, {"mangle", 6}, {"raw", 3}, {"security", 4}};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tables); i++)
		if (!strcmp(tables[i].name, table))
			return tables[i].n;
	return 0;
}

/* The structs of both families have the same beginning, and their entries end in the same target.
 */
_Static_assert(sizeof(struct ipt_getinfo) == sizeof(struct ip6t_getinfo), "one reader for both");
_Static_assert(IPT_SO_GET_INFO == IP6T_SO_GET_INFO, "one reader for both");

static bool policy_accepts(int fd, bool v6, const struct ipt_getinfo *info)
{
	size_t head = v6 ? sizeof(struct ip6t_get_entries) : sizeof(struct ipt_get_entries);
	uint32_t at = info->underflow[NF_INET_FORWARD];
	_cleanup_(freep) char *buf = NULL;
	struct xt_standard_target t;
	socklen_t len = head + info->size;
	uint16_t off;

	if (!(info->valid_hooks & 1 << NF_INET_FORWARD))
		return true;
	buf = calloc(1, len);
	if (!buf)
		return false;
	memcpy(buf, info->name, sizeof(info->name));
	memcpy(buf + offsetof(struct ipt_get_entries, size), &info->size, sizeof(info->size));
	if (getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, IPT_SO_GET_ENTRIES, buf, &len))
		return false;
	if (at + (v6 ? sizeof(struct ip6t_entry) : sizeof(struct ipt_entry)) > info->size)
		return false;
	memcpy(&off,
	       buf + head + at +
		       (v6 ? offsetof(struct ip6t_entry, target_offset)
			   : offsetof(struct ipt_entry, target_offset)),
	       sizeof(off));
	if ((size_t)at + off + sizeof(t) > info->size)
		return false;
	memcpy(&t, buf + head + at + off, sizeof(t));
	return t.verdict == -NF_ACCEPT - 1;
}

static bool legacy_rules(bool v6, char *why, size_t size)
{
	const char *path = v6 ? "/proc/thread-self/net/ip6_tables_names"
			      : "/proc/thread-self/net/ip_tables_names";
	_cleanup_(fclosep) FILE *f = fopen(path, "re");
	_cleanup_(closep) int fd = -1;
	struct ipt_getinfo info;
	char name[64];
	socklen_t len;

	if (!f) /* the module is not loaded, or the namespace has no /proc entry for it */
		return errno != ENOENT;
	while (fgets(name, sizeof(name), f)) {
		name[strcspn(name, "\n")] = '\0';
		if (fd < 0)
			fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
		info = (struct ipt_getinfo){};
		len = sizeof(info);
		snprintf(info.name, sizeof(info.name), "%.31s", name);
		if (fd < 0 ||
		    getsockopt(fd, v6 ? IPPROTO_IPV6 : IPPROTO_IP, IPT_SO_GET_INFO, &info, &len) ||
		    info.num_entries != empty_entries(name) ||
		    (!strcmp(name, "filter") && !policy_accepts(fd, v6, &info))) {
			snprintf(why, size, "%s table '%.31s'", v6 ? "ip6tables" : "iptables",
				 name);
			return true;
		}
	}
	return false;
}

bool bn_foreign_netfilter(char *why, size_t size)
{
	char ignored[8];

	if (!why) {
		why = ignored;
		size = sizeof(ignored);
	}
	return nft_rules(why, size) || legacy_rules(false, why, size) ||
	       legacy_rules(true, why, size);
}

/* --- traffic control ------------------------------------------------------------------------- */

struct qdiscs {
	struct bn_foreign_qdisc *v;
	size_t n, alloc;
};

static int on_qdisc(const struct nlmsghdr *h, void *data)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	struct bn_foreign_qdisc q = {};
	struct qdiscs *l = data;
	const struct nlattr *a;
	char kind[16] = "";

	if (h->nlmsg_type != RTM_NEWQDISC || h->nlmsg_len < NLMSG_HDRLEN + sizeof(*t))
		return 0;
	mnl_attr_for_each (a, h, sizeof(*t))
		if (mnl_attr_get_type(a) == TCA_KIND)
			snprintf(kind, sizeof(kind), "%.*s", (int)mnl_attr_get_payload_len(a),
				 mnl_attr_get_str(a));
	q.ifindex = t->tcm_ifindex;
	q.clsact = !strcmp(kind, "clsact");
	q.shaped = !q.clsact && strcmp(kind, "noqueue") != 0;
	if (!q.clsact && !q.shaped)
		return 0;
	if (l->n == l->alloc) {
		size_t n = l->alloc * 2 + 32;
		struct bn_foreign_qdisc *v = realloc(l->v, n * sizeof(*v));

		if (!v)
			return -ENOMEM;
		l->v = v;
		l->alloc = n;
	}
	l->v[l->n++] = q;
	return 0;
}

static int qdisc_cmp(const void *a, const void *b)
{
	const struct bn_foreign_qdisc *p = a, *q = b;

	return (p->ifindex > q->ifindex) - (p->ifindex < q->ifindex);
}

int bn_foreign_qdiscs(struct bn_nl *nl, struct bn_foreign_qdisc **ret, size_t *n)
{
	char buf[128] = {};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct qdiscs l = {};
	size_t i, k;
	int r;

	h->nlmsg_type = RTM_GETQDISC;
	h->nlmsg_flags = NLM_F_DUMP;
	mnl_nlmsg_put_extra_header(h, sizeof(struct tcmsg));
	r = bn_nl_call(nl, h, on_qdisc, &l);
	if (r < 0) {
		free(l.v);
		return r;
	}
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), qdisc_cmp);
	for (i = k = 0; i < l.n; i++) {
		if (k && l.v[k - 1].ifindex == l.v[i].ifindex) {
			l.v[k - 1].shaped |= l.v[i].shaped;
			l.v[k - 1].clsact |= l.v[i].clsact;
		} else {
			l.v[k++] = l.v[i];
		}
	}
	*ret = l.v;
	*n = k;
	return 0;
}

static int on_filter(const struct nlmsghdr *h, void *data)
{
	const struct tcmsg *t = mnl_nlmsg_get_payload(h);
	bool *found = data;

	if (h->nlmsg_type != RTM_NEWTFILTER || h->nlmsg_len < NLMSG_HDRLEN + sizeof(*t))
		return 0;
	if (t->tcm_handle &&
	    (TC_H_MAJ(t->tcm_info) >> 16 != BN_TC_PRIO || t->tcm_handle != BN_TC_HANDLE))
		*found = true;
	return 0;
}

static bool clsact_filters(struct bn_nl *nl, uint32_t ifindex)
{
	static const uint32_t parents[] = {TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
					   TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)};
	bool found = false;
	struct tcmsg *t;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(parents); i++) {
		char buf[128] = {};
		struct nlmsghdr *h = mnl_nlmsg_put_header(buf);

		h->nlmsg_type = RTM_GETTFILTER;
		h->nlmsg_flags = NLM_F_DUMP;
		t = mnl_nlmsg_put_extra_header(h, sizeof(*t));
		t->tcm_ifindex = ifindex;
		t->tcm_parent = parents[i];
		if (bn_nl_call(nl, h, on_filter, &found) < 0)
			return true;
	}
	return found;
}

static bool is_ours(uint32_t prog_id)
{
	_cleanup_(closep) int fd = bpf_prog_get_fd_by_id(prog_id);
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		return false;
	return !strcmp(info.name, "from_pod") || !strcmp(info.name, "to_pod");
}

/* BPF_TCX_INGRESS and EGRESS; the headers of the build may not know the names. */
static bool tcx_programs(uint32_t ifindex)
{
	uint32_t ids[8], n, i;
	int type;

	for (type = 46; type <= 47; type++) {
		n = ARRAY_SIZE(ids);
		if (bpf_prog_query(ifindex, type, 0, NULL, ids, &n))
			return errno == ENOSPC; /* EINVAL: a kernel without tcx */
		for (i = 0; i < n; i++)
			if (!is_ours(ids[i]))
				return true;
	}
	return false;
}

bool bn_foreign_filters(struct bn_nl *nl, uint32_t ifindex, bool clsact)
{
	return tcx_programs(ifindex) || (clsact && clsact_filters(nl, ifindex));
}
