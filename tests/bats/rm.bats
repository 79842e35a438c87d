#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-rm.

load helper
setup() {
	cli_setup
	format --name=v
}
teardown() { mounted_teardown; }

# Nothing is left over, nothing is wrong.
whole() {
	kiseki-gc -q "$V"
	kiseki-fsck -n -q "$V"
	[ "$(kiseki-status --json "$V" | jq .live.inodes)" -eq "$1" ]
}

@test "removes files, trees and nothing else" {
	requires jq
	sample src
	kiseki-cp -q -a src "$U:/"
	kiseki-cp -q -a src "$U:/other"
	[ "$(kiseki-rm "$U:/src/dir/hard")" = 'removed 1 files and 0 directories, 0 B' ]
	[ "$(kiseki-rm -b "$U:/src/file")" = 'removed 1 files and 0 directories, 8' ]
	kiseki-rm "$U:/src/dir/sym" "$U:/src/dangling" "$U:/src/fifo" >/dev/null
	out_err kiseki-rm -r "$U:/src"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	says 'and 4 directories'
	[ "$(kiseki-ls "$V")" = other ]
	kiseki-cp -q -a "$U:/other" back
	cmp <(tree src) <(tree back)
	kiseki rm -rq "$U:/other/"
	whole 1
	[ "$(kiseki-summary --json "$V" | tail -n 1 | jq .counts.used)" -eq 0 ]
}

@test "many entries, many names of one file, a deep tree" {
	requires jq
	mkdir -p src/wide
	(cd src/wide && seq 1 3000 | xargs touch)
	echo x >src/f
	for i in $(seq 1 700); do ln src/f "src/l$i"; done
	for i in $(seq 1 300); do mkdir -p "src/dirs/$i/sub"; done
	mkdir -p "src/$(printf 'd/%.0s' {1..1000})"
	kiseki-cp -q -a src "$U:/"
	ln src/f keep
	kiseki-rm -r "$U:/src" >got
	grep -q "removed 3701 files and $(find src -type d | wc -l) directories" got
	whole 1
}

@test "a name outside the tree keeps the file" {
	requires jq fuse
	mount_it
	mkdir "$M/d"
	echo content >"$M/d/a"
	ln "$M/d/a" "$M/d/b"
	ln "$M/d/a" "$M/keep"
	[ "$(kiseki-rm -r -b "$M:/d")" = 'removed 2 files and 1 directories, 0' ]
	sleep 1.5
	[ "$(cat "$M/keep")" = content ]
	[ "$(stat -c %h "$M/keep")" -eq 1 ]
	umount_it
	whole 2
}

@test "beside a mount: what is open lives on" {
	requires jq fuse
	mount_it
	mkdir "$M/d"
	head -c 3000000 /dev/urandom >f
	cp f "$M/d/f"
	exec 7<"$M/d/f"
	kiseki-rm -rq "$M:/d"
	sleep 2.5
	kiseki-gc -q "$V"
	cmp f - <&7
	exec 7<&-
	[ ! -e "$M/d" ]
	umount_it
	whole 1
}

@test "beside a mount that writes" {
	requires jq fuse
	mount_it
	mkdir "$M/d"
	(for i in $(seq 1 200); do mkdir -p "$M/d/$((i % 7))" && echo x >"$M/d/$((i % 7))/$i"; done) 2>/dev/null &
	for _ in 1 2 3 4 5; do kiseki-rm -rqf "$U:/d" 2>/dev/null || [ $? -eq 3 ]; done
	wait $!  || true
	sleep 1.5
	kiseki-rm -rqf "$U:/d"
	umount_it
	whole 1
}

@test "directories need -r, the root more" {
	requires jq
	mkdir -p src/d
	kiseki-cp -q -r src "$U:/"
	fails_cleanly 64 kiseki-rm "$U:/src"
	says 'is a directory'
	says 'hint: -r'
	for root in / // /. /src/..; do
		fails_cleanly 64 kiseki-rm -r "$U:$root"
	done
	fails_cleanly 64 kiseki-rm -r "$U:/"
	says --no-preserve-root
	fails_cleanly 64 kiseki-rm -rf "$V"
	fails_cleanly 64 kiseki-rm --no-preserve-root "$U:/"
	[ "$(kiseki-ls "$V")" = src ]
	kiseki-rm -r --no-preserve-root "$U:/" >/dev/null
	[ -z "$(kiseki-ls "$V")" ]
	whole 1
}

@test "a symlink goes itself" {
	mkdir -p src/d
	echo x >src/d/f
	ln -s d src/l
	kiseki-cp -q -a src "$U:/"
	fails_cleanly 66 kiseki-rm -r "$U:/src/f/"
	kiseki-rm -q "$U:/src/l/f"
	fails_cleanly 66 kiseki-rm -r "$U:/src/l/"
	kiseki-rm -rq "$U:/src/l"
	[ "$(kiseki-ls "$U:/src")" = d ]
}

@test "-n changes nothing and says what would go" {
	sample src
	kiseki-cp -q -a src "$U:/"
	before=$(kiseki-ls -lR "$V" | sha256sum)
	out_err kiseki-rm -rn "$U:/src"
	[ "$status" -eq 0 ]
	says 'dry run: nothing removed'
	says 'and 4 directories'
	[ "$before" = "$(kiseki-ls -lR "$V" | sha256sum)" ]
	fails_cleanly 64 kiseki-rm -n "$U:/src"
	fails_cleanly 66 kiseki-rm -n "$U:/none"
}

@test "what may not go stays, the rest goes" {
	requires sqlite3
	mkdir -p d/e/f d/g
	touch d/e/a d/e/b d/e/c d/x
	kiseki-cp -q -r d "$U:/"
	ino=$(sqlite3 -readonly "$V" "select ino from dentry where name = cast('b' as blob)")
	sqlite3 "$V" "update inode set flags = flags | 1 where ino = $ino"
	out_err kiseki-rm -r "$U:/d"
	[ "$status" -eq 3 ]
	says 'cannot remove v:/d/e/b: Operation not permitted'
	[ "$(wc -l <<<"$err")" -eq 2 ]
	says 'removed 3 files and 2 directories'
	[ "$(kiseki-ls -R "$U:/d")" = $'e\ne/b' ]
	kiseki-fsck -n -q "$V"
	sqlite3 "$V" "update inode set flags = 0 where ino = $ino"
	kiseki-rm -rq "$U:/d"
	[ -z "$(kiseki-ls "$V")" ]
}

@test "interrupted, it stops; a second run goes on" {
	requires jq
	mkdir -p src
	(cd src && seq 1 40 | xargs mkdir && for i in *; do (cd "$i" && seq 1 500 | xargs touch); done)
	kiseki-cp -q -r src "$U:/"
	status=0
	kiseki-rm -r "$U:/src" >/dev/null &
	pid=$!
	for _ in $(seq 1 200); do
		[ "$(kiseki-status --json "$V" | jq .live.inodes)" -lt 20000 ] && break
	done
	kill -TERM $pid || true
	wait $pid || status=$?
	[ "$status" -eq 143 ] || [ "$status" -eq 0 ]
	kiseki-fsck -n -q "$V"
	kiseki-rm -rqf "$U:/src"
	whole 1
}

@test "-f, several operands, mistakes" {
	touch a b
	kiseki-cp -q a b "$U:/"
	out_err kiseki-rm "$U:/a" "$U:/none" "$U:/b"
	[ "$status" -eq 66 ]
	says none
	[ -z "$(kiseki-ls "$V")" ]
	kiseki-rm -f "$U:/none" "$U:/no/such/dir"
	fails_cleanly 66 kiseki-rm -f "$T/none.db:/x"
	fails_cleanly 66 kiseki-rm nosuchvolume:/x
	fails_cleanly 64 kiseki-rm
	fails_cleanly 64 kiseki-rm ''
	fails_cleanly 64 kiseki-rm "$U:/$(printf 'x%.0s' {1..300})"
	KISEKI_VOLUME=$V fails_cleanly 64 kiseki-rm -r :/
}

@test "-i and -I ask on a terminal, and only there" {
	requires script
	touch a b
	kiseki-cp -q a b "$U:/"
	fails_cleanly 64 kiseki-rm -i "$U:/a"
	fails_cleanly 64 kiseki-rm -I "$U:/a"
	printf 'n\n' | script -qec "kiseki-rm -i '$U:/a'" /dev/null >tty
	grep -q 'remove .*a?' tty
	[ "$(kiseki-ls "$V")" = $'a\nb' ]
	printf 'y\n' | script -qec "kiseki-rm -i '$U:/a'" /dev/null >/dev/null
	[ "$(kiseki-ls "$V")" = b ]
	printf 'n\n' | script -qec "kiseki-rm -rI '$U:/b'" /dev/null >/dev/null
	[ "$(kiseki-ls "$V")" = b ]
	script -qec "kiseki-rm -I '$U:/b'" /dev/null </dev/null >/dev/null
	[ -z "$(kiseki-ls "$V")" ]
}

@test "JSON" {
	requires jq
	mkdir src
	touch src/a src/$'b\xff'
	kiseki-cp -q -r src "$U:/"
	out_err kiseki-rm -rv --json "$U:/src"
	json_ok .out
	jq -es 'map(select(.action == "removed")) | length == 3 and (map(select(.path_b64)) | length == 1) and .[2].path == "v:/src" and .[2].kind == "directory"' .out
	jq -es '.[-1].counts == {files: 2, dirs: 1, bytes: 0, failed: 0}' .out
	out_err kiseki-rm --json "$U:/none"
	json_ok .out
	[ "$(kiseki-rm --json -qf "$U:/none" | wc -l)" -eq 1 ]
}
