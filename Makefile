# make demo            the whole pipeline on this machine: private Postgres, emulated AWS, real importers
# make demo DATA=path  the same with your own files
# make demo KEEP=1       leaves everything up, the console too, until Ctrl-C
# make demo PIPELINE=1   a chain of steps whose metadata comes late (examples/pipeline)
# make test            format, lints, all tests
# make test-containers   images, compose stack and killed containers on a Docker engine; PROFILE=dev builds sooner,
#                        REQUIRE_ENGINE=1 fails where there is none instead of being skipped
# make infra-config   the datasets' pieces in infra/aws joined: target/infra/importer.toml and the list of stacks
# make dist            dist/: the programs in one static binary, man pages, completions
# make packages        dist/ as a .deb and an .rpm with the systemd units, in packages/
# make bench           the importer beside psql's own copy; QUICK=1 takes minutes instead of an hour
# make deny           known vulnerabilities and licences of all that Penstock is built from
# make fuzz           each fuzz target for SECONDS=600, one after the other
# make counts         instructions that decoding a row takes, beside those of tests/telemetry/counts.txt; UPDATE=1 renews it
# make soak HOURS=n    importers at a steady rate with every fault on; target/soak.svg shows what grew
# make bench-peers     the same, and DuckDB, ADBC, psycopg, dlt and sling on the same files

# Goes ahead without asking: make demo YES=1
export YES

# cargo-nextest runs each test in a process of its own and is much faster; cargo test will do.
ifeq ($(shell cargo nextest --version 2>/dev/null),)
run_tests := cargo test --workspace --no-fail-fast
else
run_tests := cargo nextest run --workspace --no-fail-fast
endif

# What of Postgres differs from version to version, once on each: schema and roles, the catalog, how rows are written,
# read-only transforms and their node trees, functions of roles, the ledger's triggers, waits and recipes.
on_each_postgres := owner_migrates_worker_imports mistakes_of_tables_and_datasets every_technique_upserts_the_same \
	nothing_a_fragment_calls_can_write what_may_not_stand_in_a_transform rows_that_are_refused_are_found \
	roles_of_one_session load_runs_the_datasets_that_follow rows_whose_parents_arrive_later \
	a_worker_with_another_recipe conditions_of_what_is_built_in what_copy_cannot_judge

.PHONY: demo test test-containers counts deny fuzz soak bench bench-peers dist infra-config packages prepare

# Not optimised, which takes half the time of the build; and without the pools that a demo on one machine has not.
demo: prepare
	cargo build --workspace --no-default-features --bin importer --bin scaler --bin console --bin demo
	./target/debug/demo $(if $(KEEP),--keep) $(if $(PIPELINE),--pipeline,$(if $(DATA),--data '$(DATA)'))

# Clippy compiles what it lints, so that nothing is compiled once to be linted and once more to run.
test: export RUSTC_WORKSPACE_WRAPPER = clippy-driver
test: export CLIPPY_ARGS = -Dwarnings__CLIPPY_HACKERY__
test: prepare
	cargo fmt --all --check
	cargo build --workspace --all-targets --no-default-features
	cargo build --workspace --all-targets
	./target/debug/stack run -- $(run_tests)
	for server in .cache/postgres/*/package/native/bin; do \
		[ ! -d $$server ] || ./target/debug/stack run --postgres $$server -- $(run_tests) -- $(on_each_postgres) || exit; \
	done
	cargo test --workspace --doc
	./fuzz/run.sh 5 2
	./tests/telemetry/counts.sh

# Built only where it can do something; where it cannot, REQUIRE_ENGINE=1 makes that a failure.
test-containers:
	@if lack=$$({ docker version && docker compose version; } 2>&1 >/dev/null); then \
		cargo build --workspace --bin containers && ./target/debug/containers --profile $(or $(PROFILE),dist); \
	else \
		echo "test-containers: skipped, for there is no Docker engine with compose here: $$lack"; \
		exit $(if $(REQUIRE_ENGINE),1,0); \
	fi

# Needs cargo-deny and the network, for the advisories.
deny:
	cargo deny check

counts:
	./tests/telemetry/counts.sh

fuzz:
	./fuzz/run.sh $(or $(SECONDS),600)

bench: prepare
	cargo build --release --workspace --bins
	./target/release/bench $(if $(QUICK),--quick)

soak: prepare
	cargo build --workspace --bins
	./target/debug/soak --hours $(or $(HOURS),1.5)

infra-config:
	@./infra/aws/assemble.sh target/infra

bench-peers: prepare
	cargo build --release --workspace --bins
	./target/release/bench --peers $(if $(QUICK),--quick)

# The C library is linked in as well. A target is named, or its flags would reach build scripts and macros, too.
# For another machine: target=aarch64-unknown-linux-gnu native=dist/bin to=dist-arm64, after one for this machine.
target ?= $(shell rustc -vV | sed -n 's/^host: //p')

# Relative relocations packed, of which a static program has a hundred thousand: glibc starts such programs since 2.36.
packed := $(shell getconf GNU_LIBC_VERSION 2>/dev/null | awk '{ split($$2, v, "."); if (v[1] > 2 || v[2] >= 36) print "-C link-arg=-Wl,-z,pack-relative-relocs" }')

dist: export RUSTFLAGS = -C target-feature=+crt-static $(packed)
dist:
	cargo build --profile dist --locked --target $(target) --bin penstock
	./infra/dist/collect.sh target/$(target)/dist $(or $(to),dist) $(native)

# Needs cargo-deb and cargo-generate-rpm.
packages:
	./infra/package/stage.sh $(or $(to),dist) packages $(target)

prepare:
	@./infra/local/prepare.sh $(patsubst bench-peers,bench,$(filter test bench bench-peers,$(MAKECMDGOALS)))
