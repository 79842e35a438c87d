#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-mount --uid, --gid and --umask: everything is shown as one owner's, and what is made is stored as his.

load mounted_helper

setup() {
	need_root
	mounted_setup
}
teardown() { mounted_teardown; }

as_user() {
	local id=$1
	shift
	setpriv "--reuid=$id" "--regid=$id" --clear-groups "$@"
}

forbidden() {
	run "$@"
	[ "$status" -ne 0 ] || { echo "went well: $*"; return 1; }
	grep -qE 'Permission denied|not permitted' <<<"$output" || { echo "$*: $output"; return 1; }
}

shown() { stat -c '%A %u:%g' "$M/$1"; }
stored() { kiseki-ls -lRH "$U:/" | awk -F'\t' -v n="/$1" 'substr($NF, length($NF) - length(n) + 1) == n || $NF == substr(n, 2) { print $1, $3 ":" $4 }'; }
is() { [ "$1" = "$2" ] || { echo "'$1', not '$2'"; return 1; }; }

# people: a volume with files of several owners, and what an unchanged mount shows of them in $T/as-it-is
people() {
	format
	mount_it
	cd "$M"
	mkdir d shared
	echo secret >private
	echo text >open
	cp /bin/true tool
	ln -s open link
	mkfifo pipe
	echo locked >none
	chown 1234:5678 private shared
	chown -h 1234:5678 link
	chmod 600 private
	chmod 000 none
	chmod 666 open
	chmod 6755 tool
	chmod 2775 shared
	cd "$T"
	see >as-it-is
	umount_it
}
see() { (cd "$M" && find . -printf '%p %M %U:%G %s %T@ %l\n' | sort); }

@test "stat shows one owner, and permissions without the mask's" {
	people
	mount_it --uid=4000 --gid=5000 --umask=027
	is "$(stat -c '%A %u:%g' "$M")" 'drwxr-x--- 4000:5000'
	is "$(shown private)" '-rw------- 4000:5000'
	is "$(shown open)" '-rw-r----- 4000:5000'
	is "$(shown none)" '---------- 4000:5000'
	# The bits of the owner who is stored.
	is "$(shown tool)" '-rwxr-x--- 4000:5000'
	is "$(shown shared)" 'drwxr-s--- 4000:5000'
	is "$(shown link)" 'lrwxrwxrwx 4000:5000'
	is "$(shown pipe)" 'prw-r----- 4000:5000'
	# Also to those who list.
	[ "$(cd "$M" && find . -printf '%U:%G\n' | sort -u)" = 4000:5000 ]
	jq -e '.options | .uid == 4000 and .gid == 5000 and .umask == "027"' "$M/.kiseki/config"
	# The hidden directory is still root's.
	is "$(stat -c '%a %u' "$M/.kiseki" "$M/.kiseki/stats" | paste -sd' ')" '500 0 400 0'
	forbidden as_user 4000 cat "$M/.kiseki/stats"
	umount_it
	# Each alone.
	mount_it --uid=4000
	is "$(shown open)" '-rw-rw-rw- 4000:0'
	is "$(shown private)" '-rw------- 4000:5678'
	umount_it
	mount_it --gid=5000
	is "$(shown tool)" '-rwxr-xr-x 0:5000'
	umount_it
	mount_it --umask=077
	is "$(shown open)" '-rw------- 0:0'
	# Nobody else's owner is shown: it means what it meant.
	is "$(shown tool)" '-rws--S--- 0:0'
	umount_it
	# Nothing of it is stored.
	mount_it
	see | diff as-it-is -
	jq -e '.options | has("uid") or has("gid") or has("umask") | not' "$M/.kiseki/config"
}

@test "who may what follows from what is shown" {
	people
	mount_it --uid=4000 --gid=5000 --umask=027
	[ "$(as_user 4000 cat "$M/private")" = secret ]
	as_user 4000 sh -c 'echo more >>"$1"' - "$M/private"
	as_user 4000 sh -c 'echo x >"$1/new" && mv "$1/new" "$1/d/new" && rm "$1/d/new"' - "$M"
	forbidden as_user 4000 cat "$M/none"
	# It is his.
	as_user 4000 chmod 600 "$M/none"
	[ "$(as_user 4000 cat "$M/none")" = locked ]
	as_user 4000 chmod 000 "$M/none"
	as_user 4000 touch -d 2001-01-01 "$M/open"
	# The group reads what is not private, others nothing; root everything.
	[ "$(setpriv --reuid=4001 --regid=5000 --clear-groups cat "$M/open")" = text ]
	forbidden setpriv --reuid=4001 --regid=5000 --clear-groups touch "$M/open"
	forbidden setpriv --reuid=4001 --regid=5000 --clear-groups cat "$M/private"
	forbidden as_user 1234 cat "$M/private"
	forbidden as_user 1234 ls "$M"
	grep -q secret "$M/private"
	umount_it
	# Without the options it is another's again.
	mount_it
	forbidden as_user 4000 cat "$M/private"
	as_user 1234 grep -q more "$M/private"
}

@test "what is made is stored as that owner's, and is what it looks like" {
	local name
	people
	mount_it --uid=4000 --gid=5000 --umask=027
	# By root, and by whom it is shown to belong to.
	for name in root user; do
		cat >make <<-'END'
			umask 0
			cd "$1"
			: >"$2-file"
			mkdir "$2-dir" "$2-dir/sub"
			ln -s open "$2-link"
			mkfifo "$2-pipe"
			mkdir -m 700 "$2-mine"
			cp open "$2-copy"
		END
		case $name in
		root) bash -e make "$M" "$name" ;;
		user) as_user 4000 bash -e make "$M" "$name" ;;
		esac
		is "$(shown "$name-file")" '-rw-r----- 4000:5000'
		is "$(stored "$name-file")" '-rw-r----- 4000:5000'
		is "$(stored "$name-copy")" '-rw-r----- 4000:5000'
		is "$(stored "$name-dir/sub")" 'drwxr-x--- 4000:5000'
		is "$(stored "$name-mine")" 'drwx------ 4000:5000'
		is "$(stored "$name-pipe")" 'prw-r----- 4000:5000'
		is "$(stored "$name-link -> open")" 'lrwxrwxrwx 4000:5000'
	done
	mknod "$M/null" c 1 3
	is "$(stored null)" 'crw-r----- 4000:5000'
	# A directory that gives its group to what is made in it still does.
	: >"$M/shared/file"
	is "$(shown shared/file)" '-rw-r----- 4000:5000'
	is "$(stored shared/file)" '-rw-r----- 4000:5678'
	umount_it
	fsck_clean
}

@test "owners cannot be changed, permissions within what is shown" {
	people
	mount_it --uid=4000 --gid=5000 --umask=027
	forbidden chown 0 "$M/private"
	forbidden chown :0 "$M/private"
	forbidden chown 1234:5678 "$M/private"
	forbidden chown 4000:5678 "$M/private"
	forbidden chown -h 1 "$M/link"
	# To whom it belongs already.
	chown 4000:5000 "$M/private"
	as_user 4000 chown 4000 "$M/private"
	is "$(stored private)" '-rw------- 1234:5678'
	# What the mask takes away is not given.
	chmod 666 "$M/private"
	is "$(shown private)" '-rw-r----- 4000:5000'
	is "$(stored private)" '-rw-r----- 1234:5678'
	chmod 600 "$M/private"
	# Nobody makes a program of another run as him.
	chmod 6755 "$M/tool"
	is "$(shown tool)" '-rwxr-x--- 4000:5000'
	is "$(stored tool)" '-rwxr-x--- 0:0'
	as_user 4000 cp /bin/true "$M/own"
	as_user 4000 chmod u+s "$M/own"
	is "$(stored own)" '-rwxr-x--- 4000:5000'
	rm "$M/own"
	# A directory's setgid is shown, and stays.
	chmod 2770 "$M/shared"
	is "$(stored shared)" 'drwxr-s--- 1234:5678'
	is "$(shown shared)" 'drwxr-s--- 4000:5000'
	umount_it
	# With only a group, users are as ever.
	mount_it --gid=5000
	chown 77 "$M/private"
	forbidden chown 78:78 "$M/private"
	umount_it
	is "$(stored private)" '-rw------- 77:5678'
	mount_it --umask=077
	chown 78:79 "$M/private"
	chmod 4755 "$M/tool"
	umount_it
	is "$(stored private)" '-rw------- 78:79'
	is "$(stored tool)" '-rws------ 0:0'
}

@test "setuid of a program goes when it is written to, shown or not" {
	people
	mount_it --uid=4000 --gid=5000
	as_user 4000 sh -c 'echo x >>"$1"' - "$M/tool"
	umount_it
	is "$(stored tool)" '-rwxr-xr-x 0:0'
}

@test "there are no ACLs on such a mount; what is stored stays" {
	command -v setfacl >/dev/null || skip "setfacl is not installed"
	format
	mount_it
	echo text >"$M/f"
	mkdir "$M/d"
	setfacl -m u:1234:rw "$M/f"
	setfacl -d -m u:1234:rwx "$M/d"
	setfattr -n user.colour -v blue "$M/f"
	(cd "$M" && getfacl -n f d) >"$T/acls"
	umount_it
	mount_it --uid=4000
	fails 1 setfacl -m u:7:r "$M/f"
	says 'Operation not supported'
	fails 1 getfattr -n system.posix_acl_access "$M/f"
	says 'Operation not supported'
	fails 1 setfattr -x system.posix_acl_default "$M/d"
	run_ok getfattr -m - "$M/f" "$M/d"
	says user.colour
	not grep posix_acl <<<"$output"
	# The list's mask is what the group has.
	is "$(shown f)" '-rw-rw-r-- 4000:0'
	forbidden as_user 1234 touch "$M/f"
	: >"$M/d/new"
	# cp and ls get along.
	run_ok cp -p "$M/f" "$M/copy"
	rm "$M/copy"
	run_ok ls -l "$M"
	umount_it
	mount_it
	(cd "$M" && getfacl -n f d) | diff "$T/acls" -
	getfacl -n "$M/d/new" | grep -q user:1234:rwx
	as_user 1234 touch "$M/f"
}

@test "a build tree, tar and rsync as the one owner" {
	people
	mount_it --uid=4000 --gid=5000 --umask=022
	as_user 4000 bash -es "$M" <<-'END'
		cd "$1/d"
		mkdir -p tree/a/b
		for i in {1..50}; do echo $i >tree/a/$i; chmod $((i % 2 ? 755 : 444)) tree/a/$i; done
		tar -cf tree.tar tree
		mkdir out
		tar -xpf tree.tar -C out
		diff -r tree out/tree
		! command -v rsync >/dev/null || rsync -a tree/ copy
		rm -rf tree out
	END
	umount_it
	fsck_clean
}

@test "by name, as -o options, from a configuration file, from fstab" {
	local user group
	people
	user=$(getent passwd 65534 | cut -d: -f1)
	group=$(getent group 65534 | cut -d: -f1)
	[ -n "$user" ] && [ -n "$group" ] || skip "nobody has no name"
	mount_it -o "uid=$user,gid=$group,umask=0077"
	is "$(shown open)" '-rw------- 65534:65534'
	umount_it
	printf '[mine]\nmeta = %s\nuid = %s\numask = 7\n' "$V" "$user" >k.conf
	limit 60 kiseki-mount -q --config=k.conf mine "$M" 3>&- 4>&-
	is "$(shown open)" '-rw-rw---- 65534:0'
	umount_it
	limit 60 kiseki-mount -q --config=k.conf -o uid=7 mine "$M" 3>&- 4>&-
	is "$(shown open)" '-rw-rw---- 7:0'
	umount_it
	# As mount(8) runs it with a line of fstab.
	mkdir sbin
	ln -s "$bin/kiseki-mount" sbin/mount.kiseki
	limit 60 sbin/mount.kiseki "$V" "$M" -o "rw,gid=$group,umask=027,_netdev" 3>&- 4>&-
	is "$(shown open)" '-rw-r----- 0:65534'
}

@test "bad values" {
	local option
	format
	for option in --uid=nobody-has-this-name --uid= --uid=-1 --uid=4294967295 --uid=1x --gid=no-such-group --gid=4294967296 \
		--umask=1000 --umask=8 --umask= --umask=-1 --umask=rwx --umask=0x7; do
		fails 64 limit 20 kiseki-mount "$option" "$V" "$M"
		says "${option%%=*}"
	done
	fails 64 limit 20 kiseki-mount -o umask=999 "$V" "$M"
	says umask
	fails 64 limit 20 kiseki-mount -o uid "$V" "$M"
	! mountpoint -q "$M"
}
