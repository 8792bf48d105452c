# SPDX-License-Identifier: MIT
bench: deps ## everything beside the direct path and kube-proxy (as root; about 40 min; BENCH_QUICK=1: 1 min)
	$(Q)$(MAKE) --no-print-directory -j2 all tools benchtools
	$(Q)/usr/bin/python3 tests/bench/bench.py $(BENCH_ARGS)

bench-%: deps ## one part: services, policies, nodeport, latency, bulk, http, testrun, control
	$(Q)$(MAKE) --no-print-directory -j2 all tools benchtools
	$(Q)/usr/bin/python3 tests/bench/bench.py --only $* $(BENCH_ARGS)

benchtools: $(B)/tests/bench/testrun $(B)/tests/bench/limit $(B)/tests/bpf/test_pod_speed

# The least that programs on our hooks cost.
$(K)/skel/lim%.skel.h: tests/bench/lim%.bpf.c
	@mkdir -p $(@D)
	@echo "  CLANG-BPF $@"
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.h=.d) -c $< -o $(@:.skel.h=.bpf.o)
	$(Q)$(BPFTOOL) gen skeleton $(@:.skel.h=.bpf.o) name lim$*_bpf > $@
$(B)/obj/tests/bench/limit.o: $(K)/skel/limit.skel.h $(K)/skel/limit_xdp.skel.h

profile-%: deps ## where the time of a load goes: tcp-new, udp-new, tcp-kept, bulk, nodeport-tcp... (PROFILE_ARGS="--way socket")
	$(Q)$(MAKE) --no-print-directory -j2 all tools
	$(Q)/usr/bin/python3 tests/bench/profile.py $(PROFILE_ARGS) $*

.PHONY: bench benchtools
