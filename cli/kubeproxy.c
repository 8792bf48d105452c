/* SPDX-License-Identifier: MIT */
#include "cli/kubeproxy.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "cli/cli.h"
#include "maps/util.h"

/* kube-proxy's own list of what `kube-proxy --cleanup` removes, of all its modes. Not here, because
 * kubelet owns them: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-MARK-DROP.
 */
bool bn_kube_proxy_chain(const char *name)
{
	static const char *const whole[] = {
		"KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING",
		"KUBE-MARK-MASQ", "KUBE-FORWARD", "KUBE-PROXY-FIREWALL", "KUBE-PROXY-CANARY",
		"KUBE-LOAD-BALANCER", "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL",
		"KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER",
	};
	static const char *const prefix[] = {
		"KUBE-SVC-", "KUBE-SVL-", "KUBE-SEP-", "KUBE-EXT-", "KUBE-FW-", "KUBE-XLB-",
	};

	for (size_t i = 0; i < ARRAY_SIZE(whole); i++)
		if (!strcmp(name, whole[i]))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(prefix); i++)
		if (!strncmp(name, prefix[i], strlen(prefix[i])))
			return true;
	return false;
}

/* The word after position p, copied. */
static const char *word_at(const char *p, char *buf, size_t len)
{
	size_t n = strcspn(p, " \t");

	snprintf(buf, len, "%.*s", (int)(n < len ? n : len - 1), p);
	return buf;
}

/* Does the rule "-A CHAIN ..." send packets to one of the chains? Quoted comments cannot fool it:
 * kube-proxy's targets come last, and a comment would have to end in the target itself.
 */
static bool jumps_to_ours(const char *rule)
{
	char target[128];
	const char *p = NULL, *q;
	bool quoted = false;

	for (q = rule; *q; q++) {
		if (*q == '\\' && q[1]) {
			q++;
			continue;
		}
		if (*q == '"')
			quoted = !quoted;
		if (!quoted && (!strncmp(q, " -j ", 4) || !strncmp(q, " -g ", 4)))
			p = q + 4;
	}
	return p && bn_kube_proxy_chain(word_at(p, target, sizeof(target)));
}

struct names {
	char **v;
	size_t n;
};

static void names_done(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	l->v = NULL;
	l->n = 0;
}

static int names_add(struct names *l, const char *name)
{
	char **v = realloc(l->v, (l->n + 1) * sizeof(*v));

	if (!v)
		return -ENOMEM;
	l->v = v;
	v[l->n] = strdup(name);
	if (!v[l->n])
		return -ENOMEM;
	l->n++;
	return 0;
}

/* Chains are emptied by being declared, then rules that jump to them go, then they do. */
static void end_table(FILE *out, const char *table, const struct names *chains, char *rules)
{
	if (!chains->n)
		return;
	fprintf(out, "%s\n", table);
	for (size_t i = 0; i < chains->n; i++)
		fprintf(out, ":%s - [0:0]\n", chains->v[i]);
	fputs(rules, out);
	for (size_t i = 0; i < chains->n; i++)
		fprintf(out, "-X %s\n", chains->v[i]);
	fputs("COMMIT\n", out);
}

static int table_script(char **save, const char *table, FILE *out)
{
	_cleanup_(names_done) struct names chains = { 0 };
	_cleanup_(freep) char *rules = NULL;
	char name[128], *line;
	size_t len;
	FILE *del = open_memstream(&rules, &len);
	int r = 0;

	if (!del)
		return -ENOMEM;
	while (!r && (line = strsep(save, "\n")) && strcmp(line, "COMMIT")) {
		if (line[0] == ':' && bn_kube_proxy_chain(word_at(line + 1, name, sizeof(name))))
			r = names_add(&chains, name);
		else if (!strncmp(line, "-A ", 3) &&
			 !bn_kube_proxy_chain(word_at(line + 3, name, sizeof(name))) &&
			 jumps_to_ours(line))
			fprintf(del, "-D %s\n", line + 3);
	}
	if (fclose(del))
		return -ENOMEM;
	if (r < 0)
		return r;
	end_table(out, table, &chains, rules);
	return chains.n;
}

int bn_kube_proxy_script(char *save, FILE *out)
{
	int n = 0, r;
	char *line;

	while ((line = strsep(&save, "\n"))) {
		if (line[0] != '*')
			continue;
		r = table_script(&save, line, out);
		if (r < 0)
			return r;
		n += r;
	}
	return n;
}

/* Runs argv with in as input, what it writes in *ret. Its exit status, 127 when it is not there. */
static int run(const char *const argv[], const char *in, char **ret)
{
	_cleanup_(fclosep) FILE *input = tmpfile(), *output = tmpfile();
	int status;
	long len;
	pid_t pid;

	if (!input || !output || (in && fputs(in, input) == EOF) || fflush(input))
		return -EIO;
	rewind(input);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid) {
		dup2(fileno(input), 0);
		dup2(fileno(output), 1);
		if (ret) {
			int null = open("/dev/null", O_WRONLY);

			dup2(null, 2);
		}
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	if (ret) {
		fseek(output, 0, SEEK_END);
		len = ftell(output);
		rewind(output);
		*ret = calloc(1, len + 1);
		if (!*ret || (long)fread(*ret, 1, len, output) != len)
			return -EIO;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static int clean_iptables(const char *save, const char *restore, json_t *report)
{
	_cleanup_(freep) char *text = NULL, *script = NULL;
	size_t len;
	FILE *out;
	int n, r;

	r = run((const char *const[]){ save, NULL }, NULL, &text);
	if (r) /* not installed, or a kernel without it: then nothing is there either */
		return r < 0 ? r : r == 127 ? -ENOENT : 0;
	out = open_memstream(&script, &len);
	if (!out)
		return -ENOMEM;
	n = bn_kube_proxy_script(text, out);
	if (fclose(out) || n < 0)
		return -ENOMEM;
	if (!n)
		return 0;
	r = run((const char *const[]){ restore, "--noflush", NULL }, script, NULL);
	if (r) {
		bn_cli_say("%s failed; kube-proxy's chains of this table kind are still there", restore);
		return -EIO;
	}
	json_array_append_new(report, json_sprintf("%s: %d chains of kube-proxy", save, n));
	return 0;
}

static int clean_nft(const char *family, json_t *report)
{
	_cleanup_(freep) char *text = NULL;

	if (run((const char *const[]){ "nft", "list", "table", family, "kube-proxy", NULL }, NULL,
		&text))
		return 0; /* no such table, or no nft */
	if (run((const char *const[]){ "nft", "delete", "table", family, "kube-proxy", NULL }, NULL,
		NULL)) {
		bn_cli_say("nft delete table %s kube-proxy failed", family);
		return -EIO;
	}
	json_array_append_new(report, json_sprintf("nftables: table %s kube-proxy", family));
	return 0;
}

static int clean_ipvs(json_t *report)
{
	struct stat st;

	if (stat("/sys/class/net/kube-ipvs0", &st) < 0)
		return 0;
	if (run((const char *const[]){ "ip", "link", "delete", "kube-ipvs0", NULL }, NULL, NULL)) {
		bn_cli_say("ip link delete kube-ipvs0 failed");
		return -EIO;
	}
	json_array_append_new(report, json_string("device kube-ipvs0"));
	if (run((const char *const[]){ "ipvsadm", "--clear", NULL }, NULL, NULL)) {
		bn_cli_say("IPVS services may be left: run 'ipvsadm --clear'");
		return -EIO;
	}
	json_array_append_new(report, json_string("IPVS services"));
	return 0;
}

int bn_kube_proxy_cleanup(json_t *report)
{
	static const char *const tools[][2] = {
		{ "iptables-legacy-save", "iptables-legacy-restore" },
		{ "ip6tables-legacy-save", "ip6tables-legacy-restore" },
		{ "iptables-nft-save", "iptables-nft-restore" },
		{ "ip6tables-nft-save", "ip6tables-nft-restore" },
		/* Where there is one back end only, it may have no name of its own. */
		{ "iptables-save", "iptables-restore" },
		{ "ip6tables-save", "ip6tables-restore" },
	};
	bool found = false;
	int r = 0, k;

	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		k = clean_iptables(tools[i][0], tools[i][1], report);
		found = found || k != -ENOENT;
		if (k < 0 && k != -ENOENT)
			r = k;
	}
	if (!found)
		bn_cli_say("no iptables here: rules in iptables, if any, were not looked at");
	k = clean_nft("ip", report);
	r = r ?: k;
	k = clean_nft("ip6", report);
	r = r ?: k;
	k = clean_ipvs(report);
	return r ?: k;
}
