#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The trash: kiseki-trash, and what mounts and the other tools do with it.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

entries() { kiseki-status --json "$V" | tail -n 1 | jq .trash.entries; }
clean() { kiseki-fsck -n -q "$V"; }

# age HOURS: what lies in the trash was removed that much longer ago
age() {
	local hour
	for hour in $(sqlite3 "$V" 'SELECT hash FROM dentry WHERE parent=15 ORDER BY hash'); do
		sqlite3 -cmd '.timeout 10000' "$V" "UPDATE dentry SET hash=$((hour - $1)),
			name=CAST('$(date -u -d "@$(((hour - $1) * 3600))" +%Y-%m-%d-%H)' AS BLOB) WHERE parent=15 AND hash=$hour"
	done
}

# keeps N: a removal puts so many entries into the trash
keeps() {
	local before
	before=$(entries)
	touch "$M/once"
	rm "$M/once"
	[ "$(entries)" -eq $((before + $1)) ]
}

# removed_tree: a sample that was removed through a mount; the original stays in src
removed_tree() {
	sample src
	kiseki-cp -q -a src "$U:/"
	mount_it
	rm -rf "$M/src"
}

@test "a tree that was removed comes back as it was" {
	requires fuse jq
	format --name=v --trash=1d
	removed_tree
	[ "$(ls -A "$M")" = '' ]
	# A file that had two names came with one of them.
	out_err kiseki-trash ls "$V"
	[ "$status" -eq 0 ]
	says '  /src/dir/deep/'
	says '/src/zero'
	[ "$(kiseki-trash ls --json "$V" | tail -n 1 | jq .counts.entries)" -eq "$(entries)" ]
	clean
	out_err kiseki-trash restore "$U:/src"
	[ "$status" -eq 0 ]
	says 'restored'
	[ "$(entries)" -eq 0 ]
	rm -f src/dir/hard src/file "$M/src/dir/hard" "$M/src/file"
	# Times of directories are those of the last change of an entry; all else is the same.
	tree src | sed -E 's/^(d [^ ]+ [^ ]+) [^ ]+/\1/' | LC_ALL=C sort >want
	tree "$M/src" | sed -E 's/^(d [^ ]+ [^ ]+) [^ ]+/\1/' | LC_ALL=C sort >got
	diff want got
	diff -r --no-dereference -x fifo -x null -x loop src "$M/src"
	getfattr -h -d -m user "$M/src/dir" 2>/dev/null | not grep -q nothing
	umount_it
	clean
}

@test "one file, an older version, and never over what is there" {
	requires jq
	format --name=v --trash=1d
	for i in 1 2 3; do
		echo "version $i" >f
		kiseki-cp -q f "$U:/f"
	done
	# What was replaced is there, and what replaced it stays.
	[ "$(entries)" -eq 2 ]
	out_err kiseki-trash restore "$U:/f"
	[ "$status" -eq 3 ]
	says 'something has that name'
	[ "$(entries)" -eq 2 ]
	kiseki-rm -q "$U:/f"
	out_err kiseki-trash restore "$U:/f"
	[ "$status" -eq 0 ]
	says 'restored 1 entries'
	says '2 older entries'
	kiseki-cp -q "$U:/f" got
	[ "$(cat got)" = 'version 3' ]
	kiseki-rm -q --no-trash "$U:/f"
	[ "$(entries)" -eq 2 ]
	# One of them, as it is listed.
	entry=$(kiseki-trash ls --json "$V" | jq -r 'select(.type == "item").entry' | head -n 1)
	kiseki-trash restore -q "$U:/$entry"
	kiseki-cp -q "$U:/f" got
	[ "$(cat got)" = 'version 1' ]
	kiseki-trash ls -v "$V" | grep -q "  /f  /$(date -u +%Y)-"
	clean
}

@test "a directory that is gone: restored first, told where, or --to" {
	requires jq
	format --name=v --trash=1d
	mkdir -p d/e
	echo 1 >d/e/f
	kiseki-cp -q -r d "$U:/"
	kiseki-rm -q "$U:/d/e/f"
	kiseki-rm -qr "$U:/d"
	# The directories come with the file, and it with them.
	[ "$(kiseki-trash restore -v "$U:/d/e/f" | head -n 1)" = 'restored /d/' ]
	[ "$(kiseki-ls -R "$V" | wc -l)" -eq 3 ]
	kiseki-rm -q "$U:/d/e/f"
	kiseki-rm -qr "$U:/d/e"
	# A directory that was restored by itself takes later what was in it.
	kiseki-trash restore -q "$U:/$(kiseki-trash ls --json "$V" | jq -r 'select(.kind == "directory").entry')"
	kiseki-trash restore -q "$U:/d/e/f"
	[ "$(kiseki-ls "$U:/d/e")" = f ]
	clean
	# A directory made anew takes it, too.
	kiseki-rm -qr "$U:/d/e"
	mkdir -p x/e
	kiseki-cp -q -r x/e "$U:/d/"
	kiseki-trash restore -q "$U:/d/e/f"
	[ "$(kiseki-ls "$U:/d/e")" = f ]
	# One that went without the trash is nowhere.
	kiseki-rm -q "$U:/d/e/f"
	kiseki-rm -qr --no-trash "$U:/d"
	kiseki-trash ls "$V" | grep -q '  ?/f'
	out_err kiseki-trash restore "$U"
	[ "$status" -eq 3 ]
	says 'neither there nor in the trash'
	says '--to=DIR'
	mkdir back
	kiseki-cp -q -r back "$U:/"
	kiseki-trash restore -q --to=/back "$U:/$(kiseki-trash ls --json "$V" | jq -r 'select(.path == "?/f").entry' | head -n 1)"
	[ "$(kiseki-ls "$U:/back")" = f ]
	clean
}

@test "what programs see of a file they have open stays as everywhere" {
	requires fuse jq
	format --trash=1d
	mount_it
	echo before >"$M/f"
	exec 5<>"$M/f"
	ctime=$(stat -L -c %Z /proc/self/fd/5)
	rm "$M/f"
	[ "$(stat -L -c %h /proc/self/fd/5)" -eq 0 ]
	[ "$(stat -L -c %Z /proc/self/fd/5)" -ge "$ctime" ]
	not ln -L /proc/self/fd/5 "$M/again"
	echo 'and after' >&5
	read -r line </proc/self/fd/5
	[ "$line" = 'and after' ]
	exec 5>&-
	kiseki-trash restore -q "$U:/f"
	wait_for test -e "$M/f"
	[ "$(cat "$M/f")" = 'and after' ]
	[ "$(stat -c %h "$M/f")" -eq 1 ]
	umount_it
	clean
}

@test "a shell in a directory that was removed, and restored" {
	requires fuse jq
	format --trash=1d
	mount_it
	mkdir "$M/d"
	echo x >"$M/d/f"
	cd "$M/d"
	rm -r "$M/d"
	not touch g 2>/dev/null
	kiseki-trash restore -q "$U"
	wait_for test -e "$M/d/f"
	not touch g 2>/dev/null
	touch "$M/d/g"
	cd "$T"
	umount_it
	clean
}

@test "expiry by a mount, by kiseki-gc, and by hand" {
	requires fuse jq
	format --name=v --trash=2h
	head -c 3000000 /dev/urandom >f
	kiseki-cp -q f "$U:/a"
	kiseki-cp -q f "$U:/b"
	kiseki-rm -q "$U:/a"
	age 2
	# Kept for two hours, in hours.
	kiseki-gc -q "$V"
	[ "$(entries)" -eq 1 ]
	age 1
	kiseki-gc --check -q "$V" && false || [ $? -eq 4 ]
	out_err kiseki-gc -n "$V"
	grep -qE '^trash expired +1 +2.9 MiB' .out
	kiseki-gc --only=pending -q "$V"
	[ "$(entries)" -eq 1 ]
	[ "$(kiseki-gc --json "$V" | tail -n 1 | jq -c '[.counts.trash.entries, .counts.trash_kept.entries]')" = '[1,0]' ]
	[ "$(entries)" -eq 0 ]
	[ "$(find vol/meta.blocks/blocks -type f | wc -l)" -eq 1 ]
	kiseki-rm -q "$U:/b"
	age 3
	mount_it --no-maintenance
	sleep 3
	[ "$(entries)" -eq 1 ]
	umount_it
	mount_it
	gone() { [ "$(find vol/meta.blocks/blocks -type f | wc -l)" -eq 0 ]; }
	wait_for gone
	[ "$(entries)" -eq 0 ]
	umount_it
	clean
}

@test "empty, and what it asks" {
	requires jq
	format --name=v --trash=1d
	echo 1 >f
	kiseki-cp -q f "$U:/a"
	kiseki-cp -q f "$U:/b"
	kiseki-rm -q "$U:/a"
	age 5
	kiseki-rm -q "$U:/b"
	fails_cleanly 64 kiseki-trash empty "$V"
	says --yes
	fails_cleanly 64 kiseki-trash empty -y
	fails_cleanly 64 kiseki-trash empty -y "$U:/a"
	[ "$(kiseki-trash empty -n "$V")" = 'would free 2 entries, 4 B; dry run: nothing changed' ]
	[ "$(kiseki-trash empty -n --older=2h "$V")" = 'would free 1 entries, 2 B; dry run: nothing changed' ]
	[ "$(kiseki-trash ls --older=2h "$V" | wc -l)" -eq 1 ]
	[ "$(kiseki-trash empty --yes --older=2h "$V")" = 'freed 1 entries, 2 B' ]
	[ "$(entries)" -eq 1 ]
	kiseki-trash empty -y "$V" >/dev/null
	[ "$(entries)" -eq 0 ]
	[ -z "$(kiseki-trash ls "$V")" ]
	clean
}

@test "the setting: format, config, mounts that follow" {
	requires fuse jq
	limit 30 kiseki-format "$V" | grep -q 'trash     kept 1 d'
	[ "$(kiseki-config "$V" trash)" = '1 d' ]
	[ "$(kiseki-config -b "$V" trash)" = 86400 ]
	mount_it
	touch "$M/a"
	rm "$M/a"
	[ "$(entries)" -eq 1 ]
	[ "$(kiseki-config "$V" trash=none)" = 'vol: changed trash: 1 d -> none' ]
	wait_for keeps 0
	kiseki-config -q "$V" trash=36h
	wait_for keeps 1
	[ "$(kiseki-config "$V" trash)" = '36 h' ]
	fails_cleanly 64 kiseki-config "$V" trash=soon
	fails_cleanly 64 kiseki-config "$V" trash=10ms
	fails_cleanly 64 kiseki-format --trash=-1 "$T/x.db"
	out_err kiseki-status "$V"
	says "trash     0 B in $(entries) entries (oldest "
	says 'kept 36 h'
	says 'live      0 B in 1 files'
	umount_it
}

@test "a mount that is killed in the middle loses no entry" {
	requires fuse jq
	format --trash=1d
	mount_it
	mkdir "$M/d"
	(cd "$M/d" && seq 1 3000 | xargs touch)
	sync -f "$M"
	(rm -rf "$M/d" 2>/dev/null || true) &
	sleep 0.2
	kill_daemon
	wait
	fusermount3 -uz "$M" 2>/dev/null || umount -l "$M"
	clean
	left=$(kiseki-ls -R "$V" | grep -c '[0-9]' || true)
	files=$(kiseki-trash ls "$V" | grep -vc '/d/$' || true)
	[ "$((left + files))" -eq 3000 ]
	kiseki-trash restore -q "$V"
	[ "$(kiseki-ls "$U:/d" | wc -l)" -eq 3000 ]
	clean
}

@test "rename over, in a mount; --dry-run; JSON" {
	requires fuse jq
	format --name=v --trash=1d
	mount_it
	echo old >"$M/f"
	echo new >"$M/g"
	mv "$M/g" "$M/f"
	out_err kiseki-trash ls --json "$V"
	[ "$status" -eq 0 ]
	json_ok .out
	jq -s -e '.[0] | .path == "/f" and .kind == "file" and .bytes == 4 and (.removed | startswith("20"))' .out
	mv "$M/f" "$M/g"
	[ "$(kiseki-trash restore -n -v "$V" | head -n 1)" = 'would restore /f' ]
	[ ! -e "$M/f" ]
	out_err kiseki-trash restore -v --json "$V"
	json_ok .out
	jq -s -e '.[0] | .action == "restored" and .path == "/f"' .out
	wait_for test -e "$M/f"
	[ "$(cat "$M/f")" = old ]
	[ "$(cat "$M/g")" = new ]
	umount_it
	clean
}

@test "a dump carries the trash" {
	requires jq
	format --name=v --trash=1d
	sample src
	kiseki-cp -q -a src "$U:/"
	kiseki-rm -qr "$U:/src"
	kiseki-dump -q --blocks -o v.tar "$V"
	mkdir two
	kiseki-load -q two/meta.db v.tar
	[ "$(kiseki-trash ls "$V" | sort)" = "$(kiseki-trash ls two/meta.db | sort)" ]
	kiseki-fsck -n -q two/meta.db
	kiseki-trash restore -q two/meta.db
	kiseki-cp -q -a "sqlite://$T/two/meta.db:/src" back
	rm -f src/file src/dir/hard back/file back/dir/hard
	diff -r --no-dereference -x fifo -x null -x loop src back
}

@test "mistakes" {
	format --trash=1d
	fails_cleanly 64 kiseki-trash
	fails_cleanly 64 kiseki-trash list "$V"
	fails_cleanly 64 kiseki-trash restore
	fails_cleanly 64 kiseki-trash ls --to=/ "$V"
	fails_cleanly 64 kiseki-trash restore --yes "$V"
	fails_cleanly 66 kiseki-trash ls "$T/none.db"
	fails_cleanly 66 kiseki-trash restore "$U:/never"
	says 'nothing of /never'
	fails_cleanly 66 kiseki-trash ls "$U:/2026-01-01-00"
	fails_cleanly 66 kiseki-trash restore --to=/none "$V"
	[ "$(kiseki-trash restore -n "$V")" = 'would restore 0 entries, 0 B; dry run: nothing changed' ]
	[ -z "$(kiseki-trash restore "$V")" ]
}
