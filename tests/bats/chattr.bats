#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# chattr's flags on a mount: the same commands on a local directory are the judge.

load mounted_helper

setup() {
	need_root
	command -v lsattr >/dev/null || skip "lsattr is not installed"
	mounted_setup
	mkdir "$T/host"
	touch "$T/host/f"
	chattr +i "$T/host/f" 2>/dev/null || skip "no immutable files in $T"
	chattr -i "$T/host/f"
	rm "$T/host/f"
	format
	mount_it
}

teardown() {
	# What cannot be deleted would stay.
	[ ! -d "${T-}/host" ] || chattr -R -f -i -a "$T/host" || true
	mounted_teardown
}

# try COMMAND...: what it says; which flags are set, of those that Kiseki has
try() {
	echo "> $*"
	"$@" 2>&1
	echo "= $?"
}

flags() {
	# An ext4 has flags of its own.
	lsattr -d "$@" 2>&1 | sed -E 's/^([^ ]*) /\n\1 /; :a; s/\n([^ ]*)[eIAV-]/\n\1/; ta; s/\n//'
}
export -f try flags

# as USER SCRIPT DIR
as() {
	local who=()
	[ "$1" = root ] || who=(setpriv "--reuid=$1" "--regid=$1" --clear-groups)
	(cd "$3" && "${who[@]}" bash -c "$2; echo done" 2>&1) | sed "s|$3|DIR|g"
}

# alike USER SCRIPT: says the same on both
alike() {
	as "$1" "$2" "$T/host" >"$T/want"
	as "$1" "$2" "$M" >"$T/got"
	diff "$T/want" "$T/got"
	[ -s "$T/got" ]
}

tree='umask 022; mkdir d s; echo text >f; echo text >d/f; mkdir d/d; echo more >s/f; ln -s f l; setfattr -n user.a -v b d/f f'

use='
	try cat $F; try cat <<<"$(echo x 2>&1 >>$F)"; try dd if=/dev/null of=$F conv=notrunc status=none
	try bash -c ": >$F"; try truncate -s 1 $F; try touch $F; try touch -d @5 $F; try chmod 600 $F; try chown 7 $F
	try setfattr -n user.b -v c $F; try setfattr -x user.a $F; try ln $F hard; try mv $F moved; try mv s/f $F
	try fallocate -l 100 $F; try fallocate -p -l 2 $F; try cp s/f $F; try rm -f $F; try cat $F; try stat -c "%s %a %u" $F; flags $F'

@test "an immutable file, and one that only grows" {
	alike root "$tree"
	local what
	for what in i a; do
		alike root "F=f; try chattr +$what f; flags f; $use"
		alike root "try chattr -$what f; flags f"
	done
	alike root "try chattr +d f; flags f; try chattr =a f; flags f; try chattr =i f; flags f; try chattr = f; flags f; cat f; rm f"
	umount_it
	fsck_clean
}

@test "an immutable directory, and one that only fills" {
	alike root "$tree"
	local what s='
		try touch d/new; try mkdir d/newdir; try ln -s x d/newlink; try mkfifo d/newfifo; try ln f d/newhard; try mv f d/newname; try mv d/newname f
		try mv d/f g; try mv d/f d/g; try mv s/f d/f; try rm -f d/f; try rmdir d/d; try mv d s/d; try mv s/d d; try rmdir d; try touch d; try chmod 700 d
		try bash -c "echo x >>d/f"; try chmod 600 d/f; try setfattr -n user.c -v d d; ls d; try cat d/f; flags d d/f'
	for what in i a; do
		alike root "try chattr +$what d; flags d; $s"
		alike root "try chattr -$what d; try rm -rf d f s l g; $tree"
	done
}

@test "no dump is inherited, the others are not" {
	alike root 'mkdir d; chattr +d d; touch d/f; mkdir d/d; touch d/d/f; flags d d/f d/d d/d/f
		chattr -d d; chattr +a d; touch d/g; flags d d/g; lsattr -d l; chattr +i l; chattr -a d'
}

@test "only root sets what protects; the owner the rest" {
	chmod 777 "$M" "$T/host"
	alike 1234 'echo t >f; mkdir d; try chattr +i f; try chattr +a f; try chattr +a d; try chattr +d f; try chattr +d d; flags f d; try chattr -d f; flags f'
	alike root 'chattr +i f; touch other'
	alike 1234 'try chattr -i f; try chattr +d other; try bash -c "echo x >f"; try rm -f f; flags f'
	alike root 'chattr -i f'
}

@test "who had it open for writing before is stopped too; after a remount it holds still" {
	alike root 'echo a >f; exec 5>>f; echo b >&5; chattr +i f; try bash -c "echo c >&5"; cat f; chattr -i f; try bash -c "echo d >&5"; cat f'
	chattr +i "$M/f"
	umount_it
	mount_it
	[ "$(flags "$M/f")" = "i $M/f" ]
	run rm -f "$M/f"
	says "Operation not permitted"
	chattr -i "$M/f"
	rm "$M/f"
}
