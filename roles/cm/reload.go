package cm

import (
	"time"

	"gatehouse/privsep"
	"gatehouse/wire"
)

// settings takes over what may change. What has begun goes on under the rule
// that it began with: a payload, a deadline, a handshake, which has its own
// certificate's. A new certificate follows where [tls] has changed.
func (m *cm) settings(msg *privsep.Message) error {
	m.deadlines()
	open := !m.cfg.Auth
	if err := m.cfg.Live.Parse(msg.Payload); err != nil {
		return err
	}
	if !m.cfg.Auth {
		m.endLogins()
	} else if open {
		m.hurryLogins()
	}
	m.limits = limitsOf(m.cfg)
	m.log.SetLevel(m.cfg.LogLevel)
	m.tls.shops[0].box.post(errand{what: errandRate, id: uint64(m.cfg.TLS.SignRate)})
	m.slowEvery = slowEvery(m.cfg)
	m.nextSlow = min(m.nextSlow, m.now+int64(m.slowEvery))
	return nil
}

func limitsOf(cfg *privsep.Settings) wire.Limits {
	return wire.Limits{ControlLine: cfg.MaxControlLine, Connect: maxConnect, Payload: cfg.MaxPayload}
}

// begun are the limits of what may have begun, here or where a connection was
// before, at any time since the broker started.
func (m *cm) begun() *wire.Limits {
	l := m.limits
	l.Payload = max(l.Payload, m.cfg.MostPayload)
	return &l
}

// slowEvery is how often keepalive has to look to be in time.
func slowEvery(cfg *privsep.Settings) time.Duration {
	return min(slowTick, max(cfg.PingInterval/4, fastTick), max(cfg.WriteDeadline/4, fastTick))
}
