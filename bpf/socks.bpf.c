// SPDX-License-Identifier: GPL-2.0-only
/* Attached to nothing that packets meet: user space reads it to learn which sockets the hooks of
 * bpf/sock.bpf.c have translated for (maps/sk_list.h).
 */

#include <linux/bpf.h>
#include <linux/in6.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#include "bpf/lib/maps.h"

/* Of the kernel's own structures what is read here; libbpf finds where that is on this kernel. */
#define BN_CORE __attribute__((preserve_access_index))

struct net {
	__u64 net_cookie;
} BN_CORE;

typedef struct {
	struct net *net;
} BN_CORE possible_net_t;

typedef struct {
	__s64 counter;
} BN_CORE atomic64_t;


struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
} BN_CORE;

struct inode {
	unsigned long i_ino;
} BN_CORE;

struct sock;

struct socket {
	short type;
	struct sock *sk;
} BN_CORE;

struct socket_alloc {
	struct socket socket;
	struct inode vfs_inode;
} BN_CORE;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	struct socket *sk_socket;
} BN_CORE;

struct task_struct;
struct file;
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} BN_CORE;

struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
} BN_CORE;

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} BN_CORE;

#define BN_AF_INET    2
#define BN_AF_INET6   10
#define BN_ESTABLISHED 1
#define BN_SYN_SENT    2

/* What the kernel knows of the socket; 0 in cookie: nobody has asked for it yet. */
static __always_inline void describe(struct sock *sk, struct bn_sk_rec *r)
{
	struct socket *s;
	__u8 state;

	r->cookie = sk->__sk_common.skc_cookie.counter;
	r->netns = sk->__sk_common.skc_net.net->net_cookie;
	r->proto = sk->sk_protocol;
	r->sport = __builtin_bswap16(sk->__sk_common.skc_num);
	r->dport = sk->__sk_common.skc_dport;
	r->v6 = sk->__sk_common.skc_family == BN_AF_INET6;
	state = sk->__sk_common.skc_state;
	r->connected = state == BN_ESTABLISHED || state == BN_SYN_SENT;
	if (r->v6) {
		BPF_CORE_READ_INTO(&r->src, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&r->dst, sk, __sk_common.skc_v6_daddr);
	} else {
		bn_addr_v4(&r->src, sk->__sk_common.skc_rcv_saddr);
		bn_addr_v4(&r->dst, sk->__sk_common.skc_daddr);
	}
	s = sk->sk_socket;
	if (s)
		r->ino = BPF_CORE_READ((struct socket_alloc *)s, vfs_inode.i_ino);
}

SEC("iter/bpf_sk_storage_map")
int list_socks(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct bn_sk_peers *peers = ctx->value;
	struct sock *sk = ctx->sk;
	struct bn_sk_rec r = {};

	if (!sk || !peers)
		return 0;
	r.peers = *peers;
	describe(sk, &r);
	r.cookie = bpf_get_socket_cookie(sk);
	bpf_seq_write(ctx->meta->seq, &r, sizeof(r));
	return 0;
}

/* Of map sk_tcp only a cookie leads to a socket, but every open file does. One that two processes
 * share is told twice.
 */
SEC("iter/task_file")
int list_files(struct bpf_iter__task_file *ctx)
{
	struct file *file = ctx->file;
	struct bn_sk_tcp *t = NULL;
	struct bn_sk_rec r = {};
	struct socket *s;
	struct sock *sk;
	__u16 family;

	if (!file || !ctx->task)
		return 0;
	s = bpf_sock_from_file(file);
	if (!s)
		return 0;
	sk = s->sk;
	if (!sk)
		return 0;
	family = sk->__sk_common.skc_family;
	if (family != BN_AF_INET && family != BN_AF_INET6)
		return 0;
	r.cookie = sk->__sk_common.skc_cookie.counter;
	for (int i = 0; r.cookie && i < 2; i++) {
		__u32 at = bn_sk_tcp_place(r.cookie, i);

		t = bpf_map_lookup_elem(&sk_tcp, &at);
		if (t && t->cookie == r.cookie)
			break;
		t = NULL;
	}
	if (!t)
		return 0;
	r.peers.p[0] = t->p;
	describe(sk, &r);
	bpf_seq_write(ctx->meta->seq, &r, sizeof(r));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
