/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_HTTP_CONN_H
#define BN_MAPS_HTTP_CONN_H

/* HTTP rules in force, and the connections that are followed (docs/ARCHITECTURE.md, "HTTP").
 *
 *   http_sets    array of maps  set id -> array of struct bn_http_page   the daemon's
 *   http_stats   array          index -> __u64 requests                  mmapable; counted by the programs
 *   http_reasons per-CPU array  enum bn_http_reason -> __u64 requests    counted by the programs; behind
 *                               BN_HTTP_AUDITED those that audit let pass
 *   http_shares  array          slot of a pod -> bn_http_share; 0: all    mmapable; the programs' alone
 *   http_conns   hash           bn_http_key -> bn_http_conn              the programs' alone
 *   http_blocks  hash           bn_http_block_key -> bn_http_block       the programs' alone
 *
 * A rule set is written once, before the first cell of a compiled policy names it (bn_cell.http), and never
 * changed: other rules are another set under another id. Its pages are one run of bytes: struct bn_http_set,
 * from BN_HTTP_CELLS_AT on the cells, then (8-aligned) the bitmaps.
 */

#include "maps/ct.h"
#include "maps/event.h"
#include "maps/http.h"

enum {
	BN_HTTP_SETS = 16384,  /* ids 1 .. BN_HTTP_SETS - 1 */
	BN_HTTP_PAGE = 32768,  /* bytes */
	BN_HTTP_CELLS_AT = 1024,
	BN_HTTP_SET_BYTES_MAX = 64 << 20,
	BN_HTTP_BLOCK = 256,   /* bytes of a stream */
	BN_HTTP_BLOCKS_PACKET = 2050,  /* in one packet (BIG TCP: 512 KiB) */
	BN_HTTP_BLOCKS_CONN = 16384,   /* of one connection: 4 MiB */
	BN_HTTP_CONNS_ALL = 65536,
	BN_HTTP_BLOCKS_ALL = 65536,
	BN_HTTP_BLOCKS_EARLY = 49152,  /* out of order, of all connections */
	BN_HTTP_RECENT = 512,
	BN_HTTP_EVENT_HEAD = 512,
	BN_HTTP_AUDITED = 64, /* http_reasons: what audit let pass, by reason */
	BN_HTTP_SET_MAGIC = 0x62706873,
};

BN_ABI_BEGIN
#define BN_HTTP_SET_MEMBERS                                                                        \
	__u32 magic;                                                                               \
	__u32 gen;    /* of this id: another one each time the id is given to a set; never 0 */    \
	__u32 bytes;  /* of the set */                                                             \
	__u32 ncells;                                                                              \
	__u32 words;  /* offset of the bitmaps */                                                  \
	__u32 nbits;  /* words of 64 bits of them */                                               \
	/* http_stats: requests denied; those that match k allowed: stats + 1 + k. 0: not counted */ \
	__u32 stats;                                                                               \
	__u32 switches; /* a match names CONNECT or Upgrade: which answer is whose matters */         \
	__u64 digest /* the daemon's, to know its sets again */

struct bn_http_set {
	BN_HTTP_SET_MEMBERS;
	struct bn_http_tab tab;
	__u32 audited; /* http_stats: requests that audit let pass, behind those of the matches. 0: not counted */
};

struct bn_http_page {
	union {
		struct { /* page 0: struct bn_http_set */
			BN_HTTP_SET_MEMBERS;
			BN_HTTP_TAB_MEMBERS;
			__u32 audited;
		};
		__u16 cell[BN_HTTP_PAGE / 2];
		__u64 word[BN_HTTP_PAGE / 8];
	};
};

/* Which judge of which connection: addresses and ports behind every translation. */
struct bn_http_key {
	struct bn_addr client, server;
	__be16 cport, sport;
	__u8 side; /* enum bn_event_dir: the client's egress rules, or the server's ingress rules */
	__u8 pad[3];
};

struct bn_http_conn {
	struct bn_http_state st;
	__u64 id;	/* of its blocks; 0: it is being deleted */
	__u32 claim;	/* by the CPU that works on it: its number + 1 */
	__u32 seen_s;	/* last packet, seconds of boot time */
	__u32 set, gen; /* rules of the request that st is in */
	/* Sequence numbers of the client's bytes, host order. */
	__u32 next;	   /* the next control byte; what lies before it was judged, or is body */
	__u32 una;	   /* the server has acknowledged everything before */
	__u32 kept;	   /* end of the last byte that is kept for comparison */
	__u32 end;	   /* end of what the client has sent and we have let pass */
	__u32 head;	   /* where the request began that st is in */
	__u32 recent_from; /* recent[0]; up to recent_to */
	__u32 recent_to;
	__u32 deny; /* phase WAITING and later: first byte that was held back */
	__u32 top;  /* end of what the client has sent at all */
	/* Of the server's. */
	__u32 srv_end;	/* end of what it has sent */
	__u32 srv_acked; /* the client has acknowledged everything before */
	__u32 srv_base; /* srv_end when the last request was let pass */
	__u32 first, srv_first; /* where both began: the connection's identity beside its key */
	union {
		__u32 answer; /* phase ANSWERED: first byte of the 403 */
		__u32 offer;  /* before, with F_OFFER: behind the value of an Upgrade that is declined */
	};
	/* Blocks, in the order in which they were made. */
	__u32 block_first, block_last; /* numbers: sequence number / BN_HTTP_BLOCK */
	__u32 nblocks;
	__u32 since_s;	   /* when it came into its phase */
	__u16 outstanding; /* requests let pass whose answers are not known to be over */
	__u8 phase;	   /* enum bn_http_phase */
	__u8 reason;	   /* enum bn_http_reason */
	__u8 flags;	   /* BN_HTTP_CONN_F_* */
	__u8 strikes;	   /* retransmissions in a row that said something else */
	__u8 more;	   /* the server's last data did not end what it wrote (no PSH). Written without claim */
	__u8 pad;
	__u32 gap_ms;	   /* since when a part of a followed answer is missing, low bits; 0: none */
	/* The follower of the answers (bpf/lib/http_answer.h). */
	__u64 res_left;
	__u64 res_word;
	__u64 res_heads; /* outstanding requests, the next one to be answered in bit 0: it was a HEAD */
	__u32 res_next;
	__u16 res_status;
	__u8 res_at;
	__u8 res_flags;
	__u32 res_base; /* srv_end when the first of the outstanding requests was let pass */
	__u32 spoke_ms; /* when the server spoke last, low bits */
	__u32 slot;	/* of the pod whose share of the room it takes; 0: not counted */
	__u32 lost;	/* audit let pass what could not be judged: not to be followed any more. Set without claim */
	/* Control bytes that are not acknowledged, as long as they are one run that fits. */
	__u8 recent[BN_HTTP_RECENT];
};

/* What a pod takes of the room for connections and blocks (which pod: whose rules judge). It gets no more than
 * is left for all others: one alone has at most half, and however many have all they can get, there
 * is room for another one.
 */
struct bn_http_share {
	__u32 conns, blocks;
	__u32 refused_s; /* when it was refused more, seconds of boot time; 0: never */
	__u32 refused;	 /* how often */
};

struct bn_http_block_key {
	__u64 conn;
	__u32 number;
	__u32 pad;
};

struct bn_http_block {
	__u8 bytes[BN_HTTP_BLOCK];
	__u64 known[BN_HTTP_BLOCK / 64]; /* bit: the byte was let pass with this value */
	__u32 next;			  /* number of the next block of the connection */
	__u32 pad;
};

/* In ring buffer events, told from a struct bn_event by its size: a judged request. verdict ALLOWED, DENIED or
 * AUDIT (denied, and let pass), reason NONE or HTTP_DENIED.
 */
struct bn_http_event {
	struct bn_event ev; /* method, path and host are empty: user space reads them from `head` */
	__u32 set, gen;
	__u16 match; /* allowed: by which match of the set */
	__u8 http;   /* enum bn_http_reason */
	__u8 pad;
	__u32 len; /* bytes in head */
	__u8 head[BN_HTTP_EVENT_HEAD]; /* the request from its first byte on, as sent, cut */
};
BN_ABI_END
_Static_assert(sizeof(struct bn_http_set) <= BN_HTTP_CELLS_AT, "map ABI");
_Static_assert(sizeof(struct bn_http_page) == BN_HTTP_PAGE, "map ABI");
_Static_assert((int)BN_HTTP__MAX <= BN_HTTP_AUDITED, "counters");
_Static_assert(BN_HTTP_SETS - 1 == BN_CT_HTTP_SET, "an id and two flags in 16 bits");

enum bn_http_phase {
	BN_HTTP_FOLLOWED,
	BN_HTTP_WAITING,  /* denied; answers to earlier requests are still due */
	BN_HTTP_ANSWERED, /* 403 was sent, or a reset */
};

enum {
	BN_HTTP_CONN_F_HEAD = 1 << 0,	/* the denied request was a HEAD */
	BN_HTTP_CONN_F_RESET = 1 << 1,	/* no 403: a reset */
	BN_HTTP_CONN_F_FIN = 1 << 2,	/* the client has sent FIN */
	BN_HTTP_CONN_F_CLOSED = 1 << 3, /* RST, or both FIN */
	BN_HTTP_CONN_F_SRV_FIN = 1 << 4,
	BN_HTTP_CONN_F_CONNECT = 1 << 5, /* the last request was one */
	BN_HTTP_CONN_F_GUESSED = 1 << 6, /* an answer was taken for complete without having been followed */
	BN_HTTP_CONN_F_OFFER = 1 << 7,	 /* of HTTP/2, declined; not acknowledged yet */
};

#endif
