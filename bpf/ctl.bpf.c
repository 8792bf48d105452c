// SPDX-License-Identifier: GPL-2.0-only
/* Attached nowhere: `bpfnet ct flush` runs it by BPF_PROG_TEST_RUN. Entries of the connection table
 * are taken out under their bucket's lock, as insertion does; user space, which cannot hold it, only
 * says which.
 */

#include "maps/ct_flush.h"

#include "bpf/lib/maps.h"

struct bn_ct_flush flush;

static long take_out(__u32 i, void *data)
{
	struct bn_ct_bucket *b;
	struct bn_ct_entry *e;
	__u32 bucket, way, gen, gone = 0;

	if (i >= BN_CT_FLUSH_MAX)
		return 1;
	bucket = flush.v[i].bucket;
	way = flush.v[i].way & (BN_CT_WAYS - 1); /* a mask: 6.1 forgets a comparison */
	gen = flush.v[i].gen;
	b = bpf_map_lookup_elem(&ct, &bucket);
	if (!b)
		return 0;
	e = &b->e[way];
	bpf_spin_lock(&b->lock);
	/* Taken over by another flow since user space read it: then that one stays. */
	if (e->gen == gen && b->tag[way]) {
		/* Who found it before this writes its expiry and counters into a free entry, and sees
		 * by gen that what it read does not hold.
		 */
		*(volatile __u32 *)&b->tag[way] = 0;
		*(volatile __u32 *)&e->expires = 0;
		*(volatile __u32 *)&e->gen = gen + 2;
		gone = 1;
	}
	bpf_spin_unlock(&b->lock);
	flush.gone += gone;
	return 0;
}

SEC("tc")
int ct_flush(struct __sk_buff *skb)
{
	bpf_loop(flush.n, take_out, NULL, 0);
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
