#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-cp within a volume: data is shared, at the speed of metadata.

load helper
setup() {
	cli_setup
	format --name=v
	D=$T/vol/meta.blocks
}
teardown() { mounted_teardown; }

stored() { find "$D/blocks" "$D/packs" -type f -printf '%s\n' 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'; }
back() { rm -rf back; kiseki-cp -q -a "$U:/$1" back; }

@test "thousands of files share their data, and each is its own afterwards" {
	requires sqlite3 jq
	mkdir -p src/a src/b
	for d in a b; do (cd src/$d && for i in $(seq 1 500); do echo "$d $i" >"$i"; done); done
	head -c 9437185 /dev/urandom >src/big
	kiseki-cp -q -a src "$U:/"
	before=$(stored)
	out_err kiseki-cp -a --reflink=always --json "$U:/src" "$U:/dst"
	json_ok .out
	tail -n 1 .out | jq -e '.counts.files == 1001 and .counts.failed == 0'
	[ "$(stored)" -eq "$before" ]
	[ "$(sqlite3 -readonly "$V" 'select min(refs), max(refs) from slice')" = '2|2' ]
	kiseki-fsck -q --data=read "$V"
	back dst
	cmp <(tree src) <(tree back)
	diff -r src back
	# The source goes: what is shared stays.
	kiseki-rm -rq "$U:/src"
	kiseki-gc -q "$V"
	[ "$(stored)" -eq "$before" ]
	back dst
	diff -r src back
	kiseki-cp -q src/a/1 "$U:/dst/big"
	kiseki-cp -q -a --reflink=never "$U:/dst" "$U:/full"
	[ "$(stored)" -gt "$((before + 1000))" ]
	kiseki-fsck -q --data=read "$V"
}

@test "one of everything, with all attributes" {
	requires sqlite3
	sample src
	setfacl -m u:1234:r src/file 2>/dev/null || true
	kiseki-cp -q -a src "$U:/"
	before=$(stored)
	kiseki-cp -q -a "$U:/src" "$U:/dst"
	[ "$(stored)" -eq "$before" ]
	back dst
	cmp <(tree src) <(tree back)
	[ "$(getfattr -d -m - src/file 2>/dev/null | tail -n +2)" = "$(getfattr -d -m - back/file 2>/dev/null | tail -n +2)" ]
	# And over what is there.
	echo other >f
	kiseki-cp -q f "$U:/dst/file"
	kiseki-cp -q -a "$U:/src/." "$U:/dst"
	back dst
	cmp <(tree src) <(tree back)
	kiseki-fsck -q --data=read "$V"
}

@test "without -p: as cp(1), the umask and our own" {
	umask 027
	echo x >f
	chmod 6777 f
	touch -d '2001-02-03' f
	kiseki-cp -q -p f "$U:/f"
	kiseki-cp -q "$U:/f" "$U:/g"
	kiseki-cp -q --reflink=never "$U:/f" "$U:/h"
	back g
	a=$(stat -c '%a %u %g %s' back)
	back h
	[ "$a" = "$(stat -c '%a %u %g %s' back)" ]
	[ "${a%% *}" = 750 ]
	[ "$(stat -c %Y back)" -gt 1600000000 ]
}

@test "the same name twice, itself, another volume, a quota" {
	requires jq
	mkdir a b
	echo a >a/x
	echo b >b/x
	kiseki-cp -q -r a b "$U:/"
	kiseki-cp -q --reflink=always "$U:/a/x" "$U:/b/x" "$U:/"
	[ "$(kiseki-cp "$U:/x" -)" = b ]
	fails_cleanly 73 kiseki-cp -q "$U:/x" "$U:/x"
	mkdir vol2
	kiseki-format -q vol2/meta.db
	fails_cleanly 73 kiseki-cp -q --reflink=always "$U:/x" "sqlite://$T/vol2/meta.db:/"
	kiseki-cp -q --reflink=auto "$U:/x" "sqlite://$T/vol2/meta.db:/"
	mkdir src
	(cd src && for i in $(seq 1 600); do echo "$i" >"$i"; done)
	kiseki-cp -q -r src "$U:/"
	kiseki-config -q "$V" inodes=1000
	out_err kiseki-cp -r "$U:/src" "$U:/dst"
	[ "$status" -ne 0 ]
	says 'No space'
	[ "$(kiseki-status --json "$V" | jq .live.inodes)" -eq 1000 ]
	kiseki-fsck -q "$V"
}

@test "killed at any moment: whole files or none" {
	mkdir src
	(cd src && for i in $(seq 1 400); do echo "content $i" >"$i"; done)
	kiseki-cp -q -r src "$U:/"
	for i in $(seq 1 5); do
		kiseki-cp -q -a "$U:/src" "$U:/dst$i" &
		pid=$!
		sleep "0.0$((i * 12 + 20))"
		kill -KILL $pid 2>/dev/null || true
		wait $pid || true
		kiseki-fsck -q --data=read "$V"
		if kiseki-ls "$U:/dst$i" >/dev/null 2>&1; then
			back "dst$i"
			diff -r src back | grep -v '^Only in src' && return 1
		fi
	done
	kiseki-cp -q -a "$U:/src/." "$U:/whole"
	back whole
	diff -r src back
}

@test "compaction takes what is shared apart, and loses nothing" {
	requires fuse sqlite3
	limit 60 "$helpers/randwrite.t" --mib 4 --count 800 f
	mount_it --no-maintenance
	limit 60 "$helpers/randwrite.t" --mib 4 --count 800 "$M/f"
	umount_it
	kiseki-cp -q --reflink=always "$U:/f" "$U:/g"
	kiseki-compact -q "$U:/g"
	kiseki-gc -q "$V"
	cmp f <(kiseki-cp "$U:/f" -)
	cmp f <(kiseki-cp "$U:/g" -)
	kiseki-rm -q "$U:/f"
	kiseki-gc -q "$V"
	cmp f <(kiseki-cp "$U:/g" -)
	[ "$(sqlite3 -readonly "$V" 'select count(*) from slice')" -eq 1 ]
	fsck_clean
}
