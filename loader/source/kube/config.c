/* SPDX-License-Identifier: MIT */
#include "loader/source/kube/config.h"

#include <string.h>

#include "loader/source/kube/fields.h"
#include "policy/yaml.h"

/* One file of the list, in order. */
struct doc {
	char *path;
	json_t *root;
};

struct docs {
	struct doc *v;
	size_t n;
};

/* The parsed text holds tokens and keys: wipe the strings before the heap gets them back. */
static void wipe_json(json_t *v)
{
	const char *key;
	json_t *item;
	size_t i;

	if (json_is_string(v))
		explicit_bzero((char *)json_string_value(v), json_string_length(v));
	json_array_foreach(v, i, item)
		wipe_json(item);
	json_object_foreach(v, key, item)
		wipe_json(item);
}

static void docs_free(struct docs *d)
{
	for (size_t i = 0; i < d->n; i++) {
		wipe_json(d->v[i].root);
		json_decref(d->v[i].root);
		free(d->v[i].path);
	}
	free(d->v);
}

void bn_kube_config_freep(struct bn_kube_config **cp)
{
	struct bn_kube_config *c = *cp;

	if (!c)
		return;
	free(c->origin);
	free(c->server);
	free(c->ca_file);
	bn_secret_clear(&c->ca);
	free(c->tls_server_name);
	bn_wipe_freep(&c->proxy_url);
	free(c->cert_file);
	free(c->key_file);
	bn_secret_clear(&c->cert);
	bn_secret_clear(&c->key);
	free(c->token_file);
	bn_secret_clear(&c->token);
	free(c->username);
	bn_secret_clear(&c->password);
	free(c->as);
	free(c->as_uid);
	bn_strv_freep(&c->as_groups);
	for (size_t i = 0; i < c->nas_extra; i++) {
		free(c->as_extra[i].key);
		free(c->as_extra[i].value);
	}
	free(c->as_extra);
	bn_kube_exec_freep(&c->exec);
	free(c->warning);
	free(c);
	*cp = NULL;
}

/* The first one; what comes after it is not read, as client-go does. */
static int take_document(json_t *node, unsigned line, bool item, void *data)
{
	json_t **root = data;

	(void)line;
	if (!item && !*root)
		*root = json_incref(node);
	return 0;
}

static int add_file(struct docs *d, const char *path, bool may_miss, char *err)
{
	struct bn_secret text = { 0 };
	struct bn_yaml_err why = { 0 };
	json_t *root = NULL;
	struct doc *v;
	int r;

	r = bn_secret_set_file(&text, path, BN_KUBE_FILE_MAX);
	if (r == -ENOENT && may_miss)
		return 0;
	if (r < 0) {
		snprintf(err, 512, "kubeconfig '%s': %s", path, strerror(-r));
		return r;
	}
	r = bn_yaml_parse(text.p, text.n, take_document, &root, &why);
	bn_secret_clear(&text);
	if (r == 0 && !root)
		root = json_object();
	if (r == 0 && !json_is_object(root)) {
		snprintf(err, 512, "kubeconfig '%s': not a mapping", path);
		r = -EINVAL;
	} else if (r < 0) {
		snprintf(err, 512, "kubeconfig '%s': line %u: %s", path, why.line,
			 r == -ENOMEM ? "no memory" : why.msg);
	}
	if (r < 0) {
		wipe_json(root);
		json_decref(root);
		return r;
	}
	v = reallocarray(d->v, d->n + 1, sizeof(*v));
	if (!v) {
		json_decref(root);
		return -ENOMEM;
	}
	d->v = v;
	d->v[d->n] = (struct doc){ strdup(path), root };
	return d->v[d->n++].path ? 0 : -ENOMEM;
}

/* A name that exists as it stands is one file, even with a colon in it. */
static int add_files(struct docs *d, const char *list, char *err)
{
	_cleanup_(freep) char *copy = strdup(list);
	char *save = NULL, *path;
	bool many;
	int r;

	if (!copy)
		return -ENOMEM;
	many = strchr(list, ':') && access(list, F_OK) < 0;
	if (!many)
		return add_file(d, list, false, err);
	for (path = strtok_r(copy, ":", &save); path; path = strtok_r(NULL, ":", &save)) {
		r = add_file(d, path, true, err);
		if (r < 0)
			return r;
	}
	if (!d->n) {
		snprintf(err, 512, "kubeconfig '%s': none of these files exists", list);
		return -ENOENT;
	}
	return 0;
}

/* The first entry of that name in the files' order, as client-go merges. */
static const json_t *find(const struct docs *d, const char *list, const char *name,
			  const char *part, const char **file)
{
	for (size_t i = 0; i < d->n; i++) {
		json_t *item;
		size_t j;

		json_array_foreach(json_object_get(d->v[i].root, list), j, item)
		{
			const char *s = json_string_value(json_object_get(item, "name"));

			if (s && !strcmp(s, name)) {
				*file = d->v[i].path;
				return json_object_get(item, part);
			}
		}
	}
	return NULL;
}

static const char *current_context(const struct docs *d)
{
	for (size_t i = 0; i < d->n; i++) {
		const char *s =
			json_string_value(json_object_get(d->v[i].root, "current-context"));

		if (s && *s)
			return s;
	}
	return NULL;
}

typedef int (*read_fn)(struct bn_fields *f, const json_t *o, struct bn_kube_config *c);

static int read_part(const struct docs *d, const char *context, const json_t *ctx,
		     const char *part, const char *list, read_fn fn, struct bn_kube_config *c,
		     char *err)
{
	const char *name = json_string_value(json_object_get(ctx, part)), *file = NULL;
	const json_t *o;
	char where[160];

	if (!name || !*name)
		return 0;
	o = find(d, list, name, part, &file);
	if (!o) {
		snprintf(err, 512, "%s: context '%s' names the %s '%s', which is not in %s",
			 d->v[0].path, context, part, name, list);
		return -EINVAL;
	}
	snprintf(where, sizeof(where), "context '%s': %s[%s].%s", context, list, name, part);
	return fn(&(struct bn_fields){ .file = file, .where = where, .err = err }, o, c);
}

/* What a cluster gives its exec plugins beyond its address. */
static void read_exec_extension(const struct docs *d, const char *cluster,
				struct bn_kube_config *c)
{
	const char *file;
	const json_t *o = find(d, "clusters", cluster ?: "", "cluster", &file);
	json_t *item;
	size_t i;

	json_array_foreach(json_object_get(o, "extensions"), i, item)
	{
		const char *s = json_string_value(json_object_get(item, "name"));

		if (s && !strcmp(s, "client.authentication.k8s.io/exec"))
			c->exec->cluster_config =
				json_deep_copy(json_object_get(item, "extension"));
	}
}

static int load_files(const char *list, bool has_master, struct bn_kube_config *c, char *err)
{
	struct docs d = { 0 };
	const char *context, *file;
	const json_t *ctx;
	int r;

	r = add_files(&d, list, err);
	if (r < 0)
		goto out;
	context = current_context(&d);
	if (!context) {
		r = has_master ? 0 : -EINVAL;
		snprintf(err, 512, "%s: current-context is not set", list);
		goto out;
	}
	ctx = find(&d, "contexts", context, "context", &file);
	if (!json_is_object(ctx)) {
		snprintf(err, 512, "%s: current-context '%s' is not in contexts", list, context);
		r = -EINVAL;
		goto out;
	}
	r = read_part(&d, context, ctx, "cluster", "clusters", bn_kube_read_cluster, c, err)
		?: read_part(&d, context, ctx, "user", "users", bn_kube_read_user, c, err);
	if (r == 0 && asprintf(&c->origin, "%s, context '%s'", list, context) < 0)
		r = -ENOMEM;
	if (r == 0 && !c->server && !has_master) {
		snprintf(err, 512, "%s: context '%s': the cluster has no server", list, context);
		r = -EINVAL;
	}
	if (r == 0 && c->exec && c->exec->cluster_info)
		read_exec_extension(&d, json_string_value(json_object_get(ctx, "cluster")), c);
out:
	docs_free(&d);
	return r;
}

/* The service account of the pod we run in. */
static int load_in_cluster(const char *dir, const char *master, struct bn_kube_config *c, char *err)
{
	const char *host = getenv("KUBERNETES_SERVICE_HOST");
	const char *port = getenv("KUBERNETES_SERVICE_PORT");
	_cleanup_(freep) char *ca = NULL, *token = NULL;
	bool tls = !master || strncasecmp(master, "http://", 7);

	if (!master && (!host || !*host || !port || !*port)) {
		snprintf(err, 512, "no --kubeconfig and no $KUBECONFIG, and this is not a pod: "
				   "$KUBERNETES_SERVICE_HOST and _PORT are not set");
		return -EINVAL;
	}
	if (!master && asprintf(&c->server, strchr(host, ':') && host[0] != '[' ? "https://[%s]:%s"
									      : "https://%s:%s",
				host, port) < 0) {
		c->server = NULL;
		return -ENOMEM;
	}
	if (asprintf(&ca, "%s/ca.crt", dir) < 0 || asprintf(&token, "%s/token", dir) < 0)
		return -ENOMEM;
	c->origin = strdup(master ? "--master" : "in-cluster");
	if (!c->origin)
		return -ENOMEM;
	/* A pod's token must not go out in clear text, and --master alone may be outside a pod. */
	if (access(token, R_OK) == 0 && tls) {
		c->token_file = TAKE_PTR(token);
	} else if (!master) {
		snprintf(err, 512, "in-cluster: the service account's token '%s': %s", token,
			 strerror(errno));
		return -ENOENT;
	}
	if (access(ca, R_OK) == 0 && tls)
		c->ca_file = TAKE_PTR(ca);
	else if (!master && asprintf(&c->warning, "in-cluster: '%s': %s; only the system's "
			"certificate authorities are trusted", ca, strerror(errno)) < 0)
		return -ENOMEM;
	return 0;
}

/* client-go's defaults: with anything about TLS given, an address alone means https. */
static int set_server(struct bn_kube_config *c, const char *server, char *err)
{
	bool tls = c->insecure || c->ca.n || c->ca_file || c->cert.n || c->cert_file;
	char *s = NULL;
	size_t n;

	if (strstr(server, "://"))
		s = strdup(server);
	else if (asprintf(&s, "%s%s", tls ? "https://" : "http://", server) < 0)
		return -ENOMEM;
	if (!s)
		return -ENOMEM;
	for (n = strlen(s); n && s[n - 1] == '/'; n--)
		s[n - 1] = 0;
	if (strncasecmp(s, "http://", 7) && strncasecmp(s, "https://", 8)) {
		snprintf(err, 512, "%s: server '%s' must be http:// or https://",
			 c->origin ?: "--master", server);
		free(s);
		return -EINVAL;
	}
	if (strpbrk(s, " \t\r\n?#") || strlen(s) < 9) {
		snprintf(err, 512, "%s: server '%s' is not an address", c->origin ?: "--master",
			 server);
		free(s);
		return -EINVAL;
	}
	free(c->server);
	c->server = s;
	return 0;
}

/* What client-go finds at start rather than at the first request. */
static int check_files(const struct bn_kube_config *c, char *err)
{
	const struct {
		const char *what, *path;
	} files[] = {
		{ "certificate-authority", c->ca_file },
		{ "client-certificate", c->cert_file },
		{ "client-key", c->key_file },
		{ "tokenFile", c->token_file },
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (files[i].path && access(files[i].path, R_OK) < 0) {
			int e = errno;

			snprintf(err, 512, "%s: %s '%s': %s", c->origin, files[i].what,
				 files[i].path, strerror(e));
			return -e;
		}
	return 0;
}

int bn_kube_config_load(const struct bn_kube_config_opts *o, struct bn_kube_config **ret,
			char err[static 512])
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = calloc(1, sizeof(*c));
	const char *env = getenv("KUBERNETES_MASTER"), *master = o->master;
	bool has_env = env && *env;
	int r;

	snprintf(err, 512, "no memory");
	if (!c)
		return -ENOMEM;
	if (o->kubeconfig)
		r = load_files(o->kubeconfig, master || has_env, c, err);
	else
		r = load_in_cluster(o->sa_dir ?: BN_KUBE_SA_DIR, master, c, err);
	if (r < 0)
		return r;
	if (!master && !c->server && has_env)
		master = env;
	if (!c->origin)
		c->origin = strdup(o->kubeconfig ?: "--master");
	if (!c->origin)
		return -ENOMEM;
	r = set_server(c, master ?: c->server, err) ?: check_files(c, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(c);
	return 0;
}
