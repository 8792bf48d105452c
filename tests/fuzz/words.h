/* SPDX-License-Identifier: MIT */
/* Words of the API and of its texts, for the mutations of the driver. */
const char *const bn_fuzz_words[] = {
	"\"apiVersion\":\"v1\",", "\"networking.k8s.io/v1\"", "\"discovery.k8s.io/v1\"",
	"\"bpfnet.io/v1alpha1\"", "\"kind\":", "\"Service\"", "\"EndpointSlice\"", "\"Pod\"",
	"\"Namespace\"", "\"Node\"", "\"NetworkPolicy\"", "\"HTTPNetworkPolicy\"", "\"List\"",
	"\"metadata\":{", "\"name\":", "\"namespace\":", "\"labels\":{", "\"spec\":{", "\"status\":{",
	"\"ports\":[", "\"port\":", "\"endPort\":", "\"protocol\":\"UDP\",", "\"addresses\":[",
	"\"conditions\":{", "\"ready\":", "\"hints\":{\"forZones\":[{\"name\":", "\"podSelector\":{",
	"\"matchLabels\":{", "\"matchExpressions\":[", "\"operator\":\"In\",", "\"values\":[",
	"\"ingress\":[", "\"egress\":[", "\"from\":[", "\"to\":[", "\"ipBlock\":{\"cidr\":",
	"\"except\":[", "\"http\":[", "\"path\":{\"value\":\"/\"}", "\"headers\":[", "\"hostnames\":[",
	"\"10.0.0.0/8\"", "\"::/0\"", "\"fd00::1\"", "\"::ffff:1.2.3.4\"", "null", "true", "-1", "65536",
	"1e999", "0x7fffffffffffffff", "\\u0000", "\\ud800", "\n---\n", "\n- ", "\n  ", ": ", " #", "&a ",
	"*a", "<<: ", "|\n", ">-\n", "!!str ", "? ", "\"items\":[", "items:\n", "{}", "[]", "\xef\xbb\xbf",
	NULL,
};
