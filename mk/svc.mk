# A program that reads services as the data plane does, while a test changes them.
$(K)/skel/svc_reader.skel.h: tests/bpf/svc_reader.bpf.c
	@mkdir -p $(@D)
	@echo "  CLANG-BPF $@"
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.h=.d) -c $< -o $(@:.skel.h=.bpf.o)
	$(Q)$(BPFTOOL) gen skeleton $(@:.skel.h=.bpf.o) name svc_reader_bpf > $@
$(B)/obj/tests/bpf/test_svc_torn.o: $(K)/skel/svc_reader.skel.h
