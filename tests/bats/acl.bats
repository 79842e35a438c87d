#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Access control lists on a mount: the same commands on a local directory are the judge.

load mounted_helper

setup() {
	need_root
	command -v setfacl >/dev/null || skip "setfacl is not installed"
	mounted_setup
	mkdir "$T/host"
	setfacl -m u:1:r "$T/host" 2>/dev/null || skip "no ACLs in $T"
	setfacl -b "$T/host"
	chmod 755 "$T/host"
	format
}
teardown() { mounted_teardown; }

# see: everything below the working directory, with modes and lists
see() {
	find . -mindepth 1 -printf '%P %M %u %g\n' 2>&1 | sort
	find . -mindepth 1 ! -type l 2>/dev/null | sort | xargs -r getfacl -n 2>&1
	find . -mindepth 1 2>/dev/null | sort | while read -r f; do
		getfattr -h -d -m '^system' -e hex "$f" 2>&1
	done
}
export -f see

# as WHO SCRIPT DIR: runs it there and shows what is there then; WHO is root, or a user with the groups that follow
as() {
	local user=${1%%:*} groups=${1#*:} who=()
	[ "$1" = root ] || who=(setpriv "--reuid=$user" "--regid=$user" "--groups=$groups")
	(cd "$3" && "${who[@]}" bash -c "$2; see" 2>&1) | sed "s|$3|DIR|g"
}

# alike WHO SCRIPT: does and shows the same on both
alike() {
	as "$1" "$2" "$T/host" >"$T/want"
	as "$1" "$2" "$M" >"$T/got"
	diff "$T/want" "$T/got"
	[ -s "$T/got" ]
}

basics='
	umask 022
	echo text >f; mkdir d; ln -s f l; mkfifo p
	setfacl -m u:7:rw,g:8:r,u:9:--- f; setfacl -m u:7:rwx,d:u:7:rwx,d:g:8:rx d; setfacl -m u:7:rw p
	getfattr -n system.posix_acl_access -e hex f
	getfattr -n system.posix_acl_default d f
	getfattr -d -m - -e hex f d
	echo new >d/f; mkdir d/d; mkfifo d/p; ln -s f d/l; ln f d/hard; umask 077; echo n >d/g; mkdir d/d/d; umask 022
	: >d/d/exec; chmod 777 d/d/exec; (umask 777; : >d/none; mkdir d/nodir)
	chmod 640 f; stat -c "%A" f; getfacl -n f; chmod 000 p; chmod g=rx d; chmod 2775 d/d; mkdir d/d/sg
	cp -p f copy; cp -a d tree; cp f d/plain; install -m 700 f d/inst; mv d/g moved; mv f d/back
	setfacl -x u:7 d/back; setfacl -m m::- d/f; setfacl -k d/d
	setfacl -m u::r,g::rw,o::x copy
	setfacl -b tree; setfacl -R -m u:11:rX tree; setfacl -n -m u:12:rwx moved; setfacl --restore=- <<<"$(getfacl -n d)"
	setfacl -d -m u:3:r moved; setfacl -m u:3:r l; setfacl -m d:u:3:r p; setfacl -b p; setfacl -b p; setfacl -k moved
	setfattr -n system.posix_acl_access -v 0x02000000 copy; setfattr -n system.posix_acl_access -v 0x0200 copy
	setfattr -n system.posix_acl_access -v 0x0200000001000700ffffffff copy; setfattr -n system.posix_acl_access -v 0x03000000 copy
	setfattr -n system.posix_acl_default -v 0x02000000 d/d; setfattr -x system.posix_acl_access moved
	setfattr -x system.posix_acl_access moved; setfattr -x system.posix_acl_default d/nodir; setfattr -x system.posix_acl_default moved
	setfattr -h -n system.posix_acl_access -v 0x02000000 l; setfattr -n system.posix_acl_other -v x moved
	touch m; setfattr -n system.posix_acl_access -v 0x0200000001000600ffffffff04000400ffffffff20000400ffffffff m
	getfattr -d -m - m; rm -r d/d
'

@test "setfacl, umask, chmod, copies, inheritance: as on a local directory, for root" {
	mount_it
	alike root "$basics"
	umount_it
	fsck_clean
	mount_it
	(cd "$M" && see) >"$T/got"
	(cd "$T/host" && see) | diff - "$T/got"
}

@test "the same for an ordinary user" {
	mount_it
	chmod 777 "$M" "$T/host"
	alike 1234:99 "$basics"
	umount_it
	fsck_clean
}

@test "only the owner and root set lists; setgid goes with a group that is not the caller's" {
	mount_it
	local s='
		umask 0; echo text >f; mkdir d; touch mine theirs other
		chown 1234:99 mine; chown 1234:1 theirs; chown 1:1 other; chmod 2775 mine theirs'
	alike root "$s"
	s='
		setfacl -m u:7:rw f; setfacl -m d:u:7:rw d; setfacl -b other; setfacl -m u:7:rw other
		setfacl -m u:7:rwx mine; setfacl -m u:7:rwx theirs; setfattr -x system.posix_acl_access f'
	alike 1234:99,5 "$s"
	[ "$(stat -c %a "$M/mine" "$M/theirs")" = "2775
775" ]
	alike root 'chmod 2775 theirs; setfacl -m u:8:rwx theirs; chown 1:1 theirs; setfacl -m u:1234:rwx other'
	alike 1234:99 'echo more >>other; cat other; setfacl -b other'
}

@test "a list admits whom it names, and nobody more" {
	mount_it
	local s='
		umask 077; echo secret >f; mkdir d; echo inner >d/f; mkdir drop
		setfacl -m u:1234:r,g:99:rw f; setfacl -m u:1234:x d; chmod 644 d/f; setfacl -m u:1234:wx drop'
	alike root "$s"
	s='cat f; echo x >>f; ls d; cat d/f; echo y >>d/f; touch drop/new; ls drop; rm drop/new; test -w f; echo $?; test -r f; echo $?'
	alike 1234:1234 "$s"
	(cd "$M" && [ "$(setpriv --reuid=1234 --regid=1234 --clear-groups cat f)" = secret ])
	run setpriv --reuid=1235 --regid=1235 --clear-groups cat "$M/f"
	says "Permission denied"
	alike 1235:1235 "$s"
	alike 1236:99 "$s"
	# The mask bounds them all; what the list says is seen at once.
	alike root 'chmod g-r f'
	run setpriv --reuid=1234 --regid=1234 --clear-groups cat "$M/f"
	says "Permission denied"
	alike root 'chmod g+r f; setfacl -x u:1234 d; setfacl -m u:1234:--- f'
	alike 1234:99 "$s"
	alike root 'setfacl -b f; chmod 640 f; chgrp 99 f'
	alike 1234:99 "$s"
}

@test "a change of the list moves ctime, and two mounts see it" {
	mount_it
	mkdir "$T/two"
	mount_at "$T/two" --allow-other --attr-timeout=0 --entry-timeout=0
	echo text >"$M/f"
	chmod 600 "$M/f"
	local before
	before=$(stat -c %z "$M/f")
	setfacl -m u:1234:r "$M/f"
	[ "$(stat -c %z "$M/f")" != "$before" ]
	[ "$(getfacl -cn "$T/two/f")" = "$(getfacl -cn "$M/f")" ]
	[ "$(setpriv --reuid=1234 --regid=1234 --clear-groups cat "$T/two/f")" = text ]
	chmod 600 "$T/two/f"
	sleep 1.1
	run setpriv --reuid=1234 --regid=1234 --clear-groups cat "$M/f"
	says "Permission denied"
	umount_it "$T/two"
}
