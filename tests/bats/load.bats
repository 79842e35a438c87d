#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-load of archives that others made.

load helper
setup() {
	cli_setup
	format --name=photos
	mkdir src
}
teardown() { mounted_teardown; }

plain() {
	mkdir -p src/a/b src/empty
	for i in $(seq 1 20); do head -c $((i * 300)) /dev/urandom >"src/a/f$i"; done
	head -c 3000000 /dev/urandom >src/a/b/big
	echo hello >src/file
}

# back DIR: the volume's directory here, compared with src
back() {
	rm -rf back
	kiseki-cp -qa "$U:$1" back
	diff -r --no-dereference src back
}

@test "tar: all that a file has" {
	sample src
	tar -C src --format=pax --xattrs -cf a.tar .
	out_err kiseki-load "$U:/" a.tar
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	kiseki-cp -qa "$U:/." back
	diff <(tree src) <(tree back)
	diff -r --no-dereference src/dir back/dir
	[ "$(cd back && getfattr -d file 2>/dev/null)" = "$(cd src && getfattr -d file 2>/dev/null)" ]
	kiseki-fsck -q --data=read "$V"
}

@test "tar, compressed in any way" {
	plain
	for z in cat gzip xz bzip2 zstd lz4; do
		command -v $z >/dev/null || continue
		kiseki-rm -qrf "$U:/in"
		mkdir -p in
		kiseki-cp -qa in "$U:/"
		tar -C src -c . | $z >a.tar
		kiseki-load -q "$U:/in" a.tar
		back /in
	done
}

@test "cpio, zip, 7z, iso, xar" {
	requires bsdtar
	plain
	for f in cpio zip 7zip iso9660 xar; do bsdtar -C src --format=$f -cf a.$f .; done
	! command -v zip >/dev/null || (cd src && zip -qry ../b.zip .)
	for f in a.* b.*; do
		[ -s "$f" ] || continue
		echo "$f"
		kiseki-load -q --verify-only "$f"
		kiseki-rm -qrf "$U:/in"
		mkdir -p in
		kiseki-cp -qa in "$U:/"
		case $f in
		*.cpio) kiseki-load -q "$U:/in" - <"$f" ;;
		*) kiseki-load -q "$U:/in" "$f" ;;
		esac
		back /in
	done
	kiseki-fsck -q --data=read "$V"
}

@test "cpio's hard links, and those of tar" {
	echo content >src/one
	ln src/one src/two
	ln src/one src/three
	requires bsdtar
	bsdtar -C src --format=newc -cf a.cpio .
	tar -C src -cf a.tar .
	for f in a.cpio a.tar; do
		kiseki-load -q "$U:/" $f
		for n in one two three; do [ "$(kiseki-cp "$U:/$n" -)" = content ]; done
		[ "$(sql "select count(distinct ino) from dentry")" -eq 1 ]
	done
	[ "$(sql "select nlink from inode where mode & 32768")" -eq 3 ]
	kiseki-fsck -q "$V"
}

@test "small files go to packs, many at a time" {
	mkdir -p src/d
	for i in $(seq 1 500); do echo "$i" >"src/d/$i"; done
	tar -C src -cf a.tar .
	kiseki-load -q "$U:/" a.tar
	[ "$(find vol/meta.blocks -type f | wc -l)" -lt 6 ]
	back /.
	kiseki-fsck -q --data=read "$V"
}

@test "a hostile tar" {
	echo evil >evil
	echo good >good
	ln -s / src/link
	tar -cf h.tar good
	tar -P --transform='s|^|../../|' -rf h.tar evil
	tar -P --transform='s|^|/abs/|' -rf h.tar good
	tar -C src -rf h.tar link
	tar --transform='s|^|link/etc/|' -rf h.tar evil
	out_err kiseki-load "$U:/" h.tar
	[ "$status" -eq 3 ]
	says "has '..' in it"
	says 'leads through a symbolic link'
	says 'absolute names were unpacked below'
	[ "$(kiseki-cp "$U:/abs/good" -)" = good ]
	[ "$(kiseki-cp "$U:/good" -)" = good ]
	[ "$(kiseki-ls -R "$V:/" | grep -c evil)" -eq 0 ]
	kiseki-fsck -q "$V"
}

@test "cut and damaged archives" {
	plain
	tar -C src -czf a.tgz .
	head -c 2000000 a.tgz >cut.tgz
	fails_cleanly 65 kiseki-load "$U:/" cut.tgz
	says 'damaged or cut short'
	# What is there is whole.
	kiseki-cp -qa "$U:/." part
	(cd part && find . -type f) | while read -r f; do cmp "src/$f" "part/$f"; done
	fails_cleanly 65 kiseki-load --verify-only cut.tgz
	echo nothing >text
	fails_cleanly 65 kiseki-load "$U:/" text
	fails_cleanly 65 kiseki-load "$U:/" /dev/null
	fails_cleanly 66 kiseki-load "$U:/" none.tar
	fails_cleanly 66 kiseki-load "$U:/none" a.tgz
	fails_cleanly 73 kiseki-load "$U:/" "$T/src"
	kiseki-load -q "$U:/" a.tgz
	back /.
	kiseki-fsck -q --data=read "$V"
}

@test "a zip with a wrong checksum: that file is named, the others are there" {
	requires zip
	for i in 1 2 3; do head -c 5000 /dev/zero | tr '\0' "$i" >src/f$i; done
	(cd src && zip -q0 ../a.zip f1 f2 f3)
	LC_ALL=C sed -i 's/2222222222/2222X22222/' a.zip
	out_err kiseki-load "$U:/" a.zip
	[ "$status" -eq 3 ]
	says 'cannot unpack f2'
	cmp src/f1 <(kiseki-cp "$U:/f1" -)
	cmp src/f3 <(kiseki-cp "$U:/f3" -)
	[ "$(kiseki-ls "$V:/" | wc -l)" -eq 2 ]
	out_err kiseki-load --verify-only a.zip
	[ "$status" -eq 3 ]
}

@test "stopped at any moment, a second run does the rest" {
	plain
	tar -C src -cf a.tar .
	for sig in TERM KILL TERM KILL; do
		KISEKI_FAULT=put:delay=30ms,append:delay=5ms kiseki-load -q "$U:/" a.tar &
		sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
		kill -$sig $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		rm -rf part
		mkdir part
		kiseki-cp -qa "$U:/." part
		(cd part && find . -type f ! -name '.kiseki-cp-*') | while read -r f; do cmp "src/$f" "part/$f"; done
	done
	kiseki-load -q "$U:/" a.tar
	for f in $(cd src && find . -type f); do cmp "src/$f" <(kiseki-cp "$U:/${f#./}" -); done
	kiseki-fsck -q --data=read "$V"
}

@test "into a mounted volume, seen there" {
	requires fuse
	plain
	mount_it
	tar -C src -cz . | kiseki-load -q "$M:/" -
	sleep 1.2
	diff -r src "$M"
}

@test "no room" {
	plain
	tar -C src -cf a.tar .
	kiseki-config -q "$V" inodes=20
	out_err kiseki-load "$U:/" a.tar
	[ "$status" -eq 74 ]
	says 'is kept'
	kiseki-config -q "$V" inodes=none
	kiseki-load -q "$U:/" a.tar
	back /.
}

@test "JSON and verbose" {
	requires jq
	echo x >"src/$(printf 'b\377')"
	echo y >src/y
	tar -C src --format=gnu -cf a.tar .
	out_err kiseki-load --json -v "$U:/" a.tar
	json_ok .out
	jq -e '.counts.files == 2' .out
	jq -es 'map(select(.path_b64)) | length == 1' .out
	kiseki-load -v "$U:/" a.tar | grep -qx ./y
	[ "$(kiseki-load --json -q "$U:/" a.tar | wc -l)" -eq 1 ]
	out_err kiseki-load --json "$U:/" /dev/null
	json_ok .out
	jq -e '.error.code == "DATAERR"' .out
}
