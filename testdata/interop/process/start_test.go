package process

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gatehouse/testdata/tree"
)

// startErrors are ways to start a broker that cannot work. spoil prepares one
// and says what the error must name; left are files that were there before and
// must stay as they are.
var startErrors = map[string]func(t *testing.T, b *broker) (names []string, left []string){
	"no configuration": func(t *testing.T, b *broker) ([]string, []string) {
		must(t, os.Remove(b.config))
		return []string{b.config, "no such file"}, nil
	},
	"unknown key": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit("[cm]", "[cm]\ncuont = 2")
		return []string{b.lineOf("cuont"), "cm.cuont"}, nil
	},
	"bad value": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit("[limits]", "[limits]\nmax_payload = \"1 potato\"")
		return []string{b.lineOf("potato"), "max_payload", "1 potato"}, nil
	},
	"bad syntax": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit("[limits]", "[limits]\nmax_payload = = 1")
		return []string{b.lineOf("= =")}, nil
	},
	"ring too small for its lines": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit("[limits]", "[limits]\nmax_control_line = \"64KiB\"")
		b.edit("[store]", "[store]\nring = \"512KiB\"")
		return []string{b.lineOf("512KiB"), "store.ring", "max_control_line"}, nil
	},
	"port taken": func(t *testing.T, b *broker) ([]string, []string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		t.Cleanup(func() { l.Close() })
		b.edit("127.0.0.1:0", l.Addr().String())
		return []string{l.Addr().String(), "address already in use"}, nil
	},
	"address of another host": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit("127.0.0.1:0", "192.0.2.1:0")
		b.edit("[listen]", "[listen]\nanonymous = \"any\"")
		return []string{"192.0.2.1:0", "assign"}, nil
	},
	"socket in a missing directory": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit(b.unix, b.dir+"/missing/client")
		return []string{b.dir + "/missing/client", "no such file"}, nil
	},
	"socket where a file is": func(t *testing.T, b *broker) ([]string, []string) {
		path := b.dir + "/precious"
		b.write(path, "not a socket")
		b.edit(b.unix, path)
		return []string{path}, []string{path}
	},
	"socket where a directory is": func(t *testing.T, b *broker) ([]string, []string) {
		path := b.dir + "/folder"
		must(t, os.Mkdir(path, 0o755))
		b.edit(b.unix, path)
		return []string{path}, []string{path}
	},
	"socket that is served": func(t *testing.T, b *broker) ([]string, []string) {
		path := b.dir + "/served"
		l, err := net.Listen("unix", path)
		must(t, err)
		t.Cleanup(func() { l.Close() })
		b.edit(b.unix, path)
		return []string{path, "address already in use"}, []string{path}
	},
	"second socket after a good first": func(t *testing.T, b *broker) ([]string, []string) {
		b.edit(`"]`+"\n[privsep]", fmt.Sprintf("\", %q]\n[privsep]", b.dir+"/missing/client"))
		return []string{b.dir + "/missing/client"}, nil
	},
	"runtime directory that others may write": func(t *testing.T, b *broker) ([]string, []string) {
		must(t, os.Mkdir(b.run, 0o755))
		must(t, os.Chmod(b.run, 0o775))
		return []string{b.run, "0775"}, []string{b.run}
	},
	"runtime directory of somebody else": func(t *testing.T, b *broker) ([]string, []string) {
		must(t, os.Mkdir(b.run, 0o755))
		must(t, os.Chown(b.run, 12345, 0))
		return []string{b.run, "12345"}, []string{b.run}
	},
	"runtime directory that is a file": func(t *testing.T, b *broker) ([]string, []string) {
		b.write(b.run, "not a directory")
		return []string{b.run, "not a directory"}, []string{b.run}
	},
	"runtime directory below a file": func(t *testing.T, b *broker) ([]string, []string) {
		b.write(b.dir+"/file", "not a directory")
		b.edit(b.run, b.dir+"/file/run")
		return []string{b.dir + "/file", "not a directory"}, []string{b.dir + "/file"}
	},
}

// edit changes the configuration.
func (b *broker) edit(from, to string) {
	b.t.Helper()
	text, err := os.ReadFile(b.config)
	must(b.t, err)
	if !strings.Contains(string(text), from) {
		b.t.Fatalf("no %q in the configuration", from)
	}
	b.write(b.config, strings.Replace(string(text), from, to, 1))
}

// lineOf names the line of the configuration that holds text.
func (b *broker) lineOf(text string) string {
	b.t.Helper()
	all, err := os.ReadFile(b.config)
	must(b.t, err)
	before, _, _ := strings.Cut(string(all), text)
	return fmt.Sprintf("%s:%d: ", b.config, 1+strings.Count(before, "\n"))
}

func TestStartErrors(t *testing.T) {
	for name, spoil := range startErrors {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBroker(t, settings{})
			names, left := spoil(t, b)
			before := listing(t, b.dir)
			b.launch()
			b.checkRefused(names...)
			if after := listing(t, b.dir); !slices.Equal(before, after) {
				t.Errorf("left behind:\n%s\nbefore:\n%s", after, before)
			}
			for _, path := range left {
				if _, err := os.Lstat(path); err != nil {
					t.Errorf("%s was there before: %v", path, err)
				}
			}
		})
	}
}

// checkRefused wants the broker to end with one line that says what is wrong.
func (b *broker) checkRefused(names ...string) {
	b.t.Helper()
	b.over = true
	defer b.killAll()
	if !b.log.Ended(soon) {
		b.t.Fatal("the broker runs, or something of it")
	}
	<-b.exited
	if b.code != 1 {
		b.t.Errorf("exit code %d, want 1", b.code)
	}
	text := b.log.Text()
	if strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "gatehouse: ") {
		b.t.Errorf("not a one-line error:\n%s", text)
	}
	for _, name := range names {
		if !strings.Contains(text, name) {
			b.t.Errorf("the error does not name %q:\n%s", name, text)
		}
	}
}

// listing is everything in a directory, with type, mode and size.
func listing(t *testing.T, dir string) (all []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		st, err := os.Lstat(path)
		if err == nil {
			all = append(all, fmt.Sprintf("%s %v %d", path, st.Mode(), st.Size()))
		}
		return err
	}))
	return all
}

// One broker per runtime directory; the first does not notice the second.
func TestSecondInstance(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	before := listing(t, b.run)
	calm := startCalm(t, b.client(""), b.client(""), 0)
	second := newBroker(t, settings{})
	second.edit(second.run, b.run)
	second.launch()
	second.checkRefused(b.run, fmt.Sprintf("pid %d", b.pid))
	if _, err := os.Lstat(second.unix); err == nil {
		t.Error("the second broker left its socket behind")
	}
	calm.end(t)
	if after := listing(t, b.run); !slices.Equal(before, after) {
		t.Errorf("runtime directory holds\n%s\nheld\n%s", after, before)
	}
	if st := b.status(); st.PID != b.pid {
		t.Errorf("status is that of pid %d", st.PID)
	}
}

// A child that cannot get ready ends the start: here the empty root is not.
func TestChildCannotStart(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{})
	must(t, os.MkdirAll(filepath.Join(b.run, "empty", "surprise"), 0o755))
	b.launch()
	b.over = true
	defer b.killAll()
	if !b.log.Ended(patience) {
		t.Fatal("the broker runs, or something of it")
	}
	<-b.exited
	all := b.log.Lines(0)
	if last := all[len(all)-1].Text; b.code != 1 || !strings.HasPrefix(last, "gatehouse: start ") ||
		!strings.Contains(b.log.Text(), "not empty") {
		t.Errorf("exit code %d:\n%s", b.code, b.log.Text())
	}
	left := slices.DeleteFunc(listing(t, b.dir), func(s string) bool {
		return strings.HasPrefix(s, b.config+" ") || strings.HasPrefix(s, b.run+" ") || strings.HasPrefix(s, b.run+"/empty")
	})
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Without root everything works but the uids and the empty root, and that is
// said once and shown.
func TestNotRoot(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{cms: 2, uid: nobody})
	warned := 0
	for _, l := range b.log.Lines(0) {
		if text, _ := l.Fields["message"].(string); l.Fields["level"] == "warn" && strings.Contains(text, "not root") {
			warned++
		}
	}
	st := b.status()
	shown := slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, "not root") })
	if warned != 1 || !shown || st.Root {
		t.Errorf("%d warnings in the log, status says root %v, %v", warned, st.Root, st.Warnings)
	}
	for _, p := range st.Processes {
		if p.UID != nobody || !p.NoNewPrivs {
			t.Errorf("status: %+v", p)
		}
		for _, task := range tree.Tasks(p.PID) {
			if task["Uid"] != "65534 65534 65534 65534" || task["NoNewPrivs"] != "1" || (task["Seccomp"] == "2") != (p.Role != "parent") {
				t.Errorf("%s, thread %s: Uid %s, NoNewPrivs %s, Seccomp %s", p.Role, task["Pid"], task["Uid"], task["NoNewPrivs"], task["Seccomp"])
			}
		}
	}
	must(t, b.serves())
	b.kill("router")
	await(t, "clients served after the router's death", patience, func() bool { return b.serves() == nil })
}

// A runtime directory that this user cannot make is named too.
func TestNotRootNowhere(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{uid: nobody})
	b.edit(b.run, "/run/gatehouse-of-nobody")
	b.launch()
	b.checkRefused("/run/gatehouse-of-nobody", "permission denied")
}

// What a broker leaves that was killed with all its roles does not hinder the
// next one.
func TestStartOnLeftovers(t *testing.T) {
	t.Parallel()
	b := startBroker(t, settings{})
	for _, pid := range b.processes() {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if !b.log.Ended(patience) {
		t.Fatal("something of the tree is left")
	}
	<-b.exited
	if left := listing(t, b.run); len(left) == 0 {
		t.Fatal("nothing was left over, so nothing is tested")
	}
	b.start()
	must(t, b.serves())
	b.stop(soon) // which wants the directory gone: the one before had made it
}

// A signal during the start ends it in order.
func TestStopDuringStart(t *testing.T) {
	t.Parallel()
	b := newBroker(t, settings{cms: 4})
	b.launch()
	if b.log.Find(0, "starting", patience) == nil {
		t.Fatalf("no start:\n%s", b.log.Text())
	}
	b.stop(soon)
}

// So does one while a role is away, be it on its way back or still delayed, and
// with messages that wait for it.
func TestStopDuringRestart(t *testing.T) {
	for _, role := range []string{"router", "dispatcher", "cm/1"} {
		for _, deaths := range []int{1, 5} {
			t.Run(fmt.Sprintf("%s %d", role, deaths), func(t *testing.T) {
				t.Parallel()
				b := startBroker(t, settings{cms: 2})
				b.client("SUB x 1\r\n")
				for n := range deaths {
					mark := b.log.Mark()
					if deaths == 1 {
						b.kill(role)
					} else {
						b.crash(role) // a killed one is not delayed
					}
					if b.log.Find(mark, "role died", patience, "role", role) == nil {
						t.Fatal("the parent has not noticed the death")
					}
					if n+1 < deaths && b.log.Find(mark, "role ready", patience, "role", role) == nil {
						t.Fatalf("%s did not come back", role)
					}
				}
				if conn, err := net.Dial("unix", b.unix); err == nil {
					defer conn.Close()
					fmt.Fprintf(conn, "%s%s", quiet, pub("x", "late"))
				}
				b.stop(soon)
			})
		}
	}
}
