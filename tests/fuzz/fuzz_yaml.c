/* SPDX-License-Identifier: MIT */
/* YAML to JSON: bounded, and what comes out is a value that can be written. */
#include <stdio.h>
#include <string.h>

#include "maps/util.h"
#include "policy/yaml.h"
#include "tests/fuzz/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t depth(const json_t *j)
{
	size_t max = 0, d, i;
	const char *key;
	json_t *v;

	json_array_foreach(j, i, v) {
		d = depth(v);
		max = d > max ? d : max;
	}
	json_object_foreach((json_t *)j, key, v) {
		d = depth(v);
		max = d > max ? d : max;
	}
	return max + 1;
}

static int on_node(json_t *node, unsigned line, bool item, void *data)
{
	size_t *total = data;
	char *text;

	/* an alias may bring another such tree, its place is not counted in it */
	if (!line || depth(node) > 2 * BN_YAML_DEPTH_MAX)
		abort();
	text = json_dumps(node, JSON_ENCODE_ANY);
	if (!text)
		abort();
	*total += strlen(text);
	freep(&text);
	return item && *total % 2;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bn_yaml_err err;
	size_t total = 0;
	int r = bn_yaml_parse((const char *)data, size, on_node, &total, &err);

	if (r == -EINVAL && (!err.msg[0] || !err.line))
		abort();
	if (r && r != -EINVAL)
		abort();
	return 0;
}
