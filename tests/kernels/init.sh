#!/bin/sh
# SPDX-License-Identifier: MIT
# Init of the guest of tests/kernels/run.sh: every object, every flag; then the tests in /t, one line each.
# Software emulation: limits of time are for machines.
export PATH=/bin HOME=/tmp BN_TEST_SLOWNESS=20
/bin/busybox mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r m; do insmod "/lib/modules/$m" || echo "MODULE-FAILED $m"; done </lib/modules/order
ip link set lo up
echo "KERNEL $(uname -r)"
if [ ! -e /t/bpfload ]; then echo "LOADS-OK (not asked for)"; elif /t/bpfload /t/*.bpf.o; then echo "LOADS-OK"; else echo "LOADS-FAILED"; fi
for t in /t/test_*; do
	timeout 900 "$t" >/tmp/log 2>&1 </dev/null
	echo "RESULT ${t#/t/} rc=$?" \
		"passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' /tmp/log | awk '{s+=$1} END {print s+0}')" \
		"failed=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' /tmp/log | awk '{s+=$1} END {print s+0}')" \
		"seconds=$(cut -d. -f1 /proc/uptime)"
	grep -v 'RUN  \|    OK ' /tmp/log | tail -n 40
done
echo "END"
poweroff -f
