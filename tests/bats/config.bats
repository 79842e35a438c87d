#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-config.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

@test "lists the settings and where they come from" {
	format --name=photos --inodes=500
	out_err kiseki-config "$V"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	grep -qE '^capacity +none +default$' .out
	grep -qE '^inodes +500 +volume$' .out
	grep -qE '^name +photos +format$' .out
	grep -qE '^block-size +4 MiB +format$' .out
	grep -qE '^data +meta.blocks/ +format$' .out
	[ "$(kiseki-config "$V" name)" = photos ]
	[ "$(kiseki-config -b "$V" block-size)" = 4194304 ]
	[ "$(kiseki-config "$V" capacity inodes)" = $'none\n500' ]
	[ -z "$(kiseki-config -q "$V")" ]
	[ "$(kiseki config "$V" name)" = photos ]
}

@test "changes quotas, together or not at all" {
	format --name=photos
	[ "$(kiseki-config "$V" capacity=10G inodes=1000)" = $'photos: changed capacity: none -> 10 GiB\nphotos: changed inodes: none -> 1000' ]
	[ "$(kiseki-config -b "$V" capacity inodes)" = $'10737418240\n1000' ]
	kiseki-status "$V" | grep -q 'quota 10 GiB'
	fails_cleanly 64 kiseki-config "$V" capacity=20G inodes=many
	says inodes=many
	[ "$(kiseki-config "$V" capacity)" = '10 GiB' ]
	kiseki-config -q "$V" capacity=none
	[ "$(kiseki-config "$V" capacity)" = none ]
	[ "$(kiseki-config "$V" inodes)" = 1000 ]
	[ -z "$(kiseki-config "$V" inodes=1000)" ]
}

@test "-n changes nothing" {
	format --name=photos
	before=$(sha256sum "$V")
	[ "$(kiseki-config -n "$V" capacity=1G)" = 'photos: would change capacity: none -> 1 GiB' ]
	[ "$(kiseki-config "$V" capacity)" = none ]
	[ "$before" = "$(sha256sum "$V")" ]
	fails_cleanly 64 kiseki-config -n "$V" capacity=x
}

@test "a quota below what is there is told" {
	format
	head -c 300000 /dev/urandom >f
	kiseki-cp -q f "$U:/"
	out_err kiseki-config "$V" capacity=100k inodes=1
	[ "$status" -eq 0 ]
	says 'more is stored than'
	says 'more files than'
	fails_cleanly 74 kiseki-cp -q f "$U:/g"
	kiseki-config -q "$V" capacity=none inodes=none
	kiseki-cp -q f "$U:/g"
}

@test "the default volume, and lines of the configuration" {
	format
	cat >k.conf <<-EOF2
		[default]
		volume = v
		jobs = 2
		[v]
		meta = $V
		jobs = 3
	EOF2
	export KISEKI_CONFIG=$T/k.conf
	kiseki-config inodes=77 >/dev/null
	[ "$(kiseki-config inodes)" = 77 ]
	[ "$(kiseki-config v inodes)" = 77 ]
	kiseki-config v | grep -qE '^--jobs +3 +config$'
	[ "$(kiseki-config v | grep -c jobs)" -eq 1 ]
}

@test "mistakes" {
	format
	for bad in capacity=0 capacity=-1 capacity=10X capacity= inodes=0 inodes=1k inodes=-5 inodes=99999999999999999999; do
		fails_cleanly 64 kiseki-config "$V" $bad
		says "$bad"
		says hint:
	done
	fails_cleanly 64 kiseki-config "$V" colour=blue
	says "no setting 'colour'"
	fails_cleanly 64 kiseki-config colour=blue
	says "no setting 'colour'"
	fails_cleanly 64 kiseki-config "$V" name=x
	says fixed
	fails_cleanly 64 kiseki-config "$V" uuid=x inodes=5
	[ "$(kiseki-config "$V" inodes)" = none ]
	fails_cleanly 66 kiseki-config "$T/none.db" inodes=5
	[ ! -e "$T/none.db" ]
	fails_cleanly 66 kiseki-config nosuchvolume
	fails_cleanly 64 kiseki-config
	fails_cleanly 64 kiseki-config --bogus
}

@test "JSON" {
	requires jq
	format --capacity=1G
	out_err kiseki-config --json "$V"
	json_ok .out
	jq -es 'map(select(.key == "capacity"))[0] | .value == 1073741824 and .source == "volume" and .changeable' .out
	jq -es 'map(select(.key == "name"))[0].changeable == false' .out
	out_err kiseki-config --json "$V" capacity=2G
	json_ok .out
	jq -es '.[0].action == "changed" and .[0].from == 1073741824 and .[0].value == 2147483648 and .[1].counts.changed == 1' .out
	out_err kiseki-config --json "$V" capacity=oops
	[ "$status" -eq 64 ]
	json_ok .out
	[ "$(kiseki-config --json -q "$V" | wc -l)" -eq 1 ]
}

@test "a mount follows" {
	requires fuse
	format
	mount_it
	echo x >"$M/a"
	kiseki-config -q "$V" inodes=2
	sleep 2.5
	not touch "$M/b" 2>/dev/null
	kiseki-config -q "$M" inodes=none
	sleep 2.5
	touch "$M/b"
}
