# Quantonium. Needs rustup (or the toolchain of rust-toolchain.toml), cc and make; `make help` lists the targets.

# One place for what is built, whatever the caller's environment says: `run` and `test` must find what `build` made.
export CARGO_TARGET_DIR := $(CURDIR)/target
# Two installs of a toolchain at once disturb each other.
.NOTPARALLEL:

TARGET = x86_64-unknown-linux-musl
AARCH64 = aarch64-unknown-linux-musl
# portable: any x86-64, back-ends chosen at run time. v3: needs AVX2 and says so at start.
CPU = portable
# How long `make fuzz` runs each target, and which; none named: all.
export SECONDS_EACH = 60
export TARGETS =
# Further arguments of `make run`, `make bench` and `make bench-http`.
ARGS =
# Which parts of `make e2e`; none named: all.
E2E =

BIN = target/$(TARGET)/release/quantonium
BIN_PENTEST = target/$(TARGET)/pentest/quantonium
BIN_AARCH64 = target/$(AARCH64)/release/quantonium

# Cargo builds what has changed; make decides nothing by the age of files.
.PHONY: help run build build-aarch64 test retest check check-format check-lint check-tidy check-docs check-shell \
	check-aarch64 check-container check-deploy check-documents check-metrics check-oci-profile check-sandbox-rules check-security check-signatures \
	check-tls check-workflows coverage deploy-profiles pentest pentest-build pentest-write release-check sandbox-tables sbom \
	supply-chain openapi fmt bench bench-client bench-compare bench-fleet bench-http bench-memory bench-peers \
	bench-report bench-start bench-tls bench-vault e2e fleet-schedules fuzz fuzz-regress image phase-1 phase-2 \
	phase-3 phase-4 phase-5 phase-6 phase-7 reproduce clean signoff soak toolchain toolchain-check

help: ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-19s %s\n", $$1, $$2 }' Makefile

run: build ## build, then serve on 127.0.0.1:8080 with ./quantonium-dev as data directory
	exec $(BIN) serve --dev $(ARGS)

build: toolchain ## build the static release binary; CPU=v3 for a processor with AVX2
	flags=$$(scripts/rustflags $(TARGET) $(CPU)) && \
		CARGO_ENCODED_RUSTFLAGS="$$flags" cargo build --locked --release --target $(TARGET)
	@printf '%s: %s bytes\n' "$(BIN)" "$$(wc -c < $(BIN))"

build-aarch64: ## build the same for 64-bit Arm, with the linker that comes with Rust
	scripts/toolchain $(AARCH64)
	flags=$$(scripts/rustflags $(AARCH64) portable) && \
		CARGO_ENCODED_RUSTFLAGS="$$flags" cargo build --locked --release --target $(AARCH64)
	@printf '%s: %s bytes\n' "$(BIN_AARCH64)" "$$(wc -c < $(BIN_AARCH64))"

# The tests themselves are built with the flags of .cargo/config.toml and without LTO; what they start is the
# release binary.
test: TESTS = cargo test --locked --no-fail-fast
test: build ## run every test against the release binary
	$(RUN_TESTS)

retest: TESTS = scripts/retest $(LOG)
retest: ## run three times more, each alone, the tests that failed when `make test` wrote LOG
	$(RUN_TESTS)

RUN_TESTS = if [ -x $(BIN_AARCH64) ]; then export QUANTONIUM_BIN_AARCH64="$$PWD/$(BIN_AARCH64)"; fi; \
	QUANTONIUM_BIN="$$PWD/$(BIN)" $(TESTS)

# DONE names those that have run already: `make test` runs what check-tidy does.
CHECKS = check-format check-lint check-tidy check-docs check-shell check-aarch64 check-deploy check-documents check-metrics \
	check-security check-signatures check-workflows pentest supply-chain
DONE =
check: $(filter-out $(DONE),$(CHECKS)) ## run every check that is not a test; DONE=check-tidy leaves one out
	@echo "make check: all passed$(if $(DONE), (run before: $(DONE)))"

check-format: toolchain-check
	cargo fmt --all --check
	cd benches/peers && cargo fmt --check
	cd benches/peers/http && cargo fmt --check
	cd tests/vaultrs && cargo fmt --check
	cd fuzz && cargo fmt --check

# Lints and documents are of the profile dev: with the settings of the profile test, what build scripts make, above all the C parts
# of TLS, is made once for all of them.
AS_TESTS = CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_PROFILE_DEV_DEBUG=$${CARGO_PROFILE_TEST_DEBUG:-line-tables-only}
check-lint: toolchain-check
	$(AS_TESTS) cargo clippy --locked --all-targets -- -D warnings
	$(AS_TESTS) cargo clippy --locked --target $(AARCH64) --lib --bins -- -D warnings
	$(AS_TESTS) cargo clippy --locked --no-default-features --lib --bins -- -D warnings
	$(AS_TESTS) cargo clippy --locked --features pentest --lib --bins -- -D warnings

check-tidy: toolchain
	cargo test --locked --test tidy

check-docs: toolchain
	$(AS_TESTS) RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib

check-shell:
	scripts/check-shell

check-aarch64: build-aarch64
	scripts/check-aarch64 $(BIN_AARCH64)

# A profile, and so a folder, of its own: what attacks itself must never be taken for the release.
pentest-build: toolchain
	flags=$$(scripts/rustflags $(TARGET) portable) && CARGO_ENCODED_RUSTFLAGS="$$flags" \
		cargo build --locked --profile pentest --features pentest --target $(TARGET)

pentest: pentest-build ## attack the sandbox from inside and from outside, with and without each layer
	QUANTONIUM_BIN_PENTEST="$$PWD/$(BIN_PENTEST)" QUANTONIUM_PENTEST_CYCLES=300 \
		cargo test --locked --test pentest -- --nocapture

pentest-write: export QUANTONIUM_PENTEST_WRITE = 1
pentest-write: pentest ## the same, and write what was measured to docs/PENTEST.md
sandbox-tables: build ## write the tables of the filters into docs/SANDBOX.md
	scripts/sandbox-generated --binary $(BIN) tables

deploy-profiles: build ## write deploy/: profiles for Docker, OCI, AppArmor, SELinux, systemd, Kubernetes
	scripts/sandbox-generated --binary $(BIN) deploy

check-sandbox-rules: build ## hold what traced servers call against the rules: none unused, no call beside them
	scripts/check-sandbox-rules --binary $(BIN)

check-deploy: ## read deploy/ with the programs that it is for, and with Trivy's rules
	scripts/check-deploy
	scripts/trivy_scan.sh --install --config-only

check-documents: build ## find what the documents name and is not there: links, files, commands, options, variables
	scripts/check-documents --binary $(BIN) --self-test
	scripts/check-documents --binary $(BIN)

check-metrics: build ## try the alert rules, and have promtool read a live page of metrics
	scripts/check-metrics --binary $(BIN)

check-tls: build ## scan the server with testssl.sh, sslscan and sslyze
	scripts/check-tls --binary $(BIN)

check-oci-profile: build ## start the server with runc from deploy/oci-config.json
	scripts/check-oci-profile --binary $(BIN)

check-container: build ## start the image in containers that have everything taken away, by podman and by Docker Engine
	scripts/container_validation.sh --binary $(BIN)

supply-chain: toolchain ## licences, sources, known faults of every dependency; secrets; and that each scanner finds what is bad
	scripts/supply-chain $(if $(wildcard $(BIN)),$(BIN)) $(if $(wildcard $(BIN_AARCH64)),$(BIN_AARCH64))
	scripts/scan-secrets
	scripts/check-scanners

check-workflows: ## read .github/workflows with zizmor and actionlint
	scripts/check-workflows

check-signatures: ## sign with keys made for it, and show what is accepted and what refused
	scripts/check-signatures $(wildcard target/image/oci)

check-security: ## SECURITY.md: its PGP block, the date of security.txt
	scripts/check-security
	scripts/check-security-test

sbom: build ## lists of contents of the binary (CycloneDX, SPDX), checked, in target/sbom
	scripts/sbom make $(BIN) target/sbom
	scripts/sbom check target/sbom/quantonium.cdx.json target/sbom/quantonium.spdx.json

coverage: toolchain ## lines that the tests run, by llvm-cov; FLOOR=85, ARGS="--lib" for some of them
	scripts/coverage $(ARGS)

fleet-schedules: build ## seeded faults on three servers and three members of etcd; ARGS="--seeds 1-200 --minutes 90"
	scripts/fleet-schedules --binary $(BIN) $(ARGS)

# The seven phases of SECURITY.md: the tests and the tools that prove each.
phase-%: TESTS = cargo test --locked --no-fail-fast $(PROOFS)
phase-1: PROOFS = $(addprefix --test ,crypto_properties durable formats interop key_memory keyring_model stream_properties wycheproof)
phase-1: build
	cargo test --locked --lib -- crypto:: keyring:: secret::
	$(RUN_TESTS)
	tests/e2e/upgrade

phase-2: PROOFS = $(addprefix --test ,api capacity edge_headers fairness fuzz_corpus hostile http_corpus http_properties overload rate_limit simulation streams tls vault)
phase-2: build
	cargo test --locked --lib -- http:: api:: limiter:: encoding::
	$(RUN_TESTS)

phase-3: PROOFS = $(addprefix --test ,audit audit_files audit_read audit_verify full_disk integrity integrity_monitor log metrics sinks synced)
phase-3: build
	$(RUN_TESTS)
	scripts/check-metrics --binary $(BIN)

phase-4: PROOFS = $(addprefix --test ,elf profiles supply)
phase-4: build build-aarch64
	$(RUN_TESTS)
	scripts/check-deploy
	scripts/release-check dependencies image validation contents reproducible

phase-5: PROOFS = $(addprefix --test ,apikey_command auth_identity auth_life auth_matrix auth_timing client_address jwt jwt_interop)
phase-5: build
	cargo test --locked --lib -- auth::
	$(RUN_TESTS)

phase-6: PROOFS = $(addprefix --test ,lockdown memory process_numbers sandbox secrets surroundings)
phase-6: build
	$(RUN_TESTS)
	scripts/check-sandbox-rules --binary $(BIN)
	$(MAKE) pentest

phase-7: PROOFS = $(addprefix --test ,disasters openapi openapi_served readme)
phase-7: build
	$(RUN_TESTS)
	scripts/release-check documents signatures workflows
	$(MAKE) e2e
	scripts/soak --minutes 2

signoff: ## run the commands of the seven phases of SECURITY.md in a clean clone; ARGS="--only 1,5", ARGS=--write
	scripts/signoff $(ARGS)

e2e: build ## what a new user and an operator do, from end to end; E2E="rotation upgrade" for some of it
	tests/e2e/run --binary $(BIN) $(E2E)

soak: build ## a hostile day: 30 minutes of mixed load with faults, and a checker; ARGS="--minutes 2", ARGS=--write
	scripts/soak --binary $(BIN) $(ARGS)

release-check: toolchain ## all that a release must pass, in one table; ARGS="signatures documents" for some of it
	scripts/release-check $(ARGS)

openapi: ## make docs/openapi.json and docs/API.md of docs/openapi/ (needs PyYAML)
	scripts/openapi

fmt: toolchain-check ## format the sources
	cargo fmt --all
	cd benches/peers && cargo fmt
	cd benches/peers/http && cargo fmt
	cd tests/vaultrs && cargo fmt
	cd fuzz && cargo fmt

# A folder of their own: benches are unstripped, and must not replace the release binary.
bench: toolchain ## criterion benches; ARGS=seal runs those whose name contains it
	cargo bench --locked --target-dir target/bench -- $(ARGS)

bench-compare: toolchain ## criterion benches beside benches/baseline.json; ARGS="--only auth,json" or --write
	scripts/bench-compare $(ARGS)

bench-report: toolchain ## measure everything, and write docs/BENCHMARKS.md with its plots: half an hour
	scripts/bench-report $(ARGS)

bench-http: build ## CPU per request of the real binary, driven by wrk, beside nginx; ARGS="--peers all", --latency
	scripts/bench-http --binary $(BIN) $(ARGS)

bench-memory: build ## memory at start and for each idle connection, beside nginx
	scripts/bench-memory --binary $(BIN) $(ARGS)

bench-fleet: build ## a server of a fleet beside a single one, and how long changes take, with three members of etcd
	scripts/bench-fleet --binary $(BIN) $(ARGS)

bench-start: build ## exec to the first reply, beside nginx
	scripts/bench-start --binary $(BIN) $(ARGS)

bench-tls: build bench-client ## what TLS costs: handshakes and requests, beside nginx
	scripts/bench-tls --binary $(BIN) $(ARGS)

# With the flags of the release, whose build of the algorithms it takes.
bench-client:
	flags=$$(scripts/rustflags $(TARGET) $(CPU)) && CARGO_ENCODED_RUSTFLAGS="$$flags" \
		cargo build --locked --release --target $(TARGET) --example tls_client

bench-vault: build ## the load of a client of Vault's, beside OpenBao: processor time, memory, p50 and p99
	scripts/bench-vault --binary $(BIN) $(ARGS)

bench-peers: ## the cipher beside OpenSSL and ring (needs libssl-dev)
	scripts/bench-peers $(ARGS)

fuzz: toolchain ## fuzz every reader of hostile bytes; SECONDS_EACH=60, TARGETS="head json" for some of them
	scripts/fuzz run

fuzz-regress: toolchain ## run every kept input of the fuzzers once
	scripts/fuzz regress

image: build build-aarch64 ## container images from scratch, for both architectures, below target/image
	scripts/image $(BIN) $(BIN_AARCH64)

reproduce: build ## build again with everything different that must not matter, and compare; ARGS=--full for all of it twice
	scripts/reproduce --binary $(BIN) $(ARGS)

clean: ## remove everything that was built, not the data directory
	cargo clean
	rm -rf target benches/peers/target fuzz/target

toolchain:
	@scripts/toolchain $(TARGET)

toolchain-check:
	@CHECK=1 scripts/toolchain $(TARGET) $(AARCH64)
