#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the test suites and counts: tests/run.sh [unit|san|fuzz|bpf|e2e|cli]... (default: all).
# The last line is "N passed, N failed". Nothing is skipped: what cannot run has failed.
set -u
cd "$(dirname "$0")/.." || exit 2
passed=0 failed=0
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

count() { # exit status, passed, failed
	passed=$((passed + $2)) failed=$((failed + $3))
	if [ "$1" != 0 ] && [ "$3" = 0 ]; then failed=$((failed + 1)); fi
}

# Many tests wait more than they compute: a few at a time. What needs quiet runs alone, first.
cmocka_all() { # suite, jobs, binaries...
	local suite=$1 jobs=$2 t
	shift 2
	for t in "$@"; do
		[ -x "$t" ] && [ "${t%.d}" = "$t" ] || continue
		while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n; done
		(
			began=$SECONDS
			timeout 600 "$t" >"$out/$suite.$(basename "$t")" 2>&1 </dev/null
			echo "$? $((SECONDS - began))" >"$out/$suite.$(basename "$t").rc"
		) &
	done
	wait
	for t in "$@"; do
		[ -e "$out/$suite.$(basename "$t").rc" ] && cmocka_report "$suite" "$t"
	done
}

cmocka_report() { # suite, binary
	local log="$out/$1.$(basename "$2")" rc secs p f
	read -r rc secs <"$log.rc"
	p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
	f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s), listed.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
	count "$rc" "$p" "$f"
	if [ "$rc" = 0 ] && [ "$p" = 0 ]; then
		printf '%-6s %-34s not run: %s\n' "$1" "$(basename "$2")" "$(grep -v '^\[' "$log" | head -1)"
		return
	fi
	printf '%-6s %-34s %3d passed, %d failed (%d s)\n' "$1" "$(basename "$2")" "$p" "$f" "$secs"
	if [ "$rc" != 0 ]; then
		echo "--- $2: exit $rc"
		grep -vE '^\[ (RUN|      OK) ' "$log" | tail -60
	fi
}

script() { # suite, command...: prints its own "N passed, N failed" or counts as one test
	local suite=$1 began=$SECONDS rc p=0 f=0 line log=$out/script
	shift
	timeout 1800 "$@" >"$log" 2>&1 </dev/null
	rc=$?
	line=$(grep -oE '[0-9]+ passed, [0-9]+ failed' "$log" | tail -1)
	if [ -n "$line" ]; then
		p=${line%% *}
		f=${line#*, }
		f=${f%% *}
	elif [ $rc = 0 ]; then
		p=1
	fi
	count "$rc" "$p" "$f"
	printf '%-6s %-34s %s (%d s)\n' "$suite" "$(basename "$1")" "${line:-exit $rc}" $((SECONDS - began))
	if [ $rc != 0 ]; then
		echo "--- $*: exit $rc"
		tail -200 "$log"
	fi
}

suites=${*:-unit san fuzz bpf cli e2e}
for suite in $suites; do
	case $suite in
	unit) cmocka_all unit 6 build/tests/unit/test_* ;;
	san) cmocka_all san 6 build/san/tests/unit/test_* ;;
	fuzz) for t in build/san/tests/fuzz/fuzz_*; do [ "${t%.d}" = "$t" ] && script fuzz "$t" ${FUZZ_ARGS:+"$FUZZ_ARGS"}; done ;;
	bpf) cmocka_all bpf 1 build/tests/bpf/test_* ;;
	cli) for t in tests/cli/test_*; do [ -x "$t" ] && script cli "$t"; done ;;
	e2e) script e2e /usr/bin/python3 tests/e2e/run.py -j 3 ;;
	*) echo "unknown suite $suite" >&2; exit 2 ;;
	esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
