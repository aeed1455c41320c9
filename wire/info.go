package wire

import (
	"encoding/json"
	"unicode/utf8"
)

// Info is what the server says of itself. The JSON keys are nats-server's, to
// which Gatehouse adds one object.
type Info struct {
	ServerID      string         `json:"server_id"`
	ServerName    string         `json:"server_name"`
	Version       string         `json:"version"` // of the nats-server whose behaviour is kept
	Proto         int            `json:"proto"`   // 1
	GitCommit     string         `json:"git_commit,omitempty"`
	Go            string         `json:"go"`
	Host          string         `json:"host"`
	Port          int            `json:"port"`
	Headers       bool           `json:"headers"`
	AuthRequired  bool           `json:"auth_required,omitempty"`
	TLSRequired   bool           `json:"tls_required,omitempty"`
	TLSVerify     bool           `json:"tls_verify,omitempty"`
	TLSAvailable  bool           `json:"tls_available,omitempty"`
	MaxPayload    int            `json:"max_payload"` // bytes
	JetStream     bool           `json:"jetstream,omitempty"`
	ClientID      uint64         `json:"client_id"` // never 0
	ClientIP      string         `json:"client_ip"`
	Nonce         string         `json:"nonce,omitempty"`
	Cluster       string         `json:"cluster,omitempty"`
	Domain        string         `json:"domain,omitempty"`
	ConnectURLs   []string       `json:"connect_urls,omitempty"` // host:port
	WSConnectURLs []string       `json:"ws_connect_urls,omitempty"`
	LameDuck      bool           `json:"ldm,omitempty"`
	ConnectInfo   bool           `json:"connect_info,omitempty"` // the second INFO, after the first PING
	RemoteAccount string         `json:"remote_account,omitempty"`
	AccIsSys      bool           `json:"acc_is_sys,omitempty"`
	APILevel      int            `json:"api_lvl,omitempty"`
	XKey          string         `json:"xkey,omitempty"`
	Gatehouse     *GatehouseInfo `json:"gatehouse,omitempty"`
}

// GatehouseInfo is what no nats-server says.
type GatehouseInfo struct {
	Version     string   `json:"version"`
	Environment string   `json:"environment"`
	Credentials []string `json:"credentials"` // kinds accepted
}

// maxInfo bounds the INFO line: clients have small buffers for it. maxInfoText
// bounds each text in it.
const (
	maxInfo     = 4096
	maxInfoText = 256
)

// AppendInfo appends the INFO line, always shorter than 4 KiB: texts longer
// than 256 bytes are cut, and if that isn't enough, lists and texts get shorter
// until it is.
func AppendInfo(dst []byte, i *Info) []byte {
	for limit := maxInfoText; ; limit /= 2 {
		short := i.cut(limit, max(limit/16, 1))
		text, err := json.Marshal(&short)
		if limit == 0 || err == nil && len("INFO  \r\n")+len(text) < maxInfo {
			dst = append(dst, "INFO "...)
			dst = append(dst, text...)
			return append(dst, " \r\n"...)
		}
	}
}

// cut returns a copy with texts of at most n bytes and lists of at most list
// texts.
func (i *Info) cut(n, list int) Info {
	c := *i
	for _, s := range []*string{
		&c.ServerID, &c.ServerName, &c.Version, &c.GitCommit, &c.Go, &c.Host, &c.ClientIP,
		&c.Nonce, &c.Cluster, &c.Domain, &c.RemoteAccount, &c.XKey,
	} {
		*s = cutText(*s, n)
	}
	c.ConnectURLs = cutList(c.ConnectURLs, n, list)
	c.WSConnectURLs = cutList(c.WSConnectURLs, n, list)
	if i.Gatehouse != nil {
		c.Gatehouse = &GatehouseInfo{
			Version:     cutText(i.Gatehouse.Version, n),
			Environment: cutText(i.Gatehouse.Environment, n),
			Credentials: cutList(i.Gatehouse.Credentials, n, list),
		}
	}
	return c
}

func cutList(list []string, n, most int) []string {
	short := []string{} // never null
	for _, s := range list[:min(len(list), most)] {
		short = append(short, cutText(s, n))
	}
	return short
}

// cutText cuts s to at most n bytes, not within a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
