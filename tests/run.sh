#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the test suites and counts: tests/run.sh [unit|san|fuzz|bpf|e2e|cli]... (default: all).
# Each line begins with the time since the check began. The last line is "N passed, N failed", come what
# may. Nothing is skipped: what cannot run has failed, and so has what is not through when the time is
# over ($CHECK_LIMIT seconds after $CHECK_BEGAN; none by default).
#
# All runs in namespaces and a cgroup of its own where it may (as root): processes, network namespaces,
# mounts and pins that a test leaves go with them, also when the run is killed, and two runs do not meet.
set -u
cd "$(dirname "$0")/.." || exit 2
export CHECK_BEGAN=${CHECK_BEGAN:-$(date +%s)} CHECK_LIMIT=${CHECK_LIMIT:-0}

now() {
	local s=$(($(date +%s) - CHECK_BEGAN))
	printf '[%02d:%02d]' $((s / 60)) $((s % 60))
}

left() { # of the time, at most $1 seconds
	local s=$1
	[ "$CHECK_LIMIT" = 0 ] || s=$((CHECK_BEGAN + CHECK_LIMIT - $(date +%s)))
	echo $((s < $1 ? s : $1))
}

programs() { # suite: lines "weight suite program"; the heavier, the longer it takes
	local t w files
	case $1 in
	unit | bpf) files=(build/tests/"$1"/test_*) ;;
	san) files=(build/san/tests/unit/test_*) ;;
	fuzz) files=(build/san/tests/fuzz/fuzz_*) ;;
	cli) files=(tests/cli/test_*) ;;
	esac
	for t in "${files[@]}"; do
		[ -x "$t" ] && [ "${t%.d}" = "$t" ] || continue
		case $t in
		*/bpf/test_pod_speed | */bpf/test_policies_http | *_million | *_scale | *_torn) w=alone ;; # these measure time
		*_kube_away | *_kube_faults | *_kernel | *_sock | *_sock_udp | */bpf/test_policies) w=3 ;;
		*_kube_* | *_control | *_policy | *_replace | *_kill | *_random) w=2 ;;
		*) w=1 ;;
		esac
		echo "$w $1 $t"
	done
}

# --- one program: DIR/SUITE.NAME is what it said, .count "passed failed", .secs how long it took ---------

run_one() { # suite, seconds, program, arguments...
	local of="$out/$1.$(basename "$3")" secs rc t p=0 f=0 line
	secs=$(left "$2") t=$(date +%s)
	[ "$1" != e2e ] || secs=$(((secs > 0 ? secs : 0) + 90)) # knows the time itself, and names the rest
	shift 2
	echo "0 1" >"$of.count" # until it is through
	if [ "$secs" -le 0 ]; then
		echo "no time left" >>"$of"
		rc=124
	else
		# A shell's background job ignores INT, and so would all that comes of it.
		env --default-signal=INT,QUIT timeout --kill-after=30 "$secs" "$@" >>"$of" 2>&1 </dev/null
		rc=$?
	fi
	line=$(grep -aoE '[0-9]+ passed, [0-9]+ failed' "$of" | tail -1)
	if [ -n "$line" ]; then
		p=${line%% *} f=${line#*, } f=${f%% *}
	elif grep -aq '^\[==*\]' "$of"; then # cmocka's, of one group or several
		p=$(awk '/^\[  PASSED  \] [0-9]+ test/ {s += $4} END {print s + 0}' "$of")
		f=$(awk '/^\[  FAILED  \] [0-9]+ test\(s\), listed/ {s += $4} END {print s + 0}' "$of")
	elif [ $rc = 0 ] && ! grep -aq '^not run: ' "$of"; then
		p=1
	fi
	[ $rc = 0 ] || [ "$f" != 0 ] || f=1
	case $rc in 124 | 137) [ "$secs" -le 0 ] || echo "not through within $secs s" >>"$of" ;; esac
	echo "$p $f" >"$of.count"
	echo "$(($(date +%s) - t))" >"$of.secs"
	return $rc
}

crowd="" # what fails is tried again, alone
job() { # as run_one, and tells
	local rc p f secs of="$out/$1.$(basename "$3")"
	run_one "$@"
	rc=$?
	read -r p f <"$of.count"
	read -r secs <"$of.secs"
	( # one at a time: they run side by side
		flock 9
		[ $rc = 0 ] || [ -z "$crowd" ] || echo "$1 $2 ${*:3}" >>"$out/again"
		printf '%s %-5s %-26s ' "$(now)" "$1" "$(basename "$3")"
		if [ $rc = 0 ] && [ "$p" = 0 ]; then
			grep -av '^\[' "$of" | head -1
		else
			printf '%3d passed, %d failed (%d s)\n' "$p" "$f" "$secs"
		fi
		[ $rc = 0 ] && exit
		echo "--- ${*:3}: exit $rc"
		grep -avE '^\[ (RUN|      OK) ' "$of" | tail -200
	) 9>>"$out/lock"
	return $rc
}

# Those that wait more than they compute: a few at a time, the longest first; those that measure time before.
beside() { # jobs, suites...
	local jobs=$1 n=0 s suite program args list
	shift
	list=$(for s in "$@"; do programs "$s"; done | sort -sr -k1,1)
	while read -r s suite program; do
		[ "$n" -lt "$jobs" ] || { wait -n; n=$((n - 1)); }
		args=()
		[ "$suite" != fuzz ] || read -ra args <<<"${FUZZ_ARGS-}"
		if [ "$s" = alone ]; then
			crowd="" job "$suite" 600 "$program" "${args[@]}"
		else
			job "$suite" 600 "$program" "${args[@]}" &
			n=$((n + 1))
		fi
	done <<<"$list"
	wait
}

# That several run at a time, on a machine that may be slow, is the choice of this script and no test's: one
# that failed then is tried again with nothing beside it. Twice failed is failed.
once_more() {
	local again
	crowd=""
	[ -e "$out/again" ] || return 0
	while read -ra again; do
		echo "$(now) ${again[0]} $(basename "${again[2]}"): once more, alone"
		rm "$out/${again[0]}.$(basename "${again[2]}")"
		job "${again[@]}" && echo "$(now) FLAKY: ${again[0]} $(basename "${again[2]}"), passed alone (what it" \
			"said with others beside it stands above)"
	done <"$out/again"
}

run_suites() {
	local s t together=()
	for s in "$@"; do
		case $s in unit | san | fuzz) together+=("$s") ;; esac
	done
	[ ${#together[@]} = 0 ] || beside 6 "${together[@]}"
	for s in "$@"; do
		case $s in
		bpf) crowd=1 beside 3 bpf && once_more ;;
		cli) beside 1 cli ;;
		e2e) # tells as it goes
			: >"$out/e2e.run.py"
			tail -n +1 -f "$out/e2e.run.py" &
			t=$!
			run_one e2e 3600 tests/e2e/run.py -j 3
			sleep 1.5 # tail looks once a second
			kill $t
			wait $t 2>/dev/null
			;;
		esac
	done
}

# --- inside -----------------------------------------------------------------------------------------------

if [ -n "${CHECK_DIR-}" ]; then
	out=$CHECK_DIR
	# What cannot be had apart is shared: the tests that need it say so.
	if [ $$ = 1 ] && [ -n "${CHECK_CGROUP-}" ] && [ -z "${CHECK_CGROUP_IN-}" ]; then
		export CHECK_CGROUP_IN=no
		echo 0 >"$CHECK_CGROUP/cgroup.procs" && CHECK_CGROUP_IN=yes exec unshare --cgroup "$0" "$@"
	fi
	if [ $$ = 1 ]; then
		mkdir -p /run/netns && mount -t tmpfs check /run/netns
		mount -t bpf check /sys/fs/bpf
		if [ "${CHECK_CGROUP_IN-}" = yes ]; then
			mount --bind "$CHECK_CGROUP" "$(dirname "$CHECK_CGROUP")"
		elif ! grep -q ' cgroup2 ' /proc/mounts; then # a container's may have none
			mkdir "$out/cgroup" && mount -t cgroup2 check "$out/cgroup"
		fi
	fi
	export TMPDIR=$out/tmp
	mkdir -p "$TMPDIR"
	unset CHECK_DIR CHECK_CGROUP CHECK_CGROUP_IN
	run_suites "$@"
	: >"$out/through"
	exit 0
fi

# --- outside: a place for results, the namespaces, a clock ------------------------------------------------

[ $# != 0 ] || set -- unit san fuzz bpf cli e2e
for s in "$@"; do
	case $s in unit | san | fuzz | bpf | cli | e2e) ;; *) echo "unknown suite $s" >&2; exit 2 ;; esac
done
tmp=${TMPDIR:-/tmp}
find "$tmp" -maxdepth 1 -name 'bpfnet-check.*' -mmin +180 -exec rm -rf {} + # of runs that were killed
out=$(mktemp -d "$tmp/bpfnet-check.XXXXXX") || exit 2
[ "$(id -u)" != 0 ] || /usr/bin/python3 tests/e2e/leftover.py # a demo's, or what was run without this script
apart=(unshare --mount --pid --fork --kill-child --mount-proc)
cgroup=""
if [ "$(id -u)" = 0 ] && "${apart[@]}" true 2>/dev/null; then
	apart=(setpriv --pdeathsig KILL "${apart[@]}")
	cgroup=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
	[ -z "$cgroup" ] || find "$cgroup" -depth -path "$cgroup/bpfnet-check.*" -type d -mmin +1 -exec rmdir {} \; 2>/dev/null
	cgroup=${cgroup:+$cgroup/${out##*/}}
	[ -z "$cgroup" ] || mkdir "$cgroup" || cgroup=""
else
	apart=()
fi
CHECK_DIR=$out CHECK_CGROUP=$cgroup "${apart[@]}" "$0" "$@" &
inner=$!
dog=""
if [ "$CHECK_LIMIT" != 0 ]; then # each program has its limit: this is for what no signal ends
	( read -rt $(($(left 86400) + 120)) -u 8; kill -KILL $inner ) 8<> <(:) &
	dog=$!
	disown $dog
fi
# shellcheck disable=SC2317
end() {
	kill -KILL $inner $dog 2>/dev/null
	wait 2>/dev/null
	rm -rf "$out"
	if [ -n "$cgroup" ]; then # its last process may be on its way out
		for _ in 1 2 3 4 5; do
			find "$cgroup" -depth -type d -exec rmdir {} \; 2>/dev/null
			[ ! -d "$cgroup" ] || sleep 0.2
		done
	fi
}
trap end EXIT
trap 'kill -KILL $inner' INT TERM HUP # then the count of what was through
wait $inner
passed=0 failed=0
for s in "$out"/*.count; do
	[ -e "$s" ] || break
	read -r p f <"$s" && passed=$((passed + p)) failed=$((failed + f))
	[ -e "${s%.count}.secs" ] || echo "FAILED $(basename "${s%.count}"): not through"
done
if [ ! -e "$out/through" ]; then
	echo "FAILED: the run was ended before its last test"
	failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
