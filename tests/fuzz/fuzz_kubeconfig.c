/* SPDX-License-Identifier: MIT */
/* Kubeconfig files: a config comes out whole or an error that names the file, and nothing is left. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "loader/source/kube/rest_setup.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const char *const bn_fuzz_words[] = {
	"current-context: c\n", "contexts:\n", "clusters:\n", "users:\n", "- name: ", "  cluster:\n",
	"  user:\n", "server: ", "https://", "http://", "[::1]:6443", "certificate-authority-data: ",
	"certificate-authority: /dev/null\n", "insecure-skip-tls-verify: true\n", "tls-server-name: x\n",
	"proxy-url: socks5://h\n", "token: ", "tokenFile: /dev/null\n", "exec:\n", "command: ",
	"apiVersion: client.authentication.k8s.io/v1\n", "interactiveMode: Never\n", "args: []\n",
	"env:\n", "as: a\n", "as-groups: [x]\n", "as-user-extra: {a: [b]}\n", "YQ==", "null", "\\u0000",
	"extensions:\n", "username: u\n", "password: p\n", "&a ", "*a", "{", "}", "[", "]", NULL,
};

/* What is made of it must hold together: an address, and headers without a line break. */
static void use(const struct bn_kube_config *c)
{
	struct bn_rest_target t;

	MUST(c->server && c->origin);
	MUST(!strncasecmp(c->server, "http", 4));
	MUST(!c->exec || (c->exec->command && c->exec->api_version));
	for (size_t i = 0; i < c->nas_extra; i++)
		MUST(c->as_extra[i].key && c->as_extra[i].value);
	if (bn_rest_target_init(&t, c) < 0)
		return;
	MUST(t.base && t.host && *t.host && t.proxy);
	bn_rest_target_clear(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(bn_kube_config_freep) struct bn_kube_config *c = NULL;
	_cleanup_(closep) int fd = memfd_create("kubeconfig", MFD_CLOEXEC);
	struct bn_kube_config_opts o = { 0 };
	char path[64], err[512] = "";

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	o.kubeconfig = path;
	if (bn_kube_config_load(&o, &c, err) == 0)
		use(c);
	else
		MUST(!c && strstr(err, path));
	return 0;
}
