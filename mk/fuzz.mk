# Fuzzers: tests/fuzz/fuzz_*.c define LLVMFuzzerTestOneInput. Built with gcc they get a small driver
# of ours (tests/fuzz/driver.c) that replays a corpus and mutates it, the same way every time; one
# that has a main of its own keeps it. `make libfuzzer` builds those of the object model for libFuzzer.
FUZZ_DRIVER := $(B)/tests/fuzz/libdriver.a

$(FUZZ_DRIVER): $(B)/obj/tests/fuzz/driver.o
	@mkdir -p $(@D)
	$(Q)$(AR) crs $@ $^

$(B)/tests/fuzz/fuzz_%: $(B)/obj/tests/fuzz/fuzz_%.o $(FUZZ_DRIVER) $(BN_LIBS)
	@mkdir -p $(@D)
	@echo "  LD        $@"
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS)

LIBFUZZER := $(addprefix build/libfuzzer/,object yaml manifest)
LIBFUZZER_SRC := $(wildcard policy/object*.c policy/manifest*.c policy/http_*.c) policy/yaml.c policy/intern.c policy/index.c \
	policy/store.c

build/libfuzzer/%: tests/fuzz/fuzz_%.c $(LIBFUZZER_SRC)
	@mkdir -p $(@D)
	@echo "  LIBFUZZER $@"
	$(Q)$(CLANG) -std=gnu11 -O1 -g -D_GNU_SOURCE $(INC) -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all -o $@ $^ $(LIBS)

libfuzzer: $(LIBFUZZER) ## the object and manifest fuzzers for libFuzzer (build/libfuzzer)
