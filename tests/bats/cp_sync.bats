#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-cp as a tool that keeps two trees alike: what is left out, skipped, deleted, compared, limited.

load helper
setup() {
	cli_setup
	format
}
teardown() {
	mounted_teardown
}

# files DIR NAME...: each with its own name as content
files() {
	local d=$1 f
	shift
	for f in "$@"; do
		mkdir -p "$d/$(dirname "$f")"
		echo "$f" >"$d/$f"
	done
}

# in_volume PATH: sorted names of everything below it, on one line
in_volume() { kiseki-ls -R "$U:$1" | sort | xargs; }

count() { jq -e "select(.type == \"summary\") | .counts | $1"; }

@test "--exclude and --include: the first that matches counts" {
	files src a.c a.o keep.o cache/x sub/cache/y sub/b.o sub/b.c sub/deep/z top/only
	kiseki-cp -q -r --include=keep.o --exclude='*.o' --exclude=cache/ src "$U:/a"
	[ "$(in_volume /a)" = 'a.c keep.o sub sub/b.c sub/deep sub/deep/z top top/only' ]
	# A slash binds a pattern to SOURCE; ** is any number of directories.
	kiseki-cp -q -r --exclude=/sub/b.c --exclude=/a.c --exclude='**/deep/z' src "$U:/b"
	[ "$(in_volume /b)" = 'a.o cache cache/x keep.o sub sub/b.o sub/cache sub/cache/y sub/deep top top/only' ]
	printf '%s\n' '# a comment' '' '*.o' 'cache/' >patterns
	kiseki-cp -q -r --exclude-from=patterns src "$U:/c"
	[ "$(in_volume /c)" = 'a.c sub sub/b.c sub/deep sub/deep/z top top/only' ]
	# Out of a volume, from ".", and what is named on the command line is never left out.
	kiseki-cp -q -r --exclude='*.o' "$U:/a" out
	[ "$(cd out && find . -type f | sort | xargs)" = './a.c ./sub/b.c ./sub/deep/z ./top/only' ]
	(cd src && kiseki-cp -q -r --exclude=/sub --exclude='*.o' . "$U:/d")
	[ "$(in_volume /d)" = 'a.c cache cache/x top top/only' ]
	kiseki-cp -q --exclude='*.o' src/a.o "$U:/named.o"
	fails_cleanly 64 kiseki-cp -r --exclude= src "$U:/x"
	fails_cleanly 64 kiseki-cp -r --exclude-from=none src "$U:/x"
}

@test "--files-from copies a list, with the directories on the way" {
	files src a b sub/c sub/deep/d other/e 'with space/f'
	chmod 700 src/sub
	touch -d 2001-01-01 src/sub/deep src/sub
	printf '%s\n' a sub/deep/d sub/c './with space/f' other/ >list
	kiseki-cp -q -a --files-from=list src "$U:/l"
	[ "$(kiseki-ls -R "$U:/l" | sort | tr '\n' ,)" = 'a,other,other/e,sub,sub/c,sub/deep,sub/deep/d,with space,with space/f,' ]
	kiseki-cp -q -a "$U:/l" out
	[ "$(stat -c %a out/sub)" = 700 ]
	[ "$(stat -c %y out/sub/deep | cut -c 1-10)" = 2001-01-01 ]
	# Names with newlines, from stdin; and out of a volume.
	printf 'x' >src/$'new\nline'
	printf 'new\nline\0sub/c\0' | kiseki-cp -q --files-from=- -0 src "$U:/z"
	[ "$(kiseki-cp "$U:/z/"$'new\nline' -)" = x ]
	printf '%s\n' sub/c none/x sub/none ../b a/b >list
	out_err kiseki-cp -a --files-from=list "$U:/l" out2
	[ "$status" -eq 3 ]
	[ "$(find out2 -type f)" = out2/sub/c ]
	for bad in l/none sub/none "'..' leads out" l/a; do says "$bad"; done
	fails_cleanly 64 kiseki-cp --files-from=list src other "$U:/x"
	fails_cleanly 64 kiseki-cp -r --delete --files-from=list src "$U:/x"
	fails_cleanly 64 kiseki-cp -0 src "$U:/x"
	fails_cleanly 66 kiseki-cp --files-from=none src "$U:/x"
}

@test "-u looks at size and time, -c at content; what else is kept is set" {
	requires jq setfattr
	files src same changed touched
	kiseki-cp -q -a src "$U:/"
	echo Changed >src/changed
	touch -r src/same src/changed
	touch -d 2001-01-01 src/touched
	chmod 640 src/same
	# Same size, same time: only -c sees it.
	touch -d 2002-02-02 src/changed
	kiseki-cp -q -a src "$U:/"
	echo cHanged >src/changed
	touch -d 2002-02-02 src/changed
	kiseki-cp --json -a -u src "$U:/" | count '.skipped == 3 and .files == 0 and .touched == 0'
	[ "$(kiseki-cp "$U:/src/changed" -)" = Changed ]
	touch -d 2003-03-03 src/same
	kiseki-cp --json -a -c src "$U:/" | count '.skipped == 2 and .files == 1 and .touched == 1'
	[ "$(kiseki-cp "$U:/src/changed" -)" = cHanged ]
	kiseki-ls -lH "$U:/src" | grep -q 2003-03-03
	# Another mode is set, other extended attributes are copied with the file.
	chmod 600 src/same
	kiseki-cp --json -a -u src "$U:/" | count '.skipped == 3 and .touched == 1'
	kiseki-ls -lH "$U:/src/same" | grep -q ^-rw-------
	setfattr -n user.x -v 1 src/same || skip "no extended attributes in $T"
	kiseki-cp --json -a -u src "$U:/" | count '.skipped == 2 and .files == 1'
	kiseki-cp --json -a -u src "$U:/" | count '.skipped == 3 and .files == 0'
	kiseki-cp -q -a "$U:/src" out
	kiseki-cp --json -a -c -T "$U:/src" out | count '.skipped == 3 and .files == 0 and .touched == 0'
	chmod 644 out/same
	kiseki-cp --json -a -u -T "$U:/src" out | count '.skipped == 3 and .touched == 1'
	[ "$(stat -c %a out/same)" = 600 ]
}

@test "hard links are mended by another run" {
	requires jq
	files src a d/e
	ln src/a src/b
	ln src/a src/d/c
	kiseki-cp -q -a src "$U:/"
	kiseki-rm -q "$U:/src/b"
	echo a >x
	touch -r src/a x
	kiseki-cp -q -p x "$U:/src/d/c"
	# Which name is the first depends on the directory's order: b, which is gone, is copied, the others are there.
	kiseki-cp --json -a -u src "$U:/" | count '.links == 2 and .files <= 1'
	kiseki-cp --json -a -u src "$U:/" | count '.links == 0 and .files == 0 and .skipped == 4'
	kiseki-cp -q -a "$U:/src" out
	[ "$(stat -c %h out/a)" -eq 3 ]
	kiseki-cp --json -a -u -T "$U:/src" out | count '.links == 0 and .skipped == 4'
	rm out/b
	cp -p out/a out/b
	kiseki-cp --json -a -u -T "$U:/src" out | count '(.links == 1 or .links == 2) and .files == 0' # which of them is the first, nobody knows
	[ "$(stat -c %h out/a)" -eq 3 ]
}

@test "--delete makes a mirror, and keeps what is excluded" {
	requires jq
	files src a d/b d/c
	kiseki-cp -q -a src "$U:/"
	files more d/extra gone/x/y gone/z keep.log gone2/keep.log
	kiseki-cp -q -a -T more "$U:/src"
	kiseki-cp -q more/keep.log "$U:/outside"
	touch -d 2001-01-01 src/d src
	kiseki-cp --json -n -a --delete --exclude='*.log' src "$U:/" | count '.deleted == 6'
	[ "$(in_volume /src/gone)" = 'x x/y z' ]
	kiseki-cp --json -v -a --delete --exclude='*.log' src "$U:/" >out.json
	count '.deleted == 5 and .failed == 0' <out.json
	jq -e 'select(.action == "deleted") | .path' out.json | grep -q gone/x/y
	[ "$(in_volume /src)" = 'a d d/b d/c gone2 gone2/keep.log keep.log' ]
	[ "$(in_volume /)" = 'outside src src/a src/d src/d/b src/d/c src/gone2 src/gone2/keep.log src/keep.log' ]
	# What went does not show in the times that are kept.
	[ "$(kiseki-ls -lH "$U:/src" | grep -c 2001-01-01)" -eq 1 ]
	kiseki-cp -q -a --delete src "$U:/"
	[ "$(in_volume /src)" = 'a d d/b d/c' ]
	# Out of the volume, too.
	cp -a more/. out
	kiseki-cp -q -a --delete -T "$U:/src" out
	diff -r src out
	fails_cleanly 64 kiseki-cp --delete src/a "$U:/a"
}

@test "--delete: a directory in the way of a file goes, and the other way round" {
	files src x/y z
	files old x z/w
	kiseki-cp -q -a -T old "$U:/m"
	out_err kiseki-cp -q -a -T src "$U:/m"
	[ "$status" -eq 3 ]
	kiseki-cp -q -a --delete -T src "$U:/m"
	kiseki-cp -q -a "$U:/m" out
	diff -r src out
	kiseki-cp -q -a -T "$U:/m" out2
	rm -r out2/x && files out2 x && rm out2/z && files out2 z/w
	kiseki-cp -q -a --delete -T "$U:/m" out2
	diff -r src out2
}

@test "--delete deletes nothing when something went wrong, nor for an empty source, and knows bounds" {
	requires jq root setpriv
	files src a b
	kiseki-cp -q -a src "$U:/"
	files extra 1 2 3 4 5
	kiseki-cp -q -a -T extra "$U:/src"
	mkdir mine && cp -a src mine/ && chmod 0 mine/src/a && chown -R 65534 mine && chmod 755 "$T"
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	(
		cd mine
		"${as[@]}" kiseki-format -q v.db
		"${as[@]}" kiseki-cp -q -a -T ../extra "sqlite://$T/mine/v.db:/src"
		out_err "${as[@]}" kiseki-cp -r --delete src "sqlite://$T/mine/v.db:/"
		[ "$status" -eq 3 ]
		says 'nothing is deleted'
		[ "$("${as[@]}" kiseki-ls v.db:/src | xargs)" = '1 2 3 4 5 b' ]
	)
	mkdir none
	out_err kiseki-cp -r --delete -T none "$U:/src"
	[ "$status" -eq 3 ]
	says '--force'
	[ "$(in_volume /src)" = '1 2 3 4 5 a b' ]
	status=0
	kiseki-cp --json -a --delete --max-delete=2 src "$U:/" >out.json || status=$?
	[ "$status" -eq 5 ]
	count '.deleted == 2' <out.json
	[ "$(in_volume /src | wc -w)" -eq 5 ]
	kiseki-cp -q -r --delete --force -T none "$U:/src"
	[ -z "$(in_volume /src)" ]
	fails_cleanly 64 kiseki-cp -r --max-delete=2 src "$U:/"
}

@test "--delete asks on a terminal before it deletes very many" {
	requires script
	mkdir src
	touch src/keep
	mkdir extra
	(cd extra && seq 1 150 | xargs touch)
	kiseki-cp -q -a -T extra "$U:/m"
	kiseki-cp -q src/keep "$U:/m/keep"
	script -qec "kiseki-cp -r --delete -T src $U:/m" /dev/null <<<n >out
	grep -q 'delete 150 entries' out
	[ "$(in_volume /m | wc -w)" -eq 151 ]
	script -qec "kiseki-cp -r --delete -T src $U:/m" /dev/null <<<y >out
	[ "$(in_volume /m)" = keep ]
	kiseki-cp -q -a -T extra "$U:/m"
	script -qec "kiseki-cp -r -y --delete -T src $U:/m" /dev/null </dev/null >out
	[ "$(in_volume /m)" = keep ]
}

@test "--compare tells what differs, changes nothing, and exits with 4" {
	requires jq
	sample src
	files src other
	kiseki-cp -q -a src "$U:/"
	kiseki-cp -a --compare src "$U:/" >out
	grep -q '0 differences' out
	before=$(kiseki-ls -lHR "$U")
	echo x >>src/file
	chmod 600 src/other
	echo new >src/new
	printf y | dd of=src/dir/big bs=1 seek=1000 conv=notrunc status=none
	touch -d 2001-01-01 src/dir/big
	status=0
	kiseki-cp -a --compare src "$U:/" >out || status=$?
	cat out
	[ "$status" -eq 4 ]
	grep -q ':/src/file: size' out
	grep -q ':/src/new: missing' out
	grep -q ':/src/dir/big: content' out
	grep -q ':/src/other: mode' out
	[ "$before" = "$(kiseki-ls -lHR "$U")" ]
	kiseki-cp -q src/new "$U:/src/extra"
	kiseki-cp -a --compare src "$U:/" >out || [ $? -eq 4 ]
	grep -q other out
	not grep -q extra out
	status=0
	kiseki-cp --json -a --delete --compare src "$U:/" >out.json || status=$?
	[ "$status" -eq 4 ]
	jq -e 'select(.action == "differs") | select(.why == "extra") | .path' out.json | grep -q /src/extra
	count '.different >= 5 and .deleted == 0' <out.json
	tail -n 1 out.json | jq -e '.exit_code == 4'
	kiseki-rm -q "$U:/src/extra"
	# The other way round, a copy that is equal but for what is not kept.
	kiseki-cp -q -r "$U:/src" out.d
	kiseki-cp -q -r --compare -T "$U:/src" out.d
	echo z >out.d/file
	status=0
	kiseki-cp -q -r --compare -T "$U:/src" out.d || status=$?
	[ "$status" -eq 4 ]
	kiseki-cp -q -r --compare --exclude=file -T "$U:/src" out.d
	fails_cleanly 64 kiseki-cp --compare --verify -r src "$U:/"
}

@test "--chown and --chmod" {
	requires root
	files src a d/b
	chmod 755 src/a
	kiseki-cp -q -r --chown=7:8 --chmod=u=rwX,go=rX src "$U:/"
	kiseki-cp -q -a "$U:/src" out
	[ "$(stat -c '%u:%g %a' out out/a out/d out/d/b | xargs)" = '7:8 755 7:8 755 7:8 755 7:8 644' ]
	kiseki-cp -q -r --chown=daemon --chmod=640 "$U:/src/a" b
	[ "$(stat -c '%U %g %a' b)" = "daemon $(id -g) 640" ]
	kiseki-cp -q -a --chown=:12 "$U:/src" out2
	[ "$(stat -c '%u:%g' out2/d/b)" = 7:12 ]
	fails_cleanly 64 kiseki-cp --chown=nobodyknows src/a "$U:/x"
	fails_cleanly 64 kiseki-cp --chown=: src/a "$U:/x"
	fails_cleanly 64 kiseki-cp --chmod=u+q src/a "$U:/x"
}

@test "a copy without -a takes the access control list that its directory passes on" {
	requires setfacl
	files src a d/b
	mkdir dflt
	setfacl -m u:7:r dflt 2>/dev/null || skip "no ACLs in $T"
	setfacl -b dflt
	setfacl -d -m u:99:rwx,g:98:x dflt
	umask 077
	cp -a dflt ours
	cp -r src dflt/
	kiseki-cp -q -a ours "$U:/"
	kiseki-cp -q -r src "$U:/ours/"
	kiseki-cp -q -a "$U:/ours" back
	diff <(cd dflt && getfacl -R -n .) <(cd back && getfacl -R -n .)
	kiseki-cp -q -r "$U:/ours/src" ours/
	rm -r dflt/src && cp -r back/src dflt/
	diff <(cd dflt && getfacl -R -n .) <(cd ours && getfacl -R -n .)
}

@test "limits on errors, time and rate" {
	requires jq
	mkdir src
	(cd src && for i in $(seq 1 30); do echo $i >f$i; ln -s nowhere l$i; done)
	status=0
	kiseki-cp --json -r -L -j 1 --max-errors=3 src "$U:/e" >out.json 2>err || status=$?
	[ "$status" -eq 3 ]
	count '.failed >= 3 and .failed < 30' <out.json
	grep -q 'stopped after' err
	head -c 3000000 /dev/urandom >big
	start=$(date +%s%N)
	kiseki-cp -q --bwlimit=off:2M big "$U:/big"
	[ $(($(date +%s%N) - start)) -gt 900000000 ]
	start=$(date +%s%N)
	kiseki-cp -q --bwlimit=2M:off "$U:/big" big2
	[ $(($(date +%s%N) - start)) -gt 900000000 ]
	cmp big big2
	kiseki-cp -q big "$U:/f1"
	mkdir many && (cd many && for i in 1 2 3 4 5 6; do cp ../big $i; done)
	status=0
	kiseki-cp --json -r -j 1 --bwlimit=4M --max-duration=1500ms many "$U:/" >out.json || status=$?
	[ "$status" -eq 5 ]
	count '.files >= 1 and .files < 6' <out.json
	kiseki-cp -q -r many "$U:/"
	kiseki-cp -q -r "$U:/many" out
	diff -r many out
	fails_cleanly 64 kiseki-cp --bwlimit=fast big "$U:/x"
	fails_cleanly 64 kiseki-cp --bwlimit=1M:x big "$U:/x"
}
