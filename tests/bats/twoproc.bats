#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Several processes on one volume: on one mount, on two mounts, a mount beside kiseki-cp.

load mounted_helper

setup() {
	[ -z "$long" ] || LIMIT=1200
	mounted_setup
}
teardown() { mounted_teardown; }

# A tree with a bit of everything.
make_tree() {
	mkdir -p "$1/dir/deep/deeper" "$1/empty"
	head -c 5000000 /dev/urandom >"$1/big"
	head -c 70000000 /dev/zero >"$1/zeros"
	echo text >"$1/dir/text"
	ln "$1/dir/text" "$1/dir/hard"
	ln -s ../dir/text "$1/dir/soft"
	printf x >"$1/dir/deep/"$'new\nline'
	printf y >"$1/dir/deep/"$'\xff\xfe'
	mkfifo "$1/dir/fifo"
	truncate -s 1G "$1/dir/deep/sparse"
	chmod 600 "$1/big"
	chmod 2751 "$1/dir/deep"
	touch -d '2001-02-03 04:05:06.123456789' "$1/dir/text" "$1/dir/deep/deeper"
	local i
	for ((i = 0; i < 200; i++)); do
		echo "$i" >"$1/dir/deep/deeper/$i"
	done
}

# What a tree is: names, types, modes, owners, times, links, contents.
tree_of() {
	(cd "$1" && find . -printf '%p %y %m %U %G %n %l %T@' \( -type f -printf ' %s' -o -true \) -printf '\0' |
		sort -z | tr '\0' '\n'
	find . -type f ! -name sparse -print0 | sort -z | xargs -0 sha256sum)
}

same_tree() { diff <(tree_of "$1") <(tree_of "$2") | head -20; [ "${PIPESTATUS[0]}" -eq 0 ]; }

@test "own ranges, appends, names: several processes on one mount" {
	format
	mount_it
	run_ok helper twoproc --procs 4 --ops "$(ops 300 5000)" "$M"
}

@test "kiseki-cp beside a mount: what goes in is seen, what is seen comes out" {
	format
	mount_it
	make_tree "$T/tree"
	limit 60 kiseki-cp -q -a "$T/tree" "$U:/"
	same_tree "$T/tree" "$M/tree"
	cp -a "$T/tree" "$M/tree2"
	same_tree "$T/tree" "$M/tree2"
	limit 60 kiseki-cp -q -a "$U:/tree2" "$T/out"
	same_tree "$T/tree" "$T/out"
	[ "$(du -k "$T/out/dir/deep/sparse" | cut -f1)" -lt 1000 ]
}

@test "kiseki-cp in a loop while random operations run on the mount" {
	need_root
	format
	mount_it
	make_tree "$T/tree"
	rm "$T/tree/zeros"
	mkdir "$T/host"
	(
		i=0
		while [ ! -e "$T/stop" ]; do
			i=$((i + 1))
			kiseki-cp -q -a -T "$T/tree" "$U:/in$i" && rm -rf "$T/out" && kiseki-cp -q -a -T "$U:/in$i" "$T/out" || exit 1
			echo $i >"$T/rounds"
		done
	) 3>&- &
	local cp=$!
	run helper difftest --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops "$(ops 2000 20000)" "$T/host" "$M"
	echo "$output" | tail -40
	touch "$T/stop"
	[ "$status" -eq 0 ]
	wait $cp
	echo "$(cat "$T/rounds") rounds of kiseki-cp"
	[ "$(cat "$T/rounds")" -ge 1 ]
	same_tree "$T/tree" "$M/in1"
	same_tree "$T/tree" "$T/out"
	umount_it
	fsck_clean
}

@test "a file that kiseki-cp is copying appears whole or not at all" {
	format
	mount_it
	head -c 60000000 /dev/urandom >"$T/big"
	local size seen=0
	kiseki-cp -q "$T/big" "$U:/big" 3>&- &
	local cp=$!
	while kill -0 $cp 2>/dev/null; do
		size=$(stat -c %s "$M/big" 2>/dev/null || echo none)
		[ "$size" = none ] || [ "$size" -eq 60000000 ]
		seen=$((seen + 1))
	done
	wait $cp
	sleep 1.2 # the kernel may believe for a second that there is none
	cmp "$T/big" "$M/big"
}

@test "two mounts: closed in one, opened in the other" {
	format
	mount_it --attr-timeout=0 --entry-timeout=0
	mkdir "$T/mnt2"
	mount_at "$T/mnt2" --attr-timeout=0 --entry-timeout=0
	local i
	for i in 1 2 3 4 5 6 7 8 9 10; do
		head -c $((i * 70000)) /dev/urandom >"$T/data"
		cp "$T/data" "$M/f"
		cmp "$T/data" "$T/mnt2/f"
		head -c $((i * 50000)) /dev/urandom >"$T/data"
		cp "$T/data" "$T/mnt2/f"
		cmp "$T/data" "$M/f"
	done
	mkdir "$M/d"
	touch "$T/mnt2/d/x"
	run rmdir "$M/d"
	[ "$status" -ne 0 ]
	mv "$T/mnt2/d/x" "$T/mnt2/d/y"
	[ -e "$M/d/y" ]
	[ ! -e "$M/d/x" ]
	rm "$M/d/y"
	rmdir "$T/mnt2/d"
	[ ! -e "$M/d" ]
	umount_it "$T/mnt2"
}

@test "two mounts: with default timeouts a change is seen after a second" {
	format
	mount_it
	mkdir "$T/mnt2"
	mount_at "$T/mnt2"
	echo one >"$M/f"
	[ "$(cat "$T/mnt2/f")" = one ]
	echo three >"$M/f"
	rm -f "$M/none"
	sleep 1.2
	[ "$(cat "$T/mnt2/f")" = three ]
	umount_it "$T/mnt2"
}

@test "two mounts: a file that one removes stays readable where the other has it open" {
	format
	mount_it
	mkdir "$T/mnt2"
	mount_at "$T/mnt2"
	head -c 20000000 /dev/urandom >"$T/data"
	cp "$T/data" "$M/f"
	exec 7<"$T/mnt2/f"
	rm "$M/f"
	sleep 8
	cmp "$T/data" /dev/fd/7 || cmp "$T/data" - <&7
	exec 7<&-
	umount_it "$T/mnt2"
}

@test "two volumes do not see each other" {
	format
	mount_it
	mkdir "$T/vol2" "$T/mnt2"
	limit 30 kiseki-format -q "$T/vol2/meta.db"
	V=$T/vol2/meta.db mount_at "$T/mnt2"
	echo 1 >"$M/one"
	echo 2 >"$T/mnt2/two"
	[ ! -e "$M/two" ]
	[ ! -e "$T/mnt2/one" ]
	umount_it "$T/mnt2"
}
