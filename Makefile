# SPDX-License-Identifier: Apache-2.0
# Kiseki. `make help` lists the targets. Everything is built below build/; there is no configure step.
#   make V=1                      show the commands        make T=buf check      run the tests named *buf*
#   make BUILD=build/x CC=clang   another build beside it  make WERROR= check    warnings do not fail it
MAKEFLAGS += -r --no-print-directory
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
datarootdir ?= $(prefix)/share
datadir ?= $(datarootdir)
mandir ?= $(datarootdir)/man
docdir ?= $(datarootdir)/doc/kiseki
bashcompdir ?= $(datadir)/bash-completion/completions
fishcompdir ?= $(datadir)/fish/vendor_completions.d
unitdir ?= $(prefix)/lib/systemd/system
# Debian's own zsh looks into /usr/local/share/zsh/site-functions and /usr/share/zsh/vendor-completions.
zshcompdir ?= $(datadir)/zsh/site-functions
# mount(8), umount(8), mkfs(8) and fsck(8) look for their helpers in /sbin only.
SBINDIR ?= $(if $(filter /usr /usr/local,$(prefix)),/sbin,$(exec_prefix)/sbin)
INSTALL ?= install
PKG_CONFIG ?= pkg-config
BUILD ?= build/dev
LAYERS ?= *
SAN ?=
# Users build without -Werror: a newer compiler's new warning must not stop them.
WERROR ?= $(if $(filter check% lint% test,$(MAKECMDGOALS)),1)
CFLAGS ?= -O2 -g
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' '$(1)' '$(2)')

# Libraries: always these, and each of the others (header:package) once a file includes its header.
used = $(if $(shell grep -lsF '#include <$(1)>' libcore/*/*.[ch]),$(2))
pkgs := sqlite3 jansson libisal fuse3 $(call used,liburing.h,liburing) $(call used,curl/curl.h,libcurl) \
	$(call used,openssl/evp.h,libcrypto) $(call used,archive.h,libarchive) $(call used,zstd.h,libzstd) $(call used,lz4.h,liblz4) \
	$(call used,libpq-fe.h,libpq) $(call used,hiredis/hiredis.h,hiredis) $(call used,zlib.h,zlib)
pkg_cflags := $(shell $(PKG_CONFIG) --cflags $(pkgs))
pkg_libs := $(shell $(PKG_CONFIG) --libs $(pkgs))
ifeq ($(pkg_libs)$(filter clean help uninstall,$(MAKECMDGOALS)),)
$(info The libraries $(pkgs) are needed (see above); ./tests/install-deps installs them.)
endif

WARN := -Wall -Wextra -Wformat=2 -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wvla -Wundef -Wwrite-strings -Wcast-qual -Werror=implicit -Werror=incompatible-pointer-types \
	-Werror=return-type
cppflags := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Ilibcore $(pkg_cflags)
sanflags := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer)
cflags := -std=gnu11 $(WARN) $(if $(WERROR),-Werror) -fno-common -fstack-protector-strong -pthread $(sanflags)
# One link line for all: --as-needed keeps libfuse out of tools that do not mount.
libs := -Wl,--as-needed $(pkg_libs) -lpthread -lm
compile = $(CC) $(cppflags) $(CPPFLAGS) $(cflags) $(CFLAGS)

lib_src := $(filter-out %_test.c,$(wildcard $(LAYERS:%=libcore/%/*.c)))
cmd_src := $(wildcard cmd/*/*.c)
unit_src := $(wildcard $(LAYERS:%=libcore/%/*_test.c)) $(if $(filter *,$(LAYERS)),$(wildcard tests/conformance/*.c))
mounted_src := $(wildcard tests/mounted/*.c)
headers := $(wildcard libcore/*/*.h cmd/*/*.h tests/*/*.h)
sources := $(lib_src) $(cmd_src) $(unit_src) $(mounted_src)
tools := $(sort $(notdir $(patsubst %/,%,$(dir $(cmd_src)))))
pages := $(wildcard cmd/*/*.[1-8] doc/man/*.[1-8])
# The units of the tools that exist: kiseki@ is a mount, kiseki-TOOL@ the others.
units := $(patsubst systemd/%.in,%,$(wildcard $(foreach t,$(tools),systemd/$(patsubst kiseki-mount,kiseki,$(t))@.*.in)))
LIB := $(BUILD)/libcore.a
unit := $(unit_src:%.c=$(BUILD)/%.t)
mounted := $(mounted_src:%.c=$(BUILD)/%.t)
chosen := $(if $(T),$(foreach t,$(unit),$(if $(findstring $(T),$(t)),$(t))),$(unit))
# link:tool, for the tools that exist
links := $(foreach l,mount.kiseki:kiseki-mount mount.fuse.kiseki:kiseki-mount umount.kiseki:kiseki-umount \
	umount.fuse.kiseki:kiseki-umount mkfs.kiseki:kiseki-format fsck.kiseki:kiseki-fsck, \
	$(if $(filter $(lastword $(subst :, ,$(l))),$(tools)),$(l)))
link_name = $(firstword $(subst :, ,$(1)))
link_tool = $(lastword $(subst :, ,$(1)))
benches := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c))
testenv = KISEKI_BIN='$(abspath $(BUILD))' KISEKI_HELPERS='$(abspath $(BUILD))/tests/mounted' PATH='$(abspath $(BUILD))':"$$PATH"
lintenv = BUILD='$(BUILD)' CC='$(CC)' CPPFLAGS='$(cppflags) $(CPPFLAGS)' WARN='$(WARN)'

all: $(LIB) $(tools:%=$(BUILD)/%) $(units:%=$(BUILD)/systemd/%) $(foreach l,$(links),$(BUILD)/$(call link_name,$(l))) ## build everything (the default)
tests: all $(unit) $(mounted) ## build the test programs too

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(compile) -MMD -MP -c -o $@ $<
# Renamed into place, so that a second make in the same tree never links half an archive.
$(LIB): $(lib_src:%.c=$(BUILD)/%.o)
	$(call say,AR,$@)
	$(Q)rm -f $@.new && $(AR) rcs $@.new $^ && mv $@.new $@
define tool_rule
$(BUILD)/$(1): $(patsubst %.c,$(BUILD)/%.o,$(wildcard cmd/$(1)/*.c)) $(LIB)
endef
$(foreach t,$(tools),$(eval $(call tool_rule,$(t))))
$(benches): %: %.o $(LIB)
$(tools:%=$(BUILD)/%) $(benches):
	$(call say,LD,$@)
	$(Q)$(CC) $(cflags) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(libs) $(LDLIBS)
$(BUILD)/%.t: $(BUILD)/%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(cflags) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(libs) $(LDLIBS)
define link_rule
$(BUILD)/$(call link_name,$(1)): $(BUILD)/$(call link_tool,$(1))
	$$(Q)ln -sf $(call link_tool,$(1)) $$@
endef
$(foreach l,$(links),$(eval $(call link_rule,$(l))))
# They name the place of the programs, which may be another one each time.
$(BUILD)/systemd/%: systemd/%.in FORCE
	@mkdir -p $(@D)
	@sed 's,@bindir@,$(bindir),g' $< >$@.new && if cmp -s $@.new $@; then rm $@.new; else mv $@.new $@; fi
FORCE:
.SECONDARY:

check: $(chosen) ## unit and conformance tests: no root, no network, no mount
	@$(testenv) ./tests/run-tap $(if $(SAN),-t 480) $(chosen)
asan = UBSAN_OPTIONS="print_stacktrace=1" ASAN_OPTIONS="allocator_may_return_null=1$(1)" \
	$(MAKE) BUILD=build/asan SAN=address,undefined CFLAGS='-O1 -g -fno-sanitize-recover=all'
tsan = TSAN_OPTIONS="halt_on_error=1:allocator_may_return_null=1$(1)" $(MAKE) BUILD=build/tsan SAN=thread CFLAGS='-O1 -g'
check-asan: ## the same under the address and undefined behaviour sanitizers
	@$(call asan) check
check-tsan: ## the same under the thread sanitizer
	@$(call tsan) check
# What a daemon reports nobody sees but in a file. One that is killed while it looks for leaks on its way out leaves a line about registers.
reports = ! cat build/$(1)/report.* 2>/dev/null | grep -v 'Unable to get registers from thread' | grep .
mounts := mounted twoproc crash cp fsck gc acl chattr dotkiseki accesslog trash compact clone
check-mounts-asan: ## the tests with mounts, and what works beside them, under the sanitizers
	@rm -f build/asan/report.*
	@$(call asan,:log_path=$(CURDIR)/build/asan/report) check-bats BATS='$(mounts:%=tests/bats/%.bats)'
	@$(call reports,asan)
check-mounts-tsan: ## the same
	@rm -f build/tsan/report.*
	@$(call tsan,:log_path=$(CURDIR)/build/tsan/report) check-bats BATS='$(mounts:%=tests/bats/%.bats)'
	@$(call reports,tsan)
# A mount takes io_uring where it can; what matters most about mounts must hold over /dev/fuse as well.
BATS := $(wildcard $(if $(T),tests/bats/*$(T)*.bats,tests/bats/*.bats))
bats_classic := $(filter $(addprefix tests/bats/,mounted.bats twoproc.bats crash.bats dotkiseki.bats acl.bats chattr.bats squash.bats faults.bats),$(BATS))
check-bats: tests ## the command lines, and mounts where /dev/fuse is usable
	@$(testenv) KISEKI_SAN='$(SAN)' ./tests/run-tap -t 600 $(BATS) $(bats_classic:%=%@classic)
check-all: ## every test, plain and under the sanitizers
	@./tests/steps '$(MAKE) check' '$(MAKE) check-bats' '$(MAKE) check-asan' '$(MAKE) check-tsan' \
		'$(MAKE) check-mounts-asan' '$(MAKE) check-mounts-tsan'
test: ## install what is missing, build, run check and check-bats; the last line is the sum
	@./tests/install-deps
	@$(MAKE) WERROR='$(WERROR)' tests
	@./tests/steps '$(MAKE) check' '$(MAKE) check-bats'
lint: tests ## static checks, fast
	@$(lintenv) ./tests/lint
lint-tidy: ## clang-tidy, slow
	@$(lintenv) ./tests/lint tidy
format: ## put every source file into the house format
	clang-format -i $(sources) $(headers)
demo: ## install what is missing, build, and a guided tour on a scratch volume
	@./tests/install-deps
	@$(MAKE) all
	@$(testenv) ./tests/demo
bench: all $(benches) ## measure
	@$(testenv) ./tests/bench/run

# What is installed, once: source>destination>mode. Uninstall removes exactly the destinations.
shell_files := $(foreach f,$(wildcard completions/*.bash),$(f)>$(bashcompdir)/$(basename $(notdir $(f)))>644) \
	$(foreach f,$(wildcard completions/*.fish),$(f)>$(fishcompdir)/$(notdir $(f))>644) \
	$(foreach f,$(wildcard completions/_*),$(f)>$(zshcompdir)/$(notdir $(f))>644)
files := $(foreach t,$(tools),$(BUILD)/$(t)>$(bindir)/$(t)>755) $(shell_files) \
	$(foreach u,$(units),$(BUILD)/systemd/$(u)>$(unitdir)/$(u)>644) \
	$(foreach p,$(pages),$(p)>$(mandir)/man$(subst .,,$(suffix $(p)))/$(notdir $(p))>644) \
	$(foreach d,$(wildcard LICENSE README* doc/*.md),$(d)>$(docdir)/$(notdir $(d))>644)
# The shells look completions up by command: each tool's name leads to the one file.
names = $(foreach t,$(filter-out kiseki $(basename $(notdir $(wildcard completions/*$(1)))),$(tools)),$(t)$(2))
bash_names := $(if $(wildcard completions/kiseki.bash),$(call names,.bash,))
fish_names := $(if $(wildcard completions/kiseki.fish),$(call names,.fish,.fish))
symlinks := $(foreach l,$(links),$(bindir)/$(call link_tool,$(l))>$(SBINDIR)/$(call link_name,$(l)) \
		$(call link_tool,$(l)).8>$(mandir)/man8/$(call link_name,$(l)).8) \
	$(foreach n,$(bash_names),kiseki>$(bashcompdir)/$(n)) \
	$(foreach n,$(fish_names),kiseki.fish>$(fishcompdir)/$(n))
install: all ## install below $(DESTDIR)$(PREFIX), mount helpers in $(DESTDIR)/sbin
	@set -e; for f in $(foreach f,$(files),'$(f)'); do IFS='>'; set -- $$f; \
		$(INSTALL) -D -m "$$3" "$$1" "$(DESTDIR)$$2"; done
	@set -e; for l in $(foreach l,$(symlinks),'$(l)'); do IFS='>'; set -- $$l; \
		mkdir -p "$$(dirname "$(DESTDIR)$$2")"; ln -sf "$$1" "$(DESTDIR)$$2"; done
uninstall: ## remove what install put there
	@for f in $(foreach f,$(files) $(symlinks),'$(f)'); do IFS='>'; set -- $$f; rm -f "$(DESTDIR)$$2"; done
# Built from a copy, which stays: a second time only what has changed is compiled.
deb: ## a Debian package, in $(BUILD)/deb (needs debhelper)
	@mkdir -p $(BUILD)/deb/kiseki
	@find $(BUILD)/deb/kiseki -mindepth 1 -maxdepth 1 ! -name build -exec rm -rf {} +
	@tar -c --exclude=./build --exclude=./.git . | tar -x -C $(BUILD)/deb/kiseki
	@cd $(BUILD)/deb/kiseki && MAKEFLAGS= DEB_BUILD_OPTIONS="nocheck parallel=$$(nproc) $(DEB_BUILD_OPTIONS)" \
		dpkg-buildpackage -b -nc -us -uc >../log 2>&1 || { tail -n 30 ../log; exit 1; }
	@ls $(BUILD)/deb/kiseki_*.deb
clean: ## remove build/
	rm -rf build
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

.DEFAULT_GOAL := all
.PHONY: all tests check check-asan check-tsan check-mounts-asan check-mounts-tsan check-bats check-all test lint lint-tidy format demo bench install uninstall deb clean help FORCE
-include $(sources:%.c=$(BUILD)/%.d)
