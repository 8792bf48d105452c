# SPDX-License-Identifier: MIT
# Other kernels, under QEMU; not part of `make check` (minutes, and it downloads kernels).
check-kernels: $(BPFTESTS) $(B)/tests/tools/bpfload $(BPF_SRC:bpf/%.bpf.c=$(K)/bpf/%.bpf.o)
	tests/kernels/run.sh
.PHONY: check-kernels
