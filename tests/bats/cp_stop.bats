#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-cp that is stopped or killed at any moment, and run again.

load helper
setup() {
	cli_setup
	format
}
teardown() {
	[ -z "${bg:-}" ] || kill -9 "$bg" 2>/dev/null || true
	mounted_teardown
}

# tree_to_copy: small files, larger ones, links
tree_to_copy() {
	local d i
	for d in 1 2 3 4 5; do
		mkdir -p "src/$d/sub"
		for i in $(seq 1 80); do head -c $((i * 37)) /dev/urandom >"src/$d/f$i"; done
		head -c 700000 /dev/urandom >"src/$d/sub/big"
		ln "src/$d/f1" "src/$d/sub/hard"
		ln -s "../f$d" "src/$d/sub/soft"
	done
	head -c 9000000 /dev/urandom >src/large
}

# no_leftovers: neither in the volume nor in directories
no_leftovers() {
	! kiseki-ls -aR "$U" 2>/dev/null | grep -F .kiseki-cp || return 1
	[ -z "$(find . -name '.kiseki-cp*')" ]
}

# sums DIR: of the files in it
sums() { (cd "$1" && find . -type f ! -name '.kiseki-cp*' -print0 | xargs -0r sha256sum | sort); }

# whole FROM TO: each file that is in TO is that of FROM
whole() {
	[ -n "${want:-}" ] || want=$(sums "$1")
	[ -z "$(comm -13 <(echo "$want") <(sums "$2"))" ]
}

# interrupt SIGNAL COMMAND...: at some moment; its status
interrupt() {
	local sig=$1
	shift
	"$@" &
	bg=$!
	sleep "0.$(printf %02d $((RANDOM % 40)))"
	kill "-$sig" "$bg" 2>/dev/null || true
	status=0
	wait "$bg" 2>/dev/null || status=$?
	bg=
}

@test "into a volume: stopped and killed at random, what is there is whole, and another run goes on" {
	local i sig
	tree_to_copy
	for i in $(seq 1 6); do
		sig=$([ $((i % 2)) -eq 0 ] && echo TERM || echo KILL)
		KISEKI_FAULT=append:delay=10ms interrupt $sig kiseki-cp -q -a -u src "$U:/"
		case $sig:$status in
		*:0 | KILL:137 | TERM:143) ;;
		*) false ;;
		esac
		rm -rf now
		kiseki-cp -q -a "$U:/" now
		[ ! -d now/src ] || whole src now/src
	done
	kiseki-cp -q -a -u src "$U:/"
	kiseki-cp -q -a --compare src "$U:/"
	no_leftovers
	kiseki-fsck -q "$U"
}

@test "out of a volume: the same" {
	local i sig
	tree_to_copy
	kiseki-cp -q -a src "$U:/"
	for i in $(seq 1 6); do
		sig=$([ $((i % 2)) -eq 0 ] && echo TERM || echo KILL)
		KISEKI_FAULT=get:delay=3ms interrupt $sig kiseki-cp -q -a -u -T "$U:/src" out
		[ ! -d out ] || whole src out
	done
	kiseki-cp -q -a -u -T "$U:/src" out
	kiseki-cp -q -a --compare -T "$U:/src" out
	no_leftovers
	diff -r --no-dereference src out
	[ "$(stat -c %h out/3/f1)" -eq 2 ]
}

@test "over older files, killed: each is the old one or the new one" {
	local i n
	mkdir old new
	for i in $(seq 1 300); do
		echo "old $i" >"old/$i"
		echo "new $i" >"new/$i"
	done
	kiseki-cp -q -T -r old "$U:/d"
	for n in 1 2 3; do
		KISEKI_FAULT=sync:delay=20ms interrupt KILL kiseki-cp -q -r -T new "$U:/d"
		rm -rf now
		kiseki-cp -q -r "$U:/d" now
		[ "$(find now -type f | wc -l)" -eq 300 ]
		[ -z "$(comm -13 <(sort <(sums old) <(sums new)) <(sums now))" ]
	done
	kiseki-cp -q -r -T new "$U:/d"
	kiseki-cp -q -r --compare -T new "$U:/d"
	no_leftovers
}

has_temporary() { [ -n "$(find out -name '.kiseki-cp-*')" ]; }

@test "a temporary file of a living copy is left alone, a dead one's is not" {
	head -c 5000000 /dev/urandom >f
	kiseki-cp -q f "$U:/f"
	mkdir out
	KISEKI_FAULT=get:delay=1500ms kiseki-cp -q "$U:/f" out/ &
	bg=$!
	wait_for has_temporary
	touch out/.kiseki-cp-1-1
	kiseki-cp -q "$U:/f" out/g
	has_temporary
	[ ! -e out/.kiseki-cp-1-1 ]
	wait "$bg"
	bg=
	cmp f out/f
	[ -z "$(find out -name '.kiseki-cp-*')" ]
}

# has_nameless PID: a file that it writes into out/ and that has no name
has_nameless() { find "/proc/$1/fd" -lname "$T/out/*(deleted)" 2>/dev/null | grep -q .; }

# copy_slowly: f of the volume to out/, in the background
copy_slowly() {
	KISEKI_FAULT=get:delay=1500ms kiseki-cp -q -a "$U:/f" out/ &
	bg=$!
	wait_for has_nameless "$bg"
}

@test "a small file has no name until it is whole: what is killed leaves nothing" {
	head -c 5000 /dev/urandom >f
	kiseki-cp -q -a f "$U:/f"
	mkdir out
	copy_slowly
	[ -z "$(ls -A out)" ]
	kill -9 "$bg"
	wait "$bg" || true
	[ -z "$(ls -A out)" ]
	copy_slowly
	wait "$bg"
	bg=
	cmp f out/f
	[ "$(ls -A out)" = f ]
	[ "$(stat -c '%a %u %Y %h' f)" = "$(stat -c '%a %u %Y %h' out/f)" ]
}

@test "a name that another makes meanwhile is taken" {
	head -c 5000 /dev/urandom >f
	kiseki-cp -q -a f "$U:/f"
	mkdir out
	copy_slowly
	echo other >out/f
	wait "$bg"
	cmp f out/f
	[ "$(ls -A out)" = f ]
	rm out/f
	copy_slowly
	mkdir out/f
	status=0
	wait "$bg" || status=$?
	bg=
	[ "$status" -eq 73 ]
	[ "$(find out | xargs)" = 'out out/f' ]
}

@test "where no file can be without a name, each has a temporary one" {
	requires root
	tree_to_copy
	kiseki-cp -q -a -T src "$U:/"
	mkdir out
	printf 'open EMFILE */out%s/. 1+1\n' '' '/*' >rules
	run_ok helper faultrun rules kiseki-cp -q -a -T "$U:/" out
	grep -q '/out/1/\.$' rules.log
	diff -r --no-dereference src out
	no_leftovers
}

@test "what a sync is told while the copying goes on is not forgotten at the end" {
	requires root
	local n
	mkdir -p src out
	for n in $(seq 1 2500); do echo $n >src/$n; done
	kiseki-cp -q -r src "$U:/"
	echo 'sync EIO */out 1' >rules
	out_err helper faultrun rules kiseki-cp -q -r "$U:/src" out
	[ "$status" -eq 74 ]
	says 'cannot make the copy in'
	says 'Input/output error'
	[ "$(grep -c '^EIO sync .*/out$' rules.log)" -eq 1 ]
	diff -r src out/src
}

@test "several copies at one time, beside a mount" {
	requires fuse
	local i pids=()
	mount_it
	tree_to_copy
	for i in 1 2 3; do
		kiseki-cp -q -a -T src "$U:/t$i" &
		pids+=($!)
	done
	# And into the same directory.
	kiseki-cp -q -a -T src "$U:/t1" &
	pids+=($!)
	for i in $(seq 1 50); do echo $i >"$M/m$i"; done
	for i in "${pids[@]}"; do wait "$i"; done
	for i in 1 2 3; do
		wait_for test -e "$M/t$i/large"
		diff -r --no-dereference src "$M/t$i"
		rm -rf out
		kiseki-cp -q -a "$U:/t$i" out
		diff -r --no-dereference src out
	done
	[ "$(cat "$M/m50")" = 50 ]
	umount_it
	kiseki-fsck -q "$U"
	no_leftovers
}
