package parent

import (
	"os"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/term"

	"gatehouse/privsep"
)

// logRate bounds the lines per second that a child may have logged: a role that
// was taken over must not fill the disk.
const logRate = 200

// newLog writes to standard error: text to a terminal, JSON to anything else,
// unless the configuration says which.
func newLog(cfg *Config) zerolog.Logger {
	level, err := zerolog.ParseLevel(cfg.Log.Level)
	if err != nil {
		level = zerolog.InfoLevel
	}
	text := cfg.Log.Format == "text" || cfg.Log.Format == "auto" && term.IsTerminal(int(os.Stderr.Fd()))
	l := zerolog.New(os.Stderr)
	if text {
		l = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.DateTime, NoColor: !term.IsTerminal(int(os.Stderr.Fd()))})
	}
	return l.Level(level).With().Timestamp().Logger()
}

// logFrom writes a line of a child's. Role and pid are the parent's knowledge,
// not the child's claim.
func (p *parent) logFrom(c *child, m *privsep.Message) error {
	line, err := privsep.DecodeLog(m.Payload)
	if err != nil {
		return err
	}
	if now := time.Now().Unix(); now != c.logWindow {
		c.logWindow, c.logLines = now, 0
		if c.logDropped > 0 {
			p.log.Warn().Str("role", c.id.String()).Int("n", c.logDropped).Msg("log lines dropped")
			c.logDropped = 0
		}
	}
	if c.logLines++; c.logLines > logRate {
		c.logDropped++
		return nil
	}
	e := p.log.WithLevel(zerologLevel(line.Level)).Str("role", c.id.String()).Int("pid", c.proc.PID)
	for _, f := range line.Fields {
		if f.Number {
			e = e.Int64(f.Key.String(), f.Int)
		} else {
			e = e.Str(f.Key.String(), f.Text)
		}
	}
	if line.Dropped > 0 {
		e = e.Uint32("dropped", line.Dropped)
	}
	e.Msg(line.Event)
	return nil
}

func zerologLevel(l privsep.Level) zerolog.Level {
	switch l {
	case privsep.LevelDebug:
		return zerolog.DebugLevel
	case privsep.LevelInfo:
		return zerolog.InfoLevel
	case privsep.LevelWarn:
		return zerolog.WarnLevel
	}
	return zerolog.ErrorLevel
}
