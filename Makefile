# Postern. `make run` shows it, `make test` proves it.

GO      ?= go
TAGS    := nobadger,nomysql,nopgx
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
# The race detector needs a C compiler; without one the tests run all the same.
CC_FOUND := $(shell command -v $${CC:-cc} gcc clang 2>/dev/null | head -n 1)
RACE     := $(if $(CC_FOUND),-race,)

.PHONY: help build openssl run test fmt vet lint unit e2e hsm fuzz bench clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## make bin/postern, static
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags "$(LDFLAGS)" -o bin/postern ./cmd/postern

openssl: ## make bin/postern with the RSA of OpenSSL 3: 1.4 to 1.7 times as many enrolments; needs a C compiler, and libcrypto.so.3 where it runs
	@mkdir -p bin
	CGO_ENABLED=1 $(GO) build -trimpath -tags $(TAGS),openssl -ldflags "$(LDFLAGS)" -o bin/postern ./cmd/postern

run: build ## build, play the journey of a phone, stay up
	./bin/postern demo

test: fmt vet unit e2e ## everything: format, vet, Go and Rego tests, architecture, whole-product scripts

fmt: ## fail on files that are not formatted
	@out=$$(gofmt -l cmd internal policies certs test); if [ -n "$$out" ]; then echo "not formatted, run gofmt -w on:"; echo "$$out"; exit 1; fi

vet: ## go vet
	$(GO) vet -tags $(TAGS) ./...

unit: ## Go tests of every package, and the Rego tests, with the race detector where there is a C compiler
	$(GO) test $(RACE) -tags $(TAGS) -timeout 40m $$($(GO) list -tags $(TAGS) ./... | grep -v /test)

e2e: build ## architecture test, and scripts over the real binary
	POSTERN_BINARY=$(CURDIR)/bin/postern $(GO) test -tags $(TAGS) -timeout 20m ./test/...

hsm: ## keys in a PKCS #11 token, and SCEP with the RSA of OpenSSL; needs a C compiler, SoftHSM and OpenSSL 3
	CGO_ENABLED=1 $(GO) test -tags $(TAGS),pkcs11,openssl -run 'PKCS11|OpenSSL' ./internal/ca
	CGO_ENABLED=1 $(GO) test -tags $(TAGS),openssl ./internal/scep

lint: ## golangci-lint, where it is installed
	golangci-lint run --build-tags $(TAGS)

# Go's fuzzer may report its own end as a failure, of one line and without an input (golang/go#75804). That is none; with an input, or with any other line, it is.
fuzz: ## every fuzz target for FUZZTIME (20s)
	@for p in $$($(GO) list -tags $(TAGS) ./...); do \
	  for f in $$($(GO) test -tags $(TAGS) -list '^Fuzz' $$p | grep ^Fuzz); do \
	    echo "$$p $$f"; \
	    out=$$($(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-20s} -fuzzminimizetime 10x $$p 2>&1); failed=$$?; echo "$$out"; \
	    if [ $$failed != 0 ]; then \
	      echo "$$out" | grep -qx ' *context deadline exceeded' || exit 1; \
	      ! echo "$$out" | grep -q 'Failing input written' || exit 1; \
	    fi; done; done

bench: ## benchmarks, with the ratio to a peer of the same run
	$(GO) test -tags $(TAGS) -run '^$$' -bench . -benchmem -timeout 60m ./...

clean: ## remove what was built
	rm -rf bin
