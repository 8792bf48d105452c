/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_CONTROL_FILE_H
#define BN_LOADER_CONTROL_FILE_H

/* The file of the control socket. */

#include <sys/types.h>
#include <sys/un.h>

struct bn_control_file {
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* "" when there is none */
	dev_t dev; /* of our own file: only that one is removed */
	ino_t ino;
};

/* Makes run_dir/control.sock, mode 0600, and returns its listening descriptor; or what bn_control_new
 * says, logged. A client never finds a file that does not answer yet.
 */
int bn_control_file_new(const char *run_dir, struct bn_control_file *ret);

/* Removes the file if it is still ours. */
void bn_control_file_remove(struct bn_control_file *f);

#endif
