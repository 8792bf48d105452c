# SPDX-License-Identifier: MIT
bench: deps ## everything beside the direct path and kube-proxy (as root; about 40 min; BENCH_QUICK=1: 1 min)
	$(Q)$(MAKE) --no-print-directory -j2 all tools benchtools
	$(Q)/usr/bin/python3 tests/bench/bench.py $(BENCH_ARGS)

bench-%: deps ## one part: services, policies, nodeport, latency, bulk, http, testrun, control
	$(Q)$(MAKE) --no-print-directory -j2 all tools benchtools
	$(Q)/usr/bin/python3 tests/bench/bench.py --only $* $(BENCH_ARGS)

benchtools: $(B)/tests/bench/testrun $(B)/tests/bpf/test_pod_speed



profile-%: deps ## where the time of a load goes: tcp-new, udp-new, tcp-kept, bulk, nodeport-tcp... (PROFILE_ARGS="--way socket")
	$(Q)$(MAKE) --no-print-directory -j2 all tools
	$(Q)/usr/bin/python3 tests/bench/profile.py $(PROFILE_ARGS) $*

.PHONY: bench benchtools
