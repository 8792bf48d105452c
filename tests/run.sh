#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the test suites and counts: tests/run.sh [unit|san|fuzz|bpf|e2e|cli]... (default: all).
# The last line is "N passed, N failed". Nothing is skipped: what cannot run has failed.
set -u
cd "$(dirname "$0")/.." || exit 2
passed=0 failed=0
out=$(mktemp)
trap 'rm -f "$out"' EXIT

count() { # name, exit status, passed, failed
	if [ "$3" = 0 ] && [ "$4" = 0 ]; then # a runner that counted nothing is one test
		if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
	else
		passed=$((passed + $3)) failed=$((failed + $4))
		if [ "$2" != 0 ] && [ "$4" = 0 ]; then failed=$((failed + 1)); fi
	fi
}

cmocka() { # suite, binary
	local began=$SECONDS rc p f
	timeout 600 "$2" >"$out" 2>&1 </dev/null
	rc=$?
	p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test(s).*/\1/p' "$out" | awk '{s+=$1} END {print s+0}')
	f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test(s).*/\1/p' "$out" | awk '{s+=$1} END {print s+0}')
	count "$2" $rc "$p" "$f"
	printf '%-6s %-34s %3d passed, %d failed (%d s)\n' "$1" "$(basename "$2")" "$p" "$f" $((SECONDS - began))
	if [ $rc != 0 ]; then
		echo "--- $2: exit $rc"
		grep -vE '^\[ (RUN|      OK) ' "$out" | tail -60
	fi
}

script() { # suite, command...: prints its own "N passed, N failed" or counts as one test
	local suite=$1 began=$SECONDS rc p=0 f=0 line
	shift
	timeout 1200 "$@" >"$out" 2>&1 </dev/null
	rc=$?
	line=$(grep -oE '[0-9]+ passed, [0-9]+ failed' "$out" | tail -1)
	if [ -n "$line" ]; then
		p=${line%% *}
		f=${line#*, }
		f=${f%% *}
	fi
	count "$1" $rc "$p" "$f"
	printf '%-6s %-34s %s (%d s)\n' "$suite" "$(basename "$1")" "${line:-exit $rc}" $((SECONDS - began))
	if [ $rc != 0 ]; then
		echo "--- $*: exit $rc"
		tail -150 "$out"
	fi
}

suites=${*:-unit san fuzz bpf cli e2e}
for suite in $suites; do
	case $suite in
	unit) for t in build/tests/unit/test_*; do [ "${t%.d}" = "$t" ] && cmocka unit "$t"; done ;;
	san) for t in build/san/tests/unit/test_*; do [ "${t%.d}" = "$t" ] && cmocka san "$t"; done ;;
	fuzz) for t in build/san/tests/fuzz/fuzz_*; do [ "${t%.d}" = "$t" ] && script fuzz "$t" ${FUZZ_ARGS:+"$FUZZ_ARGS"}; done ;;
	bpf) for t in build/tests/bpf/test_*; do [ "${t%.d}" = "$t" ] && cmocka bpf "$t"; done ;;
	cli) for t in tests/cli/test_*; do [ -x "$t" ] && script cli "$t"; done ;;
	e2e) script e2e /usr/bin/python3 tests/e2e/run.py ;;
	*) echo "unknown suite $suite" >&2; exit 2 ;;
	esac
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
