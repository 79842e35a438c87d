#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-ls.

load helper
setup() {
	cli_setup
	format
	sample src
	kiseki-cp -q -a src "$U:/"
}
teardown() { mounted_teardown; }

@test "lists what is there, in order" {
	kiseki-ls -0 "$U:/src" >got
	(cd src && find . -mindepth 1 -maxdepth 1 -printf '%P\0' | LC_ALL=C sort -z) >want
	cmp want got
	[ "$(kiseki-ls "$V")" = src ]
	[ "$(kiseki-ls "$U")" = src ]
	[ -z "$(kiseki-ls "$U:/src/empty")" ]
	[ "$(kiseki-ls "$U:/src/file")" = /src/file ]
	[ "$(kiseki-ls "$U:/src/dir/../file")" = /src/dir/../file ]
	[ "$(kiseki-ls "$U:/src/dangling")" = /src/dangling ]
}

@test "-R goes down" {
	kiseki-ls -R0 "$U:/src" | LC_ALL=C sort -z >got
	(cd src && find . -mindepth 1 -printf '%P\0' | LC_ALL=C sort -z) >want
	cmp want got
}

@test "several operands are told apart, and one that fails does not stop the rest" {
	out_err kiseki-ls "$U:/src/dir" "$U:/nope" "$V:/src/empty" "$U:/src/dir/deep/"
	[ "$status" -eq 66 ]
	[ "$(sort .out)" = "$(printf '%s\n' "$U:/src/dir/"{big,deep,hard,sym} | sort)" ]
	says nope
}

@test "-l agrees with stat" {
	(cd src && find . -mindepth 1 -maxdepth 1 ! -type d ! -name $'new\nline' -printf '%M\t%n\t%U\t%G\t%P\n' | LC_ALL=C sort) >want
	kiseki-ls -lH0 "$U:/src" | grep -azv 'line$' | grep -azv '^d' | tr '\0' '\n' | sed 's/ -> .*//' | cut -f 1-4,7- | LC_ALL=C sort >got
	diff want got
	kiseki-ls -lH "$U:/src" | grep -aqP '\t209715200\t.*\tsparse$'
	kiseki-ls -lH "$U:/src" | grep -aqP '\t2001-02-03T04:05:06\.123456Z\tfile$'
	kiseki-ls -lH "$U:/src/dir" | grep -aqP '\tsym -> \.\./file$'
	kiseki-ls -lH "$U:/src" | awk -F '\t' '/^[-dlpcb][-r]/ && NF < 7 { exit 1 }'
	kiseki-ls -lH "$V" | not grep -aq MODE
	kiseki-ls -l "$V" | head -n 1 | grep -q MODE
	kiseki-ls -l "$U:/src" | grep -a sparse | grep -q '200 MiB'
	kiseki-ls -lb "$U:/src" | grep -a sparse | grep -q 209715200
}

@test "control characters are escaped on a terminal only" {
	requires script
	kiseki-ls "$U:/src" | grep -aqx line
	script -qec "kiseki-ls '$U:/src'" /dev/null </dev/null >tty
	grep -q 'new\\012line' tty
}

@test "a directory of many entries" {
	mkdir many
	(cd many && seq 1 20000 | xargs touch)
	kiseki-cp -q -r many "$U:/"
	kiseki-ls "$U:/many" | sort >got
	seq 1 20000 | sort >want
	cmp want got
	[ "$(kiseki-ls -q "$U:/many" | wc -l)" -eq 0 ]
}

@test "needs no data" {
	rm -r "$T/vol/meta.blocks"
	[ "$(kiseki-ls "$V")" = src ]
	chmod a-w "$V" "$T/vol"
	[ "$(kiseki-ls "$V")" = src ]
	chmod u+w "$T/vol"
}

@test "paths that are wrong" {
	fails_cleanly 66 kiseki-ls "$U:/src/none"
	says 'No such file'
	fails_cleanly 66 kiseki-ls "$U:/src/file/x"
	fails_cleanly 66 kiseki-ls "$U:/src/file/"
	fails_cleanly 64 kiseki-ls "$U:/$(printf 'x%.0s' {1..300})"
	ln -s loop loop
	kiseki-cp -q -r loop "$U:/"
	fails_cleanly 66 kiseki-ls "$U:/loop/"
}

@test "-p marks directories" {
	[ "$(kiseki-ls -p "$V")" = src/ ]
	kiseki-ls -p0 "$U:/src" >got
	(cd src && find . -mindepth 1 -maxdepth 1 \( -type d -printf '%P/\0' -o -printf '%P\0' \) | LC_ALL=C sort -z) | LC_ALL=C sort -z >want
	LC_ALL=C sort -z got | cmp want -
	kiseki-ls -lpH "$V" | grep -qP '\tsrc/$'
}

# Those of this test: the machine may have volumes of its own.
volumes() { kiseki-ls --volumes "$@" | grep -a -o 'kt-[a-z]*' | tr '\n' :; }

@test "--volumes lists what can be named" {
	requires jq
	mkdir -p .local/share/kiseki/kt-{zebra,albums,empty} '.local/share/kiseki/kt bad'
	touch .local/share/kiseki/kt-{zebra,albums}/meta.db '.local/share/kiseki/kt bad/meta.db'
	printf '[default]\nvolume = kt-zebra\n[kt-remote]\nmeta = postgres://u:hunter2@db/k\n[kt-albums]\nmeta = /srv/none.db\n' >conf
	chmod 600 conf
	[ "$(volumes)" = kt-albums:kt-zebra: ]
	[ "$(volumes --config=conf)" = kt-albums:kt-remote:kt-zebra: ]
	[ "$(volumes -0 --config=conf)" = kt-albums:kt-remote:kt-zebra: ]
	out_err kiseki-ls --volumes -lH --config=conf
	[ "$status" -eq 0 ]
	grep -qxP 'kt-albums\tsqlite:///srv/none.db' .out
	grep -qxP 'kt-remote\tpostgres://u:\*\*\*@db/k' .out
	grep -qP '^kt-zebra\tsqlite:///.*/kt-zebra/meta.db$' .out
	not grep -q hunter2 .out .err
	out_err kiseki-ls --volumes --json --config=conf
	json_ok .out
	[ "$(jq -r 'select(.type == "item").name' .out | grep -c kt-)" -eq 3 ]
	[ "$(jq -r 'select(.type == "item").name' .out | wc -l)" -eq "$(tail -n 1 .out | jq .counts.entries)" ]
	chmod 644 conf
	out_err kiseki-ls --volumes -l --config=conf
	[ "$status" -eq 78 ]
	grep -q hunter2 .out .err && return 1
	fails_cleanly 64 kiseki-ls --volumes zebra
	says zebra
	echo 'no section' >conf
	fails_cleanly 78 kiseki-ls --volumes --config=conf
}
