# CGO_ENABLED=0 and the experiment are requirements, not tuning: with cgo a
# promise to the kernel cannot be made for every thread, and without runtime/secret
# key material would stay in the heap.
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
export GOEXPERIMENT := runtimesecret
export GOFLAGS := -buildvcs=false
BUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
FUZZTIME ?= 10s
# Of make torture: PLAN=kill:router=1000 and the like, SEED=number to repeat a run,
# TORTURE='-idle 5000 -gap 100ms' for whatever else `-h` explains.
PLAN ?= kill:router=1000,kill:dispatcher=1000,kill:auth=1000,kill:parent=200,kill:cm=200,stop=100,hup=50,restart:router=20,restart:dispatcher=20,restart:auth=20,restart:cm=20,upgrade=100
SEED ?= 0
# Packages of this module that the go command does not find by itself.
INNER := ./testdata/hostile ./testdata/tree
# Modules of their own: what only tests and benchmarks need.
MODULES := testdata/cms testdata/interop testdata/peers testdata/watch
PRELOAD := roles/tlsd/preload

.PHONY: help build preload run test test-root test-page race interop natscli bench bench-peers torture fuzz check packages test-packages test-systemd two-versions clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

build: ## ./gatehouse
	@$(BUILD) -o gatehouse .

preload: ## ./gatehouse-preload.so, for programs with OpenSSL (needs cc, libssl-dev)
	@rm -f gatehouse-preload.so; \
	if ! command -v $(CC) >/dev/null; then echo 'SKIP preload: no C compiler'; \
	elif ! echo '#include <openssl/ssl.h>' | $(CC) -E - >/dev/null 2>&1; then echo 'SKIP preload: no OpenSSL headers'; \
	else $(CC) -O2 -Wall -Wextra -fPIC -shared -Wl,--version-script=$(PRELOAD)/preload.map -Wl,-z,relro,-z,now \
	  -o gatehouse-preload.so $(PRELOAD)/preload.c -lssl -lcrypto; fi

run: build ## build and start a broker on its built-in defaults, in the foreground
	@echo 'in another terminal:'
	@echo '  ./gatehouse sub "greet.>"'
	@echo '  ./gatehouse pub greet.world hello'
	@echo '  ./gatehouse status'
	@echo 'or any NATS client at nats://127.0.0.1:4222, or by TLS at tls://127.0.0.1:4443'
	@echo '(--ca development.crt of the runtime directory); http://127.0.0.1:8222/ shows how it is;'
	@echo 'control-C stops the broker'
	@./gatehouse serve

test: build preload ## everything; as root also what needs root
	@testdata/test.sh

test-page: build ## the status page in a headless Chromium (needs node, npm, chromium): SHOTS=dir
	@testdata/page/test.sh

race: ## the packages under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race ./store ./wire ./privsep ./privsep/custody ./tickets/... ./roles/...

interop: build ## nats.go's own tests, where their runner is
	testdata/interop/run.sh

natscli: build ## the nats command line against it (the first build takes minutes)
	testdata/natscli/run.sh

bench: ## the hot paths, one by one
	CGO_ENABLED=0 go test -run '^$$' -bench . -benchmem ./wire ./store ./privsep/... ./roles/...

bench-peers: build ## beside nats-server: throughput, CPU, latency, memory; tlsd beside stunnel
	cd testdata/peers && go run . -gatehouse ../../gatehouse

torture: ## kill everything under load, hours of it, as root: PLAN=kill:router=9 SEED=n TORTURE=-h; or tlsd for long: TLSD_FOR=1h
	cd testdata/interop && go run ./torture -plan '$(PLAN)' -seed $(SEED) $(if $(TLSD_FOR),-tlsd $(TLSD_FOR)) $(TORTURE)

fuzz: ## every fuzz target for FUZZTIME (10s)
	@for p in wire store tickets tickets/client privsep privsep/certname privsep/passhash privsep/keyfile privsep/custody roles roles/auth/cms roles/auth/directory roles/console roles/parent roles/router roles/tlsd roles/tlsd/protocol; do \
	  for f in $$(go test -list '^Fuzz' ./$$p | grep ^Fuzz); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) ./$$p || exit 1; \
	  done; done

check: ## gofmt, vet, staticcheck, and that the binary has no cgo
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	CGO_ENABLED=0 go vet ./... $(INNER)
	CGO_ENABLED=0 go vet -tags stores ./store ./roles/router
	CGO_ENABLED=0 GOOS=darwin go vet ./privsep ./wire ./tickets/...
	CGO_ENABLED=0 go tool staticcheck ./... $(INNER)
	CGO_ENABLED=0 go tool staticcheck -tags stores ./store ./roles/router
	@for m in $(MODULES); do (cd $$m && go vet ./...) || exit 1; done
	@$(MAKE) -s build && go version -m gatehouse | grep -q 'CGO_ENABLED=0'

packages: build preload ## .deb and .rpm in dist
	@packaging/build.sh gatehouse '$(VERSION)' dist

test-packages: two-versions ## install, upgrade, remove, purge in a Debian tree, as root: MIRROR=URL SUITE=name
	@packaging/test.sh dist/test/1 dist/test/2

test-systemd: two-versions ## the same under systemd, in a Debian tree that is booted, as root
	@packaging/test-systemd.sh dist/test/1 dist/test/2

two-versions: preload
	@for v in 1 2; do $(MAKE) -s build VERSION=v0.0.$$v && packaging/build.sh gatehouse v0.0.$$v dist/test/$$v || exit 1; done

clean:
	rm -rf gatehouse gatehouse-preload.so dist
