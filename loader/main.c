/* SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "loader/daemon.h"
#include "loader/log.h"

int main(int argc, char **argv)
{
	_cleanup_(bn_daemon_freep) struct bn_daemon *d = NULL;
	struct bn_opts opts;
	int r;

	r = bn_opts_parse(argc, argv, &opts);
	if (r)
		return r > 0 ? 0 : 2;
	if (bn_log_setup(opts.log_level, opts.log_format) < 0)
		return 2;
	/* The models' tables are large and mostly never touched: as mappings of their own they take no memory
	 * for that. Left alone, the allocator moves them to its heap once it has freed the kernel's BTF.
	 */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	signal(SIGPIPE, SIG_IGN);
	umask(077);
	/* Tokens and keys pass through this process: no core dumps, no ptrace by the user's others. */
	prctl(PR_SET_DUMPABLE, 0);
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });

	r = bn_daemon_new(&opts, &d);
	if (r < 0)
		return 1;
	event_base_dispatch(d->base);
	log_info("ending; services and policies stay in force");
	return d->exit_code;
}
