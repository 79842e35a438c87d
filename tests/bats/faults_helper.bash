# SPDX-License-Identifier: Apache-2.0
# faults_helper.bash: a mount whose system calls fail as the file $R says (rules in tests/mounted/faultrun.c).
#
#	load faults_helper
#	setup() { faults_setup; }
#	teardown() { mounted_teardown; }

# What is set here is used by the tests.
# shellcheck disable=SC2034
# shellcheck source=tests/bats/mounted_helper.bash
source "$BATS_TEST_DIRNAME/mounted_helper.bash"

# All that change something.
calls=write,sync,create,rename,unlink,mkdir,truncate,allocate,mmap

faults_setup() {
	need_root
	mounted_setup
	R=$T/rules
	: >"$R"
	limit 10 "$helpers/faultrun.t" "$R" true 2>/dev/null || skip "no seccomp here"
	format
}

# rules LINE...: what fails from now on; none: nothing
rules() {
	printf '%s\n' "$@" >"$R.new"
	mv "$R.new" "$R"
}

mount_faulty() {
	limit 30 "$helpers/faultrun.t" "$R" kiseki-mount -q "${transport[@]}" --log-file="$T/log.mount" "$@" "$V" "$M" 3>&- 4>&-
}

# check_all [OPTION]: every promise so far; DIR has its log in $T/log.DIR
check_all() {
	local log
	for log in "$T"/log.d*; do
		[ ! -e "$log" ] || run_ok helper crashcheck "$@" "$M/${log##*/log.}" "$log"
	done
}
