#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-info.

load helper
setup() {
	cli_setup
	format --block-size=64k
}
teardown() { mounted_teardown; }

# Every piece that JSON names is cut out of its object, and put where it belongs: the file must come out.
rebuild() {
	jq -r 'select(.kind == "piece") | "\(.offset) \(.bytes) \(.object) \(.object_offset)"' | while read -r off n key at; do
		dd if="$T/vol/meta.blocks/$key" iflag=skip_bytes,count_bytes,fullblock skip="$at" count="$n" bs=64k \
			of="$1" oflag=seek_bytes seek="$off" conv=notrunc status=none
	done
}

@test "the pieces are the file, in blocks and in packs" {
	requires jq
	mkdir src
	head -c 300001 /dev/urandom >src/blocks
	head -c 70001 /dev/urandom >src/packed
	: >src/empty
	kiseki-cp -q -r src "$U:/"
	for f in blocks packed; do
		kiseki-info --json "$U:/src/$f" | rebuild "out.$f"
		cmp "src/$f" "out.$f"
	done
	kiseki-info --json "$U:/src/packed" | jq -es 'map(select(.kind == "piece")) | length == 1 and .[0].packed'
	[ "$(kiseki-info "$U:/src/empty" | grep -c OFFSET)" -eq 0 ]
}

@test "a sparse file and its chunks" {
	requires jq
	truncate -s 100G sparse
	printf hello | dd of=sparse bs=1 seek=70000000000 conv=notrunc status=none
	kiseki-cp -q sparse "$U:/"
	out_err limit 10 kiseki-info --json "$U:/sparse"
	jq -es 'map(select(.kind == "piece")) | length == 1 and .[0].offset <= 70000000000 and .[0].offset + .[0].bytes >= 70000000005' .out
}

@test "says what it is, by path and by inode" {
	sample src
	kiseki-cp -q -a src "$U:/"
	out_err kiseki-info "$U:/src/file"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	says ' file  mode 0644'
	says 'links 2'
	says /src/file
	says /src/dir/hard
	says 'modified 2001-02-03T04:05:06'
	ino=$(awk '$1 == "inode" { print $2 }' .out)
	cmp .out <(kiseki-info -i "$ino" "$V")
	kiseki-info "$U:/src/dir/sym" | grep -q 'target    ../file'
	kiseki-info "$V" | grep -q 'path      /$'
	kiseki-info "$U:/src/dir/deep" | grep -q 'path      /src/dir/deep$'
	[ -z "$(kiseki-info -q "$U:/src/file")" ]
	kiseki info "$V" >/dev/null
}

@test "from an object and a slice back to the files" {
	requires jq
	mkdir src
	head -c 300001 /dev/urandom >src/blocks
	echo one >src/one
	echo two >src/two
	kiseki-cp -q -r src "$U:/"
	object=$(kiseki-info --json "$U:/src/blocks" | jq -r 'select(.kind == "piece" and .offset == 65536).object')
	kiseki-info --object="$object" "$V" | grep -q 'path      /src/blocks$'
	[ "$(kiseki-info --object="$object" "$V" | grep -c path)" -eq 1 ]
	slice=$(kiseki-info --json "$U:/src/blocks" | jq -r 'select(.kind == "piece" and .offset == 65536).slice')
	kiseki-info -v --slice="$slice" "$V" | grep -q "$object"
	pack=$(kiseki-info --json "$U:/src/one" | jq -r 'select(.kind == "piece").object')
	kiseki-info --object="$pack" "$V" | grep path | awk '{ print $2 }' | sort >got
	printf '/src/%s\n' one two | diff - got
}

@test "a file of a mount" {
	requires fuse jq
	mount_it
	mkdir "$M/d"
	head -c 100000 /dev/urandom >"$M/d/f"
	ln -s f "$M/d/l"
	kiseki-info "$M/d/f" | grep -q 'path      /d/f$'
	kiseki-info "$M/d/l" | grep -q 'target    f$'
	(cd "$M/d" && kiseki-info f) | grep -q 'path      /d/f$'
	kiseki-info --json "$M/d/f" | rebuild out
	cmp "$M/d/f" out
}

@test "mistakes" {
	echo x >f
	kiseki-cp -q f "$U:/"
	fails_cleanly 64 kiseki-info
	fails_cleanly 66 kiseki-info "$U:/none"
	fails_cleanly 66 kiseki-info -i 999 "$V"
	says 'no inode 999'
	fails_cleanly 66 kiseki-info --slice=999 "$V"
	fails_cleanly 66 kiseki-info --object=packs/0/999 "$V"
	says packs/0/999
	fails_cleanly 66 kiseki-info --object=blocks/0/0/999_0_10 "$V"
	for bad in nonsense blocks/0/0/1_0 blocks/9/0/1_0_10 packs/0/x packs/0/1/2 kiseki.volume ''; do
		fails_cleanly 64 kiseki-info --object="$bad" "$V"
	done
	fails_cleanly 64 kiseki-info -i 0 "$V"
	fails_cleanly 64 kiseki-info -i x "$V"
	fails_cleanly 64 kiseki-info -i 1 --slice=1 "$V"
	fails_cleanly 64 kiseki-info -i 1 "$V" "$V"
	fails_cleanly 66 kiseki-info nosuchvolume:/x
	out_err kiseki-info "$U:/none" "$U:/f"
	[ "$status" -eq 66 ]
	grep -q 'path      /f$' .out
}

@test "JSON, and names that are not UTF-8" {
	requires jq
	touch $'b\xff'
	kiseki-cp -q $'b\xff' "$U:/"
	out_err kiseki-info --json "$U:/"$'b\xff'
	json_ok .out
	jq -es '.[0].paths[0].path_b64 | @base64d | length > 2' .out
	out_err kiseki-info --json "$U:/none"
	json_ok .out
	[ "$(kiseki-info --json -q "$V" | wc -l)" -eq 1 ]
}
