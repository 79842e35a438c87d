#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Options that no other file sees the effect of: each test would fail if they were parsed and forgotten.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

# volume: one with a file and a quota, and an archive
volume() {
	format --block-size=1M --capacity=1G
	head -c 3000000 /dev/urandom >f
	kiseki-cp -q f "$U:/f"
	tar -cf a.tar f
}

# everywhere: every tool that opens a volume by name or path $1, as it is called for one
everywhere() {
	local v=$1
	printf '%s\n' "bench --big-size=64k --small-files=1 --small-size=1 --io-size=4k $v" "compact $v" "config $v" "cp f $v:/g" \
		"destroy -n $v" "dump -o d $v" "fsck $v" "gc -n $v" "info $v:/f" "load $v:/ a.tar" "ls -l $v" "rm -n $v:/f" "status $v" "summary $v"
}

# threads_of PID NAME: how many it has of that name
threads_of() { cat /proc/"$1"/task/*/comm 2>/dev/null | grep -cx -- "$2" || true; }
has_threads() { [ "$(threads_of "$1" "$2")" -eq "$3" ]; }

@test "--config: every tool finds volumes and defaults there" {
	local line
	volume
	printf '[default]\nblock-size = 256k\n[v]\nmeta = %s\n' "$V" >k.conf
	everywhere v >lines
	while read -r line; do
		out_err limit 30 kiseki-$line --config=k.conf
		[ "$status" -eq 0 ]
		out_err limit 30 kiseki-$line
		[ "$status" -eq 66 ] || [[ $status == 8 && $line == fsck* ]]
	done <lines
	kiseki-format --config=k.conf ./new.db | grep -q 'block 256 KiB'
	kiseki-format ./other.db | grep -q 'block 4 MiB'
}

@test "-b, -q and --log-format: every tool" {
	requires jq
	local line sizes='[0-9.]+ ([KMGT]iB|B)([^a-z]|$)'
	volume
	everywhere "$U" | grep -vE '^(bench|fsck)' >lines
	while read -r line; do
		out_err limit 30 kiseki-$line
		[ "$status" -eq 0 ]
		grep -qE "$sizes" .out .err
		out_err limit 30 kiseki-$line -b
		[ "$status" -eq 0 ]
		not grep -qE "$sizes" .out .err
		[[ $output =~ [0-9] ]]
	done <lines
	everywhere "$U" >lines
	while read -r line; do
		out_err limit 30 kiseki-$line -q
		[ "$status" -eq 0 ]
		[ -z "$out$err" ]
	done <lines
	everywhere nosuch >lines
	printf '%s\n' 'format nosuch/x/y.db' "mount nosuch $M" "umount $M" 'stats nosuch' >>lines
	while read -r line; do
		out_err limit 30 kiseki-$line --log-format=json
		[ "$status" -ne 0 ]
		jq -es 'length > 0 and all(.type == "log")' .err
	done <lines
}

@test "--progress and SIGUSR1: what a store makes slow shows how far it is" {
	requires jq
	local line n=0
	volume
	kiseki-dump -q --blocks -o d.tar "$V"
	mkdir w
	export KISEKI_FAULT=list:delay=1300ms,get:delay=400ms,put:delay=400ms
	printf '%s\n' "gc -n $V" "fsck --data=read -j 1 $V" "dump --blocks -o d2.tar $V" "load $T/v2.db d.tar" \
		"bench --big-size=5M --small-files=1 --io-size=1M --data=file://$T/store" >lines
	# All at one time, with and without.
	while read -r line; do
		n=$((n + 1))
		limit 60 kiseki-$line --json --progress=json >with$n 2>err$n &
		pids+=($!)
		[[ $line == load* ]] && line=${line/v2.db/w\/v3.db}
		limit 60 kiseki-${line/d2.tar/d3.tar} --json >without$n 2>>err$n &
		pids+=($!)
	done <lines
	for line in "gc -q $V" "fsck -q $V"; do
		kiseki-$line >out 2>err &
		pids+=($!)
		sleep 0.8
		kill -USR1 $!
		wait $!
		[ ! -s out ]
		[ "$(wc -l <err)" -eq 1 ]
		grep -q "^${line%% *} " err
	done
	wait
	cat err?
	for n in 1 2 3 4 5; do
		jq -es 'last.exit_code == 0 and any(.type == "progress")' with$n
		jq -es 'last.exit_code == 0 and (any(.type == "progress") | not)' without$n
	done
}

# halted COMMAND...: the same, but that it stands still for some time once its progress is watched
halted() {
	local status=0 pid
	"$@" 2>err >out &
	pid=$!
	pids+=("$pid")
	until has_threads "$pid" progress 1; do kill -0 "$pid"; done
	kill -STOP "$pid"
	sleep 1.3
	kill -CONT "$pid"
	wait "$pid" || status=$?
	cat err
	return "$status"
}

@test "--progress of what only reads and writes metadata" {
	requires jq
	local what
	volume
	mkdir many
	(cd many && touch {1..3000})
	kiseki-cp -q -r many "$U:/"
	mapfile -t what < <(for ((i = 0; i < 100; i++)); do echo "$U:/many"; done)
	halted kiseki-summary --progress=always "${what[@]}"
	grep -qE '^summary  [0-9]+ files  ' err
	halted kiseki-summary --json --progress=json "${what[@]}"
	jq -es 'last.exit_code == 0 and any(.type == "progress")' out
	halted kiseki-summary --progress=never "${what[@]}"
	[ ! -s err ]
	halted kiseki-rm -r -n --progress=always "${what[@]}"
	grep -qE '^rm  [0-9]+ files  ' err
	mapfile -t what < <(for ((i = 1; i <= 3000; i++)); do echo "$U:/many/$i"; done)
	halted kiseki-rm --json --progress=json "${what[@]:0:1000}"
	jq -es 'last.exit_code == 0 and last.counts.files == 1000 and any(.type == "progress")' out
	halted kiseki-rm --progress=always "${what[@]:1000:1000}"
	grep -qE '^rm  [0-9]+ files  ' err
	halted kiseki-rm --progress=never "${what[@]:2000}"
	[ ! -s err ]
}

@test "-j: so many threads" {
	local line thread
	volume
	export KISEKI_FAULT=get:delay=900ms,put:delay=900ms
	for line in "ks-fsck fsck --data=read $V" "unpack load $U:/ a.tar" "copy cp f $U:/copied"; do
		thread=${line%% *}
		kiseki-${line#* } -q -j 3 &
		pids+=($!)
		wait_for has_threads $! "$thread" 3
		kill $!
		wait $! || true
	done
}

@test "kiseki-status --sessions: all of them" {
	local i
	volume
	mkfifo in
	for i in 1 2 3 4 5 6 7; do
		kiseki-cp -q - "$U:/$i" <in &
		pids+=($!)
	done
	exec 9>in
	all_there() { kiseki-status "$V" | grep -q 'sessions  7'; }
	wait_for all_there
	[ "$(kiseki-status "$V" | grep -c kiseki-cp)" -eq 5 ]
	kiseki-status "$V" | grep -q 'and 2 more'
	[ "$(kiseki-status --sessions "$V" | grep -c kiseki-cp)" -eq 7 ]
	exec 9>&-
	wait
}

@test "kiseki-cp -P, -t and --ignore-existing, kiseki-dump --meta, kiseki-format --no-check, kiseki-gc --max-duration" {
	local i d=$T/vol/meta.blocks/blocks/0/0
	volume
	ln -s f link
	kiseki-cp -qP link "$U:/as-link"
	kiseki-cp -q link "$U:/as-file"
	kiseki-ls -l "$U:/" | grep -q 'as-link -> f'
	not grep -q 'as-file ->' <(kiseki-ls -l "$U:/")
	mkdir into
	kiseki-cp -qr into "$U:/"
	kiseki-cp -q -t "$U:/into" f link
	[ "$(kiseki-ls "$U:/into" | xargs)" = 'f link' ]
	echo other >g
	kiseki-cp -q --ignore-existing g "$U:/f"
	kiseki-cp -q "$U:/f" back
	cmp f back
	fails_cleanly 64 kiseki-dump --meta --files -o d "$V"
	kiseki-format ./checked.db | grep -q ^Checking
	not grep -q ^Checking <(kiseki-format --no-check ./unchecked.db)
	mkdir -p "$d"
	for i in {0..29}; do
		head -c 8192 /dev/zero >"$d/900_${i}_4096"
		touch -d '2 days ago' "$d/900_${i}_4096"
	done
	KISEKI_FAULT=head:delay=100ms out_err limit 30 kiseki-gc --max-duration=1s "$V"
	[ "$status" -eq 5 ]
	i=$(find "$d" -name '900_*' | wc -l)
	[ "$i" -gt 0 ]
	kiseki-gc -q "$V"
	[ -z "$(find "$d" -name '900_*')" ]
}

@test "kiseki-bench: sizes and numbers of files are what is measured" {
	local puts
	# puts N OPTION...: with so many objects it goes through, the one behind them fails
	puts() {
		local n=$1
		shift
		KISEKI_FAULT=put:fail=EIO:nth=$((n + 1)) limit 30 kiseki-bench -q --io-size=1M "$@" "--data=file://$T/s"
		KISEKI_FAULT=put:fail=EIO:nth=$n run limit 30 kiseki-bench -q --io-size=1M "$@" "--data=file://$T/s"
		[ "$status" -eq 74 ]
	}
	puts 8 --big-size=1M --small-files=7 --small-size=9000
	puts 4 --big-size=1M --small-files=3 --small-size=9000
	puts 12 --big-size=9M --small-files=3 --small-size=9000
	puts 16 --big-size=1M --small-files=3 --small-size=5M
}
