package protocol

// Session is what LIST tells of one.
type Session struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	Remote     string  `json:"remote"`  // HOST:PORT
	Address    string  `json:"address"` // where that is
	SNI        string  `json:"sni"`
	Mode       string  `json:"mode"`
	State      string  `json:"state"` // opening, open, worn (nobody joins it any more), over, failed
	Shared     bool    `json:"shared"`
	Owner      int     `json:"owner"` // uid of who opened it
	Holder     int     `json:"holder"`
	HolderUID  int     `json:"holder_uid"` // of the pid in holder, 0 and 0: nobody
	Callers    int     `json:"callers"`    // those who wait among them
	Age        float64 `json:"age_s"`
	Idle       float64 `json:"idle_s"`
	InBytes    uint64  `json:"in_bytes"`
	OutBytes   uint64  `json:"out_bytes"`
	InRecords  uint64  `json:"in_records"` // of TLS, the handshake's among them
	OutRecords uint64  `json:"out_records"`
	Unread     int     `json:"unread"`  // bytes that wait for a reader
	Unasked    uint64  `json:"unasked"` // frames that came when nobody had asked for one
	Dropped    uint64  `json:"dropped"` // frames for callers who had gone
	Version    string  `json:"version"`
	Cipher     string  `json:"cipher"`
	ALPN       string  `json:"alpn"`
	Subject    string  `json:"subject"` // of the server's certificate
}
