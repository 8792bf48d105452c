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


struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr;
} BN_CORE;

struct inode {
	unsigned long i_ino;
} BN_CORE;

struct socket {
	short type;
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

#define BN_AF_INET6   10
#define BN_ESTABLISHED 1
#define BN_SYN_SENT    2

SEC("iter/bpf_sk_storage_map")
int list_socks(struct bpf_iter__bpf_sk_storage_map *ctx)
{
	struct bn_sk_peers *peers = ctx->value;
	struct sock *sk = ctx->sk;
	struct bn_sk_rec r = {};
	struct socket *s;
	__u8 state;

	if (!sk || !peers)
		return 0;
	r.peers = *peers;
	r.cookie = bpf_get_socket_cookie(sk);
	r.netns = sk->__sk_common.skc_net.net->net_cookie;
	r.proto = sk->sk_protocol;
	r.sport = __builtin_bswap16(sk->__sk_common.skc_num);
	r.dport = sk->__sk_common.skc_dport;
	r.v6 = sk->__sk_common.skc_family == BN_AF_INET6;
	state = sk->__sk_common.skc_state;
	r.connected = state == BN_ESTABLISHED || state == BN_SYN_SENT;
	if (r.v6) {
		BPF_CORE_READ_INTO(&r.src, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO(&r.dst, sk, __sk_common.skc_v6_daddr);
	} else {
		bn_addr_v4(&r.src, sk->__sk_common.skc_rcv_saddr);
		bn_addr_v4(&r.dst, sk->__sk_common.skc_daddr);
	}
	s = sk->sk_socket;
	if (s)
		r.ino = BPF_CORE_READ((struct socket_alloc *)s, vfs_inode.i_ino);
	bpf_seq_write(ctx->meta->seq, &r, sizeof(r));
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
