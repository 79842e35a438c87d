#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-stats.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

@test "lines of numbers that are true" {
	requires fuse jq
	format
	mount_it
	head -c 2097152 /dev/urandom >"$M/f"
	exec 9<"$M/f"
	out_err limit 20 kiseki-stats "$M" 200ms 3
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	[ "$(wc -l <.out)" -eq 5 ]
	# As wide as their header, and one file is open.
	[ "$(awk '{ print length }' .out | sort -u | wc -l)" -eq 1 ]
	awk 'NR > 2 && ($1 != 1 || NF != 10) { exit 1 }' .out
	exec 9<&-
	# What is written in an interval is seen as such.
	limit 20 kiseki-stats --json "$M" 200ms 15 >j 3>&- &
	local pid=$!
	wait_for test -s j
	head -c 5242880 /dev/urandom >"$M/g"
	wait $pid
	jq -s -e --arg m "$M" 'map(select(.type == "item")) | length == 15 and
		all(.mountpoint == $m and .interval_s > 0 and .open_files <= 1 and (has("ok") | not))' j
	jq -s -e 'map(select(.type == "item") | .per_s.object_put_bytes * .interval_s) | add > 5242000' j
	tail -n 2 j | head -n 1 | jq -e '.upload_bytes >= 5242880'
	status=0
	json_ok j
	tail -n 1 j | jq -e '.counts == {mounts: 1, lines: 15}'
	out_err limit 20 kiseki-stats -q "$M"
	[ "$status" -eq 0 ]
	[ -z "$output" ]
	out_err limit 20 kiseki-stats -b "$M"
	[ "$(wc -l <.out)" -eq 3 ]
}

@test "several mounts: by volume, by mount point, all" {
	requires fuse jq
	format --name=kt-photos
	mkdir other
	kiseki-format -q "$T/second.db"
	mount_it
	mount_at "$T/other"
	mkdir third
	limit 60 kiseki-mount -q "${transport[@]}" "$T/second.db" "$T/third" 3>&- 4>&-
	out_err limit 20 kiseki-stats --json "$V" 100ms 2
	json_ok .out
	[ "$(jq -r 'select(.type == "item").mountpoint' .out | sort | uniq -c | awk '{ print $1, $2 }')" = "$(printf '2 %s\n2 %s' "$M" "$T/other")" ]
	out_err limit 20 kiseki-stats "$T/third" "$M" 100ms 1
	[ "$(wc -l <.out)" -eq 4 ]
	grep -q " $T/third\$" .out
	grep -q " $M\$" .out
	# All there are: of other tests, too.
	kiseki-stats --json 100ms 1 2>/dev/null | jq -r .mountpoint | grep -F "$T/" | sort >got
	printf '%s\n' "$M" "$T/other" "$T/third" | sort | diff - got
	# One that ends is said, and the others go on.
	limit 20 kiseki-stats --json "$M" "$T/third" 400ms 12 >j 2>err 3>&- &
	local pid=$!
	wait_for test -s j
	umount_it "$T/third"
	status=0
	wait $pid || status=$?
	[ "$status" -eq 3 ]
	json_ok j
	grep -q "$T/third does not answer any more" err
	[ "$(jq -r 'select(.type == "item").mountpoint' j | grep -cxF "$M")" -eq 12 ]
	# The last one: nothing is left to show.
	limit 20 kiseki-stats "$T/other" 200ms >k 2>err 3>&- &
	pid=$!
	wait_for test -s k
	umount_it "$T/other"
	status=0
	wait $pid || status=$?
	[ "$status" -eq 69 ]
}

@test "--prometheus: one text for all mounts, and a file that is replaced" {
	requires fuse
	format
	mkdir other
	mount_it
	mount_at "$T/other"
	out_err limit 20 kiseki-stats --prometheus "$V"
	[ "$status" -eq 0 ]
	[ "$(tail -n 1 .out)" = '# EOF' ]
	# A family once, with a sample for each mount.
	[ -z "$(grep '^# TYPE' .out | sort | uniq -d)" ]
	[ "$(grep -c '^kiseki_open_files{volume="vol",mountpoint=' .out)" -eq 2 ]
	[ "$(grep -c "^kiseki_meta_commits_total{.*mountpoint=\"$M\"} [0-9]*\$" .out)" -eq 1 ]
	diff <(sed 's/{.*//' "$M/.kiseki/metrics" | sort -u) <(sed 's/{.*//' .out | sort -u)
	limit 20 kiseki-stats -q --prometheus -o out.prom "$M"
	[ "$(tail -n 1 out.prom)" = '# EOF' ]
	[ "$(stat -c %a out.prom)" = 644 ]
	limit 20 kiseki-stats --prometheus -o out.prom "$M" 200ms 3>&- &
	local pid=$!
	pids+=("$pid")
	rm out.prom
	wait_for test -s out.prom
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	[ "$status" -eq 143 ]
	[ "$(ls out.prom*)" = out.prom ]
	fails_cleanly 66 kiseki-stats --prometheus -o no/such/file "$M"
	says no/such/file
	mkdir dir
	out_err limit 20 kiseki-stats --prometheus -o dir "$M"
	[ "$status" -ge 64 ]
	[ -z "$(ls -d dir.* 2>/dev/null)" ]
}

# families: "NAME TYPE UNIT" of each family of the texts on stdin, a counter's name with its _total
families() {
	awk '$2 == "TYPE" { type[$3] = $4 } $2 == "UNIT" { unit[$3] = " " $4 }
		END { for (f in type) print f (type[f] == "counter" ? "_total" : ""), type[f] unit[f] }' | sort
}

@test "kiseki-metrics(7) has every name, type and unit, and no other" {
	requires fuse
	local page=$BATS_TEST_DIRNAME/../../doc/man/kiseki-metrics.7 t jobs=(compact fsck gc cp dump)
	format
	mount_it
	kiseki-stats --prometheus "$V" | families >live
	[ -s live ]
	families <"$M/.kiseki/metrics" | diff live -
	umount_it
	echo x >f
	# No other tool has the option.
	diff <(printf 'kiseki-%s\n' "${jobs[@]}" | sort) \
		<(for t in "$bin"/kiseki-*; do [[ $("$t" --list-options) != *--metrics-file* ]] || echo "${t##*/}"; done | sort)
	for t in "${jobs[@]}"; do
		case $t in
		cp) kiseki-cp -q --metrics-file=$t.prom f "$U:/f" ;;
		dump) kiseki-dump -q --metrics-file=$t.prom -o d "$V" ;;
		*) kiseki-$t -q --metrics-file=$t.prom "$V" ;;
		esac
		families <$t.prom >>live
	done
	sort -o live live
	# every: the page's lines, and each that is about all of the jobs once for every one of them
	every() { for t in "${jobs[@]}"; do sed -n "s/kiseki_TOOL_/kiseki_${t}_/gp" page; done | sort -u; grep -v kiseki_TOOL_ page || true; }
	sed -nE 's/^\.It Li (kiseki_[A-Za-z_]+) Pq (counter|gauge)(,( bytes))?$/\1 \2\4/p' "$page" >page
	[ "$(wc -l <page)" -eq "$(grep -c '^\.It Li kiseki_' "$page")" ]
	every | sort | diff - live
	# Examples have them, too.
	grep -oE 'kiseki_[A-Za-z_]+_[A-Za-z]+' "$page" | sort -u >page
	every | sort -u | diff - <(cut -d ' ' -f 1 live)
}

@test "what is no mount, no number, or not ours" {
	requires fuse
	format
	fails_cleanly 66 kiseki-stats "$V"
	says "$V"
	fails_cleanly 66 kiseki-stats "$T" 1 1
	fails_cleanly 66 kiseki-stats nosuch
	mount_it
	fails_cleanly 64 kiseki-stats "$M" 1x
	says "'1x' is not an interval"
	fails_cleanly 64 kiseki-stats "$M" 1ms
	fails_cleanly 64 kiseki-stats "$M" 1s 0
	says "'0' is not a count"
	fails_cleanly 64 kiseki-stats "$M" 1s 2x
	fails_cleanly 66 kiseki-stats "$M" 1 1 1
	fails_cleanly 64 kiseki-stats -o f "$M"
	fails_cleanly 64 kiseki-stats --prometheus "$M" 1s
	fails_cleanly 64 kiseki-stats --prometheus --json "$M"
	# A mount whose process hangs is one that does not answer.
	kill -STOP "$(daemon)"
	fails_cleanly 69 kiseki-stats "$M"
	says "$M"
	kill -CONT "$(daemon)"
	if [ "$(id -u)" -eq 0 ]; then
		chmod 755 "$T"
		cp "$bin/kiseki-stats" .
		fails_cleanly 69 setpriv --reuid=nobody --regid=nogroup --clear-groups ./kiseki-stats "$M"
		says 'only the user who mounted'
	fi
}
