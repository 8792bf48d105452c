/* SPDX-License-Identifier: MIT */
#ifndef BN_MAPS_DROP_H
#define BN_MAPS_DROP_H

/* Why a packet was dropped or refused: the one list. The number is ABI (pinned counters, events):
 * append only. Stages return -BN_DROP_x; the entry points count and report it.
 */
#define BN_DROP_LIST(X)                                                                            \
	X(BAD_HEADER, "header truncated, or a length that cannot be")                              \
	X(V4_MAPPED, "IPv6 packet with an IPv4-mapped address")                                    \
	X(SPOOFED, "source address is not the sending pod's")                                      \
	X(UNKNOWN_POD, "interface of a pod that is not known yet")                                 \
	X(FRAGMENT, "fragment without its first fragment")                                         \
	X(EXT_HEADERS, "too many IPv6 extension headers")                                          \
	X(NO_BACKEND, "service without a ready endpoint")                                          \
	X(NO_LOCAL_BACKEND, "service whose policy is Local, without a local endpoint")             \
	X(SOURCE_RANGE, "source outside loadBalancerSourceRanges")                                 \
	X(CT_FULL, "no room for another flow in the connection table")                             \
	X(CT_MIDSTREAM, "TCP to a service in mid-stream, connection unknown")                      \
	X(CT_INVALID, "packet cannot begin a flow and belongs to none")                            \
	X(NAT_PORTS, "no free port for source translation")                                        \
	X(NAT_WRITE, "packet could not be rewritten")                                              \
	X(POLICY_EGRESS, "no policy rule of the sending pod allows it")                            \
	X(POLICY_INGRESS, "no policy rule of the receiving pod allows it")                         \
	X(REJECT_RATE, "refusal not sent: rate limit")                                             \
	X(MARTIAN, "packet from outside with an address of this node as source")                   \
	X(REDIRECT, "redirect to the receiving interface failed")                                  \
	X(INTERNAL, "state that cannot be; please report it")                                      \
	X(ICMP_UNRELATED, "ICMP error about a flow that is not known")                             \
	X(UNSUPPORTED, "protocol that a service address does not answer")                          \
	X(POLICY_DEFERRED, "socket call refused by policy or by a service")                        \
	X(HTTP_UNSUPPORTED, "HTTP rule that this program cannot judge: refused")                   \
	X(OTHER_PORT, "port of a service address that no service has")                             \
	X(TTL, "hop limit used up on the way to a backend")                                        \
	X(MTU, "longer than the way to the backend allows")                                        \
	X(NO_ROUTE, "no route to the backend or back to the client")                               \
	X(HTTP_DENIED, "request that no HTTP rule allows, or that could be read in two ways")      \
	X(HTTP_CLOSING, "packet of a connection that was closed for a denied request")             \
	X(HTTP_WAITING, "data behind a denied request, whose turn to be answered has not come")    \
	X(HTTP_MIDSTREAM, "connection that HTTP rules cover, but that was not followed from its beginning") \
	X(HTTP_FULL, "no room to follow another HTTP connection")                                  \
	X(HTTP_KEEP, "no room to keep a copy of what passes of an HTTP connection")                \
	X(HTTP_CHANGED, "retransmission with other bytes than those that were judged")             \
	X(HTTP_URGENT, "urgent data in an HTTP connection")                                        \
	X(HTTP_SYN_DATA, "data in a SYN, or without ACK, of an HTTP connection")                   \
	X(HTTP_FRAGMENT, "fragment of an HTTP connection")                                         \
	X(HTTP_OPTIONS, "IP options or extension headers in an HTTP connection")                   \
	X(HTTP_BUSY, "HTTP connection that another CPU works on")                                  \
	X(HTTP_TABLE, "HTTP rule set that is not there")                                           \
	X(TUNNEL, "tunnel packet of a pod to a node, which would unpack it")                    \
	X(DSR, "direct server return from an address that is no peer, malformed, or to no backend of this node") \
	X(HTTP_CHECKSUM, "segment of an HTTP connection that was damaged on its way") \
	X(HTTP_SHARE, "pod that takes more of the room for HTTP connections than is left for all others") \
	X(CSUM_PLACE, "checksum that is to be written into what was judged, not into its own place")

enum bn_drop {
	BN_DROP_NONE,
#define X(name, text) BN_DROP_##name,
	BN_DROP_LIST(X)
#undef X
	BN_DROP__MAX
};

#endif
