# objects.c takes in whichever objects there are: it is built again when another one comes.
$(B)/obj/loader/kernel/objects.o: $(SKELS)

# Somebody else's XDP program, for tests/e2e.
$(B)/tests/xdp_pass.bpf.o: tests/e2e/xdp_pass.bpf.c
	@mkdir -p $(@D)
	@echo "  CLANG-BPF $@"
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c $< -o $@
tools: $(B)/tests/xdp_pass.bpf.o

# A program for a test only.
$(K)/bpf/grace.bpf.o: tests/bpf/grace.bpf.c
	@mkdir -p $(@D)
	@echo "  CLANG-BPF $@"
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c $< -o $@
$(B)/obj/tests/bpf/test_grace.o: $(K)/skel/grace.skel.h
