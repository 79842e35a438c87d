#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-summary.

load helper
setup() {
	cli_setup
	format
}
teardown() { mounted_teardown; }

# field NUMBER NAME: that column of the line that ends in NAME
field() { awk -v f="$1" -v n="$2" '$NF == n { print $f }' .out; }

@test "agrees with what was copied in, and with status" {
	requires jq
	sample src
	kiseki-cp -q -a src "$U:/"
	out_err kiseki-summary -b -d 0 "$U:/src"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	files=$(find src ! -type d -printf '%i\n' | sort -u | wc -l)
	dirs=$(find src -type d | wc -l)
	bytes=$(find src ! -type d -printf '%i %s\n' | sort -u | awk '{ n += $2 } END { printf "%d", n }')
	[ "$(field 2 "$U:/src/")" = "$bytes" ]
	[ "$(field 3 "$U:/src/")" = "$files" ]
	[ "$(field 4 "$U:/src/")" = "$dirs" ]
	kiseki-summary --json "$V" | tail -n 1 >sum
	kiseki-status --json "$V" >stat
	jq -es '.[0].counts.used == .[1].live.bytes and .[0].counts.files + .[0].counts.dirs == .[1].live.inodes' sum stat
}

@test "depth and entries" {
	mkdir -p src/a/b/c src/z
	for i in 1 2 3 4 5; do head -c $((i * 10000)) /dev/urandom >src/a/b/f$i; done
	head -c 100 /dev/urandom >src/z/small
	kiseki-cp -q -r src "$U:/"
	kiseki-summary -b "$U:/src" | awk '{ print $1, $NF }' >got
	printf '%s\n' 'USED NAME' "150100 $U:/src/" '150000 a/' '100 z/' | diff - got
	kiseki-summary -b -d 3 -e 2 "$U:/src" | awk '{ print $1, $3, $4, $5 }' >got
	printf '%s\n' 'USED FILES DIRS NAME' "150100 6 5 $U:/src/" '150000 5 3 a/' '150000 5 2 b/' '50000 1 0 f5' '40000 1 0 f4' \
		'60000 3 1 (4' '100 1 1 z/' '100 1 0 small' | diff - got
	[ "$(kiseki-summary -d 0 "$U:/src" | wc -l)" -eq 2 ]
	kiseki-summary -b "$U:/src/z/small" | grep -q " 100 .* 1 .* 0  $U:/src/z/small$"
	[ -z "$(kiseki-summary -q "$V")" ]
	cmp <(kiseki summary "$V") <(kiseki-summary "$V")
}

@test "a file with several names counts once, a hole not as used" {
	mkdir src
	head -c 70000 /dev/urandom >src/a
	ln src/a src/b
	ln src/a src/c
	truncate -s 5G src/hole
	kiseki-cp -q -a src "$U:/"
	out_err kiseki-summary -b "$U:/src"
	[ "$(field 1 "$U:/src/")" = 70000 ]
	[ "$(field 2 "$U:/src/")" = 5368779120 ]
	[ "$(field 3 "$U:/src/")" = 2 ]
	[ "$(field 1 hole)" = 0 ]
}

@test "many entries, and a deep tree" {
	mkdir many
	(cd many && seq 1 12000 | xargs touch)
	printf x >many/big
	kiseki-cp -q -r many "$U:/"
	out_err kiseki-summary -b -e 3 "$U:/many"
	[ "$(field 3 "$U:/many/")" = 12001 ]
	sed -n 3p .out | grep -q big
	tail -n 1 .out | grep -q '(11998 more)'
	deep=$(printf 'd/%.0s' {1..1000})
	mkdir -p "deep/$deep"
	echo x >"deep/$deep/f"
	kiseki-cp -q -r deep "$U:/"
	[ "$(kiseki-summary -d 0 "$U:/deep" | awk 'NR == 2 { print $5 }')" = 1001 ] || kiseki-summary -d 0 -b "$U:/deep" | grep -q ' 1001  '
}

@test "several operands; one that fails does not stop the rest" {
	mkdir src
	echo x >src/f
	kiseki-cp -q -r src "$U:/"
	out_err kiseki-summary -d 0 "$U:/src" "$U:/nope" "$V"
	[ "$status" -eq 66 ]
	[ "$(wc -l <.out)" -eq 3 ]
	says nope
}

@test "mistakes" {
	fails_cleanly 64 kiseki-summary
	fails_cleanly 66 kiseki-summary "$U:/none"
	fails_cleanly 66 kiseki-summary nosuchvolume
	for bad in '-d 17' '-d -1' '-d x' '-e 0' '-e 10001' '-e many'; do
		# shellcheck disable=SC2086
		fails_cleanly 64 kiseki-summary $bad "$V"
	done
}

@test "needs no data, changes nothing" {
	rm -r "$T/vol/meta.blocks"
	before=$(sha256sum "$V")
	kiseki-summary "$V" >/dev/null
	[ "$before" = "$(sha256sum "$V")" ]
}

@test "JSON" {
	requires jq
	mkdir src
	touch src/$'bytes\xff' src/a src/b
	kiseki-cp -q -r src "$U:/"
	out_err kiseki-summary --json -e 2 "$U:/src"
	json_ok .out
	jq -es 'map(select(.kind == "rest"))[0] | .entries == 1 and .files == 1 and .depth == 1' .out
	jq -es '.[-1].counts == {files: 3, dirs: 1, bytes: 0, used: 0}' .out
	kiseki-summary --json "$U:/src" | jq -es 'map(select(.path_b64)) | length == 1'
	out_err kiseki-summary --json "$U:/none"
	json_ok .out
	[ "$(kiseki-summary --json -q "$V" | wc -l)" -eq 1 ]
}
