#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# make install and uninstall, and the Debian package: built, judged, installed into a machine of its own, used, removed.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

repo=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)

# build TARGET...: of the tree and the build that are tested
build() {
	[ -z "${KISEKI_SAN-}" ] || skip "the build is for the sanitizers"
	env -u MAKEFLAGS -u MAKELEVEL timeout -k 5 500 make -C "$repo" BUILD="${bin#"$repo/"}" "$@" 3>&- 4>&-
}

# under DIR: every file and symlink there, as seen from there
under() { (cd "$1" && find . ! -type d | cut -c 2- | sort); }

@test "make install has everything, below DESTDIR, and uninstall takes it away" {
	local t
	mkdir root
	run_ok build DESTDIR="$T/root" PREFIX=/usr install
	under root >installed
	for t in "$bin"/kiseki "$bin"/kiseki-*; do
		t=${t##*/}
		grep -qx "/usr/bin/$t" installed
		grep -qE "^/usr/share/man/man[18]/$t\.[18]$" installed
		grep -qx "/usr/share/fish/vendor_completions.d/$t.fish" installed
		grep -qx "/usr/share/bash-completion/completions/$t" installed
	done
	for t in mount.kiseki mount.fuse.kiseki umount.kiseki umount.fuse.kiseki mkfs.kiseki fsck.kiseki; do
		[ -x "root$(readlink "root/sbin/$t")" ]
		[ -e "root/usr/share/man/man8/$t.8" ]
	done
	for t in man5/kiseki.conf.5 man7/kiseki.7 man7/kiseki-json.7 man7/kiseki-metrics.7; do
		grep -qx "/usr/share/man/$t" installed
	done
	grep -q '^ExecStart=/usr/bin/kiseki-mount ' root/usr/lib/systemd/system/kiseki@.service
	for t in gc fsck; do
		grep -q "^ExecStart=/usr/bin/kiseki-$t " "root/usr/lib/systemd/system/kiseki-$t@.service"
		grep -qx "/usr/lib/systemd/system/kiseki-$t@.timer" installed
	done
	grep -qx /usr/share/zsh/site-functions/_kiseki installed
	grep -qx /usr/share/doc/kiseki/README.md installed
	# All of it is whole, readable by all, and nobody else's to write.
	[ -z "$(find root -xtype l ! -path 'root/sbin/*')" ]
	[ -z "$(find root ! -type l \( -perm /022 -o ! -perm -444 \))" ]
	[ "$(root/usr/bin/kiseki ls -V)" = "$("$bin/kiseki-ls" -V)" ]
	run_ok build DESTDIR="$T/root" PREFIX=/usr uninstall
	[ -z "$(under root)" ]
}

@test "make install goes where the variables say" {
	run_ok build DESTDIR="$T/root" PREFIX=/opt/k bindir=/opt/k/libexec mandir=/opt/man unitdir=/etc/units zshcompdir=/etc/zsh install
	[ -x root/opt/k/libexec/kiseki-ls ]
	[ -e root/opt/man/man1/kiseki-ls.1 ]
	[ -e root/etc/zsh/_kiseki ]
	[ -L root/opt/k/sbin/mount.kiseki ]
	grep -q '^ExecStart=/opt/k/libexec/kiseki-mount ' root/etc/units/kiseki@.service
	under root | grep -vE '^/(opt/(k|man)|etc/(units|zsh))/' >elsewhere || true
	[ ! -s elsewhere ]
	run_ok build DESTDIR="$T/root" PREFIX=/opt/k bindir=/opt/k/libexec mandir=/opt/man unitdir=/etc/units zshcompdir=/etc/zsh uninstall
	[ -z "$(under root)" ]
}

@test "what is needed to build is what the package says it needs" {
	requires dpkg-query pkg-config
	local p file package
	for p in $(build -s --eval 'list: ; @echo $(pkgs)' list); do
		file=$(pkg-config --variable=pcfiledir "$p")/$p.pc
		package=$(dpkg-query -S "*/$p.pc" | sed -n "s,^\([^ :]*\).*,\1,p" | head -n 1)
		[ -e "$file" ]
		grep -qx " $package," "$repo/debian/control" || {
			echo "debian/control: Build-Depends lacks $package, which has $p.pc"
			return 1
		}
	done
	[ "$(dpkg-parsechangelog -l "$repo/debian/changelog" -S Version)" = "$("$bin/kiseki" -V | awk '{ print $NF }')" ]
}

# machine SCRIPT: run in a copy of this machine that forgets everything: an overlay over /, in a mount namespace
machine() {
	cat >"$T/enter" <<-'END'
		set -eu
		mkdir "$T/over" && mount -t tmpfs none "$T/over"
		mkdir "$T/over/upper" "$T/over/work" "$T/over/root"
		mount -t overlay -o "lowerdir=/,upperdir=$T/over/upper,workdir=$T/over/work" overlay "$T/over/root"
		mount --rbind /dev "$T/over/root/dev"
		mount --rbind /sys "$T/over/root/sys"
		mount -t proc proc "$T/over/root/proc"
		mkdir -p "$T/over/root/$T"
		mount --bind "$T" "$T/over/root/$T"
		# Data on a disk, as it is meant to be.
		mkdir -p "$T/var" "$T/over/root/var/lib/kiseki"
		mount --bind "$T/var" "$T/over/root/var/lib/kiseki"
		exec chroot "$T/over/root" env -u KISEKI_CONFIG PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root bash -eu "$T/inside"
	END
	echo "$1" >"$T/inside"
	export T
	run_ok limit 120 "$BATS_TEST_DIRNAME/unshared" bash "$T/enter" 3>&- 4>&-
}

@test "the Debian package: built, accepted by lintian, installed, used, removed" {
	requires root fuse unshare dpkg-buildpackage dh lintian
	grep -qw overlay /proc/filesystems || skip "no overlay file system here"
	run_ok build deb
	mkdir deb
	cp "$bin"/deb/kiseki_*.deb "$bin"/deb/*.changes deb/
	out_err limit 120 lintian --allow-root --fail-on warning "$bin"/deb/kiseki_*.changes
	[ "$status" -eq 0 ]
	machine '
		cd "$T"
		dpkg -P kiseki >/dev/null 2>&1 || true
		find /etc /mnt /opt /srv /usr /var/cache /var/lib -xdev | sort >before
		dpkg -i deb/kiseki_*.deb
		# Used as its manual says, by the names the system has for it.
		mkfs -t kiseki photos
		mkdir /mnt/photos
		mount -t kiseki photos /mnt/photos
		echo content >/mnt/photos/file
		[ "$(findmnt -n -o FSTYPE,SOURCE /mnt/photos | tr -s " ")" = "fuse.kiseki photos" ]
		umount /mnt/photos
		[ "$(kiseki cp photos:/file -)" = content ]
		fsck -t kiseki photos || fsck.kiseki photos
		kiseki-gc photos
		for unit in /lib/systemd/system/kiseki*@.*; do
			[ -z "$(systemd-analyze verify --man=no "$unit" 2>&1)" ]
		done
		[ -s /usr/share/man/man8/kiseki-mount.8.gz ]
		zcat /usr/share/man/man8/mount.kiseki.8.gz | grep -q KISEKI-MOUNT
		[ "$(bash -c "source /usr/share/bash-completion/completions/kiseki-ls; complete -p kiseki-ls")" = "complete -F _kiseki kiseki-ls" ]
		# Again over itself, as an upgrade does it.
		dpkg -i deb/kiseki_*.deb
		rmdir /mnt/photos
		dpkg -P kiseki
		# The volume is the user'"'"'s and stays; nothing else does.
		[ -e /var/lib/kiseki/photos/meta.db ]
		find /etc /mnt /opt /srv /usr /var/cache /var/lib -xdev | sort >after
		comm -13 before after | grep -vE "^/var/(lib/dpkg|cache/man|lib/kiseki)/" >left || true
		[ ! -s left ] || { cat left; exit 1; }
	'
}
