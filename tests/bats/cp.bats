#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-cp.

load helper
setup() {
	cli_setup
	format
}
teardown() {
	umount "$T/full" "$T/src/other" 2>/dev/null || true
	mounted_teardown
}

# same A B: names, kinds, modes, owners, times in ns, links, contents, attributes
same() {
	diff <(tree "$1") <(tree "$2") || return 1
	diff <(cd "$1" && find . -type f -print0 | sort -z | xargs -0 sha256sum) \
		<(cd "$2" && find . -type f -print0 | sort -z | xargs -0 sha256sum) || return 1
	diff <(cd "$1" && getfattr -R -h -d -m - . 2>/dev/null) <(cd "$2" && getfattr -R -h -d -m - . 2>/dev/null) || return 1
	command -v rsync >/dev/null || return 0
	[ -z "$(rsync -anicHX --delete --devices --specials "$1/" "$2/")" ]
}

@test "a tree goes in and comes out as it was" {
	requires getfattr
	sample src
	kiseki-cp -q -a src "$U:/"
	kiseki-cp -q -a "$U:/src" out
	same src out
	# Holes stay holes, on both sides.
	[ "$(du -sk out | cut -f 1)" -lt 20000 ]
	[ "$(du -sk "$T/vol/meta.blocks" | cut -f 1)" -lt 20000 ]
	[ "$(stat -c %i out/file)" = "$(stat -c %i out/dir/hard)" ]
}

@test "a tree within a volume, and between two" {
	requires getfattr
	sample src
	kiseki-cp -q -a src "$U:/"
	kiseki-format -q --block-size=64k two.db
	kiseki-cp -q -a "$U:/src" "$U:/again"
	kiseki-cp -q -a "$U:/again" "sqlite://$T/two.db:/src"
	kiseki-cp -q -a "sqlite://$T/two.db:/src" out
	same src out
}

@test "access control lists go with -a, in and out, and are not what the destination would pass on" {
	requires setfacl
	mkdir -p src/dir/sub dflt
	setfacl -m u:7:r dflt 2>/dev/null || skip "no ACLs in $T"
	setfacl -d -m u:99:rwx,g:98:x dflt
	touch src/plain src/named src/dir/f
	mkfifo src/fifo
	ln -s plain src/link
	chmod 640 src/plain
	setfacl -m u:7:rw,g:8:r src/named src/fifo
	setfacl -m u:7:rwx,d:u:7:rwx,d:o::- src/dir
	acls src >want
	kiseki-cp -q -a src "$U:/"
	kiseki-cp -q -a "$U:/src" "$U:/again"
	kiseki-cp -q -a "$U:/again" out
	acls out | diff want -
	cp -a dflt dflt2
	kiseki-cp -q -a "$U:/src" dflt2/
	acls dflt2/src | diff want -
	kiseki-cp -q -a dflt "$U:/"
	kiseki-cp -q -a src "$U:/dflt/"
	kiseki-cp -q -a "$U:/dflt" out2
	acls out2/src | diff want -
	rm -r out2/src
	acls dflt | diff - <(acls out2)
}

# acls DIR: of everything in it
acls() { (cd "$1" && find . ! -type l | sort | xargs getfacl -n && find . -printf '%p %M\n' | sort); }

@test "within a volume data is shared" {
	head -c 20000000 /dev/urandom >big
	kiseki-cp -q big "$U:/big"
	before=$(du -sk "$T/vol/meta.blocks" | cut -f 1)
	kiseki-cp -q --reflink=always "$U:/big" "$U:/copy"
	[ $(($(du -sk "$T/vol/meta.blocks" | cut -f 1) - before)) -lt 100 ]
	kiseki-cp -q --reflink=never "$U:/big" "$U:/full"
	[ $(($(du -sk "$T/vol/meta.blocks" | cut -f 1) - before)) -gt 19000 ]
	kiseki-cp -q "$U:/copy" c
	cmp big c
	kiseki-cp -q "$U:/full" f
	cmp big f
	fails_cleanly 73 kiseki-cp -q --reflink=always big "$U:/x"
	says 'cannot share data'
	[ -z "$(kiseki-ls "$U" | grep '^x$')" ]
}

@test "the rules of cp(1)" {
	# Each line: options and operands; @ is the destination's root. GNU cp does it to a directory, kiseki-cp to a volume.
	local n=0 line root rc1 rc2
	mkdir -p s/d/e s/@a
	echo 1 >s/f
	echo 2 >s/g
	echo 3 >s/d/x
	ln -s f s/l
	ln -s d s/ld
	cd s
	while read -r line; do
		n=$((n + 1))
		root=$T/want$n
		rm -rf "$root" && mkdir -p "$root/dir" "$root/d/old" && echo old >"$root/old"
		kiseki-cp -q -a "$root" "$U:/"
		rc1=0 rc2=0
		# shellcheck disable=SC2086
		cp ${line//@/$root/} 2>/dev/null || rc1=1
		# shellcheck disable=SC2086
		kiseki-cp -q ${line//@/$U:/want$n/} 2>../err || rc2=1
		kiseki-cp -q -a "$U:/want$n" "$T/got$n"
		echo "case: $line: cp $rc1, kiseki-cp $rc2: $(cat ../err)"
		[ "$rc1" -eq "$rc2" ]
		diff <(cd "$root" && find . -printf '%y %P %l\n' | sort) <(cd "$T/got$n" && find . -printf '%y %P %l\n' | sort)
		diff -r --no-dereference "$root" "$T/got$n"
	done <<-'EOF2'
		f @
		f @new
		f @old
		f @dir
		f @dir/
		f g @dir
		f g @new
		f g @old
		f @none/new
		f @new/
		d @
		d @new
		-r d @
		-r d @new
		-r d @new/
		-r d @dir
		-r d @old
		-r d/ @dir
		-r d/. @dir
		-r . @dir
		-r d f @dir
		-T f @new
		-T f @dir
		-T -r d @dir
		-T -r d @old
		-t @dir f g
		-t @old f
		-t @none f
		l @
		-P l @
		-r l @
		-r ld @
		-r -L ld @
		-L -r . @dir
		-r ld/ @dir
		ld @
		nosuch @
		nosuch f @dir
		d/../f @
		./f @dir/../new
		-a . @dir
	EOF2
}

@test "a replaced file keeps its mode, a new one gets the umask" {
	echo a >a
	chmod 755 a
	umask 027
	kiseki-cp -q a "$U:/a"
	kiseki-ls -lH "$U" | grep -q ^-rwxr-x---
	chmod 600 a
	echo b >a
	kiseki-cp -q a "$U:/a"
	kiseki-ls -lH "$U" | grep -q ^-rwxr-x---
	[ "$(kiseki-cp "$U:/a" -)" = b ]
	kiseki-cp -q -p a "$U:/a"
	kiseki-ls -lH "$U" | grep -q ^-rw-------
	kiseki-cp -q "$U:/a" out
	[ "$(stat -c %a out)" = 600 ]
	chmod 640 out
	kiseki-cp -q "$U:/a" out
	[ "$(stat -c %a out)" = 640 ]
}

@test "--preserve takes a list" {
	echo a >a
	chmod 4711 a
	touch -d 2001-01-01 a
	kiseki-cp -q --preserve=times a "$U:/t"
	kiseki-cp -q --preserve=mode a "$U:/m"
	kiseki-ls -lH "$U" >ls
	grep -P '^-rwx--x--x\t.*2001-01-01.*\tt$' ls
	grep -P '^-rws--x--x\t.*\tm$' ls
	not grep -P '2001-01-01.*\tm$' ls
	fails_cleanly 64 kiseki-cp --preserve=nonsense a "$U:/x"
	says 'mode, owner, times'
}

@test "-u skips what is equal, --no-clobber what exists" {
	requires jq
	mkdir src
	echo a >src/a
	echo b >src/b
	kiseki-cp -q -a src "$U:/"
	echo bb >src/b
	kiseki-cp --json -a -u src "$U:/" | jq -e '.counts.skipped == 1 and .counts.files == 1'
	[ "$(kiseki-cp "$U:/src/b" -)" = bb ]
	echo ccc >src/b
	kiseki-cp --json -r --no-clobber src "$U:/" | jq -e '.counts.skipped == 2 and .counts.files == 0'
	[ "$(kiseki-cp "$U:/src/b" -)" = bb ]
	# Hard links: a second run has nothing to do.
	ln src/a src/c
	kiseki-cp -q -a src "$U:/"
	kiseki-cp --json -a -u src "$U:/" | jq -e '.counts.skipped == 3 and .counts.files == 0 and .counts.links == 0'
}

@test "stdin and stdout" {
	head -c 3000000 /dev/urandom >in
	kiseki-cp - "$U:/f" <in
	kiseki-cp "$U:/f" - | cmp - in
	kiseki-cp "$U:/f" - >out
	cmp in out
	# Where they stand, not from the start.
	(
		echo first
		kiseki-cp "$U:/f" -
	) >out
	[ "$(head -n 1 out)" = first ]
	[ "$(stat -c %s out)" -eq 3000006 ]
	(
		head -c 1000000 >/dev/null
		kiseki-cp -q - "$U:/g"
	) < <(cat in)
	[ "$(kiseki-cp "$U:/g" - | wc -c)" -le 2000000 ]
	kiseki-cp -q - "$U:/zero" </dev/null
	[ "$(kiseki-ls -lH "$U:/zero" | cut -f 5)" = 0 ]
	KISEKI_VOLUME=$U kiseki-cp :/f - | cmp - in
	fails_cleanly 64 kiseki-cp - in "$U:/"
	fails_cleanly 73 kiseki-cp - "$U:/"
	fails_cleanly 64 kiseki-cp --json "$U:/f" -
	fails_cleanly 66 kiseki-cp "$U:/none" -
	fails_cleanly 64 kiseki-cp in out2
	says "cp(1)"
	fails_cleanly 64 kiseki-cp in ./vol/meta.db:/x
	says sqlite:///
}

@test "what cannot be read is counted and named, the rest is copied" {
	requires root setpriv jq
	mkdir src
	(cd src && touch f{1..99} && echo secret >private && chmod 600 private && mkdir closed && chmod 700 closed)
	chmod 755 "$T" src
	mkdir mine
	chown -R 65534 mine
	cd mine
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	"${as[@]}" kiseki-format -q v.db
	out_err "${as[@]}" kiseki-cp -r ../src "sqlite://$T/mine/v.db:/"
	[ "$status" -eq 3 ]
	says 'cannot open ../src/private: Permission denied'
	says ../src/closed
	[ "$("${as[@]}" kiseki-ls v.db:/src | grep -c '^f')" -eq 99 ]
	out_err "${as[@]}" kiseki-cp --json -r ../src "sqlite://$T/mine/v.db:/again"
	cp "$T/.out" out
	jq -es 'map(select(.type == "error")) | map(.path) | sort == ["../src/closed", "../src/private"]' out
	tail -n 1 out | jq -e '.counts.failed == 2 and .counts.files == 99 and .error.code == "PARTIAL"'
	fails_cleanly 77 "${as[@]}" kiseki-cp -q ../src/private "sqlite://$T/mine/v.db:/p"
}

@test "directories that may be entered but not listed, on either side" {
	requires root setpriv
	mkdir src drop mine
	echo text >src/f
	chmod 711 src "$T"
	chmod 733 drop
	chown 65534 mine
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	"${as[@]}" kiseki-format -q mine/v.db
	"${as[@]}" kiseki-cp -q src/f "sqlite://$T/mine/v.db:/f"
	"${as[@]}" kiseki-cp -q "sqlite://$T/mine/v.db:/f" drop/g
	cmp src/f drop/g
	fails_cleanly 77 "${as[@]}" kiseki-cp -q -r src "sqlite://$T/mine/v.db:/all"
}

@test "a missing or damaged block is named, and the copy is partial" {
	local block
	mkdir src
	head -c 5000000 /dev/urandom >src/bad
	head -c 5000000 /dev/urandom >src/good
	head -c 5000000 /dev/urandom >src/lost
	for f in bad good lost; do
		before=$(find "$T/vol/meta.blocks/blocks" -type f | sort)
		kiseki-cp -q src/$f "$U:/$f"
		block=$(comm -13 <(echo "$before") <(find "$T/vol/meta.blocks/blocks" -type f | sort) | head -n 1)
		case $f in
		bad) printf '\xff\xff\xff\xff' | dd of="$block" bs=1 seek=100000 conv=notrunc status=none ;;
		lost) rm "$block" ;;
		esac
	done
	out_err kiseki-cp -r "$U:/" out
	[ "$status" -eq 3 ]
	says ":/bad:"
	says ":/lost:"
	cmp src/good out/good
	[ "$(ls -A out)" = good ]
	out_err kiseki-cp "$U:/bad" -
	[ "$status" -ge 65 ]
}

@test "--verify reads back from the store" {
	head -c 9000000 /dev/urandom >f
	kiseki-cp -q --verify f "$U:/f"
	kiseki-cp -q --verify "$U:/f" g
	cmp f g
	mkdir d
	cp f d/a
	echo small >d/b
	kiseki-cp -q --verify -a d "$U:/"
	KISEKI_FAULT=put:flip=1 run kiseki-cp -q --verify f "$U:/h"
	[ "$status" -ne 0 ]
	says 'cannot verify'
}

@test "killed at any moment, a file is there whole or not at all" {
	local i sum
	mkdir src
	head -c 30000000 /dev/urandom >src/big
	for i in 1 2 3 4 5 6; do head -c 100000 /dev/urandom >src/s$i; done
	echo old >old
	kiseki-cp -q old "$U:/big"
	sum=$(cd src && sha256sum ./* | sort)
	for i in $(seq 1 8); do
		kiseki-cp -q src/* "$U:/" &
		sleep "0.0$((RANDOM % 10))$((RANDOM % 10))"
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		rm -rf out
		kiseki-cp -q -r "$U:/" out
		for f in out/*; do
			if [ "$f" = out/big ] && cmp -s out/big old; then continue; fi
			cmp "$f" "src/${f#out/}"
		done
	done
	kiseki-cp -q src/* "$U:/"
	kiseki-cp -q -r -T "$U:/" out2
	[ "$sum" = "$(cd out2; sha256sum big s* | sed 's| | |' | awk '{ print $1 "  ./" $2 }' | sort)" ]
	[ -z "$(sqlite3 "$V" 'pragma integrity_check' | grep -v ok)" ]
}

@test "a signal stops it cleanly" {
	requires jq
	mkdir src
	(cd src && for i in $(seq 1 40); do head -c 10000000 /dev/zero | tr '\0' "$((i % 10))" >f$i; done)
	for sig in TERM INT; do
		KISEKI_FAULT=put:delay=30ms kiseki-cp --json -j 2 -r src "$U:/$sig" >out.json 2>err &
		pid=$!
		for _ in $(seq 300); do
			[ -z "$(kiseki-ls "$U:/$sig" 2>/dev/null)" ] || break
			sleep 0.1
		done
		kill -$sig $pid 2>/dev/null
		status=0
		wait $pid || status=$?
		# bash starts background jobs with SIGINT ignored.
		[ $sig = TERM ] || continue
		[ "$status" -eq 143 ]
		tail -n 1 out.json | jq -e '.exit_code == 143 and .error.code == "SIGTERM"'
	done
	rm -rf out
	kiseki-cp -q -r "$U:/TERM" out
	for f in out/*; do cmp "$f" "src/$(basename "$f")"; done
}

@test "SIGUSR1 shows how far it is, also with -q" {
	head -c 40000000 /dev/urandom >big
	KISEKI_FAULT=put:delay=200ms kiseki-cp -q big "$U:/" 2>err &
	pid=$!
	sleep 0.4
	kill -USR1 $pid
	wait $pid
	cat err
	[ "$(wc -l <err)" -eq 1 ]
	grep -q 'files' err
}

@test "--progress=json and always" {
	requires jq
	head -c 40000000 /dev/urandom >big
	KISEKI_FAULT=put:delay=500ms kiseki-cp --json --progress=json big "$U:/" >out
	jq -es 'map(select(.type == "progress")) | length >= 1 and (.[0].done_bytes | type) == "number"' out
	KISEKI_FAULT=put:delay=500ms kiseki-cp --progress=always big "$U:/b" 2>err >/dev/null
	grep -q $'\r' err
	KISEKI_PROGRESS=always kiseki-cp -q --progress=never big "$U:/c" 2>err
	[ ! -s err ]
}

@test "a full disk fails, and the volume goes on" {
	requires root
	mkdir full
	mount -t tmpfs -o size=24M none full || skip "cannot mount here"
	kiseki-format -q full/v.db
	F=sqlite://$T/full/v.db
	head -c 4000000 /dev/urandom >small
	head -c 60000000 /dev/urandom >big
	kiseki-cp -q small "$F:/small"
	out_err limit 60 kiseki-cp -q big "$F:/big"
	[ "$status" -eq 74 ]
	says 'No space left'
	[ "$(kiseki-ls full/v.db)" = small ]
	kiseki-cp "$F:/small" - | cmp - small
	out_err limit 60 kiseki-cp -q big small "$F:/"
	[ "$status" -eq 3 ]
	mount -t tmpfs -o size=1M none full
	out_err kiseki-cp "$U:/" full
	kiseki-cp -q big "$U:/big"
	out_err kiseki-cp -q "$U:/big" full/big
	[ "$status" -eq 74 ]
	[ -z "$(ls -A full)" ]
	umount full
	umount full
}

@test "-x stays on one file system" {
	requires root
	mkdir -p src/other
	mount -t tmpfs none src/other || skip "cannot mount here"
	touch src/here src/other/there
	kiseki-cp -q -r -x src "$U:/"
	[ "$(kiseki-ls -R "$U:/src" | xargs)" = 'here other' ]
	kiseki-cp -q -r src "$U:/all"
	[ "$(kiseki-ls -R "$U:/all" | xargs)" = 'here other other/there' ]
}

@test "nothing is copied into itself" {
	mkdir -p d/e
	kiseki-cp -q -r d "$U:/"
	for to in /d/e /d/e/new /d /; do
		fails_cleanly 64 kiseki-cp -q -r "$U:/d" "$U:$to"
		says itself
	done
	[ "$(kiseki-ls -R "$V" | xargs)" = 'd d/e' ]
	echo x >f
	kiseki-cp -q f "$U:/f"
	fails_cleanly 73 kiseki-cp -q "$U:/f" "$U:/f"
	says 'same file'
	[ "$(kiseki-cp "$U:/f" -)" = x ]
}

@test "--dry-run changes nothing and says so" {
	sample src
	before=$(kiseki-ls -R "$V")
	run kiseki-cp -n -v -a src "$U:/"
	[ "$status" -eq 0 ]
	says 'dry run: nothing copied'
	says 'would be copied: src/dir/big'
	[ "$before" = "$(kiseki-ls -R "$V")" ]
	[ ! -d "$T/vol/meta.blocks/blocks" ]
}

@test "thousands of files and a deep tree" {
	local i d=src
	mkdir -p src/many
	(cd src/many && for i in $(seq 1 3000); do echo $i >f$i; done)
	for i in $(seq 1 200); do d=$d/directory-$i; done
	(for i in $(seq 1 200); do mkdir -p directory-$i && cd directory-$i || exit; done; echo bottom >bottom)
	mkdir src/deep && mv directory-1 src/deep/
	kiseki-cp -q -j 8 -a src "$U:/"
	kiseki-cp -q -j 8 -a "$U:/src" out
	diff -r src out
	KISEKI_SERIAL=1 kiseki-cp -q -a "$U:/src/many" out2
	diff -r src/many out2
}

@test "a large file is copied by several workers: data at the edges of chunks, holes, an odd end" {
	local at
	truncate -s 200M f
	for at in 0 66060289 67108000 134217000 200000000; do
		head -c 1500000 /dev/urandom | dd of=f bs=64k seek=$at oflag=seek_bytes conv=notrunc status=none
	done
	truncate -s +12345 f
	kiseki-cp -q -j 8 --verify f "$U:/f"
	kiseki-cp -q -j 8 "$U:/f" g
	cmp f g
	[ "$(du -sk g | cut -f 1)" -lt 30000 ]
	[ "$(du -sk "$T/vol/meta.blocks" | cut -f 1)" -lt 60000 ]
	KISEKI_SERIAL=1 kiseki-cp -q g "$U:/h"
	kiseki-cp -q -j 1 "$U:/h" h
	cmp f h
	# One that cannot be read to its end is not there.
	block=$(find "$T/vol/meta.blocks/blocks" -type f -size +1M | sort | tail -n 1)
	rm "$block"
	out_err kiseki-cp -q -j 8 "$U:/h" bad
	out_err kiseki-cp -q -j 8 "$U:/f" bad2
	[ ! -e bad ] || [ ! -e bad2 ]
	[ -z "$(find . -name '.kiseki-cp*')" ]
	# What is not in the page cache is read past it: a dense one, of which half is in it.
	head -c 140000000 /dev/urandom >dense
	sync dense
	dd if=dense iflag=nocache count=0 status=none
	head -c 50000000 dense >/dev/null
	kiseki-cp -q -j 8 dense "$U:/dense"
	kiseki-cp "$U:/dense" - | cmp - dense
}

@test "files of /proc have no size, and a symlink may lead back" {
	[ -r /proc/self/status ] || skip "no /proc"
	mkdir -p d/e
	kiseki-cp -q /proc/version "$U:/version"
	kiseki-cp "$U:/version" - | cmp - /proc/version
	ln -s .. d/e/up
	echo x >d/x
	out_err limit 20 kiseki-cp -q -r -L d "$U:/"
	[ "$status" -eq 3 ]
	says 'leads back'
	[ "$(kiseki-ls -R "$U:/d" | sort | xargs)" = 'e x' ]
	kiseki-cp -q -a d "$U:/d2"
	out_err limit 20 kiseki-cp -q -r -L "$U:/d2" out
	[ "$status" -eq 3 ]
	[ "$(cd out && find . | sort | xargs)" = '. ./e ./x' ]
}

@test "memory does not grow with the tree" {
	! grep -qE '__(asan|tsan)_init' "$(command -v kiseki-cp)" || skip "a sanitizer maps everything"
	mkdir src
	(cd src && for i in $(seq 1 20); do mkdir $i && (cd $i && seq 1 300 | xargs touch); done)
	head -c 300000000 /dev/zero | tr '\0' x >src/large
	(
		ulimit -v 1500000
		kiseki-cp -q -r src "$U:/"
		kiseki-cp -q -r "$U:/src" out
	)
	cmp src/large out/large
}

@test "beside a mount: what is copied in is seen there, what is written there comes out" {
	requires fuse
	mount_it
	echo one >f
	kiseki-cp -q f "$U:/f"
	wait_for test -e "$M/f"
	[ "$(cat "$M/f")" = one ]
	echo two >f
	kiseki-cp -q f "$U:/f"
	wait_for grep -q two "$M/f"
	echo three >"$M/g"
	[ "$(kiseki-cp "$U:/g" -)" = three ]
	umount_it
}
