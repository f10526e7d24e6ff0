# Each target installs what it needs, asks nothing, and is fast the second time.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: run test lint fmt bench sqlx proto drill-alerts drill-backup drill-pitr clean help ground

CARGO ?= cargo
export PATH := $(PATH):$(HOME)/.cargo/bin
# Queries are checked against .sqlx/, whatever database the environment names.
export SQLX_OFFLINE := true

# Root's PostgreSQL runs as another user, who cannot enter a folder such as /root.
ifndef EUHUB_DATA_DIR
EUHUB_DATA_DIR := $(shell \
	if [ "$$(id -u)" = 0 ] && ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x '$(CURDIR)'; \
	then echo /var/lib/euhub; else echo '$(CURDIR)/.euhub'; fi)
endif
export EUHUB_DATA_DIR

run: ground ## Build and start everything on sample data, and print the addresses
	scripts/model
	$(CARGO) build --release --locked
	exec "$${CARGO_TARGET_DIR:-target}/release/euhub" standalone --seed

test: bootstrap = --tests
test: ground ## Run all tests
	scripts/model
	$(CARGO) test --workspace --locked
	$(CARGO) check --package euhub --no-default-features --features client --locked

lint: ground ## Check format, lints, committed query data and, with cargo-deny, dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	scripts/sqlx-prepare --check
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check bans licenses sources; \
	else echo 'lint: cargo-deny is not installed; dependencies were not checked'; fi

fmt: ## Format the source
	$(CARGO) fmt --all

bench: ground ## Run the benchmarks
	scripts/model
	$(CARGO) bench --workspace --locked

sqlx: ground ## Write .sqlx/ anew, after a change of a query or a migration
	scripts/sqlx-prepare

proto: ## Build the descriptor set and print its path, for grpcurl and ghz
	@$(CARGO) check --quiet --package euhub --no-default-features --features client --locked
	@realpath "$${CARGO_TARGET_DIR:-target}/debug/euhub.binpb"

drill-backup: ground ## Back a database up, break it, restore it and compare (1 minute after the build)
	$(CARGO) build --release --locked
	scripts/drill-backup

drill-pitr: ## Lose a database and get it back, to a time and to the newest state (3 minutes)
	scripts/bootstrap --tests
	scripts/drill-pitr

drill-alerts: bootstrap = --tests
drill-alerts: ground ## Break a private Hub in many ways, and watch each alert come and go (12 minutes)
	scripts/model
	$(CARGO) build --release --locked
	scripts/drill-alerts

clean: ## Remove what was built; data stays in .euhub
	$(CARGO) clean

help: ## Say what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; \
	do printf '  make %-12s %s\n' "$$name" "$$text"; done

ground:
	@scripts/bootstrap $(bootstrap)
	@[ -n "$$EUHUB_PG_BIN" ] || scripts/postgres-bundle
