#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-dump and kiseki-load of its dumps.

load helper
setup() {
	cli_setup
	format --name=photos
	W=$T/other/w.db
	mkdir other
}
teardown() { mounted_teardown; }

fill() {
	sample src
	kiseki-cp -qa src/. "$U:/"
}

@test "metadata: the same bytes each time, and after a load" {
	fill
	out_err kiseki-dump "$V" -o a.tar.zst
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	[[ $out == "Dumped metadata of 'photos': "*" inodes, "*" in "* ]]
	sleep 1.1
	kiseki-dump -q "$V" -o b.tar.zst
	cmp a.tar.zst b.tar.zst
	out_err kiseki-load "$W" a.tar.zst
	[ "$status" -eq 0 ]
	[[ $out == "Loaded "*" inodes into sqlite://$W (volume 'photos', same data file://$T/vol/meta.blocks)" ]]
	[[ $err == *"read-only"*"--take-over $W"* ]]
	kiseki-dump -q "$W" -o c.tar.zst
	cmp a.tar.zst c.tar.zst
	kiseki-cp -qa "sqlite://$W:/." back
	diff <(tree src) <(tree back)
	# Compressed or not, through a file or a pipe.
	kiseki-dump -q "$V" -o a.tar
	kiseki-dump -q --compress=none "$V" | cmp - a.tar
	for z in gz xz lz4; do
		kiseki-dump -q "$V" -o "a.tar.$z"
		[ "$(head -c 2 "a.tar.$z")" != "$(head -c 2 a.tar)" ]
		kiseki-load -q --verify-only "a.tar.$z"
	done
	kiseki-load -q other/x.db - <a.tar.gz
	kiseki-dump -q other/x.db -o - --compress=none | cmp - a.tar
	[ -z "$(find other -name '*.new*')" ]
}

# noted [VOLUME]: the exit code that kiseki-status tells, or null
noted() { kiseki-status --json "${1:-$V}" | jq -c '.last.dump.exit_code'; }

@test "its end is noted in the volume, and not in the dump" {
	requires jq
	mkdir src
	echo content >src/file
	head -c 9437184 /dev/urandom >src/big
	kiseki-cp -qa src/. "$U:/"
	kiseki-dump -q --files "$V:/file" -o part.tar
	fails 66 kiseki-dump -q --files "$V:/nowhere" -o part.tar
	[ "$(noted)" = null ]
	kiseki-dump -q "$V" -o a.tar
	[ "$(noted)" = 0 ]
	kiseki-dump -q "$V" -o b.tar
	cmp a.tar b.tar
	rm "$(find vol/meta.blocks -name '*_1_4194304')"
	fails 3 kiseki-dump -q --blocks "$V" -o blocks.tar
	[ "$(noted)" = 3 ]
	fails 73 kiseki-dump -q "$V" -o nowhere/a.tar
	says 'hint: mkdir'
	fails 73 kiseki-dump -q "$V" -o a.tar/b.tar
	fails 73 kiseki-dump -q "$V" -o src
	[ "$(noted)" = 73 ]
	fails 3 kiseki-dump -q "$V:/" --files -o files.tar
	[ "$(noted)" = 3 ]
	kiseki-load -q "$W" a.tar
	[ "$(noted "$W")" = null ]
	# It does not own the data, and is not written to.
	out_err kiseki-dump -v "$W" -o c.tar
	[ "$status" -eq 0 ]
	says 'is not noted'
	[ "$(noted "$W")" = null ]
	cmp a.tar c.tar
}

@test "what cannot be noted is no failure, and is told with -v" {
	requires root jq
	chmod 711 "$T"
	chmod -R a+rX vol
	cp "$(command -v kiseki-dump)" .
	for how in -q ''; do
		setpriv --reuid 65534 --regid 65534 --clear-groups ./kiseki-dump $how "$V" >d.tar 2>err
		tar tf d.tar >/dev/null
		not grep -q noted err
	done
	setpriv --reuid 65534 --regid 65534 --clear-groups ./kiseki-dump -v "$V" >d.tar 2>err
	grep -q 'when kiseki-dump ended is not noted in the volume: .*' err
	[ "$(noted)" = null ]
}

@test "of a volume that is another user's root leaves nothing that this one cannot open" {
	requires root
	local as=(setpriv --reuid 65534 --regid 65534 --clear-groups)
	chmod 711 "$T"
	mkdir -m 755 theirs
	chown 65534:65534 theirs
	cp "$(command -v kiseki-format)" "$(command -v kiseki-gc)" .
	"${as[@]}" ./kiseki-format -q theirs/meta.db
	(umask 077 && kiseki-dump -q theirs/meta.db >d.tar)
	[ "$(noted theirs/meta.db)" = 0 ]
	(umask 077 && kiseki-dump -q --blocks theirs/meta.db >d.tar)
	[ -z "$(find theirs -user 0)" ]
	"${as[@]}" ./kiseki-gc -q theirs/meta.db
	# Nothing of anybody else's changes hands.
	rm theirs/meta.locks/volume
	echo precious >secret
	ln -s "$T/secret" theirs/meta.locks/volume
	kiseki-dump -q theirs/meta.db >d.tar
	[ "$(stat -c %u secret)" = 0 ]
}

@test "what is in it anybody can read" {
	requires jq
	fill
	kiseki-dump -q "$V" -o a.tar
	mkdir x
	tar -C x -xf a.tar
	(cd x && sha256sum -c --quiet kiseki/SHA256SUMS)
	jq -e '.kiseki_dump == 1 and .kind == "meta" and .name == "photos"' x/kiseki/manifest.json
	[ "$(jq -r .name x/kiseki/dentry/00000001.ndjson | grep -cx file)" -eq 1 ]
	[ "$(wc -l <x/kiseki/inode/00000001.ndjson)" -eq "$(sql 'select count(*) from inode')" ]
	[ "$(tar tf a.tar | head -n 1)" = kiseki/manifest.json ]
	[ "$(tar tf a.tar | tail -n 1)" = kiseki/SHA256SUMS ]
	[ -z "$(tar tf a.tar | grep objects)" ]
}

@test "all of it is a volume of its own" {
	fill
	out_err kiseki-dump --blocks "$V" -o all.tar
	[ "$status" -eq 0 ]
	[[ $out == *" objects of "* ]]
	mv vol gone
	out_err kiseki-load "$W" all.tar
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	kiseki-fsck -q --data=read "$W"
	kiseki-cp -qa "sqlite://$W:/." back
	diff <(tree src) <(tree back)
	diff -r --no-dereference src/dir back/dir
	kiseki-cp -q src/file "sqlite://$W:/more"
	kiseki-rm -q "sqlite://$W:/more"
	# At a place of its own, and with another identity beside the first.
	kiseki-load -q --new-uuid --data="$T/other/data" other/y.db all.tar
	[ -e other/data/kiseki.volume ]
	[ "$(kiseki-config other/y.db uuid)" != "$(kiseki-config "$W" uuid)" ]
	kiseki-fsck -q other/y.db
	kiseki-dump -q --blocks other/y.db -o y.tar
	kiseki-load -q --verify-only y.tar
}

@test "of two that share data one may write" {
	fill
	kiseki-dump -q "$V" -o a.tar.zst
	kiseki-load -q "$W" a.tar.zst
	fails_cleanly 73 kiseki-cp -q src/file "sqlite://$W:/new"
	fails_cleanly 73 kiseki-rm "sqlite://$W:/file"
	says "does not own its data"
	fails_cleanly 73 kiseki-gc "$W"
	says --take-over
	kiseki-cp -q src/file "$U:/new"
	out_err kiseki-load --take-over "$W"
	[ "$status" -eq 0 ]
	[[ $out == *"owns its data now"* ]]
	[[ $(kiseki-load --take-over "$W") == *already* ]]
	kiseki-cp -q src/file "sqlite://$W:/new2"
	fails_cleanly 73 kiseki-cp -q src/file "$U:/new3"
	cmp src/file <(kiseki-cp "$U:/new" -)
	cmp src/file <(kiseki-cp "sqlite://$W:/new2" -)
	kiseki-load -q --take-over "$V"
	kiseki-cp -q src/file "$U:/new3"
	fails_cleanly 73 kiseki-cp -q src/file "sqlite://$W:/new4"
	# At once, after a disaster.
	rm -r vol/meta.db*
	kiseki-load -q --take-over "$V" a.tar.zst
	kiseki-cp -q src/file "$U:/new4"
	kiseki-fsck -q "$V"
}

@test "files, for any tar" {
	fill
	out_err kiseki-dump --files "$V" -o files.tar.gz
	[ "$status" -eq 0 ]
	kiseki-dump -q --files "$V" -o again.tar.gz
	cmp files.tar.gz again.tar.gz
	mkdir x
	tar -C x --xattrs --xattrs-include='*' --acls -xpf files.tar.gz 2>/dev/null
	touch -r src x
	diff <(tree src) <(tree x)
	diff -r --no-dereference src/dir x/dir
	[ "$(du -s src | cut -f1)" -ge "$(($(du -s x | cut -f1) - 64))" ]
	[ "$(getfattr -d x/file 2>/dev/null)" = "$(cd src && getfattr -d file 2>/dev/null | sed 's|file: |file: x/|')" ]
	# And back.
	kiseki-format -q "$W"
	kiseki-load -q "sqlite://$W:/" files.tar.gz
	kiseki-cp -qa "sqlite://$W:/." back
	diff <(tree src) <(tree back)
	# A part of it, one file, verbose.
	[ "$(kiseki-dump -q --files "$U:/dir" --compress=none | tar t 2>/dev/null | LC_ALL=C sort | tr '\n' ' ')" = './ big deep/ hard sym ' ]
	[ "$(kiseki-dump -q --files "$U:/file" --compress=none | tar xO)" = content ]
	kiseki-dump -v --files "$U:/dir" 2>&1 >/dev/null | grep -qx deep
}

@test "files, for any unzip" {
	requires bsdtar
	mkdir -p src/sub
	echo one >src/one
	echo two >src/sub/two
	ln -s one src/link
	mkfifo src/fifo
	kiseki-cp -qa src/. "$U:/"
	out_err kiseki-dump --files "$V" -o f.zip
	[ "$status" -eq 0 ]
	[[ $err == *"1 devices, pipes and sockets"* ]]
	mkdir x
	bsdtar -C x -xf f.zip
	rm src/fifo
	diff -r --no-dereference src x
}

@test "of one moment, while a mount writes and deletes" {
	requires fuse
	mkdir src
	for i in $(seq 1 60); do head -c $((i * 3000)) /dev/urandom >"src/f$i"; done
	head -c 5000000 /dev/urandom >src/big
	kiseki-cp -qa src "$U:/"
	mount_it
	sum=$(cd src && sha256sum ./* | sha256sum)
	KISEKI_FAULT=get:delay=20ms kiseki-dump -q --files "$V" -o f.tar &
	p1=$!
	KISEKI_FAULT=get:delay=20ms kiseki-dump -q --blocks "$V" -o b.tar &
	p2=$!
	sleep 0.4
	rm -r "$M/src"
	for i in $(seq 1 30); do echo "$i" >"$M/new$i"; done
	sync
	sleep 3
	wait $p1
	wait $p2
	mkdir x
	tar -C x -xf f.tar
	[ ! -e x/new1 ]
	[ "$sum" = "$(cd x/src && sha256sum ./* | sha256sum)" ]
	kiseki-load -q "$W" b.tar
	kiseki-fsck -q --data=read "$W"
	kiseki-cp -qa "sqlite://$W:/src" y
	[ "$sum" = "$(cd y && sha256sum ./* | sha256sum)" ]
	# What was held comes back.
	umount_it
	kiseki-gc -q "$V"
	[ "$(sql 'select count(*) from claim')" -eq 0 ]
	kiseki-fsck -q "$V"
}

@test "the output is whole, or not there" {
	fill
	echo old >d.tar
	for i in 1 2 3 4; do
		KISEKI_FAULT=get:delay=20ms kiseki-dump -q --blocks "$V" -o d.tar &
		sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
		kill -TERM $! 2>/dev/null || true
		status=0
		wait $! || status=$?
		[ "$status" -eq 0 ] || [ "$status" -eq 143 ]
		[ "$(ls -A | grep -c '^\.d\.tar')" -eq 0 ]
		# The signal may also come when all is done.
		[ "$(head -c 3 d.tar)" = old ] || kiseki-load -q --verify-only d.tar
		[ "$status" -ne 0 ] || [ "$(head -c 3 d.tar)" != old ]
		echo old >d.tar
	done
	fails_cleanly 74 kiseki-dump "$V" -o /dev/full
	fails_cleanly 73 kiseki-dump "$V" -o "$T/none/d.tar"
	fails_cleanly 73 kiseki-dump "$V" -o "$T"
	kiseki-dump -q "$V" -o /dev/null
	kiseki-dump --files "$V" 2>/dev/null | head -c 1000 >/dev/null
	kiseki-fsck -q "$V"
}

@test "a load that is stopped leaves nothing, one that is killed nothing in the way" {
	fill
	kiseki-dump -q --blocks "$V" -o all.tar.zst
	for i in 1 2 3; do
		KISEKI_FAULT=put:delay=40ms,append:delay=40ms kiseki-load -q "$W" all.tar.zst &
		sleep "0.$((RANDOM % 2))$((RANDOM % 10))"
		kill -TERM $! 2>/dev/null || true
		status=0
		wait $! || status=$?
		[ "$status" -eq 0 ] || [ "$status" -eq 143 ]
		[ "$status" -eq 0 ] || [ -z "$(ls -A other)" ]
		rm -rf other/*
	done
	for i in 1 2 3; do
		KISEKI_FAULT=put:delay=40ms,append:delay=40ms kiseki-load -q "$W" all.tar.zst &
		sleep "0.$((RANDOM % 2))$((RANDOM % 10))"
		kill -KILL $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		[ -e "$W" ] || [ ! -e other/w.db ]
	done
	[ -e "$W" ] || kiseki-load -q "$W" all.tar.zst
	kiseki-fsck -q --data=read "$W"
	kiseki-dump -q --blocks "$W" -o again.tar.zst
	cmp all.tar.zst again.tar.zst
}

@test "two loads into one place" {
	fill
	kiseki-dump -q --blocks "$V" -o all.tar
	mkdir third
	KISEKI_FAULT=put:delay=300ms kiseki-load -q --data="$T/other/data" "$W" all.tar &
	pid=$!
	wait_for test -e other/data/kiseki.volume
	fails_cleanly 75 kiseki-load --data="$T/other/data" third/z.db all.tar
	fails_cleanly 75 kiseki-load --data="$T/third/data" other/z.db all.tar
	wait $pid
	fails_cleanly 78 kiseki-load --data="$T/other/data" third/z.db all.tar
	kiseki-fsck -q --data=read "$W"
	[ -z "$(ls -A third)" ]
}

@test "bad dumps and bad places" {
	fill
	kiseki-dump -q "$V" -o a.tar
	kiseki-dump -q --blocks "$V" -o b.tar
	head -c 5000 a.tar >cut.tar
	fails_cleanly 65 kiseki-load "$W" cut.tar
	head -c -11000 b.tar >cut2.tar
	fails_cleanly 65 kiseki-load "$W" cut2.tar
	sed 's/"mode":33188/"mode":33261/' a.tar >changed.tar
	fails_cleanly 65 kiseki-load "$W" changed.tar
	says checksums
	fails_cleanly 65 kiseki-load --verify-only changed.tar
	echo hello >text
	fails_cleanly 65 kiseki-load "$W" text
	fails_cleanly 65 kiseki-load "$W" /dev/null
	tar -cf plain.tar text
	fails_cleanly 65 kiseki-load "$W" plain.tar
	says 'VOLUME:/PATH'
	[ -z "$(ls -A other)" ]
	fails_cleanly 73 kiseki-load "$V" a.tar
	fails_cleanly 66 kiseki-load "$W" none.tar
	fails_cleanly 66 kiseki-load "$T/none/w.db" a.tar
	fails_cleanly 78 kiseki-load --data="$T/other" "$W" a.tar
	fails_cleanly 78 kiseki-load --data="$T/vol/meta.blocks" "$W" b.tar
	fails_cleanly 73 kiseki-load --data="$T/src" "$W" b.tar
	fails_cleanly 64 kiseki-load --new-uuid "$W" a.tar
	sed -i 's/"uuid":"......../"uuid":"00000000/' vol/meta.blocks/kiseki.volume
	fails_cleanly 78 kiseki-load "$W" a.tar
	[ -z "$(ls -A other)" ]
}

@test "usage" {
	fails_cleanly 66 kiseki-dump -o x "$T/none.db"
	fails_cleanly 64 kiseki-dump -o x --files --blocks "$V"
	fails_cleanly 64 kiseki-dump -o x "$V:/dir"
	fails_cleanly 64 kiseki-dump -o x --format=zip "$V"
	fails_cleanly 64 kiseki-dump -o x --compress=brotli "$V"
	fails_cleanly 64 kiseki-dump -o x.zip --files --compress=xz "$V"
	fails_cleanly 66 kiseki-dump -o x --files "$V:/nope"
	says /nope
	fails_cleanly 64 kiseki-dump --json "$V"
	[ ! -e x ]
	fails_cleanly 64 kiseki-load
	fails_cleanly 64 kiseki-load "$W"
	fails_cleanly 64 kiseki-load --verify-only --take-over "$W"
	fails_cleanly 64 kiseki-load --take-over "$W:/x" f
	fails_cleanly 66 kiseki-load --take-over "$W"
	KISEKI_VOLUME=$V fails_cleanly 64 kiseki-load --take-over ''
	if command -v script >/dev/null; then
		run script -qec "kiseki-dump '$V'" /dev/null
		[ "$status" -eq 64 ]
		says terminal
	fi
}

@test "JSON" {
	requires jq
	fill
	out_err kiseki-dump --json "$V" -o a.tar
	json_ok .out
	jq -e '.counts.inodes > 10 and .counts.archive_bytes > 1000 and .volume.name == "photos"' .out
	out_err kiseki-dump --json -v --files "$V" -o f.tar
	json_ok .out
	jq -es 'map(select(.action == "dumped")) | length == '"$(sql 'select count(*) from dentry')"' + 1' .out
	jq -es 'map(select(.path_b64)) | length == 1' .out
	out_err kiseki-load --json "$W" a.tar
	json_ok .out
	jq -e '.counts.inodes > 10 and .owner == false and .volume.name == "photos"' .out
	out_err kiseki-load --json "$W" a.tar
	json_ok .out
	jq -e '.error.code == "CANTCREAT"' .out
	[ "$(kiseki-load --json -q --verify-only a.tar | wc -l)" -eq 1 ]
}

@test "what cannot be read is named, and the rest is there" {
	requires jq
	fill
	victim=$(find vol/meta.blocks/blocks -name '*_0_4194304' | sort | head -n 1)
	mv "$victim" away
	out_err kiseki-dump --blocks "$V" -o b.tar
	[ "$status" -eq 3 ]
	[[ $err == *"$(basename "$victim")"*missing* ]]
	kiseki-load -q --verify-only b.tar
	out_err kiseki-dump --json --files "$V" -o f.tar
	[ "$status" -eq 3 ]
	[[ $err == *"cannot read dir/big"* ]]
	json_ok .out
	jq -es 'map(select(.type == "error"))[0].path == "dir/big"' .out
	mkdir x
	tar -C x -xf f.tar 2>/dev/null
	cmp src/file x/file
	[ "$(stat -c %s x/dir/big)" -eq "$(stat -c %s src/dir/big)" ]
}

@test "a volume that cannot be written to is dumped too" {
	requires root
	fill
	chmod 711 "$T"
	chmod -R a+rX vol
	for how in --meta --blocks --files; do
		setpriv --reuid 65534 --regid 65534 --clear-groups "$(command -v kiseki-dump)" $how --compress=none "$V" >d.tar 2>err
		tar tf d.tar >/dev/null 2>&1
		[ $how = --meta ] || grep -q 'cannot be written to' err
	done
}
