#!/bin/bash
# SPDX-License-Identifier: MIT
# What a tool can see of the project's rules; each finding is a line, the exit status says if any.
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0
say() { [ -z "$2" ] || { printf '%s:\n%s\n' "$1" "$2"; bad=1; }; }
src() { git ls-files "$@"; }

say '#if in bpf/ (configuration is const volatile data)' \
	"$(src 'bpf/*' | xargs -r grep -nE '^[[:space:]]*#[[:space:]]*(if|elif)' | grep -vE 'ifndef [A-Z0-9_]+( .*)?$')"
say 'bpf_map_*_elem on the user side outside maps/' \
	"$(src 'loader/*.c' 'cli/*.c' 'policy/*.c' | xargs -r grep -nE 'bpf_map_(lookup|update|delete)(_elem|_batch)')"
say 'TC_ACT_OK or TC_ACT_SHOT outside the one exit' \
	"$(src 'bpf/lib/*.h' | xargs -r grep -nE 'TC_ACT_(OK|SHOT)' | grep -v 'bpf/lib/entry.h')"
say 'a file without a licence line' \
	"$(src '*.c' '*.h' '*.sh' '*.py' | while read -r f; do head -3 "$f" | grep -q SPDX-License-Identifier || echo "$f"; done)"
say 'bpf/ that is not GPL-2.0-only' \
	"$(src 'bpf/*.c' 'bpf/*.h' | while read -r f; do head -1 "$f" | grep -q 'GPL-2.0' || echo "$f"; done)"
say 'a file of more than 600 lines' \
	"$(src '*.c' '*.h' | grep -v '^tests/' | xargs -r wc -l | awk '$2!="total" && $1>600')"
say 'policy/ or maps/ that logs or prints' \
	"$(src 'policy/*.c' 'maps/*.c' | xargs -r grep -nE '\b(log_(error|warn|info|debug|err_r)|printf|perror)\(' | grep -vE 'snprintf|vsnprintf|fprintf\((out|f)')"
say 'an include that points the wrong way' \
	"$( { src 'maps/*' | xargs -r grep -nE '#include "(policy|loader|cli|bpf)/'; src 'policy/*' | xargs -r grep -nE '#include "(loader|cli|bpf)/' | grep -v '"bpf/lib/http_parse.h"'; src 'bpf/*' | xargs -r grep -nE '#include "(policy|loader|cli)/'; src 'loader/*' | xargs -r grep -nE '#include "cli/'; } 2>/dev/null)"
[ $bad = 0 ] && echo "lint: clean"
exit $bad
