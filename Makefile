# SPDX-License-Identifier: MIT
# bpfnet: one Makefile, all outputs in build/.  `make help` lists the targets.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.SECONDARY:
MAKEFLAGS += --no-builtin-rules

PREFIX ?= /usr/local
DESTDIR ?=
SAN ?= 0
B := build$(if $(filter 1,$(SAN)),/san)
# What clang makes for the kernel is the same whether or not the rest is sanitized.
K := build
Q := $(if $(V),,@)

VERSION := 0.1.0
GIT_COMMIT := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)

# clang 14 makes broken BTF and verifier trouble (docs/ARCHITECTURE.md): 16 or later.
CLANG ?= $(firstword $(foreach v,16 19 18 17 20 21,$(shell command -v clang-$(v) 2>/dev/null)) clang)
BPFTOOL ?= $(firstword $(shell command -v bpftool 2>/dev/null) $(wildcard /usr/sbin/bpftool /usr/lib/linux-tools/*/bpftool) bpftool)
CC := gcc
AR := gcc-ar
MULTIARCH := $(shell $(CC) -print-multiarch 2>/dev/null)

INC := -I. -I$(K)/skel -I$(B)/gen
WARN := -Wall -Wextra -Werror
# Sanitizers at -O1 and with line numbers only compile in half the time, and find the same. What gcc says
# of a buffer's size there is a guess; at -O2 it knows.
CFLAGS ?= $(if $(filter 1,$(SAN)),-O1 -g1,-O2 -g)
SANFLAGS := $(if $(filter 1,$(SAN)),-fsanitize=address -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -Wno-format-truncation)
ALL_CFLAGS := -std=gnu11 $(CFLAGS) $(WARN) $(SANFLAGS) -D_GNU_SOURCE -DBN_VERSION='"$(VERSION)"' $(INC)
BPF_CFLAGS := -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -target bpf -mcpu=v3 -I. $(if $(MULTIARCH),-I/usr/include/$(MULTIARCH))
LIBS := -lbpf -lelf -lz -lcurl -ljansson -lyaml -levent -lmnl -lfa -lsmartcols -lcap

BPF_SRC := $(wildcard bpf/*.bpf.c)
SKELS := $(BPF_SRC:bpf/%.bpf.c=$(K)/skel/%.skel.h)

# Libraries, lowest first; one folder may use what stands before it.
lib_src = $(sort $(shell find $(1) -name '*.c' ! -name main.c 2>/dev/null))
MAPS_O := $(patsubst %.c,$(B)/obj/%.o,$(call lib_src,maps))
POLICY_O := $(patsubst %.c,$(B)/obj/%.o,$(call lib_src,policy))
LOADER_O := $(patsubst %.c,$(B)/obj/%.o,$(call lib_src,loader))
CLI_O := $(patsubst %.c,$(B)/obj/%.o,$(call lib_src,cli))
BN_LIBS := $(B)/libbn.a

UNIT := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/test_*.c))
BPFTESTS := $(patsubst tests/bpf/%.c,$(B)/tests/bpf/%,$(wildcard tests/bpf/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(B)/tests/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
TOOLS := $(patsubst tests/tools/%.c,$(B)/tests/tools/%,$(wildcard tests/tools/*.c))

all: $(B)/bpfnetd $(B)/bpfnet

-include mk/*.mk

$(K)/bpf/%.bpf.o: bpf/%.bpf.c
	@mkdir -p $(@D)
	@echo "  CLANG-BPF $@"
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c $< -o $@

$(K)/skel/%.skel.h: $(K)/bpf/%.bpf.o
	@mkdir -p $(@D)
	@echo "  SKEL      $@"
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# Every user object may include a skeleton: generated headers come first, -MMD keeps it exact after.
$(B)/obj/%.o: %.c | $(SKELS)
	@mkdir -p $(@D)
	@echo "  CC        $@"
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BN_LIBS): $(MAPS_O) $(POLICY_O) $(LOADER_O) $(CLI_O)
	@rm -f $@
	@echo "  AR        $@"
	$(Q)$(AR) crs $@ $^

$(B)/bpfnetd: $(B)/obj/loader/main.o $(BN_LIBS)
	@echo "  LD        $@"
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS)

$(B)/bpfnet: $(B)/obj/cli/main.o $(BN_LIBS)
	@echo "  LD        $@"
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS)

$(B)/tests/%: $(B)/obj/tests/%.o $(BN_LIBS)
	@mkdir -p $(@D)
	@echo "  LD        $@"
	$(Q)$(CC) $(SANFLAGS) -o $@ $^ $(LIBS) -lcmocka

unit: $(UNIT)
bpftests: $(BPFTESTS)
fuzzers: $(FUZZERS)
tools: $(TOOLS)

# --- what people type ---------------------------------------------------------------------------

deps: ## install the packages that building and testing need
	$(Q)[ "$(DEPS)" = no ] || deploy/packages.sh

# The packages decide which compiler and bpftool there are: a fresh make after they are in.
check: deps ## build and run all tests (as root)
	$(Q)$(MAKE) --no-print-directory -j2 all unit bpftests tools benchtools
	$(Q)$(MAKE) --no-print-directory -j2 SAN=1 unit fuzzers
	$(Q)tests/run.sh $(SUITES)

check-unit: deps ## unit tests only; no root needed (SAN=1: under ASan and UBSan)
	$(Q)$(MAKE) --no-print-directory -j2 SAN=$(SAN) unit
	$(Q)tests/run.sh $(if $(filter 1,$(SAN)),san,unit)

check-browser: deps ## Chromium through HTTP rules (as root; installs Chromium, 100 MB, unless $BN_CHROMIUM names one)
	$(Q)$(MAKE) --no-print-directory -j2 all
	$(Q)[ -n "$$BN_CHROMIUM" ] || command -v chromium >/dev/null || apt-get install -y --no-install-recommends chromium
	$(Q)BN_CHROMIUM=$${BN_CHROMIUM:-chromium} /usr/bin/python3 tests/e2e/run.py =browser.page

demo: deps ## a two-node cluster of namespaces: services, policies, metrics (as root)
	$(Q)$(MAKE) --no-print-directory -j2 all
	$(Q)/usr/bin/python3 deploy/demo/demo.py

lint: ## what a tool can see of docs/STYLE
	$(Q)tests/lint.sh

fmt: ## clang-format all C sources
	clang-format -i $$(git ls-files '*.c' '*.h')

install: all ## install into $(DESTDIR)$(PREFIX)
	install -Dm755 $(B)/bpfnetd $(DESTDIR)$(PREFIX)/sbin/bpfnetd
	install -Dm755 $(B)/bpfnet $(DESTDIR)$(PREFIX)/bin/bpfnet
	install -Dm644 docs/man/bpfnet.1 $(DESTDIR)$(PREFIX)/share/man/man1/bpfnet.1
	install -Dm644 docs/man/bpfnetd.8 $(DESTDIR)$(PREFIX)/share/man/man8/bpfnetd.8
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	$(B)/bpfnet completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/bpfnet
	$(B)/bpfnet completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_bpfnet
	install -Dm644 deploy/bpfnetd.service $(DESTDIR)$(PREFIX)/lib/systemd/system/bpfnetd.service

clean:
	rm -rf build

help: ## this list
	$(Q)sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) mk/*.mk | expand -t 24

-include $(shell find $(B) $(if $(filter 1,$(SAN)),$(K)/bpf $(K)/skel) -path $(B)/kernels -prune -o -type f -name '*.d' -print 2>/dev/null)

.PHONY: all unit bpftests fuzzers tools deps check check-unit check-browser demo lint fmt install clean help
