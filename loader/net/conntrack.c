/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <string.h>

#include "loader/net/conntrack.h"
#include "maps/util.h"

#define KEEP_TABLE "bpfnet-takeover"
#define NAT_PRIORITY (-100)

#ifndef NFPROTO_INET
#define NFPROTO_INET 1
#endif

static struct nlmsghdr *nf_message(char *buf, uint16_t type, uint16_t flags, uint8_t family, uint16_t res)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *g;

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	g->nfgen_family = family;
	g->version = NFNETLINK_V0;
	g->res_id = htons(res);
	return h;
}

/* --- connections ----------------------------------------------------------------------------- */

struct end {
	struct bn_addr src, dst;
	__be16 sport, dport;
	uint8_t proto;
};

static bool read_addr(const struct nlattr *a, struct bn_addr *ret)
{
	uint16_t len = mnl_attr_get_payload_len(a);
	__be32 v4;

	if (len == sizeof(v4)) {
		memcpy(&v4, mnl_attr_get_payload(a), sizeof(v4));
		bn_addr_v4(ret, v4);
	} else if (len == sizeof(*ret)) {
		memcpy(ret, mnl_attr_get_payload(a), sizeof(*ret));
	} else {
		return false;
	}
	return true;
}

static bool read_port(const struct nlattr *a, __be16 *ret)
{
	if (mnl_attr_get_payload_len(a) != sizeof(*ret))
		return false;
	memcpy(ret, mnl_attr_get_payload(a), sizeof(*ret));
	return true;
}

/* Five things make a tuple; what has fewer (ICMP, GRE) is none of ours. */
static bool read_tuple(const struct nlattr *tuple, struct end *t)
{
	const struct nlattr *group, *a;
	int found = 0;

	mnl_attr_for_each_nested(group, tuple) {
		bool ip = mnl_attr_get_type(group) == CTA_TUPLE_IP;

		mnl_attr_for_each_nested(a, group) {
			uint16_t type = mnl_attr_get_type(a);

			if (ip && (type == CTA_IP_V4_SRC || type == CTA_IP_V6_SRC))
				found += read_addr(a, &t->src);
			else if (ip && (type == CTA_IP_V4_DST || type == CTA_IP_V6_DST))
				found += read_addr(a, &t->dst);
			else if (!ip && type == CTA_PROTO_NUM && mnl_attr_get_payload_len(a))
				found += !!(t->proto = mnl_attr_get_u8(a));
			else if (!ip && type == CTA_PROTO_SRC_PORT)
				found += read_port(a, &t->sport);
			else if (!ip && type == CTA_PROTO_DST_PORT)
				found += read_port(a, &t->dport);
		}
	}
	return found == 5;
}

static uint8_t read_tcp_state(const struct nlattr *info)
{
	const struct nlattr *group, *a;

	mnl_attr_for_each_nested(group, info)
		if (mnl_attr_get_type(group) == CTA_PROTOINFO_TCP)
			mnl_attr_for_each_nested(a, group)
				if (mnl_attr_get_type(a) == CTA_PROTOINFO_TCP_STATE &&
				    mnl_attr_get_payload_len(a))
					return mnl_attr_get_u8(a);
	return 0;
}

struct each {
	bn_nfct_fn fn;
	void *data;
};

static int on_connection(const struct nlmsghdr *h, void *data)
{
	const struct each *e = data;
	struct end orig = { 0 }, reply = { 0 };
	const struct nlattr *a;
	struct bn_nfct c = { 0 };
	uint32_t status = 0;
	bool have_orig = false, have_reply = false;

	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(struct nfgenmsg)))
		return -EBADMSG;
	mnl_attr_for_each(a, h, sizeof(struct nfgenmsg)) {
		uint16_t len = mnl_attr_get_payload_len(a);

		switch (mnl_attr_get_type(a)) {
		case CTA_TUPLE_ORIG:
			have_orig = read_tuple(a, &orig);
			break;
		case CTA_TUPLE_REPLY:
			have_reply = read_tuple(a, &reply);
			break;
		case CTA_STATUS:
			status = len == 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
			break;
		case CTA_TIMEOUT:
			c.timeout_s = len == 4 ? ntohl(mnl_attr_get_u32(a)) : 0;
			break;
		case CTA_PROTOINFO:
			c.state = read_tcp_state(a);
			break;
		}
	}
	if (!have_orig || !have_reply || !(status & IPS_DST_NAT))
		return 0;
	if (orig.proto != BN_PROTO_TCP && orig.proto != BN_PROTO_UDP && orig.proto != BN_PROTO_SCTP)
		return 0;
	c.src = orig.src;
	c.dst = orig.dst;
	c.sport = orig.sport;
	c.dport = orig.dport;
	c.xs = reply.dst;
	c.xd = reply.src;
	c.xsp = reply.dport;
	c.xdp = reply.sport;
	c.proto = orig.proto;
	c.replied = status & IPS_SEEN_REPLY;
	c.assured = status & IPS_ASSURED;
	return e->fn(&c, e->data);
}

int bn_nfct_each_dnat(bn_nfct_fn fn, void *data)
{
	_cleanup_(bn_nl_freep) struct bn_nl *nl = NULL;
	struct each e = { fn, data };
	struct nlmsghdr *h;
	char buf[256];
	int r = bn_nl_open(NETLINK_NETFILTER, &nl);

	if (r < 0)
		return r;
	h = nf_message(buf, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, NLM_F_DUMP, AF_UNSPEC, 0);
	/* The kernel leaves out what is not translated, where it knows these (5.14). */
	mnl_attr_put_u32(h, CTA_STATUS, htonl(IPS_DST_NAT));
	mnl_attr_put_u32(h, CTA_STATUS_MASK, htonl(IPS_DST_NAT));
	return bn_nl_call(nl, h, on_connection, &e);
}

/* --- the chain that keeps translation alive --------------------------------------------------- */

struct batch {
	char buf[1024];
	size_t len;
	uint32_t seq;
};

static struct nlmsghdr *batch_next(struct batch *b, uint16_t type, uint16_t flags, uint8_t family,
				   uint16_t res)
{
	struct nlmsghdr *h = nf_message(b->buf + b->len, type, flags, family, res);

	h->nlmsg_seq = ++b->seq;
	return h;
}

static void batch_put(struct batch *b, const struct nlmsghdr *h)
{
	b->len += MNL_ALIGN(h->nlmsg_len);
}

static void batch_mark(struct batch *b, uint16_t type)
{
	batch_put(b, batch_next(b, type, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES));
}

/* Each message that asks for it gets an answer of its own; the first error is the batch's. */
static int batch_send(struct batch *b, unsigned answers)
{
	_cleanup_(closep) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK };
	struct timeval tv = { .tv_sec = 5 };
	char buf[8192];
	int err = 0;

	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (send(fd, b->buf, b->len, 0) < 0)
		return -errno;
	while (answers && !err) {
		ssize_t got = recv(fd, buf, sizeof(buf), 0);
		const struct nlmsghdr *h = (void *)buf;
		int n = got;

		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		for (; mnl_nlmsg_ok(h, n); h = mnl_nlmsg_next(h, &n)) {
			const struct nlmsgerr *e = mnl_nlmsg_get_payload(h);

			if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
				continue;
			err = err ? err : e->error;
			answers -= answers > 0;
		}
	}
	return err;
}

#define NFT_MSG(type) (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_##type)

/* A chain of type nat keeps the translation's hooks alive, but only a rule that asks for a connection's
 * state keeps connections tracked. It stands in a chain that nothing leads to: no packet pays for it.
 */
static void put_rule(struct batch *b)
{
	struct nlmsghdr *h = batch_next(b, NFT_MSG(NEWRULE), NLM_F_CREATE | NLM_F_APPEND | NLM_F_ACK,
					NFPROTO_INET, 0);
	struct nlattr *list, *elem, *expr;

	mnl_attr_put_strz(h, NFTA_RULE_TABLE, KEEP_TABLE);
	mnl_attr_put_strz(h, NFTA_RULE_CHAIN, "tracking");
	list = mnl_attr_nest_start(h, NFTA_RULE_EXPRESSIONS);
	elem = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	mnl_attr_put_strz(h, NFTA_EXPR_NAME, "ct");
	expr = mnl_attr_nest_start(h, NFTA_EXPR_DATA);
	mnl_attr_put_u32(h, NFTA_CT_DREG, htonl(NFT_REG_1));
	mnl_attr_put_u32(h, NFTA_CT_KEY, htonl(NFT_CT_STATE));
	mnl_attr_nest_end(h, expr);
	mnl_attr_nest_end(h, elem);
	elem = mnl_attr_nest_start(h, NFTA_LIST_ELEM);
	mnl_attr_put_strz(h, NFTA_EXPR_NAME, "counter");
	mnl_attr_nest_end(h, elem);
	mnl_attr_nest_end(h, list);
	batch_put(b, h);
}

int bn_nft_keep_nat(void)
{
	struct batch b = { 0 };
	struct nlmsghdr *h;
	struct nlattr *hook;
	int r;

	batch_mark(&b, NFNL_MSG_BATCH_BEGIN);
	h = batch_next(&b, NFT_MSG(NEWTABLE), NLM_F_CREATE | NLM_F_ACK, NFPROTO_INET, 0);
	mnl_attr_put_strz(h, NFTA_TABLE_NAME, KEEP_TABLE);
	batch_put(&b, h);
	h = batch_next(&b, NFT_MSG(NEWCHAIN), NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, NFPROTO_INET, 0);
	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, KEEP_TABLE);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, "translation");
	hook = mnl_attr_nest_start(h, NFTA_CHAIN_HOOK);
	mnl_attr_put_u32(h, NFTA_HOOK_HOOKNUM, htonl(NF_INET_PRE_ROUTING));
	mnl_attr_put_u32(h, NFTA_HOOK_PRIORITY, htonl((uint32_t)NAT_PRIORITY));
	mnl_attr_nest_end(h, hook);
	mnl_attr_put_u32(h, NFTA_CHAIN_POLICY, htonl(NF_ACCEPT));
	mnl_attr_put_strz(h, NFTA_CHAIN_TYPE, "nat");
	batch_put(&b, h);
	h = batch_next(&b, NFT_MSG(NEWCHAIN), NLM_F_CREATE | NLM_F_ACK, NFPROTO_INET, 0);
	mnl_attr_put_strz(h, NFTA_CHAIN_TABLE, KEEP_TABLE);
	mnl_attr_put_strz(h, NFTA_CHAIN_NAME, "tracking");
	batch_put(&b, h);
	put_rule(&b);
	batch_mark(&b, NFNL_MSG_BATCH_END);
	r = batch_send(&b, 4);
	return r == -EEXIST ? 0 : r; /* an earlier daemon's, as a whole */
}

int bn_nft_drop_nat(void)
{
	struct batch b = { 0 };
	struct nlmsghdr *h;

	batch_mark(&b, NFNL_MSG_BATCH_BEGIN);
	h = batch_next(&b, NFT_MSG(DELTABLE), NLM_F_ACK, NFPROTO_INET, 0);
	mnl_attr_put_strz(h, NFTA_TABLE_NAME, KEEP_TABLE);
	batch_put(&b, h);
	batch_mark(&b, NFNL_MSG_BATCH_END);
	return batch_send(&b, 1);
}
