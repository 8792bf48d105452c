# SPDX-License-Identifier: MIT
bench: deps ## everything beside the direct path and kube-proxy-like rules (as root; about 15 min)
	$(Q)$(MAKE) --no-print-directory -j2 all tools
	$(Q)/usr/bin/python3 tests/bench/bench.py $(BENCH_ARGS)

bench-%: deps ## one part of it: services, policies, control
	$(Q)$(MAKE) --no-print-directory -j2 all tools
	$(Q)/usr/bin/python3 tests/bench/bench.py --only $* $(BENCH_ARGS)

.PHONY: bench
