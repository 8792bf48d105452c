/* SPDX-License-Identifier: MIT */
#ifndef BN_LOADER_CONTROL_H
#define BN_LOADER_CONTROL_H

/* The control socket: how `bpfnet` asks the daemon. A unix stream socket <run-dir>/control.sock,
 * mode 0600. A request is one line {"cmd":"svc.list","args":{...}}; the reply is one line
 * {"ok":true,"data":...} or {"ok":false,"error":"...","errno":N}. A connection may carry several
 * requests, one after the other. A streaming command answers {"ok":true,"stream":true} and then one
 * object a line until the client goes.
 *
 * Promises: nothing here blocks the loop. A client may not send more than BN_CONTROL_MAX_REQUEST
 * bytes a request nor take more than BN_CONTROL_REQUEST_S for one, and must read a reply within
 * BN_CONTROL_REPLY_S; there are at most BN_CONTROL_MAX_CLIENTS; a slow subscriber of a stream loses
 * lines (it is told how many), never memory of the daemon. An array as reply is written piece by
 * piece as the client reads, so that a list of 50,000 services is never held as text.
 *
 * Commands of the daemon (args -> data; the CLI relies on these names):
 *   status         -> the contract's object
 *   svc.list, endpoint.list, policy.list, identity.list, policy.lint -> arrays
 *   svc.show, policy.show  {"namespace","name"} -> object
 *   policy.trace   {"from","to","proto","port","http","host","headers":[],"verify":bool} -> object
 *   flows          {"drop":bool,"pod":"ns/name","last":N,"follow":bool} -> stream
 *   metrics        -> string, the exposition text
 */

#include <event2/event.h>
#include <jansson.h>
#include <stdbool.h>

#include "maps/util.h"

#define BN_CONTROL_SOCKET "control.sock"
#define BN_CONTROL_MAX_CLIENTS 32
#define BN_CONTROL_MAX_STREAMS 16
#define BN_CONTROL_MAX_REQUEST 65536
#define BN_CONTROL_REQUEST_S 10
#define BN_CONTROL_REPLY_S 60

struct bn_control;
struct bn_control_stream;

/* What a handler answers: data (a new reference that the socket takes; NULL is null), or an error
 * made by bn_reply_error.
 */
struct bn_reply {
	json_t *data;
	/* With an array as data: makes the row that is written for an element of it, as late as the
	 * client reads it; a new reference, NULL leaves the row out. For lists of which all rows at
	 * once would be too much. row_data must live as long as the socket.
	 */
	json_t *(*row)(const json_t *element, void *row_data);
	void *row_data;
	char error[512];
};

/* Writes the text that the user will read and returns err as negative errno:
 *	return bn_reply_error(r, ENOENT, "no service %s/%s", ns, name);
 */
int bn_reply_error(struct bn_reply *r, int err, const char *fmt, ...) _printf_(3, 4);

/* args is always an object (empty when none were sent) and borrowed. Returns 0 or negative errno. */
typedef int (*bn_control_fn)(const json_t *args, struct bn_reply *r, void *data);

/* Accepts a subscriber: 0, and from now on bn_stream_send may be called on it, or negative errno.
 * When the subscriber goes, the function given to bn_stream_on_close is called once; the stream is
 * invalid after it returns.
 */
typedef int (*bn_stream_fn)(struct bn_control_stream *s, const json_t *args, struct bn_reply *r,
			    void *data);

/* Creates run_dir/control.sock. A socket file that nobody listens on is replaced; one that answers
 * is another daemon: -EADDRINUSE; a file of another kind is left alone: -EEXIST; a path that does
 * not fit: -ENAMETOOLONG. All are logged with what to do.
 */
int bn_control_new(struct event_base *base, const char *run_dir, struct bn_control **ret);
/* Closes all connections and removes the socket file if it is still ours. */
void bn_control_freep(struct bn_control **c);

/* For tests, which cannot wait that long; of connections made from now on. */
void bn_control_set_deadlines(struct bn_control *c, unsigned request_ms, unsigned reply_ms);

/* name and data must live as long as c. -EEXIST when the name is taken. */
int bn_control_handle(struct bn_control *c, const char *name, bn_control_fn fn, void *data);
int bn_control_handle_stream(struct bn_control *c, const char *name, bn_stream_fn fn, void *data);

/* Queues one object as a line. 0, or -ENOBUFS when the subscriber is too slow: the line is lost and
 * counted in bn_stream_lost. obj is borrowed. May be called from anywhere in the loop's thread.
 */
int bn_stream_send(struct bn_control_stream *s, const json_t *obj);
/* Lines lost since the last call; and back again, when they could not be told of. */
unsigned long bn_stream_lost(struct bn_control_stream *s);
void bn_stream_add_lost(struct bn_control_stream *s, unsigned long n);
void bn_stream_on_close(struct bn_control_stream *s, void (*fn)(void *data), void *data);
/* Ends the stream when what is queued has been read; on_close is still called. */
void bn_stream_end(struct bn_control_stream *s);

#endif
