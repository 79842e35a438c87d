#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What holds for every tool.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

@test "--help is on stdout, narrow, with examples" {
	local t
	for t in "${tools[@]}"; do
		for o in -h --help; do
			out_err limit 5 "$t" $o
			[ "$status" -eq 0 ]
			[ -z "$err" ]
			grep -q '^Examples:' <<<"$out"
			[ -z "$(awk 'length > 80' <<<"$out")" ]
		done
	done
}

@test "--version can be read by programs" {
	local t
	for t in "${tools[@]}"; do
		out_err "$t" -V
		[ "$status" -eq 0 ]
		[ "$out" = "$t (kiseki) 0.1.0" ]
	done
	for t in kiseki-cp kiseki-format kiseki-ls kiseki-mount kiseki-status; do
		out_err "$t" -V -v
		grep -q '+sqlite' <<<"$out"
		grep -q '+file' <<<"$out"
	done
}

@test "unknown options are named, with the nearest one" {
	local t
	for t in "${tools[@]}"; do
		fails_cleanly 64 "$t" --bogus-option
		says "'--bogus-option'"
		says --help
		fails_cleanly 64 "$t" --verbos=x
		fails_cleanly 64 "$t" --hepl
		says "did you mean '--help'"
		fails_cleanly 64 "$t" -%
		says "'-%'"
	done
}

@test "a missing operand is no reason to wait for input" {
	local t
	for t in kiseki kiseki-cp kiseki-format kiseki-mount kiseki-umount; do
		run limit 1 "$t" < <(sleep 5)
		[ "$status" -eq 64 ]
		says --help
	done
	for t in kiseki-ls kiseki-status; do
		fails_cleanly 64 "$t"
		says KISEKI_VOLUME
	done
}

@test "--list-options agrees with --help" {
	local t
	for t in "${tools[@]}"; do
		"$t" --list-options | cut -f 2 | grep -- -- | sort >a
		"$t" --help | grep -E '^ +-' | sed -E 's/^( +(-[A-Za-z0-9?], *)?--?[^ ]+).*/\1/' | grep -oE -- '--[a-z][a-z0-9-]*[a-z0-9]' | sort >b
		diff a b
		"$t" --list-options | awk -F '\t' 'NF != 4 || ($1 == "" && $2 == "") { exit 1 }'
	done
}

@test "options stand behind operands, also with POSIXLY_CORRECT" {
	format
	POSIXLY_CORRECT=1 run kiseki-ls "$V" --json
	[ "$status" -eq 0 ]
	grep -q '"summary"' <<<"$output"
	touch -- --json
	run kiseki-cp -v -- --json "$U:/"
	[ "$status" -eq 0 ]
	[ "$(kiseki-ls "$V")" = --json ]
}

@test "a volume that does not exist is 66 everywhere" {
	local t
	for t in "kiseki-ls" "kiseki-cp /etc/passwd"; do
		fails_cleanly 66 $t nosuchvolume:/
		fails_cleanly 66 $t "sqlite://$T/none.db:/"
	done
	fails_cleanly 66 kiseki-status nosuchvolume
	says "no volume 'nosuchvolume'"
	says hint:
	mkdir here
	fails_cleanly 66 kiseki-status here
	says 'write ./here'
	fails_cleanly 66 kiseki-status "$T/none.db"
	fails_cleanly 66 kiseki-status "$T/no/such/dir/none.db"
	[ ! -e "$T/none.db" ]
}

@test "names that cannot be meant are 64, with a hint" {
	fails_cleanly 64 kiseki-ls photos://x
	says "did you mean photos:/x"
	fails_cleanly 64 kiseki-ls s3://b/p
	says "that is a data location, not a volume"
	fails_cleanly 64 kiseki-ls photos:x
	says photos:/x
	fails_cleanly 64 kiseki-cp a:b/c .
	says ./a:b/c
	fails_cleanly 64 kiseki-cp photos:2024 /tmp
	says "must start with '/'"
	fails_cleanly 64 kiseki-ls 'bad name'
	fails_cleanly 64 kiseki-ls default
}

@test "a password on the command line is refused and not repeated" {
	fails_cleanly 64 kiseki-ls postgres://u:hunter2@h/k
	says "visible to other users"
	not grep -q hunter2 <<<"$output"
	KISEKI_VOLUME=postgres://u:hunter2@h/k run kiseki-status --json
	[ "$status" -ne 0 ]
	not grep -q hunter2 <<<"$output"
}

@test "--json is JSON, the summary is last, also on failure" {
	requires jq
	local t
	format
	echo x >f
	for t in "kiseki-ls $V" "kiseki-ls -R $U:/" "kiseki-status $V" "kiseki-cp -v f $U:/g" "kiseki-format $T/new.db" \
		"kiseki-ls $U:/nope" "kiseki-status $T/none.db" "kiseki-cp nope $U:/" "kiseki-cp f nope $U:/" "kiseki-format $V" \
		"kiseki-cp f $U:/no/dir" "kiseki-ls nosuch"; do
		out_err limit 20 $t --json
		json_ok .out
		out_err limit 20 $t --json -q
		[ "$(wc -l <.out)" -eq 1 ] || return 1
		json_ok .out
		[ "$status" -eq 0 ] || [ -n "$err" ]
	done
}

@test "names come through JSON exactly" {
	requires jq
	format
	mkdir src
	touch src/$'new\nline' src/$'bytes\xff' src/$'\xc3\xbc'
	kiseki-cp -r src "$U:/"
	kiseki-ls --json "$U:/src" | jq -r 'select(.type == "item") | .path_b64 // (.path | @base64)' |
		while read -r b; do base64 -d <<<"$b"; printf '\0'; done | LC_ALL=C sort -z >got
	(cd src && printf '%s\0' * | LC_ALL=C sort -z) >want
	cmp want got
	kiseki-ls --json "$U:/src" | jq -es 'map(select(.path_b64).path) == ["bytes\ufffd"]'
	kiseki-ls --json "$U:/src" | tail -n 1 | jq -e '.counts.entries == 3 and (.counts.entries | type) == "number"'
}

@test "off a terminal there is no progress, and messages have no escapes" {
	format
	head -c 20000000 /dev/urandom >big
	out_err kiseki-cp big "$U:/"
	not grep -q $'[\r\e]' .out .err
	[ -z "$err" ]
	out_err kiseki-cp -q big "$U:/"
	[ -z "$output" ]
}

@test "a name is no order to the terminal, in results or messages" {
	requires script
	local bad=$'x\e]0;owned\a\xc2\x9b31my'
	format
	mkdir src
	echo a >"src/$bad"
	script -qec "kiseki-cp -r -v src '$U:/'" /dev/null </dev/null >tty
	grep -q 'x\\033]0;owned\\007\\302' tty
	script -qec "kiseki-dump --files -v -o d.tar '$V'" /dev/null </dev/null >>tty
	script -qec "kiseki-load -v '$U:/' d.tar" /dev/null </dev/null >>tty
	# shellcheck disable=SC2016
	V=$V bad=$bad script -qec 'kiseki-rm "sqlite://$V:/no/$bad"; kiseki-ls "$bad:/"; true' /dev/null </dev/null >>tty
	# shellcheck disable=SC2016
	U=$U bad=$bad script -qec 'kiseki-rm -i "$U:/src/$bad"' /dev/null <<<n >>tty
	grep -aq 'remove sqlite.*owned\\007' tty
	[ "$(grep -c 'owned\\007' tty)" -ge 6 ]
	not grep -aq $'\e]0' tty
	not grep -aq $'\xc2\x9b' tty
	# Elsewhere they are what they are.
	kiseki-cp -r -v src "$U:/again" | grep -aq $'\e]0;owned\a'
	not kiseki-rm "$U:/no/$bad" 2>err
	grep -aq $'\e]0;owned\a' err
}

@test "configuration gives defaults, the command line beats it" {
	cat >k.conf <<-EOF2
		[default]
		volume = v
		bytes = yes
		[v]
		meta = $V
	EOF2
	format --capacity=1G
	export KISEKI_CONFIG=$T/k.conf
	kiseki-status | grep -q 'quota 1073741824'
	kiseki-status v | grep -q 1073741824
	kiseki-status -v | grep -q 'found by  kiseki.conf: v'
	printf '[default]\nbytes = perhaps\n' >bad.conf
	fails_cleanly 78 kiseki-status --config=bad.conf "$V"
	says bad.conf:2
	says "'bytes'"
	fails_cleanly 78 kiseki-status --config=none.conf "$V"
	says none.conf
	printf 'nonsense\n' >bad.conf
	fails_cleanly 78 kiseki-status --config=bad.conf v
	says bad.conf:1
}

@test "the configuration of a home that is closed is not ours; a file that is closed is a mistake" {
	requires root setpriv
	local as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	mkdir -p -m 755 closed open/.config/kiseki theirs
	mkdir -p closed/.config/kiseki
	echo '[default]' >closed/.config/kiseki/kiseki.conf
	chmod 700 closed
	install -m 600 closed/.config/kiseki/kiseki.conf open/.config/kiseki/
	chmod 711 "$T"
	chmod -R a+X open
	chown 65534:65534 theirs
	unset KISEKI_CONFIG
	HOME=$T/closed "${as[@]}" kiseki-format -q theirs/v.db
	HOME=$T/closed "${as[@]}" kiseki-status theirs/v.db
	HOME=$T/open fails_cleanly 78 "${as[@]}" kiseki-status theirs/v.db
	says "open/.config/kiseki/kiseki.conf"
	says "Permission denied"
}

@test "a newer volume is refused, its format named" {
	requires sqlite3
	format
	sqlite3 "$V" "update setting set value = cast('7' as blob) where name = 'format_version'"
	fails_cleanly 76 kiseki-ls "$V"
	says 'format 7'
	fails_cleanly 76 kiseki-status "$V"
	fails_cleanly 76 kiseki-cp /etc/passwd "$U:/"
	requires jq
	out_err kiseki-ls --json "$V"
	[ "$(jq -r .error.code .out)" = PROTOCOL ]
}

@test "a corrupted database is an error with a name, never a crash" {
	local t
	format
	cp "$V" "$V.good"
	for how in truncate garbage head zero; do
		cp "$V.good" "$V"
		rm -f "$V-wal" "$V-shm"
		case $how in
		truncate) truncate -s 5000 "$V" ;;
		garbage) head -c 60000 /dev/urandom | dd of="$V" bs=1k seek=4 conv=notrunc status=none ;;
		head) printf 'not a database, not at all' | dd of="$V" conv=notrunc status=none ;;
		zero) truncate -s 0 "$V" ;;
		esac
		for t in "kiseki-ls $V" "kiseki-status $V" "kiseki-cp /etc/passwd $U:/"; do
			out_err limit 20 $t
			[ "$status" -ge 64 ]
			[ "$status" -lt 79 ]
			not grep -qiE 'assert|segmentation' <<<"$err"
			says "$V" || says "meta.db"
		done
	done
}

@test "another volume's data is refused" {
	format
	kiseki-format -q "$T/other.db"
	echo x >f
	kiseki-cp -q f "$U:/"
	rm -r "$T/vol/meta.blocks"
	cp -r "$T/other.blocks" "$T/vol/meta.blocks"
	fails_cleanly 78 kiseki-cp f "$U:/g"
	says 'belongs to another volume'
	fails_cleanly 78 kiseki-cp "$U:/f" g
	rm "$T/vol/meta.blocks/kiseki.volume"
	fails_cleanly 78 kiseki-cp "$U:/f" g
	says 'is missing'
	rm -r "$T/vol/meta.blocks"
	fails_cleanly 66 kiseki-cp "$U:/f" g
	says meta.blocks
	[ ! -e "$T/vol/meta.blocks" ]
	[ "$(kiseki-ls "$V")" = f ]
}

@test "a closed pipe ends a tool quietly" {
	format
	mkdir src
	(cd src && touch $(seq 3000))
	kiseki-cp -q -r src "$U:/"
	set +o pipefail
	kiseki-ls -lR "$V" 2>err | head -n 1
	rc=("${PIPESTATUS[@]}")
	[ ! -s err ]
	[ "${rc[0]}" -eq 141 ] || [ "${rc[0]}" -eq 0 ]
}

@test "a full output is an error" {
	[ -c /dev/full ] || skip "no /dev/full"
	format
	echo x >f
	kiseki-cp -q f "$U:/"
	run bash -c "kiseki-ls -l '$V' >/dev/full"
	[ "$status" -eq 74 ]
	run bash -c "kiseki-cp '$U:/f' - >/dev/full"
	[ "$status" -eq 74 ]
}

@test "a configuration file's defaults reach what is done" {
	requires jq
	cat >k.conf <<-EOF2
		[default]
		recursive = yes
		compress = none
		verbose = yes
	EOF2
	export KISEKI_CONFIG=$T/k.conf
	format
	mkdir -p src/deep
	echo x >src/deep/f
	kiseki-cp src "$U:/"
	kiseki-ls "$V" | grep -qx src/deep/f
	kiseki-dump "$V" >dump 2>err
	tar -tf dump >/dev/null
	[ "$(head -c 4 dump | od -An -tx1)" != " 28 b5 2f fd" ]
	tar -cf one.tar -C src .
	kiseki-load "$U:/" one.tar | grep -q deep/f
	# Where it would spoil the output it is refused as on the command line.
	echo 'json = yes' >>k.conf
	run bash -c "kiseki-dump '$V' >dump"
	[ "$status" -eq 64 ]
	says '--json needs stdout'
	[ ! -s dump ]
}
