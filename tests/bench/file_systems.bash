# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# file_systems.bash: the file systems that run, beside and people measure (run says what each is), and the tables of what came out.
#
#	begin DIR MiB NAME...  sees whether these can be mounted, memfs with so many MiB, and makes $work below DIR; it is gone at the end
#	up NAME                mounts a fresh one on $work/NAME
#	down                   ends those that are up, and deletes what they stored
#	tables LIST FILE AWK   prints what was measured (see there)
#
# $out is where the benches' programs are.
bin=${KISEKI_BIN:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/dev}
out=$bin/tests/bench
work='' memfs_mib=
mounted=() # the file systems that are up
declare -A server=() # their processes, of those that are children of ours

# program FILE: it is there, or that is said, and the end.
program() {
	[ -x "$1" ] && return 0
	echo "bench: $1 is not built: make bench builds it" >&2
	exit 71
}

begin() {
	local dir=$1 name
	memfs_mib=$2
	shift 2
	for name; do
		case $name in
		host) ;;
		memfs | memperm | memuring | membest) program "$out/memfs" ;;
		classic | kiseki) program "$bin/kiseki-mount" ;;
		juicefs)
			[ -n "${JUICEFS-}" ] || {
				echo "bench: where is juicefs? It is measured with JUICEFS=/path/to/juicefs in the environment" >&2
				exit 64
			}
			[ -x "$JUICEFS" ] || {
				echo "bench: JUICEFS=$JUICEFS is not a program" >&2
				exit 71
			}
			;;
		*)
			echo "bench: no such file system: $name" >&2
			exit 64
			;;
		esac
	done
	work=$(cd "$dir" && mktemp -d "$PWD/kiseki-bench.XXXXXX") || exit 71
	trap 'down; rm -rf --one-file-system "$work"' EXIT
	trap 'exit 130' INT TERM
}

wait_mount() {
	local i
	for ((i = 0; i < 200; i++)); do
		mountpoint -q "$work/$1" && return 0
		[ -z "${server[$1]-}" ] || kill -0 "${server[$1]}" 2>/dev/null || break
		sleep 0.1
	done
	echo "bench: $work/$1 was not mounted" >&2
	return 1
}

mem_up() {
	"$out/memfs" "${@:2}" -p "$memfs_mib" "$work/$1" &
	server[$1]=$!
	wait_mount "$1"
}

kiseki_up() {
	local meta=$work/volume.$1/meta.db
	mkdir -p "${meta%/*}"
	# shellcheck disable=SC2086
	"$bin/kiseki-format" -q --trash=0 ${KISEKI_FORMAT_OPTS-} "$meta" &&
		"$bin/kiseki-mount" -q "${@:2}" ${KISEKI_MOUNT_OPTS-} "$meta" "$work/$1" &&
		wait_mount "$1"
}

# In the foreground, so that its end can be waited for. Run by root it adds itself to /etc/updatedb.conf, where there is one.
juicefs_up() {
	local volume=$work/volume.$1 log=$work/juicefs.log
	local url=sqlite3://$volume/meta.db
	mkdir -p "$volume"
	# shellcheck disable=SC2086
	if "$JUICEFS" format --no-agent --storage file --bucket "$volume/blocks/" --trash-days 0 ${JUICEFS_FORMAT_OPTS-} \
		"$url" bench >"$log" 2>&1; then
		"$JUICEFS" mount --no-agent --no-usage-report --cache-dir "$volume/cache" ${JUICEFS_MOUNT_OPTS-} \
			"$url" "$work/$1" >>"$log" 2>&1 &
		server[$1]=$!
		wait_mount "$1" && return 0
	fi
	tail -n 20 "$log" >&2
	return 1
}

up() {
	mkdir -p "$work/$1"
	mounted+=("$1")
	case $1 in
	memfs) mem_up "$1" ;;
	memperm) mem_up "$1" -P ;;
	memuring) mem_up "$1" -r ;;
	membest) mem_up "$1" -r -b ;;
	classic) kiseki_up "$1" --transport=classic ;;
	kiseki) kiseki_up "$1" ;;
	juicefs) juicefs_up "$1" ;;
	esac
}

# unmount NAME COMMAND...: that way or, where it fails, by a signal; when it returns, the process is gone.
unmount() {
	[ -n "${server[$1]-}" ] || return 0
	"${@:2}" "$work/$1" >/dev/null 2>&1 || kill "${server[$1]}" 2>/dev/null
	wait "${server[$1]}" 2>/dev/null
	unset "server[$1]"
}

down() {
	local name
	for name in "${mounted[@]}"; do
		case $name in
		mem*) unmount "$name" fusermount3 -u ;;
		juicefs) unmount "$name" "$JUICEFS" umount ;;
		classic | kiseki)
			if mountpoint -q "$work/$name"; then
				"$bin/kiseki-umount" -q "$work/$name" || "$bin/kiseki-umount" -q --force "$work/$name"
			fi
			;;
		esac
		rm -rf --one-file-system "$work/volume.$name"
	done
	mounted=()
}

# tables LIST FILE AWK [OPTION...]: FILE has a line "name<TAB>row<TAB>value<TAB>unit" for each that was measured. Prints the medians,
# a column for each of the LIST, and then the ratios that the AWK program asks for, with awk's OPTIONs.
tables() {
	awk -F'\t' -v list="$1" "${@:4}" '
function median(key,   n, i, j, t, v) {
	n = count[key]
	for (i = 1; i <= n; i++)
		v[i] = value[key, i]
	for (i = 2; i <= n; i++)
		for (j = i; j > 1 && v[j] < v[j - 1]; j--) {
			t = v[j]; v[j] = v[j - 1]; v[j - 1] = t
		}
	return n ? (n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2) : -1
}
function show(key,   m) {
	m = median(key)
	return m < 0 ? "-" : sprintf("%.0f", m)
}
# What was not measured has no ratio. The goal may be empty.
function ratio(fs, row, other, other_row, goal,   a, b) {
	a = median(fs SUBSEP row)
	b = median(other SUBSEP other_row)
	if (a >= 0 && b > 0)
		printf "%-30s %-32s %8.2f%s\n", fs " " row, other " " other_row, a / b,
			goal == "" ? "" : sprintf(" %8.2f%s", goal, a / b < goal ? "  below" : "")
}
# goals: "row goal row goal ..." of one file system against the same rows of another
function ratios(fs, other, goals,   g, i) {
	split(goals, g, " ")
	for (i = 1; i in g; i += 2)
		ratio(fs, g[i], other, g[i], g[i + 1])
}
# The same for every row: those that goals does not name have another goal.
function all_ratios(fs, other, goals, goal,   g, i, of) {
	split(goals, g, " ")
	for (i = 1; i in g; i += 2)
		of[g[i]] = g[i + 1]
	for (i = 1; i <= nrows; i++)
		ratio(fs, rows[i], other, rows[i], rows[i] in of ? of[rows[i]] : goal)
}
{
	key = $1 SUBSEP $2
	value[key, ++count[key]] = $3
	unit[$2] = $4
	if (!($2 in seen)) {
		seen[$2] = 1
		rows[++nrows] = $2
	}
}
END {
	n = split(list, fs, " ")
	printf "%-24s %-14s", "row", "unit"
	for (k = 1; k <= n; k++)
		printf " %10s", fs[k]
	for (i = 1; i <= nrows; i++) {
		printf "\n%-24s %-14s", rows[i], unit[rows[i]]
		for (k = 1; k <= n; k++)
			printf " %10s", show(fs[k] SUBSEP rows[i])
	}
	printf "\n\n%-30s %-32s %8s %8s\n", "row", "against", "ratio", "goal"
}
'"$3" "$2"
}
