/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
#ifndef BN_MAPS_HTTP_H
#define BN_MAPS_HTTP_H

/* Compiled HTTP rules and the state of one followed request direction: what policy/http.h writes and
 * bpf/lib/http_parse.h reads.
 *
 * A rule set holds at most BN_HTTP_MATCHES matches (the entries of `http:` of its rules, in order). Each
 * field of a request runs through one deterministic automaton; the state it ends in names a set of matches
 * (a bitmap), and the sets are ANDed: what is left allows the request.
 */

#include "maps/types.h"

enum {
	BN_HTTP_MATCHES = 1024,
	BN_HTTP_WORDS = BN_HTTP_MATCHES / 64,
	BN_HTTP_SLOTS = 16,	   /* header names, and as many query parameters, that a set may look at */
	BN_HTTP_HEAD_MAX = 32768,  /* bytes of a head, request line included; the same for trailers */
	BN_HTTP_FIELDS_MAX = 256,  /* fields of a head */
	BN_HTTP_METHOD_MAX = 32,   /* bytes of a method */
};

/* Why a request is denied. Numbers go into events and counters: append only. */
#define BN_HTTP_LIST(X)                                                                            \
	X(NO_MATCH, "no HTTP rule allows the request")                                             \
	X(METHOD, "method that is not a token, or is too long")                                    \
	X(TLS, "TLS where plain HTTP is expected")                                                 \
	X(HTTP2, "HTTP/2, which HTTP rules do not judge")                                          \
	X(HTTP09, "HTTP/0.9, or a request line without version")                                   \
	X(VERSION, "version that is neither HTTP/1.0 nor HTTP/1.1")                                \
	X(TARGET, "control bytes, '#', backslash or bytes beyond ASCII in the target, or a form of target " \
		  "that the method does not take")                                                 \
	X(PATH, "path that is not normal: empty or dot segments, encoded '/' or '\\'")           \
	X(PERCENT, "%00, or a percent sign without two hex digits, in the path")                   \
	X(CONNECT, "CONNECT, which no rule names")                                                 \
	X(HOST, "missing, repeated or malformed Host")                                             \
	X(BARE_LF, "line feed without carriage return")                                            \
	X(BARE_CR, "carriage return without line feed")                                            \
	X(NUL, "NUL byte in the head")                                                             \
	X(OBS_FOLD, "folded header line")                                                          \
	X(NAME, "header name that is empty, no token, or followed by white space")                 \
	X(VALUE, "control byte in a header value")                                                 \
	X(LENGTH, "Content-Length that is malformed")                                              \
	X(LENGTH_TWICE, "Content-Length given twice")                                              \
	X(ENCODING, "Transfer-Encoding other than one 'chunked'")                                  \
	X(ENCODING_10, "Transfer-Encoding in HTTP/1.0")                                            \
	X(ENCODING_LENGTH, "Transfer-Encoding and Content-Length")                                 \
	X(TOO_LARGE, "head larger than 32 KiB or 256 fields")                                      \
	X(CHUNK, "malformed chunk")                                                                \
	X(TRAILER, "trailer that names the framing, the host or a header of a rule")               \
	X(UPGRADE, "Upgrade, which no rule that matches names")                                    \
	X(EARLY_DATA, "data behind an Upgrade or CONNECT that was not answered yet")               \
	X(TABLE, "rule set that cannot be read")                                                   \
	X(CUT, "connection that its client ended inside a head")

enum bn_http_reason {
	BN_HTTP_OK,
#define X(name, text) BN_HTTP_##name,
	BN_HTTP_LIST(X)
#undef X
	BN_HTTP__MAX
};

BN_ABI_BEGIN
/* Offsets are in cells of the set. Next state = trans[state * classes + class[byte]]. */
#define BN_HTTP_DEAD 0xffff /* next state of a path that no rule can match any more */
struct bn_http_auto {
	__u32 cls;   /* 256 cells: class of the byte */
	__u32 trans; /* states * classes cells */
	__u32 ends;  /* states cells: number of the set; for names, enum bn_http_name */
	__u16 classes;
	__u16 start;
};

/* What the name of a header or query parameter means: flags above the slot. */
enum bn_http_name {
	BN_HTTP_NAME_SLOT = 0x1f,    /* slot + 1, 0: no rule looks at it */
	BN_HTTP_NAME_LENGTH = 0x20,
	BN_HTTP_NAME_ENCODING = 0x40,
	BN_HTTP_NAME_HOST = 0x80,
	BN_HTTP_NAME_UPGRADE = 0x100,
};

/* Members of a macro: in the kernel they are members of the page that holds the set, too. */
#define BN_HTTP_TAB_MEMBERS                                                                        \
	__u16 nmatches, nwords; /* words of 64 bits in a bitmap */                                 \
	__u16 nheaders, nqueries;                                                                  \
	__u16 no_path, no_query; /* sets: matches without path, without query parameters */        \
	__u16 no_host;		 /* without hostnames */                                           \
	__u16 connect, upgrade;	 /* sets: matches that name the method CONNECT, the header Upgrade */ \
	__u16 pad;                                                                                 \
	struct bn_http_auto method, path, host, header_name, query_name;                           \
	struct bn_http_auto header[BN_HTTP_SLOTS], query[BN_HTTP_SLOTS];                           \
	__u16 no_header[BN_HTTP_SLOTS], no_param[BN_HTTP_SLOTS] /* sets when it is absent */

struct bn_http_tab {
	BN_HTTP_TAB_MEMBERS;
};

/* All zero: before the first request. */
struct bn_http_state {
	__u64 alive[BN_HTTP_WORDS]; /* matches that may still allow the request */
	__u64 left;		    /* bytes of body, or of the chunk, still to come */
	__u64 word;		    /* last bytes of the method or of a Transfer-Encoding; a chunk's size */
	__u32 head;		    /* bytes of the head so far */
	__u32 requests;		    /* allowed ones */
	__u16 header[BN_HTTP_SLOTS]; /* states behind the values so far */
	__u16 q, host_q;	    /* state of the automaton of the field, of the host's */
	__u16 name;		    /* enum bn_http_name of the field */
	__u16 headers_seen, queries_seen; /* bits of slots */
	__u16 fields;
	__u16 flags;
	__u16 match; /* of the last allowed request */
	__u8 at;     /* enum bn_http_at */
	__u8 reason; /* when denied */
	__u8 count;  /* bytes of a short word */
	__u8 percent, nibble; /* 1: behind '%', 2: behind its first digit */
	__u8 segment;	      /* what the path's segment is so far */
	__u8 host_at;
	__u8 lax; /* by the caller: a request that no rule allows goes on, and is told at the end of its head */
};
BN_ABI_END
_Static_assert(sizeof(struct bn_http_state) <= 512, "map ABI");

#endif
