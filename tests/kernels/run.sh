#!/bin/bash
# SPDX-License-Identifier: MIT
# make check-kernels: boots Debian's kernels under QEMU's software emulation, loads every BPF object with
# every flag both ways, and runs the datapath tables (everything in build/tests/bpf/ that is named).
#
# KERNELS: package names, default: the newest 6.1 and 6.12 (and later) cloud kernels that apt offers.
# Needs qemu-system-x86, iproute2, dash, and apt's archives. Outputs in build/kernels/.
set -euo pipefail
cd "$(dirname "$0")/../.."
top=$PWD out=$PWD/build/kernels
tests=${TESTS:-"test_pod_svc test_pod_policy test_pod_parse test_pod_ct"}

for t in qemu-system-x86_64 apt-get ip dash; do
	command -v $t >/dev/null || { echo "check-kernels: $t is missing (apt-get install qemu-system-x86 iproute2 dash)"; exit 1; }
done
newest() { apt-cache search --names-only "^linux-image-$1\..*cloud-amd64\$" | awk '{print $1}' | sort -V | tail -1; }
kernels=${KERNELS:-"$(newest 6.1) $(newest 6.12) $(newest 7)"}
mkdir -p "$out"

fetch() { # package -> directory with its files
	local dir=$out/$1
	[ -d "$dir" ] && return
	mkdir -p "$out/deb"
	(cd "$out/deb" && rm -f "$1"_*.deb && apt-get download -qq "$1" 2>/dev/null) || { echo "check-kernels: apt cannot download $1"; exit 1; }
	dpkg -x "$out/deb/$1"_*.deb "$dir.new" && mv "$dir.new" "$dir"
}

with_libs() { # program, name in the image
	cp -L "$1" "$root/$2"
	{ ldd "$1" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r l; do
		mkdir -p "$root/$(dirname "$l")"
		cp -L -n "$l" "$root/$l"
	done
}

image() { # kernel's directory -> $out/initrd
	root=$out/root
	rm -rf "$root"
	mkdir -p "$root"/{bin,dev,proc,sys,tmp,lib,t}
	cp "$out/busybox-static/bin/busybox" "$root/bin/"
	for a in mount insmod poweroff uname grep mkdir xz; do ln -s busybox "$root/bin/$a"; done
	with_libs "$(command -v dash)" bin/sh
	with_libs "$(command -v ip)" bin/ip
	with_libs build/tests/tools/bpfload t/bpfload
	for t in $tests; do with_libs "build/tests/bpf/$t" "t/$t"; done
	cp build/bpf/*.bpf.o "$root/t/"
	cp "$(find "$1" -name 'veth.ko*' | head -1)" "$root/lib/"
	case $(ls "$root/lib/" | grep veth) in *.xz) xz -d "$root"/lib/veth.ko.xz ;; esac
	cat >"$root/init" <<-'INIT'
		#!/bin/sh
		mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
		mount -t bpf bpf /sys/fs/bpf
		insmod /lib/veth.ko
		echo "KERNEL $(uname -r)"
		/t/bpfload /t/*.bpf.o && echo LOADS-OK
		for t in /t/test_*; do $t >/tmp/log 2>&1 && echo "TEST-OK $t"; grep -v 'RUN\|  OK' /tmp/log; done
		poweroff -f
	INIT
	chmod +x "$root/init"
	(cd "$root" && find . | "$out/busybox-static/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$out/initrd"
}

fetch busybox-static
failed=0
for k in $kernels; do
	fetch "$k"
	image "$out/$k"
	# cmpxchg16b masked: with it 6.12 crashed at random under QEMU 7.2.
	timeout 900 qemu-system-x86_64 -M q35 -cpu EPYC,-cx16 -m 1500 -smp 1 -nographic -no-reboot \
		-kernel "$out/$k"/boot/vmlinuz-* -initrd "$out/initrd" \
		-append "console=ttyS0 quiet panic=-1" >"$out/$k.log" 2>&1 </dev/null || true
	want=$(($(wc -w <<<"$tests")))
	got=$(grep -c TEST-OK "$out/$k.log" || true)
	if grep -q LOADS-OK "$out/$k.log" && [ "$got" = "$want" ]; then
		echo "ok     $k: every object loads, $got of $want tables pass"
	else
		echo "FAILED $k: $got of $want tables pass; see $out/$k.log"
		grep -a "FAILED\|ERROR" "$out/$k.log" | head -20
		failed=1
	fi
done
exit $failed
