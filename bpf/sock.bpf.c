// SPDX-License-Identifier: GPL-2.0-only
/* Socket hooks of the cgroup given by --cgroup. Only here are the two families told apart: everything
 * else works on the v4-mapped form (an AF_INET6 socket that talks IPv4 comes with it already).
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "bpf/lib/sock.h"

#define BN_SOCK_ALLOW 1
#define BN_SOCK_DENY 0

static __always_inline void load4(struct bpf_sock_addr *ctx, struct bn_sock_call *c)
{
	bn_addr_v4(&c->addr, ctx->user_ip4);
	c->port = ctx->user_port;
}

static __always_inline void store4(struct bpf_sock_addr *ctx, const struct bn_addr *a, __be16 port)
{
	ctx->user_ip4 = a->w[3];
	ctx->user_port = port;
}

static __always_inline void load6(struct bpf_sock_addr *ctx, struct bn_sock_call *c)
{
	c->addr.w[0] = ctx->user_ip6[0];
	c->addr.w[1] = ctx->user_ip6[1];
	c->addr.w[2] = ctx->user_ip6[2];
	c->addr.w[3] = ctx->user_ip6[3];
	c->port = ctx->user_port;
}

static __always_inline void store6(struct bpf_sock_addr *ctx, const struct bn_addr *a, __be16 port)
{
	ctx->user_ip6[0] = a->w[0];
	ctx->user_ip6[1] = a->w[1];
	ctx->user_ip6[2] = a->w[2];
	ctx->user_ip6[3] = a->w[3];
	ctx->user_port = port;
}

/* The kernel turns a bare 0 into EPERM, which applications read as a firewall's or a bug. */
static __always_inline int refuse(void)
{
	bpf_set_retval(-BN_ECONNREFUSED);
	return BN_SOCK_DENY;
}

static __always_inline int forward4(struct bpf_sock_addr *ctx, enum bn_sock_op op)
{
	struct bn_sock_call c = {};
	enum bn_sock_answer r;

	load4(ctx, &c);
	r = bn_sock_forward(ctx, &c, op);
	if (r == BN_SOCK_REFUSE)
		return refuse();
	if (r == BN_SOCK_TRANSLATE)
		store4(ctx, &c.be.addr, c.be.port);
	return BN_SOCK_ALLOW;
}

static __always_inline int forward6(struct bpf_sock_addr *ctx, enum bn_sock_op op)
{
	struct bn_sock_call c = {};
	enum bn_sock_answer r;

	load6(ctx, &c);
	r = bn_sock_forward(ctx, &c, op);
	if (r == BN_SOCK_REFUSE)
		return refuse();
	if (r == BN_SOCK_TRANSLATE)
		store6(ctx, &c.be.addr, c.be.port);
	return BN_SOCK_ALLOW;
}

static __always_inline int reverse4(struct bpf_sock_addr *ctx)
{
	struct bn_sock_call c = {};

	load4(ctx, &c);
	if (bn_sock_reverse(ctx, &c))
		store4(ctx, &c.addr, c.port);
	return BN_SOCK_ALLOW;
}

static __always_inline int reverse6(struct bpf_sock_addr *ctx)
{
	struct bn_sock_call c = {};

	load6(ctx, &c);
	if (bn_sock_reverse(ctx, &c))
		store6(ctx, &c.addr, c.port);
	return BN_SOCK_ALLOW;
}

/* First in the object, so that it is attached before any place is taken. */
SEC("cgroup/sock_release")
int sock_release(struct bpf_sock *ctx)
{
	if (ctx->protocol == IPPROTO_TCP &&
	    (cfg_socket_lb_pods || bpf_get_netns_cookie(ctx) == cfg_netns_cookie))
		bn_sk_tcp_give(bpf_get_socket_cookie(ctx));
	return BN_SOCK_ALLOW;
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, BN_SOCK_CONNECT);
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, BN_SOCK_CONNECT);
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, BN_SOCK_SENDMSG);
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, BN_SOCK_SENDMSG);
}

SEC("cgroup/recvmsg4")
int recvmsg4(struct bpf_sock_addr *ctx)
{
	return reverse4(ctx);
}

SEC("cgroup/recvmsg6")
int recvmsg6(struct bpf_sock_addr *ctx)
{
	return reverse6(ctx);
}

SEC("cgroup/getpeername4")
int getpeername4(struct bpf_sock_addr *ctx)
{
	return reverse4(ctx);
}

SEC("cgroup/getpeername6")
int getpeername6(struct bpf_sock_addr *ctx)
{
	return reverse6(ctx);
}

char LICENSE[] SEC("license") = "GPL";
