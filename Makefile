# The verbs of the tree. CMake does the work (CMakePresets.json); this file only names it.
JOBS ?= $(shell nproc)
RELEASE := build/release
DEV := build/dev
PREFIX ?= /usr/local
SEED ?= 1
FUZZ_SECONDS ?= 60

.PHONY: all demo test check check-all tidy lint format sim torture crash fuzz bench bench-attack bench-flags bench-hostile bench-machine bench-noise bench-proxy bench-shift bench-stats bench-wire clang tsan planted coverage install uninstall clean help setup-build setup-test setup-check generated

all: setup-build ## build the release binary: build/release/sluice
	@cmake --preset $(notdir $(RELEASE)) --log-level=WARNING >/dev/null
	@ninja -C $(RELEASE) -j $(JOBS) --quiet sluice
	@echo "built $(RELEASE)/sluice"

demo: all ## the whole story on this machine in under 90 seconds
	@$(RELEASE)/sluice demo

# Freed memory is kept from reuse to find late reads of it: 16 MiB of it here, the sanitizer's own 256 MiB in `make check`.
test: export ASAN_OPTIONS ?= quarantine_size_mb=16
test: setup-test ## unit, simulation and quick end-to-end tests (under a minute after the build)
	@cmake --preset dev --log-level=WARNING >/dev/null
	@ninja -C $(DEV) -j $(JOBS) --quiet
	@ctest --test-dir $(DEV) -j $(JOBS) --output-on-failure -LE slow

check: setup-check ## everything that must pass before a change lands (under fifteen minutes)
	@scripts/check

check-all: setup-check ## the same with every planted bug and longer random runs
	@scripts/check --all

tidy: ## which module includes which, pure modules, banned functions, sizes, planted bugs, formatting
	@python3 scripts/tidy.py

lint: ## clang-tidy over the tree (slow)
	@scripts/lint

format: ## rewrite all sources in the house format
	@git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format -i

sim: all ## one seed of the simulated daemon: make sim SEED=n
	@ninja -C $(RELEASE) -j $(JOBS) --quiet daemon_sim
	@$(RELEASE)/sim/daemon_sim --seed $(SEED) --verbose

torture: ## fail the n-th allocation, write, fsync, accept, connect
	@cmake --preset dev --log-level=WARNING >/dev/null
	@ninja -C $(DEV) -j $(JOBS) --quiet
	@ctest --test-dir $(DEV) -j $(JOBS) --output-on-failure -R torture

crash: all ## kill -9 at random moments of a rollout under load, a hundred times
	@python3 tests/e2e/crash_test.py --rounds 100 --binary $(RELEASE)/sluice

fuzz: setup-check ## every fuzzer for FUZZ_SECONDS
	@scripts/fuzz $(FUZZ_SECONDS)

bench: bench-stats bench-noise bench-flags bench-proxy ## all measurements; results under bench/results

bench-stats: setup-build ## Monte-Carlo of the statistics against the reference table
	@cmake --preset release --log-level=WARNING >/dev/null
	@ninja -C $(RELEASE) -j $(JOBS) --quiet stats_montecarlo_bench rollout_montecarlo_bench
	@$(RELEASE)/bench/stats_montecarlo_bench
	@$(RELEASE)/bench/rollout_montecarlo_bench

bench-noise: setup-build ## verdicts under noise: identical versions stay, bad ones leave (half an hour)
	@cmake --preset release --log-level=WARNING >/dev/null
	@ninja -C $(RELEASE) -j $(JOBS) --quiet noise_bench
	@$(RELEASE)/bench/noise_bench

bench-proxy: setup-check all ## CPU per request against nginx, HAProxy and a bare relay, alternating
	@ninja -C $(RELEASE) -j $(JOBS) --quiet sluice io_relay_bench
	@python3 bench/proxy.py --build $(RELEASE)

bench-wire: setup-check all ## CPU per request for TLS, HTTP/2 and long answers, and memory of idle connections, beside nginx, HAProxy and nghttpx
	@python3 bench/wire.py --build $(RELEASE)
	@python3 bench/idle.py --build $(RELEASE)

bench-hostile: setup-check all ## slow clients, floods, uploads and connections opened and closed, beside honest traffic
	@python3 bench/hostile.py --binary $(RELEASE)/sluice

bench-shift: setup-check all ## weights, binaries, endpoints and certificates change under mixed load: no request may fail
	@python3 bench/shift.py --binary $(RELEASE)/sluice

bench-flags: setup-check all ## flags: evaluation, loading and updating a large set, OFREP beside nginx
	@ninja -C $(RELEASE) -j $(JOBS) --quiet flags_evaluate_bench library_flags_bench flagset_load_bench proxy_flags_bench
	@$(RELEASE)/bench/flags_evaluate_bench
	@$(RELEASE)/bench/library_flags_bench
	@$(RELEASE)/bench/proxy_flags_bench
	@$(RELEASE)/bench/flagset_load_bench
	@python3 bench/flags.py --build $(RELEASE)

bench-attack: setup-check all ## one attacker against a verdict, ten tries of each kind; then decisions under storms (some twenty minutes)
	@python3 bench/attack.py --binary $(RELEASE)/sluice
	@python3 bench/storm.py --binary $(RELEASE)/sluice

bench-machine: setup-check all ## rollouts of real servers on this machine: identical versions, then bad ones (some twenty minutes)
	@python3 bench/machine.py --binary $(RELEASE)/sluice --each 3 --rollouts 24
	@python3 bench/machine.py --binary $(RELEASE)/sluice --each 3 --rollouts 24 --busy
	@python3 bench/machine.py --binary $(RELEASE)/sluice --each 3 --rollouts 6 --kind bad

clang: setup-check ## build all with clang, warnings as errors
	@cmake --preset clang --log-level=WARNING >/dev/null
	@ninja -C build/clang -j $(JOBS) --quiet

tsan: setup-check ## thread sanitizer over whatever has threads
	@cmake --preset tsan --log-level=WARNING >/dev/null
	@ninja -C build/tsan -j $(JOBS) --quiet
	@ctest --test-dir build/tsan -j $(JOBS) --output-on-failure -LE slow -L threads

planted: setup-test ## each planted bug must be caught by its test; writes down which modules were proven
	@scripts/planted.py --record

coverage: setup-test ## lines not covered, per file
	@scripts/coverage

generated: all ## rewrite what is generated from tables: schema, reference, man page, completions
	@scripts/generated --write

install: all ## into PREFIX (default /usr/local), below DESTDIR if given: program, library, man pages, completions
	@ninja -C $(RELEASE) -j $(JOBS) --quiet libsluice_flags libsluice_flags_static
	@DESTDIR=$(DESTDIR) cmake --install $(RELEASE) --prefix $(abspath $(PREFIX))

uninstall: ## take away what the last `make install` of this tree wrote (the same DESTDIR, if one was given)
	@test -f $(RELEASE)/install_manifest.txt || { echo "nothing was installed from $(RELEASE)" >&2; exit 1; }
	@while read -r file || [ -n "$$file" ]; do rm -f "$(DESTDIR)$$file"; done <$(RELEASE)/install_manifest.txt
	@rm $(RELEASE)/install_manifest.txt

setup-build:
	@scripts/setup build

setup-test:
	@scripts/setup test

setup-check:
	@scripts/setup check

clean: ## remove build/
	@rm -rf build

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' Makefile
