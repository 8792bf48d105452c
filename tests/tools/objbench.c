/* SPDX-License-Identifier: MIT */
/* What the object model costs: objbench DIR [SERVICES [ENDPOINTS [PODS]]]
 *
 * Writes a cluster into the empty directory DIR (services and slices as YAML, pods as a JSON list),
 * reads it through the manifests source and prints time, memory, and what one change costs.
 */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "loader/log.h"
#include "loader/source/manifests.h"
#include "maps/util.h"
#include "policy/intern.h"

static unsigned nsvc = 10000, nep = 10, npods = 20000;
static const char *dir;
static unsigned changes, calls;

static FILE *out(const char *name)
{
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f) {
		perror(path);
		exit(1);
	}
	return f;
}

static void write_services(const char *name, unsigned port)
{
	FILE *f = out(name);
	unsigned i;

	for (i = 0; i < nsvc; i++)
		fprintf(f, "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: svc-%u\n"
			"  namespace: ns-%u\n  labels: {app: app-%u}\nspec:\n  type: ClusterIP\n"
			"  clusterIP: 10.%u.%u.%u\n  clusterIPs: [10.%u.%u.%u]\n  selector: {app: app-%u}\n"
			"  ports:\n  - name: http\n    port: %u\n    protocol: TCP\n    targetPort: 8080\n",
			i, i % 100, i, i >> 16, i >> 8 & 255, i & 255, i >> 16, i >> 8 & 255, i & 255, i,
			i ? 80 : port);
	fclose(f);
}

static void write_slices(void)
{
	FILE *f = out("b-slices.yaml");
	unsigned i, k, n;

	for (i = 0; i < nsvc; i++) {
		fprintf(f, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
			"metadata:\n  name: svc-%u-abcde\n  namespace: ns-%u\n  labels:\n"
			"    kubernetes.io/service-name: svc-%u\nports:\n- {name: http, port: 8080, protocol: TCP}\n"
			"endpoints:\n", i, i % 100, i);
		for (k = 0; k < nep; k++) {
			n = i * nep + k;
			fprintf(f, "- addresses: [10.%u.%u.%u]\n  conditions: {ready: true, serving: true, "
				"terminating: false}\n  nodeName: node-%u\n  zone: zone-%u\n  targetRef: {kind: Pod, "
				"name: pod-%u, namespace: ns-%u}\n", 64 + (n >> 16), n >> 8 & 255, n & 255,
				n % 200, n % 3, n % (npods ?: 1), i % 100);
		}
	}
	fclose(f);
}

static void write_pods(void)
{
	FILE *f = out("c-pods.json");
	unsigned i;

	fprintf(f, "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":[");
	for (i = 0; i < npods; i++)
		fprintf(f, "%s\n{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"pod-%u\",\"namespace\":"
			"\"ns-%u\",\"uid\":\"2d9f1a3e-7f7b-4d0c-9f64-%012u\",\"labels\":{\"app\":\"app-%u\",\"tier\":"
			"\"t%u\",\"pod-template-hash\":\"6d4cf56db6\"}},\"spec\":{\"nodeName\":\"node-%u\",\"containers\":"
			"[{\"name\":\"c\",\"image\":\"registry.example.org/app:1.2.3\",\"ports\":[{\"name\":\"http\","
			"\"containerPort\":8080}]}]},\"status\":{\"phase\":\"Running\",\"podIP\":\"10.%u.%u.%u\",\"podIPs\":"
			"[{\"ip\":\"10.%u.%u.%u\"}]}}", i ? "," : "", i, i % 100, i, i % nsvc, i % 5, i % 200,
			64 + (i >> 16), i >> 8 & 255, i & 255, 64 + (i >> 16), i >> 8 & 255, i & 255);
	fprintf(f, "]}\n");
	fclose(f);
}

static long rss_kb(const char *key)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kb = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, strlen(key)))
			kb = atol(line + strlen(key) + 1);
	}
	return kb;
}

static double cpu(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void on_store(const struct bn_obj *old, const struct bn_obj *new, void *data)
{
	(void)old;
	(void)new;
	(void)data;
	changes++;
}

static void on_changed(void *data)
{
	calls++;
	event_base_loopbreak(data);
}

static void measure(struct event_base *base, const char *what)
{
	uint64_t t = bn_source_now();
	unsigned before = changes, seen = calls;
	double c = cpu();

	while (calls == seen)
		event_base_loop(base, EVLOOP_ONCE);
	printf("%-28s %7.1f ms, cpu %7.1f ms, %u changes, rss %ld kB (peak %ld)\n", what,
	       (double)(bn_source_now() - t) / 1e6, (cpu() - c) * 1e3, changes - before,
	       rss_kb("VmRSS:"), rss_kb("VmHWM:"));
}

static void move(const char *from, const char *to)
{
	char a[4096], b[4096];

	snprintf(a, sizeof(a), "%s/%s", dir, from);
	snprintf(b, sizeof(b), "%s/%s", dir, to);
	if (rename(a, b) < 0)
		perror(b);
}

int main(int argc, char **argv)
{
	struct bn_source_callbacks cb = { .changed = on_changed };
	struct event_base *base = event_base_new();
	struct bn_laststate *last = NULL;
	struct bn_source *src = NULL;
	struct bn_store *store = NULL;
	char state[4096];

	if (argc < 2 || !base) {
		fprintf(stderr, "objbench DIR [SERVICES [ENDPOINTS [PODS]]]\n");
		return 2;
	}
	dir = argv[1];
	nsvc = argc > 2 ? (unsigned)atoi(argv[2]) : nsvc;
	nep = argc > 3 ? (unsigned)atoi(argv[3]) : nep;
	npods = argc > 4 ? (unsigned)atoi(argv[4]) : npods;
	write_services("a-services.yaml", 80);
	write_services(".next", 81);
	write_slices();
	write_pods();
	snprintf(state, sizeof(state), "%s/.state", dir);
	cb.data = base;
	if (bn_log_setup("error", "text") < 0 || bn_store_new(&store) < 0 ||
	    bn_laststate_open(state, "bench", &last) < 0 ||
	    bn_manifests_new(base, dir, last, store, &cb, &src) < 0)
		return 1;
	bn_store_listen(store, on_store, NULL);
	printf("rss %ld kB before\n", rss_kb("VmRSS:"));
	bn_source_start(src);
	measure(base, "all of it");
	printf("%zu strings in %zu kB\n", bn_intern_count(), bn_intern_bytes() / 1024);
	move(".next", "a-services.yaml");
	measure(base, "one service in the file");
	fclose(out("d.yaml"));
	measure(base, "an empty file more");
	bn_source_freep(&src);
	bn_laststate_freep(&last);
	bn_store_freep(&store);
	event_base_free(base);
	bn_intern_reset();
	return 0;
}
