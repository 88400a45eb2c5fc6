# Two commands matter, `make demo` and `make test`; every other chore is `cargo xtask`.

TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: help demo test build

help:
	@echo 'make demo    build, start a network on this machine and run a paid job on it'
	@echo 'make test    install what the tests need and run all of them'
	@echo 'make build   build the release binaries'
	@echo 'cargo xtask  every other chore'

demo: build
	@$(TARGET)/release/tradewind up --demo

build:
	@scripts/packages.sh build
	cargo build --release --workspace --bins --locked
	cargo xtask workload

test:
	@scripts/packages.sh build test
	cargo xtask test
