#!/bin/bash
# SPDX-License-Identifier: MIT
# Installs what building and testing need, by package name (Debian 12 and later, Ubuntu 24.04 and
# later). Elsewhere it says what is needed. Does nothing, fast, when all is there.
set -u
build="gcc make git pkg-config libbpf-dev libelf-dev zlib1g-dev libjansson-dev
 libcurl4-openssl-dev libyaml-dev libevent-dev libmnl-dev libaugeas-dev libsmartcols-dev libcap-dev
 uthash-dev linux-libc-dev"
tools="libcmocka-dev iproute2 iputils-ping nftables iptables ethtool nginx-light curl wrk iperf3 dnsmasq-base
 dnsutils netcat-openbsd socat python3 python3-yaml python3-scapy python3-h2 prometheus openssl tcpdump procps
 mandoc util-linux conntrack zsh haproxy"

if ! command -v apt-get >/dev/null; then
	cat >&2 <<-END
	bpfnet: this is not a Debian or Ubuntu machine: please install, under your distribution's names,
	  to build: clang 16 or later, bpftool, $(echo $build)
	  to test: $(echo $tools)
	then run make again with DEPS=no.
	END
	exit 1
fi
want=""
have() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
for p in $build $tools; do have "$p" || want="$want $p"; done
command -v nginx >/dev/null && want=${want// nginx-light/} # any flavour will do
clang=""
for v in 16 19 18 17 20 21; do command -v clang-$v >/dev/null && clang=clang-$v && break; done
bpftool=$(command -v bpftool || ls /usr/sbin/bpftool /usr/lib/linux-tools/*/bpftool 2>/dev/null | head -1)
[ -z "$want" ] && [ -n "$clang" ] && [ -n "$bpftool" ] && exit 0
if [ "$(id -u)" != 0 ]; then
	echo "bpfnet: missing packages:$want ${clang:-clang-16} ${bpftool:-bpftool}; run: sudo make deps" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
log=$(mktemp)
made=""
trap 'rm -f "$log"; [ -z "$made" ] || rm -f /usr/sbin/policy-rc.d' EXIT
# A mirror may stumble, and a machine that has just started may be installing something itself: a few tries,
# and time for its locks. An update that failed (of another's source, say) matters only if the packages are
# not to be had.
apt="apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef
 -o Dpkg::Options::=--force-confold"
tries() { # command...: until it succeeds, three times at most
	"$@" >"$log" 2>&1 && return
	sleep 10
	"$@" >"$log" 2>&1 && return
	sleep 30
	"$@" >"$log" 2>&1
}
# shellcheck disable=SC2086
tries $apt update || { tail -5 "$log"; echo "bpfnet: apt-get update failed; trying without"; } >&2
[ -n "$clang" ] || for v in 16 19 18 17; do
	apt-cache show clang-$v >/dev/null 2>&1 && want="$want clang-$v llvm-$v" && break
done
if [ -z "$bpftool" ]; then
	if apt-cache policy bpftool 2>/dev/null | grep -q 'Candidate: [0-9]'; then
		want="$want bpftool"
	else
		want="$want linux-tools-generic"
	fi
fi
echo "installing packages:$want"
# The servers among them (nginx, prometheus) are used by tests only: they must not start here.
if [ ! -e /usr/sbin/policy-rc.d ]; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
	made=1
fi
# shellcheck disable=SC2086
if ! tries $apt install -y --no-install-recommends $want; then
	grep '^E:' "$log" >&2
	echo "bpfnet: could not install:$want" >&2
	exit 1
fi
