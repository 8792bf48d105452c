/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "loader/source/kube/fields.h"

static void check_proxy(struct bn_fields *f, const char *url)
{
	static const char *const schemes[] = { "http://", "https://", "socks5://", "socks5h://" };
	size_t i;

	if (!url)
		return;
	for (i = 0; i < ARRAY_SIZE(schemes); i++)
		if (!strncasecmp(url, schemes[i], strlen(schemes[i])) && url[strlen(schemes[i])])
			return;
	bn_fields_fail(f, "proxy-url", "must begin with http://, https:// or socks5://");
}

int bn_kube_read_cluster(struct bn_fields *f, const json_t *cluster, struct bn_kube_config *c)
{
	if (!json_is_object(cluster)) {
		bn_fields_fail(f, "", "must be a mapping");
		return f->r;
	}
	bn_fields_str(f, cluster, "server", &c->server);
	bn_fields_base64(f, cluster, "certificate-authority-data", &c->ca);
	if (!c->ca.n)
		bn_fields_path(f, cluster, "certificate-authority", &c->ca_file);
	c->insecure = bn_fields_bool(f, cluster, "insecure-skip-tls-verify");
	bn_fields_str(f, cluster, "tls-server-name", &c->tls_server_name);
	bn_fields_str(f, cluster, "proxy-url", &c->proxy_url);
	check_proxy(f, c->proxy_url);
	/* client-go refuses the pair too: it would look safe and check nothing. */
	if (c->insecure && (c->ca.n || c->ca_file))
		bn_fields_fail(f, "insecure-skip-tls-verify",
			       "cannot be true beside a certificate authority");
	return f->r;
}

void bn_kube_exec_freep(struct bn_kube_exec **e)
{
	if (!*e)
		return;
	free((*e)->command);
	bn_strv_freep(&(*e)->args);
	bn_strv_freep(&(*e)->env);
	free((*e)->api_version);
	free((*e)->install_hint);
	json_decref((*e)->cluster_config);
	free(*e);
	*e = NULL;
}

static void read_exec_env(struct bn_fields *f, const json_t *exec, struct bn_kube_exec *e)
{
	json_t *list = json_object_get(exec, "env"), *item;
	size_t i, n = json_array_size(list);

	if (!n)
		return;
	e->env = calloc(n + 1, sizeof(*e->env));
	if (!e->env) {
		f->r = -ENOMEM;
		return;
	}
	json_array_foreach(list, i, item)
	{
		const char *name = bn_fields_text(f, item, "name");
		const char *val = bn_fields_text(f, item, "value");

		if (!name || strchr(name, '=')) {
			bn_fields_fail(f, "exec.env", "each item needs a name");
			return;
		}
		if (asprintf(&e->env[i], "%s=%s", name, val ?: "") < 0) {
			e->env[i] = NULL;
			f->r = -ENOMEM;
			return;
		}
	}
}

static void check_exec(struct bn_fields *f, const json_t *exec, const struct bn_kube_exec *e)
{
	const char *mode = bn_fields_text(f, exec, "interactiveMode");
	bool v1 = e->api_version && !strcmp(e->api_version, "client.authentication.k8s.io/v1");
	bool beta = e->api_version && !strcmp(e->api_version, "client.authentication.k8s.io/v1beta1");

	if (!e->command)
		bn_fields_fail(f, "exec.command", "is missing");
	if (!v1 && !beta)
		bn_fields_fail(f, "exec.apiVersion",
			       "must be client.authentication.k8s.io/v1 or .../v1beta1");
	if (!mode && v1)
		bn_fields_fail(f, "exec.interactiveMode", "is missing (v1 requires it)");
	if (mode && !strcmp(mode, "Always"))
		bn_fields_fail(f, "exec.interactiveMode", "Always: a daemon has no terminal");
	else if (mode && strcmp(mode, "Never") && strcmp(mode, "IfAvailable"))
		bn_fields_fail(f, "exec.interactiveMode",
			       "must be Never, IfAvailable or Always");
}

static void read_exec(struct bn_fields *f, const json_t *exec, struct bn_kube_config *c)
{
	struct bn_kube_exec *e;
	const char *command;

	if (!json_is_object(exec)) {
		bn_fields_fail(f, "exec", "must be a mapping");
		return;
	}
	c->exec = e = calloc(1, sizeof(*e));
	if (!e) {
		f->r = -ENOMEM;
		return;
	}
	command = bn_fields_text(f, exec, "command");
	/* As client-go: a name without a slash is looked for in $PATH, a relative path beside the
	 * kubeconfig.
	 */
	if (command) {
		e->command = strchr(command, '/') ? bn_kube_path_beside(f->file, command)
						  : strdup(command);
		if (!e->command)
			f->r = -ENOMEM;
	}
	bn_fields_list(f, exec, "args", &e->args);
	read_exec_env(f, exec, e);
	bn_fields_str(f, exec, "apiVersion", &e->api_version);
	bn_fields_str(f, exec, "installHint", &e->install_hint);
	e->cluster_info = bn_fields_bool(f, exec, "provideClusterInfo");
	check_exec(f, exec, e);
}

static void read_impersonation(struct bn_fields *f, const json_t *user, struct bn_kube_config *c)
{
	json_t *extra = json_object_get(user, "as-user-extra"), *vals, *val;
	const char *key;
	size_t i, n = 0;

	bn_fields_str(f, user, "as", &c->as);
	bn_fields_str(f, user, "as-uid", &c->as_uid);
	bn_fields_list(f, user, "as-groups", &c->as_groups);
	json_object_foreach(extra, key, vals)
		n += json_array_size(vals);
	if (n && !f->r) {
		c->as_extra = calloc(n, sizeof(*c->as_extra));
		if (!c->as_extra)
			f->r = -ENOMEM;
	}
	json_object_foreach(extra, key, vals) {
		json_array_foreach(vals, i, val)
		{
			struct bn_kube_extra *x;

			if (f->r < 0)
				return;
			if (!json_is_string(val)) {
				bn_fields_fail(f, "as-user-extra", "must map names to lists of strings");
				return;
			}
			x = &c->as_extra[c->nas_extra++];
			x->key = strdup(key);
			x->value = strdup(json_string_value(val));
			if (!x->key || !x->value)
				f->r = -ENOMEM;
		}
	}
	if (!c->as && (c->as_uid || c->as_groups || c->nas_extra))
		bn_fields_fail(f, "as", "is missing, but as-uid, as-groups or as-user-extra is given");
}

int bn_kube_read_user(struct bn_fields *f, const json_t *user, struct bn_kube_config *c)
{
	const json_t *exec = json_object_get(user, "exec");
	const json_t *legacy = json_object_get(user, "auth-provider");

	if (!json_is_object(user)) {
		bn_fields_fail(f, "", "must be a mapping");
		return f->r;
	}
	bn_fields_base64(f, user, "client-certificate-data", &c->cert);
	if (!c->cert.n)
		bn_fields_path(f, user, "client-certificate", &c->cert_file);
	bn_fields_base64(f, user, "client-key-data", &c->key);
	if (!c->key.n)
		bn_fields_path(f, user, "client-key", &c->key_file);
	if ((c->cert.n || c->cert_file) && !c->key.n && !c->key_file)
		bn_fields_fail(f, "client-key", "is missing beside the client certificate");
	if (!c->cert.n && !c->cert_file && (c->key.n || c->key_file))
		bn_fields_fail(f, "client-certificate", "is missing beside the client key");
	bn_fields_path(f, user, "tokenFile", &c->token_file);
	bn_fields_secret(f, user, "token", &c->token);
	bn_fields_str(f, user, "username", &c->username);
	bn_fields_secret(f, user, "password", &c->password);
	if (c->username && (c->token.n || c->token_file))
		bn_fields_fail(f, "username", "more than one way to authenticate: token and password");
	read_impersonation(f, user, c);
	if (exec && !json_is_null(exec))
		read_exec(f, exec, c);
	if (legacy && !json_is_null(legacy))
		bn_fields_fail(f, "auth-provider", "is gone from Kubernetes since 1.26: use exec");
	return f->r;
}
