# bpfnet-cni, the chained CNI plugin.
CNI_O := $(patsubst %.c,$(B)/obj/%.o,$(wildcard cni/*.c))

all: $(B)/bpfnet-cni

$(B)/bpfnet-cni: $(CNI_O) $(BN_LIBS)
	@echo "  LD        $@"
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS)

$(B)/tests/bpf/test_cni: | $(B)/bpfnet-cni

# Copy or link it to the runtime's plugin directory (usually /opt/cni/bin).
install: install-cni
install-cni: $(B)/bpfnet-cni
	install -Dm755 $< $(DESTDIR)$(PREFIX)/libexec/cni/bpfnet-cni
.PHONY: install-cni
