#include "loader/model/policies.h"
#include "loader/serve/healthcheck.h"
#include <errno.h>
struct bn_policies { int x; };
static struct bn_policies P;
int bn_policies_new(struct bn_store *s, struct bn_maps *m, const struct bn_policies_env *e, struct bn_policies **r){(void)s;(void)m;(void)e;*r=&P;return 0;}
void bn_policies_freep(struct bn_policies **p){*p=NULL;}
int bn_policies_sync(struct bn_policies *p){(void)p;return 0;}
void bn_policies_set_ready(struct bn_policies *p, bool r){(void)p;(void)r;}
bool bn_policies_in_force(const struct bn_policies *p){(void)p;return true;}
int bn_policies_slot(struct bn_policies *p, uint32_t s, const char *a, const char *b, bool c){(void)p;(void)s;(void)a;(void)b;(void)c;return 0;}
void bn_policies_slot_gone(struct bn_policies *p, uint32_t s){(void)p;(void)s;}
int bn_policies_host(struct bn_policies *p, const struct bn_addr *a, size_t n){(void)p;(void)a;(void)n;return 0;}
bool bn_policies_could_select_unknown(const struct bn_policies *p, const char *n){(void)p;(void)n;return false;}
bool bn_policies_isolated(const struct bn_policies *p, uint32_t s, bool *i, bool *e){(void)p;(void)s;*i=*e=false;return true;}
int bn_policies_rule(const struct bn_policies *p, uint32_t r, struct bn_rule_ref *x){(void)p;(void)r;(void)x;return -ENOENT;}
const struct bn_pod *bn_policies_pod_at(const struct bn_policies *p, const struct bn_addr *a){(void)p;(void)a;return NULL;}
int bn_policies_list(struct bn_policies *p, json_t **r){(void)p;*r=json_array();return 0;}
int bn_policies_lint(struct bn_policies *p, json_t **r){(void)p;*r=json_array();return 0;}
int bn_policies_identities(struct bn_policies *p, json_t **r){(void)p;*r=json_array();return 0;}
int bn_policies_errors(struct bn_policies *p, json_t **r){(void)p;*r=json_array();return 0;}
int bn_policies_show(struct bn_policies *p, const char*a,const char*b,json_t **r){(void)p;(void)a;(void)b;(void)r;return -ENOENT;}
int bn_policies_trace(struct bn_policies *p, const struct bn_trace_query *q, bool v, json_t **r){(void)p;(void)q;(void)v;(void)r;return -ENOENT;}
void bn_policies_stats(const struct bn_policies *p, struct bn_policies_stats *r){(void)p;*r=(struct bn_policies_stats){};}
struct bn_healthcheck{int x;};
int bn_healthcheck_new(struct event_base *b, const struct bn_services *s, bool (*h)(void*), void *d, struct bn_healthcheck **r){(void)b;(void)s;(void)h;(void)d;*r=NULL;return 0;}
void bn_healthcheck_freep(struct bn_healthcheck **h){*h=NULL;}
void bn_healthcheck_sync(struct bn_healthcheck *h){(void)h;}
