#!/bin/bash
# SPDX-License-Identifier: MIT
# make check-kernels: boots Debian's kernels under QEMU's software emulation, loads every BPF object with
# every flag both ways, and runs tests of build/tests/bpf/ in the guest (tests/kernels/init.sh; TESTS chooses).
#
# KERNELS: package names, default: the newest 6.1, 6.12 and 7.x cloud kernels that apt offers; what this
# machine's sources do not have is looked for in Debian's trixie-backports, by lists of our own.
# LOADS=no leaves the objects out (minutes), for one that looks into a test.
# Needs qemu-system-x86, iproute2, dash, curl, and apt's archives. Outputs in build/kernels/.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:/usr/sbin:/sbin
out=$PWD/build/kernels
# Not here: what needs servers, other programs or much time.
tests=${TESTS:-"test_kernel test_kernel_upgrade test_verifier test_replace test_grace test_maps test_pod_svc test_pod_svc_flows test_pod_policy test_pod_parse test_pod_ct
	test_pod_hostile test_sock test_sock_udp test_services test_services_maps test_policies test_policy_kernel test_ct_access test_ep_access
	test_svcmap test_kernel_errors test_xdp test_xdp_dsr test_http test_http_ends test_http_maps test_http_room test_http_wire test_policies_http
	test_endpoints test_interfaces test_dsr_peers test_healthcheck test_cni test_e2e"}

for t in qemu-system-x86_64 apt-get ip tc dash curl xz; do
	command -v $t >/dev/null || { echo "check-kernels: $t is missing (apt-get install --no-install-recommends qemu-system-x86 iproute2 dash curl xz-utils)"; exit 1; }
done
mkdir -p "$out"/apt/{lists/partial,cache/archives/partial,etc}

backports() { # apt-get or apt-cache, on trixie-backports alone
	local tool=$1 o=$out/apt
	shift
	"$tool" -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$o/etc" -o Dir::State::lists="$o/lists" \
		-o Dir::Cache="$o/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root "$@"
}
newest() { # major version -> package
	local re="^linux-image-$1\..*cloud-amd64\$" p
	p=$(apt-cache search --names-only "$re" | awk '{print $1}' | sort -V | tail -1)
	if [ -z "$p" ]; then
		# From where this machine has its own packages.
		printf 'Types: deb\nURIs: %s\nSuites: trixie-backports\nComponents: main\nSigned-By: %s\n' \
			"$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk '$2 !~ /security/ {print $1; exit}')" \
			/usr/share/keyrings/debian-archive-keyring.gpg >"$out/apt/etc/backports.sources"
		backports apt-get update -qq >&2 || true
		p=$(backports apt-cache search --names-only "$re" | awk '{print $1}' | sort -V | tail -1)
	fi
	[ -n "$p" ] || echo "check-kernels: apt offers no Linux $1" >&2
	echo "$p"
}
kernels=${KERNELS:-"$(newest 6.1) $(newest 6.12) $(newest 7)"}

download() { # package -> a .deb here
	apt-get download -qq "$1" 2>/dev/null || backports apt-get download -qq "$1" 2>/dev/null
}
fetch() { # package -> directory with its files
	local dir=$out/$1 p
	[ -d "$dir" ] && return
	mkdir -p "$out/deb"
	for p in "$1" "${1/linux-image/linux-binary}" "${1/linux-image/linux-modules}"; do
		# Later packagings have the kernel and its modules beside an empty linux-image.
		(cd "$out/deb" && rm -f "$p"_*.deb && download "$p") || { [ "$p" != "$1" ] && continue; echo "check-kernels: apt cannot download $1"; exit 1; }
		dpkg -x "$out/deb/$p"_*.deb "$dir.new"
	done
	mv "$dir.new" "$dir"
}

with_libs() { # program, name in the image
	cp -L "$1" "$root/$2"
	{ ldd "$1" 2>/dev/null || true; } | grep -o '/[^ ]*' | while read -r l; do
		mkdir -p "$root/$(dirname "$l")"
		cp -L -n "$l" "$root/$l"
	done
}

modules() { # kernel's directory: what the tests need, dependencies first, as /lib/modules/{*.ko,order}
	local m
	need() {
		local f d ko=$root/lib/modules/$2.ko
		f=$(find "$1" -name "$2.ko*" | head -1)
		[ -n "$f" ] && [ ! -e "$ko" ] || return 0 # built in, or done
		case $f in *.xz) xz -dc "$f" >"$ko" ;; *) cp "$f" "$ko" ;; esac
		for d in $(tr '\0' '\n' <"$ko" | sed -n 's/^depends=//p' | tr , ' '); do need "$1" "$d"; done
		echo "$2.ko" >>"$root/lib/modules/order"
	}
	for m in veth sch_ingress sch_tbf cls_bpf bridge vxlan macvlan tun sctp nf_conntrack inet_diag tcp_diag; do need "$1" $m; done
}

image() { # kernel's directory -> $out/initrd
	root=$out/root
	rm -rf "$root"
	mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,var,lib/modules,t,etc}
	ln -s /run "$root/var/run"
	cp "$out/busybox-static/bin/busybox" "$root/bin/"
	for a in $("$root/bin/busybox" --list); do [ -e "$root/bin/$a" ] || ln -s busybox "$root/bin/$a"; done
	rm "$root"/bin/{sh,ip,tc}
	with_libs "$(command -v dash)" bin/sh
	for t in ip tc; do with_libs "$(command -v $t)" bin/$t; done
	[ "${LOADS:-}" = no ] || with_libs build/tests/tools/bpfload t/bpfload
	for t in $tests; do
		if [ $t = test_e2e ]; then
			cp tests/kernels/test_e2e.sh "$root/t/test_e2e"
			for b in build/bpfnetd build/bpfnet "$(command -v curl)"; do with_libs "$b" "t/${b##*/}"; done
		else
			with_libs "build/tests/bpf/$t" "t/$t"
		fi
		[ $t != test_cni ] || { mkdir -p "$root/build" && with_libs build/bpfnet-cni build/bpfnet-cni; }
	done
	cp build/bpf/*.bpf.o "$root/t/"
	modules "$1"
	cp tests/kernels/init.sh "$root/init"
	(cd "$root" && find . | "$out/busybox-static/bin/busybox" cpio -o -H newc 2>/dev/null | gzip -1) >"$out/initrd"
}

fetch busybox-static
failed=0
for k in $kernels; do
	fetch "$k"
	image "$out/$k"
	# no_timer_check: on a busy machine the check itself fails ("IO-APIC + timer does not work").
	# cmpxchg16b masked: with it 6.12 crashed at random under QEMU 7.2. From 6.19 on a kernel without it has no
	# socket storage (kmalloc_nolock).
	case $k in *-6.*) cpu=EPYC,-cx16 ;; *) cpu=EPYC ;; esac
	timeout "${LIMIT:-2400}" qemu-system-x86_64 -M q35 -cpu "${CPU:-$cpu}" -m 1500 -smp 2 -nographic -no-reboot \
		-kernel "$(find "$out/$k" -name 'vmlinuz*' -type f | head -1)" -initrd "$out/initrd" \
		-append "console=ttyS0 quiet panic=-1 no_timer_check" >"$out/$k.log" 2>&1 </dev/null || true
	want=$(($(wc -w <<<"$tests")))
	got=$(grep -ac '^RESULT .* rc=0 passed=[1-9]' "$out/$k.log" || true)
	if grep -aq LOADS-OK "$out/$k.log" && [ "$got" = "$want" ] && ! grep -aq MODULE-FAILED "$out/$k.log"; then
		echo "ok     $k: every object loads, $got of $want test programs pass"
	else
		echo "FAILED $k: $got of $want test programs pass; see $out/$k.log"
		grep -a "LOADS-FAILED\|MODULE-FAILED\|FAILED\|ERROR\|Kernel panic" "$out/$k.log" | head -20 || true
		failed=1
	fi
done
exit $failed
