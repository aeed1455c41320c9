// Package watch holds what the console shows against the programs that read it: the
// official library for Prometheus' text format and its linter, nats-top, and
// prometheus-nats-exporter. It is a module of its own, so that none of them is one of the
// broker's.
//
// nats-top comes by go.mod. The exporter is a program in PATH or in $NATS_EXPORTER; where
// there is none its test is skipped, and says so.
package watch
