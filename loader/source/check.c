/* SPDX-License-Identifier: MIT */
#include "loader/source/check.h"

#include <string.h>

#include "loader/log.h"
#include "loader/slow.h"
#include "maps/util.h"
#include "policy/http.h"

struct bn_check {
	struct bn_slow_job job;
	struct bn_check *next;
	struct bn_source *source;
	struct bn_obj *obj; /* what the thread looks at, and nothing else */
	json_t *json;
	char *origin;
	uint64_t since_ns;
	bool first; /* of the first full reading */
	bool dropped;
	int result;
	struct bn_err err;
};

static void check_freep(struct bn_check **cp)
{
	struct bn_check *c = *cp;

	if (!c)
		return;
	*cp = NULL;
	bn_obj_unref(c->obj);
	json_decref(c->json);
	free(c->origin);
	free(c);
}

static struct bn_check **find(struct bn_source *s, const struct bn_source_id *id)
{
	struct bn_check **at = &s->checks;

	while (*at && ((*at)->obj->kind != id->kind || (*at)->obj->ns != id->ns || (*at)->obj->name != id->name))
		at = &(*at)->next;
	return at;
}

static void unlist(struct bn_check *c)
{
	struct bn_check **at = &c->source->checks;

	while (*at && *at != c)
		at = &(*at)->next;
	if (!*at)
		return;
	*at = c->next;
	c->source->nfirst_checks -= c->first;
}

static void run(struct bn_slow_job *j)
{
	struct bn_check *c = (struct bn_check *)j; /* its first member */

	c->result = bn_http_check((const struct bn_netpol *)c->obj, &c->err);
}

static void done(struct bn_slow_job *j)
{
	_cleanup_(check_freep) struct bn_check *c = (struct bn_check *)j;
	int r;

	if (c->dropped)
		return;
	unlist(c);
	if (c->result == -ENOMEM)
		snprintf(c->err.msg, sizeof(c->err.msg), "no memory to check its HTTP rules");
	r = bn_source_checked(c->source, c->obj, c->json, c->origin, c->result < 0 ? &c->err : NULL);
	if (r == -ENOMEM)
		log_err_r(r, "%s %s/%s", bn_kind_name(c->obj->kind), c->obj->ns, c->obj->name);
}

static void drop(struct bn_slow_job *j)
{
	struct bn_check *c = (struct bn_check *)j;

	if (!c->dropped)
		unlist(c);
	check_freep(&c);
}

int bn_check_begin(struct bn_source *s, const struct bn_source_id *id, struct bn_obj *o, json_t *json,
		   const char *origin)
{
	_cleanup_(check_freep) struct bn_check *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->job = (struct bn_slow_job){ .ns = o->ns, .run = run, .done = done, .drop = drop };
	c->source = s;
	c->obj = bn_obj_ref(o);
	c->json = json_incref(json);
	c->origin = origin ? strdup(origin) : NULL;
	c->since_ns = bn_source_now();
	c->first = !s->state[id->kind].synced;
	if (origin && !c->origin)
		return -ENOMEM;
	r = bn_slow_push(s->slow, &c->job);
	if (r < 0)
		return r;
	c->next = s->checks;
	s->checks = c;
	s->nfirst_checks += c->first;
	c = NULL;
	return 0;
}

bool bn_check_goes_on(struct bn_source *s, const struct bn_source_id *id, const struct bn_obj *o, json_t *json)
{
	struct bn_check *c = *find(s, id);

	if (!c || !bn_obj_equal(c->obj, o))
		return false;
	json_decref(c->json);
	c->json = json_incref(json);
	return true;
}

void bn_check_forget(struct bn_source *s, const struct bn_source_id *id)
{
	struct bn_check *c = *find(s, id);

	if (!c)
		return;
	unlist(c);
	if (bn_slow_cancel(s->slow, &c->job))
		check_freep(&c);
	else
		c->dropped = true;
}

json_t *bn_check_json(const struct bn_source *s)
{
	uint64_t now = bn_source_now();
	json_t *list = json_array();

	for (const struct bn_check *c = s->checks; c; c = c->next)
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:f}", "kind", bn_kind_name(c->obj->kind), "namespace",
						      c->obj->ns, "name", c->obj->name, "seconds",
						      (double)(now - c->since_ns) / 1e9));
	return list;
}
