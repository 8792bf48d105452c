/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef BN_BPF_HTTP_WORK_H
#define BN_BPF_HTTP_WORK_H

/* What the HTTP stage works with on one packet: per CPU, because it is far more than a stack holds. And the
 * rule sets as the parser reads them.
 *
 * Positions in streams are sequence numbers, host order, compared by signed difference.
 */

#include "bpf/lib/flow.h"
#include "bpf/lib/reject.h"
#include "maps/http_conn.h"

#define BN_HTTP_PIECE 1024 /* bytes read from the packet at once */

/* Where the follower of the answers is (bpf/lib/http_answer.h). */
enum bn_http_res {
	BN_HTTP_RES_OFF,
	BN_HTTP_RES_VERSION,
	BN_HTTP_RES_STATUS,
	BN_HTTP_RES_REASON, /* up to the end of the line */
	BN_HTTP_RES_LINE,
	BN_HTTP_RES_NAME,
	BN_HTTP_RES_VALUE,
	BN_HTTP_RES_END, /* behind the CR of the empty line */
	BN_HTTP_RES_BODY,
	BN_HTTP_RES_SIZE,
	BN_HTTP_RES_EXT,
	BN_HTTP_RES_CHUNK,
	BN_HTTP_RES_TRAILER,	  /* beginning of a line */
	BN_HTTP_RES_TRAILER_TEXT,
	BN_HTTP_RES_TRAILER_END,
	BN_HTTP_RES_CLOSE, /* the body ends with the connection */
	BN_HTTP_RES_LOST,
};

struct bn_http_work {
	struct bn_http_state st; /* of the connection, until it is committed */
	struct bn_http_key key;
	struct bn_http_block_key block_key;
	/* the packet */
	struct bn_tcp tcp;
	__u32 seq, end, ack; /* end: without FIN */
	__u32 toff, plen;    /* payload in the frame */
	__u32 tsval, tsecr;  /* as in the header */
	__u32 set;	     /* that judges requests which begin now */
	__u32 cur_set, gen;  /* that judges st */
	__u32 pos;	     /* next byte for the parser */
	__u32 run;	     /* since here all bytes were control bytes */
	__u32 head;	     /* first byte of the request in progress */
	__u32 from, have;    /* bytes[0] and how many */
	__u32 recent_from, recent_to, kept, srv_base;
	__u32 fail;	     /* enum bn_drop: nothing of this packet counts */
	__u32 switches;	     /* of the set that judged a request's end */
	__u32 out_len;
	__u16 outstanding;
	__u8 reason;	     /* enum bn_http_reason: denied */
	__u8 side, has_ts, partial, judged, body; /* body: of the request in progress, its head was allowed */
	__u8 eth[12];
	__u32 over; /* the pod had its share of blocks */
	__u32 audit; /* what is denied is recorded, and passes */
	__u32 ended; /* bn_http_fast: an allowed head's end */
	__u32 offer, offers; /* where the last of that many offers of HTTP/2 ended */
	__u32 before; /* requests whose answers are due whatever becomes of this packet */
	struct bn_tuple v; /* as the pod behind the hook sees the packet */
	__u8 bytes[BN_HTTP_PIECE + 256]; /* bn_http_fast reads on behind the end */
	__u64 image[2 * BN_HTTP_BLOCK / 8];
	__u64 bits[4], pad;
	struct bn_http_block block;
	struct bn_http_conn fresh;
	struct bn_answer l3;
	struct {
		struct bn_tcp tcp;
		__be32 ts[3];
	} l4;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct bn_http_work);
	__uint(max_entries, 1);
} http_work SEC(".maps");

static __always_inline struct bn_http_work *bn_http_work_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&http_work, &zero);
}

static __always_inline bool bn_before(__u32 a, __u32 b)
{
	return (__s32)(a - b) < 0;
}

static __always_inline __u32 bn_later(__u32 a, __u32 b)
{
	return bn_before(a, b) ? b : a;
}

/* --- Rule sets -------------------------------------------------------------------------------- */

static __always_inline struct bn_http_page *bn_http_page(__u32 set, __u32 nth)
{
	void *pages = bpf_map_lookup_elem(&http_sets, &set);

	return pages ? bpf_map_lookup_elem(pages, &nth) : NULL;
}

/* What lies beyond the first page: two more look-ups. */
__noinline __u32 bn_http_far_cell(__u32 at)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_page *page;

	if (!w)
		return 0;
	page = bn_http_page(w->cur_set, at / (BN_HTTP_PAGE / 2));
	return page ? page->cell[at & (BN_HTTP_PAGE / 2 - 1)] : 0;
}

__noinline __u64 bn_http_far_word(__u32 at)
{
	struct bn_http_work *w = bn_http_work_get();
	struct bn_http_page *page;

	if (!w)
		return 0;
	page = bn_http_page(w->cur_set, at / (BN_HTTP_PAGE / 8));
	return page ? page->word[at & (BN_HTTP_PAGE / 8 - 1)] : 0;
}

static __always_inline __u32 bn_http_cell(const struct bn_http_page *t, __u32 i)
{
	__u32 at = i + BN_HTTP_CELLS_AT / 2;

	if (at >= BN_HTTP_PAGE / 2)
		return bn_http_far_cell(at);
	return t->cell[at & (BN_HTTP_PAGE / 2 - 1)];
}

static __always_inline __u64 bn_http_word(const struct bn_http_page *t, __u32 i)
{
	__u32 at = i + t->words / 8;

	if (at >= BN_HTTP_PAGE / 8)
		return bn_http_far_word(at);
	return t->word[at & (BN_HTTP_PAGE / 8 - 1)];
}

typedef struct bn_http_page bn_http_t;
#define BN_HTTP_FN __noinline

#include "bpf/lib/http_parse.h"

/* One byte; verified alone. */
__noinline int bn_http_one(const struct bn_http_page *t, struct bn_http_state *s, __u32 b)
{
	return t && s ? bn_http_byte(t, s, (__u8)b) : -BN_HTTP_TABLE;
}

#endif
