/* SPDX-License-Identifier: MIT */
#include <libmnl/libmnl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "loader/net/nlsock.h"
#include "maps/util.h"

#define BUF_SIZE	 65536
#define ANSWER_TIMEOUT_S 5
#define DUMP_RETRIES	 10
#define MONITOR_BUF	 (8 << 20)

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

struct bn_nl {
	int fd, protocol;
	uint32_t seq;
	char *buf;
};

static int nl_socket(int protocol, int flags)
{
	_cleanup_(closep) int fd = -1;
	struct sockaddr_nl sa = {.nl_family = AF_NETLINK};
	int one = 1;

	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, protocol);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)))
		return -errno;
	/* Without it the kernel ignores the filters of a dump, IFA_TARGET_NETNSID among them. */
	if (protocol == NETLINK_ROUTE &&
	    setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, &one, sizeof(one)))
		return -errno;
	return TAKE_FD(fd);
}

static int reopen(struct bn_nl *s)
{
	struct timeval tv = {.tv_sec = ANSWER_TIMEOUT_S};

	closep(&s->fd);
	s->fd = nl_socket(s->protocol, 0);
	if (s->fd < 0)
		return s->fd;
	setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return 0;
}

int bn_nl_open(int protocol, struct bn_nl **ret)
{
	_cleanup_(bn_nl_freep) struct bn_nl *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->fd = -1;
	s->protocol = protocol;
	s->buf = malloc(BUF_SIZE);
	if (!s->buf)
		return -ENOMEM;
	r = reopen(s);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(s);
	return 0;
}

void bn_nl_freep(struct bn_nl **s)
{
	if (!*s)
		return;
	closep(&(*s)->fd);
	freep(&(*s)->buf);
	freep(s);
}

/* 1: go on; 0: that was the end; negative: error. *intr: the dump has to be repeated. */
static int one_answer(const struct nlmsghdr *h, const struct nlmsghdr *req, bn_nl_fn fn, void *data,
		      bool *intr)
{
	const struct nlmsgerr *e;
	int err = 0, r;

	if (h->nlmsg_seq != req->nlmsg_seq)
		return 1;
	*intr |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
	switch (h->nlmsg_type) {
	case NLMSG_ERROR:
		if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
			return -EBADMSG;
		e = mnl_nlmsg_get_payload(h);
		return e->error > 0 ? -EBADMSG : e->error;
	case NLMSG_DONE:
		if (h->nlmsg_len >= NLMSG_LENGTH(sizeof(err)))
			memcpy(&err, mnl_nlmsg_get_payload(h), sizeof(err));
		return err < 0 ? err : 0;
	case NLMSG_NOOP:
		return 1;
	case NLMSG_OVERRUN:
		return -ENOBUFS;
	}
	r = fn(h, data);
	if (r < 0)
		return r;
	return (req->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP || req->nlmsg_flags & NLM_F_ACK ? 1
											     : 0;
}

static int answers(struct bn_nl *s, const struct nlmsghdr *req, bn_nl_fn fn, void *data, bool *intr)
{
	const struct nlmsghdr *h;
	ssize_t len;
	int n, r;

	for (;;) {
		len = recv(s->fd, s->buf, BUF_SIZE, MSG_TRUNC);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (len > BUF_SIZE)
			return -EMSGSIZE;
		n = len;
		for (h = (void *)s->buf; mnl_nlmsg_ok(h, n); h = mnl_nlmsg_next(h, &n)) {
			r = one_answer(h, req, fn, data, intr);
			if (r <= 0)
				return r;
		}
	}
}

int bn_nl_call(struct bn_nl *s, struct nlmsghdr *req, bn_nl_fn fn, void *data)
{
	bool intr;
	int i, r;

	req->nlmsg_flags |= NLM_F_REQUEST;
	for (i = 0; i < DUMP_RETRIES; i++) {
		if (s->fd < 0) {
			r = reopen(s);
			if (r < 0)
				return r;
		}
		req->nlmsg_seq = ++s->seq;
		if (send(s->fd, req, req->nlmsg_len, 0) < 0)
			return -errno;
		intr = false;
		r = answers(s, req, fn, data, &intr);
		if (r < 0)
			closep(&s->fd); /* whatever else is on its way is not for the next request
					 */
		if (r < 0 || !intr)
			return r;
	}
	return -EAGAIN;
}

int bn_nl_dump(struct bn_nl *s, uint16_t type, uint8_t family, int32_t nsid, bn_nl_fn fn,
	       void *data)
{
	char buf[256] = {};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	uint8_t *body;

	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_DUMP;
	switch (type) {
	case RTM_GETLINK:
		body = mnl_nlmsg_put_extra_header(h, sizeof(struct ifinfomsg));
		if (nsid >= 0)
			mnl_attr_put_u32(h, IFLA_TARGET_NETNSID, nsid);
		break;
	case RTM_GETADDR:
		body = mnl_nlmsg_put_extra_header(h, sizeof(struct ifaddrmsg));
		if (nsid >= 0)
			mnl_attr_put_u32(h, IFA_TARGET_NETNSID, nsid);
		break;
	case RTM_GETROUTE:
		body = mnl_nlmsg_put_extra_header(h, sizeof(struct rtmsg));
		break;
	case RTM_GETNEIGH:
		body = mnl_nlmsg_put_extra_header(h, sizeof(struct ndmsg));
		break;
	default:
		return -EINVAL;
	}
	*body = family; /* the first byte of each of them */
	return bn_nl_call(s, h, fn, data);
}

static int keep_link(const struct nlmsghdr *h, void *data)
{
	return bn_nl_parse_link(h, data);
}

int bn_nl_get_link(struct bn_nl *s, uint32_t ifindex, int32_t nsid, struct bn_nl_link *ret)
{
	char buf[256] = {};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct bn_nl_link l = {};
	struct ifinfomsg *ifi;
	int r;

	h->nlmsg_type = RTM_GETLINK;
	ifi = mnl_nlmsg_put_extra_header(h, sizeof(*ifi));
	ifi->ifi_index = ifindex;
	if (nsid >= 0)
		mnl_attr_put_u32(h, IFLA_TARGET_NETNSID, nsid);
	r = bn_nl_call(s, h, keep_link, &l);
	if (r < 0)
		return r;
	*ret = l;
	return 0;
}

static int keep_route(const struct nlmsghdr *h, void *data)
{
	return bn_nl_parse_route(h, data);
}

int bn_nl_get_route(struct bn_nl *s, const struct bn_addr *to, struct bn_nl_route *ret)
{
	char buf[256] = {};
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct bn_nl_route rt = {};
	struct rtmsg *rtm;
	int r;

	h->nlmsg_type = RTM_GETROUTE;
	rtm = mnl_nlmsg_put_extra_header(h, sizeof(*rtm));
	rtm->rtm_flags = RTM_F_FIB_MATCH; /* the route itself, not a copy for one destination */
	if (bn_addr_is_v4(to)) {
		rtm->rtm_family = AF_INET;
		rtm->rtm_dst_len = 32;
		mnl_attr_put(h, RTA_DST, 4, &to->b[12]);
	} else {
		rtm->rtm_family = AF_INET6;
		rtm->rtm_dst_len = 128;
		mnl_attr_put(h, RTA_DST, 16, to->b);
	}
	r = bn_nl_call(s, h, keep_route, &rt);
	if (r < 0)
		return r;
	*ret = rt;
	return 0;
}

int bn_nl_monitor(const uint32_t *groups, bool all_nsid)
{
	_cleanup_(closep) int fd = nl_socket(NETLINK_ROUTE, SOCK_NONBLOCK);
	int size = MONITOR_BUF, one = 1;

	if (fd < 0)
		return fd;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (all_nsid && setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &one, sizeof(one)))
		return -errno;
	for (; *groups; groups++)
		if (setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, groups, sizeof(*groups)))
			return -errno;
	return TAKE_FD(fd);
}

static int32_t nsid_of(struct msghdr *m)
{
	struct cmsghdr *c;
	int32_t nsid = -1;

	for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		if (c->cmsg_level == SOL_NETLINK && c->cmsg_type == NETLINK_LISTEN_ALL_NSID &&
		    c->cmsg_len == CMSG_LEN(sizeof(nsid)))
			memcpy(&nsid, CMSG_DATA(c), sizeof(nsid));
	return nsid;
}

int bn_nl_monitor_read(int fd, unsigned budget, bn_nl_event_fn fn, void *data)
{
	_Alignas(struct nlmsghdr) static char buf[BUF_SIZE]; /* one thread reads */
	_Alignas(struct cmsghdr) char ctl[256];
	struct sockaddr_nl from;
	const struct nlmsghdr *h;
	ssize_t len;
	int n;

	while (budget--) {
		struct iovec iov = {buf, sizeof(buf)};
		struct msghdr m = {.msg_name = &from,
				   .msg_namelen = sizeof(from),
				   .msg_iov = &iov,
				   .msg_iovlen = 1,
				   .msg_control = ctl,
				   .msg_controllen = sizeof(ctl)};

		len = recvmsg(fd, &m, 0);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (m.msg_flags & MSG_TRUNC)
			return -ENOBUFS;
		if (m.msg_namelen != sizeof(from) || from.nl_pid) /* not from the kernel */
			continue;
		n = len;
		for (h = (void *)buf; mnl_nlmsg_ok(h, n); h = mnl_nlmsg_next(h, &n))
			fn(h, nsid_of(&m), data);
	}
	return 1;
}
