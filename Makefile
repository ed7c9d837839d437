# layerctl. `make demo` shows what it does, `make test` checks all of it; both need root and /dev/fuse.

PREFIX ?= /usr/local
SBINDIR ?= /sbin
DESTDIR ?=
CARGO ?= cargo
PROGRAM ?= target/release/layerctl
SHARE ?= target/share

.PHONY: help build demo test fmt lint doc unit passthrough kernel kernel-stress shell conformance-quick compare-real conformance programs bounded \
	hostile-commands roundtrip podman podman-quick faults kills faults-full crash powercut torture-quick fuzz bench bench-quick fixtures share install install-files uninstall clean needs

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## The program, in target/release
	$(CARGO) build --release --locked

demo: needs ## Import a fixture, mount it, write, see the copy-on-write, inspect
	$(CARGO) build --release --locked --quiet
	scripts/demo target/release/layerctl

test: needs fmt lint doc shell conformance-quick torture-quick podman-quick unit passthrough ## All checks; the tests mount for real

needs:
	@scripts/check-needs

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --locked --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items --quiet

unit:
	$(CARGO) test --locked

kernel: ## Tests of mounts, with --io kernel, as far as they are not about the server of a mount
	LAYERCTL_IO=kernel $(CARGO) test --locked --test it -- kernel_ mount_model mount_metadata mount_names:: mount_set_ids mount_data mount_stress \
		mount_streams mount_working_dir cp:: export:: look_diff name_files hostile_marks::overlayfs

CONTAINERS ?= 25
KILL_ROUNDS ?= 300
kernel-stress: ## 8 x CONTAINERS (25) started and ended at once with --io kernel; KILL_ROUNDS (300) kills, and what was on the disk is checked
	LAYERCTL_MANY=$(CONTAINERS) LAYERCTL_KILLS=$(KILL_ROUNDS) $(CARGO) test --locked --test it -- kernel_many kernel_kills

passthrough: ## The tests of mounts, with --io passthrough
	LAYERCTL_IO=passthrough $(CARGO) test --locked --test it mount_

shell:
	$(CARGO) build --locked
	tests/ci-job target/debug/layerctl
	scripts/demo target/debug/layerctl >/dev/null

conformance-quick:
	$(CARGO) build --locked
	LAYERCTL=target/debug/layerctl scripts/conformance --quick
	LAYERCTL_IO=passthrough LAYERCTL=target/debug/layerctl scripts/conformance --quick

torture-quick:
	$(CARGO) build --locked
	LAYERCTL=target/debug/layerctl scripts/torture crash 10
	LAYERCTL=target/debug/layerctl scripts/torture powercut 3

podman-quick:
	$(CARGO) build --locked
	LAYERCTL=target/debug/layerctl scripts/podman --if-possible

podman: ## podman with this program as its mount_program: run, build, commit (needs podman and runc)
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/podman

crash: ## KILLS (200) processes killed at random moments of imports, mounts, commits and removals
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/torture crash $(KILLS)

POWERCUT ?= --without each
powercut: ## Power cuts at every flush on ext4, xfs and btrfs, also without each fsync; and SNAPSHOTS (50) at random moments
	$(CARGO) test --locked --test faults -- powercut $(POWERCUT)
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/torture powercut $(SNAPSHOTS)

hostile-commands: ## Every program of tests/hostile against the host, as every user, with every option
	LAYERCTL_HOSTILE=long $(CARGO) test --locked --test it -- --nocapture hostile_commands:: container_program:: container_security::

FAULTS ?=
faults: ## Each system call of each command and of the mount server fails once (FAULTS="--errors all --only import ...")
	$(CARGO) test --locked --test faults -- faults $(FAULTS)

kills: ## And at each of them the process is killed (FAULTS="--points 300 ...")
	$(CARGO) test --locked --test faults -- kills $(FAULTS)

faults-full: ## And from each of them on the disk is full (FAULTS="--points 300 ...")
	$(CARGO) test --locked --test faults -- full $(FAULTS)

compare-real: ## Real images: our mounts against buildah's (needs buildah and the images, see the script)
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/compare-real

conformance: ## pjdfstest and fsx beside the kernel's overlayfs; the model test through many mounts
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/conformance
	LAYERCTL_IO=kernel LAYERCTL=target/release/layerctl scripts/conformance

programs: ## Real programs in a container of a real image
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/programs

bounded: ## A million files walked, 300,000 made and removed, and the server's memory
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/bounded

roundtrip: ## Real images to and from podman, skopeo, umoci and buildah (see the script; IMAGES=DIR)
	$(CARGO) build --release --locked --quiet
	LAYERCTL=target/release/layerctl scripts/roundtrip $(IMAGES)

FUZZ ?=
fuzz: ## FUZZ_SECONDS (600) of coverage-guided fuzzing of all that reads outside bytes (FUZZ="TARGET..."; see the script)
	scripts/fuzz $(FUZZ)

BENCH ?=
bench: ## Our mounts and imports beside others': text, bench.json, bench.svg (BENCH="--rows walk-*,read-* --images DIR ...")
	$(CARGO) bench --locked --bench peers -- --json bench.json --svg bench.svg $(BENCH)

bench-quick: ## Shows that the benchmark runs; the figures mean nothing
	$(CARGO) bench --locked --bench peers -- --quick $(BENCH)

fixtures: ## Write the archives in fixtures/, and the seeds of its corpus, anew
	$(CARGO) run --locked --quiet --example fixtures -- fixtures

share: ## Manual pages and completions, in target/share
	$(CARGO) run --release --locked --quiet --example share -- $(SHARE)

install: build share install-files ## Install the program, mount(8)'s helper, manual pages and completions

# What was built before, also by others.
install-files:
	install -D -m 755 $(PROGRAM) $(DESTDIR)$(PREFIX)/bin/layerctl
	install -d $(DESTDIR)$(SBINDIR)
	ln -sf $(PREFIX)/bin/layerctl $(DESTDIR)$(SBINDIR)/mount.fuse.layerctl
	ln -sf layerctl $(DESTDIR)$(PREFIX)/bin/layerctl-union
	set -e; for file in $$(cd $(SHARE) && find . -type f); do \
		install -D -m 644 $(SHARE)/$$file $(DESTDIR)$(PREFIX)/share/$$file; done

uninstall: ## Remove what was installed
	rm -f $(DESTDIR)$(PREFIX)/bin/layerctl $(DESTDIR)$(PREFIX)/bin/layerctl-union $(DESTDIR)$(SBINDIR)/mount.fuse.layerctl
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/layerctl.1 $(DESTDIR)$(PREFIX)/share/man/man1/layerctl-*.1
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/layerctl
	rm -f $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_layerctl
	rm -f $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/layerctl.fish

clean: ## Remove what was built
	$(CARGO) clean
