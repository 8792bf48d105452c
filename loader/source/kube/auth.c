/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/auth.h"

#include <string.h>
#include <time.h>

#include "loader/log.h"
#include "loader/source/kube/exec.h"

/* A kubelet replaces a token long before it expires; 60 s would do. */
#define REREAD_S 10
/* A credential is not used in the last moments of its life: clocks differ. */
#define EXPIRY_LEEWAY_S 10
/* A plugin that failed is not started again before this, whoever asks. */
#define EXEC_RETRY_S 2

struct bn_auth {
	struct event_base *base;
	const struct bn_kube_config *c;
	void (*fn)(void *data);
	void *data;
	struct bn_secret token, cert, key, ca;
	uint64_t generation;
	int64_t read_at_s; /* boot time of the last reading of the files; -1: never */
	struct bn_exec *exec;
	bool exec_used;	     /* a plugin's credential is in force */
	int64_t exec_next_s; /* boot time before which no plugin is started */
	int64_t expires_s;   /* unix; 0: never */
	int err;
	char error[512];
};

static int64_t boot_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec;
}

void bn_auth_freep(struct bn_auth **ap)
{
	struct bn_auth *a = *ap;

	if (!a)
		return;
	bn_exec_freep(&a->exec);
	bn_secret_clear(&a->token);
	bn_secret_clear(&a->cert);
	bn_secret_clear(&a->key);
	bn_secret_clear(&a->ca);
	free(a);
	*ap = NULL;
}

/* True when the content changed. What cannot be read, or is empty, leaves what there is. */
static bool reread(struct bn_auth *a, struct bn_secret *s, const char *path, const char *what)
{
	struct bn_secret t = { 0 };
	bool changed = false;
	int r;

	if (!path)
		return false;
	r = bn_secret_set_file(&t, path, BN_KUBE_FILE_MAX);
	if (r == 0)
		bn_secret_trim(&t);
	if (r == 0 && !t.n)
		r = -ENODATA;
	for (size_t i = 0; r == 0 && s == &a->token && i < t.n; i++)
		if ((unsigned char)t.p[i] < 0x20 || t.p[i] == 0x7f)
			r = -EBADMSG;
	if (r < 0) {
		if (!s->n && !a->err) {
			a->err = r;
			snprintf(a->error, sizeof(a->error), "%s: %s '%s': %s", a->c->origin, what,
				 path, strerror(-r));
		}
		if (bn_log_ratelimit(60))
			log_warn("%s: %s '%s': %s%s", a->c->origin, what, path, strerror(-r),
				 s->n ? "; what was read before stays in use" : "");
		bn_secret_clear(&t);
		return false;
	}
	if (!bn_secret_equal(s, &t)) {
		changed = true;
		bn_secret_clear(s);
		*s = t;
	} else {
		bn_secret_clear(&t);
	}
	return changed;
}

static bool read_files(struct bn_auth *a)
{
	bool changed;

	a->err = 0;
	a->read_at_s = boot_s();
	changed = reread(a, &a->token, a->c->token_file, "tokenFile");
	changed |= reread(a, &a->ca, a->c->ca_file, "certificate-authority");
	if (!a->exec_used || !a->c->exec) {
		changed |= reread(a, &a->cert, a->c->cert_file, "client-certificate");
		changed |= reread(a, &a->key, a->c->key_file, "client-key");
	}
	if (changed)
		a->generation++;
	return changed;
}

static void take(struct bn_secret *to, struct bn_secret *from)
{
	bn_secret_clear(to);
	*to = *from;
	*from = (struct bn_secret){ 0 };
}

static void exec_done(struct bn_exec_result *r, void *data)
{
	struct bn_auth *a = data;

	a->exec_next_s = boot_s() + EXEC_RETRY_S;
	if (r->err) {
		a->err = r->err;
		snprintf(a->error, sizeof(a->error), "%s: %s", a->c->origin, r->message);
		log_warn("%s%s%s", a->error, a->c->exec->install_hint ? ": " : "",
			 a->c->exec->install_hint ?: "");
	} else {
		a->err = 0;
		a->exec_used = true;
		a->expires_s = r->expires_s;
		take(&a->token, &r->token);
		if (r->cert.n) {
			take(&a->cert, &r->cert);
			take(&a->key, &r->key);
		}
		a->generation++;
	}
	bn_exec_freep(&a->exec);
	a->fn(a->data);
}

/* A token of the config's own is used before any plugin, as client-go does. */
static bool needs_exec(const struct bn_auth *a)
{
	if (!a->c->exec || a->c->token_file || a->c->token.n)
		return false;
	return !a->exec_used ||
	       (a->expires_s && time(NULL) >= a->expires_s - EXPIRY_LEEWAY_S);
}

static int start_exec(struct bn_auth *a)
{
	int r;

	if (a->exec)
		return 0;
	if (boot_s() < a->exec_next_s)
		return -EAGAIN;
	r = bn_exec_start(a->base, a->c, exec_done, a, &a->exec);
	if (r < 0) {
		a->exec_next_s = boot_s() + EXEC_RETRY_S;
		a->err = r;
		snprintf(a->error, sizeof(a->error), "%s: exec plugin '%s': %s%s%s", a->c->origin,
			 a->c->exec->command, strerror(-r), a->c->exec->install_hint ? ": " : "",
			 a->c->exec->install_hint ?: "");
	}
	return r;
}

int bn_auth_check(struct bn_auth *a)
{
	int r;

	if (a->exec)
		return -EINPROGRESS;
	if (needs_exec(a)) {
		r = start_exec(a);
		if (r == 0)
			return -EINPROGRESS;
		return r == -EAGAIN && a->err ? a->err : r;
	}
	if (a->read_at_s < 0 || boot_s() - a->read_at_s >= REREAD_S)
		read_files(a);
	return a->err;
}

bool bn_auth_rejected(struct bn_auth *a, uint64_t generation)
{
	if (generation != a->generation || a->exec)
		return true; /* someone else's 401 already brought others */
	if (a->exec_used)
		return start_exec(a) == 0;
	return read_files(a);
}

const char *bn_auth_error(const struct bn_auth *a)
{
	return a->error;
}

uint64_t bn_auth_generation(const struct bn_auth *a)
{
	return a->generation;
}

const struct bn_secret *bn_auth_token(const struct bn_auth *a)
{
	return &a->token;
}

const struct bn_secret *bn_auth_cert(const struct bn_auth *a)
{
	return &a->cert;
}

const struct bn_secret *bn_auth_key(const struct bn_auth *a)
{
	return &a->key;
}

const struct bn_secret *bn_auth_ca(const struct bn_auth *a)
{
	return &a->ca;
}

static int copy(struct bn_secret *to, const struct bn_secret *from)
{
	return from->n ? bn_secret_set(to, from->p, from->n) : 0;
}

int bn_auth_new(struct event_base *base, const struct bn_kube_config *c,
		void (*fn)(void *data), void *data, struct bn_auth **ret)
{
	_cleanup_(bn_auth_freep) struct bn_auth *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	*a = (struct bn_auth){ .base = base, .c = c, .fn = fn, .data = data, .read_at_s = -1 };
	if (!c->token_file) /* tokenFile wins over token */
		r = copy(&a->token, &c->token);
	else
		r = 0;
	r = r ?: copy(&a->ca, &c->ca) ?: copy(&a->cert, &c->cert) ?: copy(&a->key, &c->key);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(a);
	return 0;
}
