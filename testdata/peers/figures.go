package main

import "context"

// benchCase is one measurement against one broker; run returns a value per figure.
type benchCase struct {
	name  string
	run   func(context.Context, *options, *broker) (map[string]float64, error)
	tls   *secured // nil: plaintext
	users *hashes  // nil: nobody must log in
	turns int      // so often in turns, both brokers up; 0: each alone, once
}

// connTurns is how often each has its turn in a round: the machine is faster in one
// second than in the next by more than the brokers differ in new connections.
const connTurns = 4

var cases = []benchCase{
	{"16B-1-1", stream{label: "16 B 1-1", size: 16, subs: 1}.run, nil, nil, 0},
	{"16B-1-4", stream{label: "16 B 1-4", size: 16, subs: 4}.run, nil, nil, 0},
	{"1KiB-1-1", stream{label: "1 KiB 1-1", size: 1024, subs: 1}.run, nil, nil, 0},
	{"request-1", requests{label: "request-reply 1", n: 1}.run, nil, nil, 0},
	{"request-8", requests{label: "request-reply 8", n: 8}.run, nil, nil, 0},
	{"request-32", requests{label: "request-reply 32", n: 32}.run, nil, nil, 0},
	{"balance", balance{"semaphore at 80 %", 0.8}.run, nil, nil, 0},
	{"fanout-1000", fanout{"fanout to 1,000", 1000}.run, nil, nil, 0},
	{"idle-memory", idle{"memory per idle connection"}.run, nil, nil, 0},
	{"connects", connects{label: "new connections", cpu: "CPU per new connection", dialers: dialers}.run, nil, nil, connTurns},
	{"logins-slow", logins{"logins m=65536,t=3", []way{{"", byPassword, 1000}}}.run, nil, &slowHashes, 0},
	{"logins-cheap", logins{"logins m=1024,t=1", []way{{"", byPassword, 1000}}}.run, nil, &cheapHashes, 0},
	{"logins-mixed", logins{"logins mixed", []way{{" by nkey", byNKey, 1000}, {" m=65536,t=3", byPassword, 100}}}.run, nil, &slowHashes, 0},

	{"tls-16B-1-1", stream{label: "TLS 16 B 1-1", size: 16, subs: 1}.run, &secured{p256, "sign"}, nil, 0},
	{"tls-1KiB-1-1", stream{label: "TLS 1 KiB 1-1", size: 1024, subs: 1}.run, &secured{p256, "sign"}, nil, 0},
	{"tls-connects-sign", tlsConnects("sign").run, &secured{p256, "sign"}, nil, connTurns},
	{"tls-connects-release", tlsConnects("release").run, &secured{p256, "release"}, nil, connTurns},
	{"tls-connects-rsa", tlsConnects("RSA-2048").run, &secured{rsa2048, "sign"}, nil, connTurns},
	{"tls-idle-memory", idle{"memory per idle TLS connection"}.run, &secured{p256, "sign"}, nil, 0},
}

// tlsConnects is the case of new TLS connections; how is the broker's way with
// its key.
func tlsConnects(how string) connects {
	return connects{label: "new TLS connections " + how, cpu: "CPU per new TLS connection " + how, dialers: tlsDialers}
}

func caseNames() (names []string) {
	for _, c := range cases {
		names = append(names, c.name)
	}
	return append(names, shortCase)
}

// figure is one row of the table. Goal and bound limit the ratio a/b: from
// below where more is better, from above otherwise; 0 means none. A bound must
// hold, a goal is where we want to be.
type figure struct {
	name, unit  string
	more        bool
	goal, bound float64
}

var figures = []figure{
	{"16 B 1-1 published", "msg/s", true, 0, 0},
	{"16 B 1-1 delivered", "msg/s", true, 1.3, 1.0},
	{"16 B 1-1 CPU per delivery", "ns", false, 0.4, 0.6},
	{"16 B 1-4 published", "msg/s", true, 0, 0},
	{"16 B 1-4 delivered", "msg/s", true, 1.2, 1.0},
	{"16 B 1-4 CPU per delivery", "ns", false, 0.6, 0.6},
	{"1 KiB 1-1 published", "msg/s", true, 0, 0},
	{"1 KiB 1-1 delivered", "msg/s", true, 1.1, 1.0},
	{"1 KiB 1-1 CPU per delivery", "ns", false, 0.7, 1.0},
	{"request-reply 1 p50", "us", false, 0.9, 1.3},
	{"request-reply 1 p99", "us", false, 0, 0},
	{"request-reply 1 rate", "req/s", true, 0, 0},
	{"request-reply 8 p50", "us", false, 0.8, 0},
	{"request-reply 8 p99", "us", false, 0, 0},
	{"request-reply 8 rate", "req/s", true, 0, 0},
	{"request-reply 32 p50", "us", false, 0.7, 1.0},
	{"request-reply 32 p99", "us", false, 0, 0},
	{"request-reply 32 rate", "req/s", true, 0, 0},
	{"semaphore at 80 % p50", "ms", false, 0, 0},
	{"semaphore at 80 % p90", "ms", false, 0, 0},
	{"semaphore at 80 % p99", "ms", false, 0, 0.5},
	{"fanout to 1,000 time", "ms", false, 0, 0},
	{"fanout to 1,000 CPU per answer", "us", false, 0, 0},
	{"memory per idle connection", "B", false, 0.1, 0.15},
	{"new connections", "conn/s", true, 1.5, 0},
	{"CPU per new connection", "us", false, 0, 0},
	{"logins m=65536,t=3 idle p99", "us", false, 0, 0},
	{"logins m=65536,t=3 p99", "us", false, 0, 0},
	{"logins m=65536,t=3 p99 to idle", "", false, 0, 0},
	{"logins m=65536,t=3 offered", "login/s", true, 0, 0},
	{"logins m=65536,t=3 accepted", "login/s", true, 0, 0},
	{"logins m=65536,t=3 refused", "login/s", false, 0, 0},
	{"logins m=65536,t=3 unanswered", "login/s", false, 0, 0},
	{"logins m=1024,t=1 idle p99", "us", false, 0, 0},
	{"logins m=1024,t=1 p99", "us", false, 0, 0},
	{"logins m=1024,t=1 p99 to idle", "", false, 0, 0},
	{"logins m=1024,t=1 offered", "login/s", true, 0, 0},
	{"logins m=1024,t=1 accepted", "login/s", true, 0, 0},
	{"logins m=1024,t=1 refused", "login/s", false, 0, 0},
	{"logins m=1024,t=1 unanswered", "login/s", false, 0, 0},
	{"logins mixed idle p99", "us", false, 0, 0},
	{"logins mixed p99", "us", false, 0, 0},
	{"logins mixed p99 to idle", "", false, 0, 0},
	{"logins mixed by nkey offered", "login/s", true, 0, 0},
	{"logins mixed by nkey accepted", "login/s", true, 0, 0},
	{"logins mixed by nkey refused", "login/s", false, 0, 0},
	{"logins mixed by nkey unanswered", "login/s", false, 0, 0},
	{"logins mixed m=65536,t=3 offered", "login/s", true, 0, 0},
	{"logins mixed m=65536,t=3 accepted", "login/s", true, 0, 0},
	{"logins mixed m=65536,t=3 refused", "login/s", false, 0, 0},
	{"logins mixed m=65536,t=3 unanswered", "login/s", false, 0, 0},
	{"TLS 16 B 1-1 published", "msg/s", true, 0, 0},
	{"TLS 16 B 1-1 delivered", "msg/s", true, 0, 1.0},
	{"TLS 16 B 1-1 CPU per delivery", "ns", false, 0, 0},
	{"TLS 1 KiB 1-1 published", "msg/s", true, 0, 0},
	{"TLS 1 KiB 1-1 delivered", "msg/s", true, 0, 1.0},
	{"TLS 1 KiB 1-1 CPU per delivery", "ns", false, 0, 0},
	{"new TLS connections sign", "conn/s", true, 0, 0.8},
	{"CPU per new TLS connection sign", "us", false, 0, 0},
	{"new TLS connections release", "conn/s", true, 0, 1.0},
	{"CPU per new TLS connection release", "us", false, 0, 0},
	{"new TLS connections RSA-2048", "conn/s", true, 0, 0},
	{"CPU per new TLS connection RSA-2048", "us", false, 0, 0},
	{"memory per idle TLS connection", "B", false, 0, 0},
}

// meets says whether ratio is on the right side of limit; no limit: "-".
func (f figure) meets(ratio, limit float64, yes, no string) string {
	switch {
	case limit == 0:
		return "-"
	case f.more && ratio >= limit, !f.more && ratio <= limit:
		return yes
	}
	return no
}
