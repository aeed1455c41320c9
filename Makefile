VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GOFLAGS_BUILD := -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"
export GOEXPERIMENT := runtimesecret

.PHONY: build
build:
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o gatehouse .
