/* SPDX-License-Identifier: MIT */
#include "loader/serve/metrics.h"

#include <dirent.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* The process_* metrics under the names that client libraries give them. */
struct process {
	struct bn_metric *cpu, *rss, *virt, *fds, *max_fds;
};

static double start_time(void)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/stat", "re");
	unsigned long long ticks = 0;
	struct timespec wall, boot;
	char buf[1024];
	char *p;

	if (!f || !fgets(buf, sizeof(buf), f))
		return 0;
	/* Field 22; the second one, the name, may contain spaces but ends in the last ')'. */
	p = strrchr(buf, ')');
	if (!p || sscanf(p + 1,
			 " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d"
			 " %*d %*d %llu",
			 &ticks) != 1)
		return 0;
	clock_gettime(CLOCK_REALTIME, &wall);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	return wall.tv_sec + wall.tv_nsec / 1e9 - (boot.tv_sec + boot.tv_nsec / 1e9) +
	       (double)ticks / sysconf(_SC_CLK_TCK);
}

static void read_memory(struct process *p)
{
	_cleanup_(fclosep) FILE *f = fopen("/proc/self/statm", "re");
	unsigned long size, rss;
	long page = sysconf(_SC_PAGESIZE);

	if (!f || fscanf(f, "%lu %lu", &size, &rss) != 2)
		return;
	bn_metric_set(p->virt, (double)size * page);
	bn_metric_set(p->rss, (double)rss * page);
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = -3; /* ".", ".." and the directory itself */

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void collect(void *data)
{
	struct process *p = data;
	struct rusage ru;
	struct rlimit rl;

	if (getrusage(RUSAGE_SELF, &ru) == 0)
		bn_metric_set(p->cpu, ru.ru_utime.tv_sec + ru.ru_stime.tv_sec +
					      (ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0)
		bn_metric_set(p->max_fds, (double)rl.rlim_cur);
	bn_metric_set(p->fds, count_fds());
	read_memory(p);
}

int bn_metrics_process(struct bn_metrics *m)
{
	static struct process p; /* there is one process */

	p.cpu = bn_metrics_counter(m, "process_cpu_seconds_total",
				   "Total user and system CPU time spent in seconds.", "");
	p.rss = bn_metrics_gauge(m, "process_resident_memory_bytes",
				 "Resident memory size in bytes.", "");
	p.virt = bn_metrics_gauge(m, "process_virtual_memory_bytes",
				  "Virtual memory size in bytes.", "");
	p.fds = bn_metrics_gauge(m, "process_open_fds", "Number of open file descriptors.", "");
	p.max_fds = bn_metrics_gauge(m, "process_max_fds",
				     "Maximum number of open file descriptors.", "");
	bn_metric_set(bn_metrics_gauge(m, "process_start_time_seconds",
				       "Start time of the process since unix epoch in seconds.", ""),
		      start_time());
	return bn_metrics_collect(m, collect, &p);
}
