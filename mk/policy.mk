# Helpers that several tests share: random clusters, and the plain reading of the API.
POLICY_TESTS := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/test_policy_*.c))
$(POLICY_TESTS) $(B)/tests/bpf/test_policies $(B)/tests/bpf/test_policies_http $(B)/tests/bpf/test_policy_kernel: $(B)/obj/tests/unit/cluster.o $(B)/obj/tests/unit/oracle.o
