/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "loader/log.h"
#include "loader/net/cnicache.h"

#define FILE_MAX     (1 << 20)
#define FILES_MAX    8192
#define LOOK_AGAIN_S 5 /* for a directory that is not there */

struct file {
	char *name;
	int64_t mtime_ns;
	off_t size;
	ino_t ino;
	bool seen;
	struct bn_cni_entry *entry; /* NULL: of no pod, or not readable */
};

struct bn_cnicache {
	char *dir;
	void (*fn)(void *data);
	void *data;
	int inotify;
	struct event *ev, *timer;
	struct file *files;
	size_t nfiles, afiles;
	const struct bn_cni_entry **entries;
	size_t nentries;
};

/* --- one file -------------------------------------------------------------------------------- */

/* "10.1.2.3/24" or without the length. */
static bool parse_addr(const char *text, struct bn_addr *ret)
{
	char buf[64];
	size_t n = strcspn(text, "/");
	__be32 v4;

	if (n >= sizeof(buf))
		return false;
	memcpy(buf, text, n);
	buf[n] = '\0';
	if (inet_pton(AF_INET, buf, &v4) == 1) {
		bn_addr_v4(ret, v4);
		return true;
	}
	return inet_pton(AF_INET6, buf, ret) == 1 && !bn_addr_is_v4(ret);
}

/* Names end up in messages and in comparisons with names of objects: nothing else is let in. */
static bool copy_name(char *dst, size_t size, const char *src)
{
	size_t n = src ? strlen(src) : 0;

	if (!n || n >= size ||
	    strspn(src, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:@") != n)
		return false;
	memcpy(dst, src, n + 1);
	return true;
}

static void read_args(const json_t *args, struct bn_cni_entry *e)
{
	size_t i;

	for (i = 0; i < json_array_size(args); i++) {
		const json_t *pair = json_array_get(args, i);
		const char *key = json_string_value(json_array_get(pair, 0));
		const char *val = json_string_value(json_array_get(pair, 1));

		if (!key || !val)
			continue;
		if (!strcmp(key, "K8S_POD_NAMESPACE"))
			copy_name(e->ns, sizeof(e->ns), val);
		else if (!strcmp(key, "K8S_POD_NAME"))
			copy_name(e->pod, sizeof(e->pod), val);
	}
}

static void add_addr(struct bn_cni_entry *e, const char *text)
{
	struct bn_addr a;

	if (text && e->naddrs < BN_CNI_ADDRS && parse_addr(text, &a))
		e->addrs[e->naddrs++] = a;
}

static void read_result(const json_t *res, struct bn_cni_entry *e)
{
	const json_t *ifs = json_object_get(res, "interfaces"), *ips = json_object_get(res, "ips");
	size_t i;

	for (i = 0; i < json_array_size(ifs); i++) {
		const json_t *f = json_array_get(ifs, i);
		const char *name = json_string_value(json_object_get(f, "name"));
		const char *sandbox = json_string_value(json_object_get(f, "sandbox"));

		if (sandbox && *sandbox)
			continue;
		if (e->nhostifs < BN_CNI_HOSTIFS && name &&
		    copy_name(e->hostifs[e->nhostifs], IFNAMSIZ, name))
			e->nhostifs++;
	}
	for (i = 0; i < json_array_size(ips); i++)
		add_addr(e, json_string_value(json_object_get(json_array_get(ips, i), "address")));
	/* Results of specification 0.2.0 */
	add_addr(e, json_string_value(json_object_get(json_object_get(res, "ip4"), "ip")));
	add_addr(e, json_string_value(json_object_get(json_object_get(res, "ip6"), "ip")));
}

int bn_cni_parse(const char *text, size_t len, struct bn_cni_entry *ret)
{
	_cleanup_(json_decrefp) json_t *j = json_loadb(text, len, 0, NULL);
	struct bn_cni_entry e = {};
	const char *kind, *ifname;

	if (!json_is_object(j))
		return -EINVAL;
	kind = json_string_value(json_object_get(j, "kind"));
	if (!kind || strcmp(kind, "cniCacheV1"))
		return -ENODATA;
	read_args(json_object_get(j, "cniArgs"), &e);
	if (!e.ns[0] || !e.pod[0])
		return -ENODATA;
	ifname = json_string_value(json_object_get(j, "ifName"));
	if (!copy_name(e.ifname, sizeof(e.ifname), ifname))
		return -EINVAL;
	read_result(json_object_get(j, "result"), &e);
	*ret = e;
	return 0;
}

/* --- the directory --------------------------------------------------------------------------- */

static struct bn_cni_entry *read_entry(int dirfd, const char *name, const struct stat *st)
{
	_cleanup_(freep) struct bn_cni_entry *e = NULL;
	_cleanup_(freep) char *buf = NULL;
	_cleanup_(closep) int fd = -1;
	ssize_t n;

	if (st->st_size > FILE_MAX)
		return NULL;
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	buf = malloc(FILE_MAX);
	e = calloc(1, sizeof(*e));
	if (fd < 0 || !buf || !e)
		return NULL;
	n = read(fd, buf, FILE_MAX);
	if (n <= 0 || bn_cni_parse(buf, n, e) < 0)
		return NULL;
	e->mtime_ns = st->st_mtim.tv_sec * 1000000000ll + st->st_mtim.tv_nsec;
	return TAKE_PTR(e);
}

static void file_done(struct file *f)
{
	freep(&f->name);
	freep(&f->entry);
}

static int look_at(struct bn_cnicache *c, int dirfd, const char *name, bool *changed)
{
	struct file *f = NULL;
	struct stat st;
	int64_t mtime;
	size_t i;

	if (name[0] == '.' || fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) ||
	    !S_ISREG(st.st_mode))
		return 0;
	mtime = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
	for (i = 0; i < c->nfiles && !f; i++)
		if (!strcmp(c->files[i].name, name))
			f = &c->files[i];
	if (f && f->mtime_ns == mtime && f->size == st.st_size && f->ino == st.st_ino) {
		f->seen = true;
		return 0;
	}
	if (!f) {
		if (c->nfiles >= FILES_MAX)
			return 0;
		if (c->nfiles == c->afiles) {
			size_t n = c->afiles * 2 + 32;

			f = realloc(c->files, n * sizeof(*f));
			if (!f)
				return -ENOMEM;
			c->files = f;
			c->afiles = n;
		}
		f = &c->files[c->nfiles];
		*f = (struct file){.name = strdup(name)};
		if (!f->name)
			return -ENOMEM;
		c->nfiles++;
	}
	freep(&f->entry);
	f->entry = read_entry(dirfd, name, &st);
	f->mtime_ns = mtime;
	f->size = st.st_size;
	f->ino = st.st_ino;
	f->seen = true;
	*changed = true;
	return 0;
}

static int index_entries(struct bn_cnicache *c)
{
	const struct bn_cni_entry **e = reallocarray(c->entries, c->nfiles + 1, sizeof(*e));
	size_t i;

	if (!e)
		return -ENOMEM;
	c->entries = e;
	c->nentries = 0;
	for (i = 0; i < c->nfiles; i++)
		if (c->files[i].entry)
			c->entries[c->nentries++] = c->files[i].entry;
	return 0;
}

static void closedirp(DIR **d)
{
	if (*d)
		closedir(*d);
}

/* The whole directory: unchanged files cost one stat each. */
static int scan(struct bn_cnicache *c, bool *changed)
{
	_cleanup_(closedirp) DIR *d = opendir(c->dir);
	struct dirent *de;
	size_t i, k;
	int r;

	if (!d && errno != ENOENT && errno != ENOTDIR)
		return -errno;
	for (i = 0; i < c->nfiles; i++)
		c->files[i].seen = false;
	while (d && (de = readdir(d))) {
		r = look_at(c, dirfd(d), de->d_name, changed);
		if (r < 0)
			return r;
	}
	for (i = k = 0; i < c->nfiles; i++) {
		if (c->files[i].seen) {
			c->files[k++] = c->files[i];
			continue;
		}
		file_done(&c->files[i]);
		*changed = true;
	}
	c->nfiles = k;
	return index_entries(c);
}

static int watch(struct bn_cnicache *c)
{
	return inotify_add_watch(c->inotify, c->dir,
				 IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE |
					 IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR) < 0
		       ? -errno
		       : 0;
}

static void rescan(struct bn_cnicache *c)
{
	struct timeval tv = {.tv_sec = LOOK_AGAIN_S};
	bool changed = false;
	int r;

	if (watch(c) < 0)
		evtimer_add(c->timer, &tv);
	r = scan(c, &changed);
	if (r < 0 && bn_log_ratelimit(60))
		log_err_r(r, "reading the CNI cache '%s'", c->dir);
	if (changed)
		c->fn(c->data);
}

static void on_inotify(evutil_socket_t fd, short what _unused_, void *data)
{
	char buf[4096];

	while (read(fd, buf, sizeof(buf)) > 0)
		;
	rescan(data);
}

static void on_timer(evutil_socket_t fd _unused_, short what _unused_, void *data)
{
	rescan(data);
}

int bn_cnicache_new(struct event_base *base, const char *dir, void (*fn)(void *data), void *data,
		    struct bn_cnicache **ret)
{
	_cleanup_(bn_cnicache_freep) struct bn_cnicache *c = calloc(1, sizeof(*c));
	struct timeval tv = {.tv_sec = LOOK_AGAIN_S};
	bool changed = false;
	int r;

	if (!c)
		return -ENOMEM;
	c->inotify = -1;
	c->fn = fn;
	c->data = data;
	c->dir = strdup(dir);
	if (!c->dir)
		return -ENOMEM;
	if (base) {
		c->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (c->inotify < 0)
			return -errno;
		c->ev = event_new(base, c->inotify, EV_READ | EV_PERSIST, on_inotify, c);
		c->timer = evtimer_new(base, on_timer, c);
		if (!c->ev || !c->timer || event_add(c->ev, NULL))
			return -ENOMEM;
		if (watch(c) < 0)
			evtimer_add(c->timer, &tv);
	}
	r = scan(c, &changed);
	if (r < 0)
		log_err_r(r, "reading the CNI cache '%s'", dir);
	*ret = TAKE_PTR(c);
	return 0;
}

void bn_cnicache_freep(struct bn_cnicache **cp)
{
	struct bn_cnicache *c = *cp;
	size_t i;

	if (!c)
		return;
	if (c->ev)
		event_free(c->ev);
	if (c->timer)
		event_free(c->timer);
	closep(&c->inotify);
	for (i = 0; i < c->nfiles; i++)
		file_done(&c->files[i]);
	freep(&c->files);
	freep(&c->entries);
	freep(&c->dir);
	freep(cp);
}

size_t bn_cnicache_entries(const struct bn_cnicache *c, const struct bn_cni_entry *const **ret)
{
	*ret = (const struct bn_cni_entry *const *)c->entries;
	return c->nentries;
}
