package privsep

import (
	"math"
	"time"
)

// Level is how much a log line matters.
type Level uint8

// The levels.
const (
	LevelDebug Level = iota
	LevelInfo
	LevelWarn
	LevelError
	numLevels
)

var levelNames = [numLevels]string{"debug", "info", "warn", "error"}

// String gives the level's name in logs and configuration.
func (l Level) String() string {
	if l < numLevels {
		return levelNames[l]
	}
	return "level"
}

// LogKey names a field of a log line. This is the whole list; values are
// frozen, as they travel.
type LogKey uint8

// The keys. Role and pid are the parent's to say: a child's line may not hold
// them.
const (
	KeyNone LogKey = iota
	KeyRole
	KeyPID
	KeyPeer
	KeyKind
	KeyCID
	KeyState
	KeyFrom
	KeyTo
	KeyReason
	KeyErr
	KeyN
	KeyAddr
	KeyBytes
	KeyUser
	KeySubject
	KeyTicket
	KeyExecutable
	KeyUID
	KeySession
	KeyOrganisation
	KeyProfile
	numLogKeys
)

var logKeyNames = [numLogKeys]string{
	"none", "role", "pid", "peer", "kind", "cid", "state", "from", "to", "reason", "err", "n", "addr", "bytes",
	"user", "subject", "ticket", "executable", "uid", "session", "organisation", "profile",
}

// String gives the key as logs have it.
func (k LogKey) String() string {
	if k < numLogKeys {
		return logKeyNames[k]
	}
	return "key"
}

// forChild reports whether a child may use k.
func (k LogKey) forChild() bool { return k > KeyPID && k < numLogKeys }

// Field is one key and value of a log line.
type Field struct {
	Key    LogKey
	Number bool   // the value is Int, otherwise Text
	Text   string // at most MaxLogText bytes of anything once it has travelled
	Int    int64
}

// Str is a field with a text, cut at MaxLogText bytes.
func Str(key LogKey, v string) Field {
	return Field{Key: key, Text: v[:min(len(v), MaxLogText)]}
}

// Int is a field with a number.
func Int(key LogKey, v int64) Field { return Field{Key: key, Number: true, Int: v} }

// Err is the field err; a nil error says "none".
func Err(err error) Field {
	if err == nil {
		return Str(KeyErr, "none")
	}
	return Str(KeyErr, err.Error())
}

// Logger is how a role without files logs: over its channel to the parent. A
// line that finds the channel full, or not in a phase for logs, or that comes
// after logPace others in a second, is dropped and counted; the next one that passes
// carries the count. One goroutine only, the channel's.
type Logger struct {
	ch      *Channel
	least   Level
	dropped uint32
	pace    Pace
	audit   struct {
		dropped uint32
		pace    Pace
	}
	buf []byte
}

// NewLogger logs over ch; a nil ch, or a nil Logger, discards every line.
func NewLogger(ch *Channel) *Logger { return &Logger{ch: ch} }

// SetLevel discards lines below least before they cost anything.
func (l *Logger) SetLevel(least Level) { l.least = least }

// Debug logs what only a developer wants to know. event is a few lower case
// words, the same for every line of its sort.
func (l *Logger) Debug(event string, fields ...Field) { l.log(LevelDebug, event, fields) }

// Info logs what an operator may want to know.
func (l *Logger) Info(event string, fields ...Field) { l.log(LevelInfo, event, fields) }

// Warn logs what an operator should know.
func (l *Logger) Warn(event string, fields ...Field) { l.log(LevelWarn, event, fields) }

// Error logs what an operator must act on.
func (l *Logger) Error(event string, fields ...Field) { l.log(LevelError, event, fields) }

func (l *Logger) log(level Level, event string, fields []Field) {
	if l == nil || l.ch == nil || level < l.least {
		return
	}
	if !l.pace.Take(logPace, time.Now()) {
		l.drop()
		return
	}
	line := LogLine{Level: level, Dropped: l.dropped, Event: event, Fields: fields}
	l.buf = line.append(l.buf[:0])
	if err := l.ch.Send(KindLog, l.buf); err == nil {
		l.dropped = 0
	} else {
		l.drop()
	}
}

// Audit says what belongs into the audit log, whatever the level is, and tells whether it
// has gone; if not, the next one says that it is missing.
func (l *Logger) Audit(event string, fields ...Field) bool {
	if l == nil || l.ch == nil {
		return false
	}
	a := &l.audit
	if a.pace.Take(auditPace, time.Now()) {
		line := LogLine{Level: LevelInfo, Dropped: a.dropped, Event: event, Fields: fields}
		l.buf = line.append(l.buf[:0])
		if l.ch.Send(KindAudit, l.buf) == nil {
			a.dropped = 0
			return true
		}
	}
	if a.dropped < math.MaxUint32 {
		a.dropped++
	}
	return false
}

// logPace is well below the rate of LOG, which it would be an offence to pass.
const logPace = 250

// auditPace is the same for AUDIT.
const auditPace = 1000

func (l *Logger) drop() {
	if l.dropped < math.MaxUint32 {
		l.dropped++
	}
}
